"""Code blocks: the language they are in, and the bars above them."""

from __future__ import annotations

import pytest

from redraft.data.html_tags import code_block, fenced, spanned

BUTTON = '<button class="flex"><svg><path d="M1 2"></path></svg>Copy code</button>'
BARS = [
    (f"<div><div><span>python</span>{BUTTON}</div><div><code>x</code></div></div>", "python"),
    ("<div><span>C++</span><button>Copy</button></div><code>x</code>", "c++"),
    ("<div>pythonCopy code</div><code>x</code>", "python"),
    ("pythonCopyEdit<code>x</code>", "python"),
    ('<div>Python</div><code class="hljs language-py3">x</code>', "py3"),
    ('<code class="hljs javascript">x</code>', "javascript"),
    ("<code>x</code>", ""),
    ("<code>x</code>\n<button>Copy</button>", ""),
]


@pytest.mark.parametrize(("inside", "language"), BARS)
def test_bars_give_the_language_and_are_left_out(inside: str, language: str) -> None:
    assert code_block(inside) == f"```{language}\nx\n```"


COPIES = "Copy " * 1_000 + "x"


@pytest.mark.parametrize(
    ("inside", "block"),
    [
        (
            "<strong>Input:</strong> <code>5</code>, then <code>6</code> follow",
            "```\nInput: 5, then 6 follow\n```",
        ),
        (f"{COPIES}<code>y</code>", f"```\n{COPIES}y\n```"),
        ("<code># Copy code from here\ncp a b</code>", "```\n# Copy code from here\ncp a b\n```"),
        ("if x:<br>&nbsp;&nbsp;y", "```\nif x:\n  y\n```"),
        ("<code> \n</code>", ""),
    ],
)
def test_what_is_no_bar_is_code(inside: str, block: str) -> None:
    assert code_block(inside) == block
    assert code_block("x", ' class="lang-rust"') == "```rust\nx\n```"


def test_one_line_break_at_the_end_goes() -> None:
    assert fenced("x\n\n", "c") == "```c\nx\n\n```"


@pytest.mark.parametrize(
    ("code", "markdown"), [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("``", "``` `` ```")]
)
def test_code_in_a_line(code: str, markdown: str) -> None:
    assert spanned(code) == markdown


@pytest.mark.parametrize(
    ("bar", "language"),
    [
        ("python" + "Copy code Edit\n" * 600, "python"),
        ("<div>c</div>" + "<button>" * 1200, "c"),
        ("<svg>" * 500 + "</svg>" + "<button>Run</button>" * 300 + "c <i>Copy</i>", "c"),
    ],
)
def test_a_bar_may_have_many_buttons(bar: str, language: str) -> None:
    assert code_block(f"{bar}<code>x</code>") == f"```{language}\nx\n```"
