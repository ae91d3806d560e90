"""HTML as markdown: what must stay, what must go, and hostile pages."""

from __future__ import annotations

import html
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redraft.data.html import markdown_of
from redraft.data.html_tags import Elements

KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>x</mi></mrow>'
    '<annotation encoding="application/x-tex">{}</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true"><span class="base"><span>x</span></span></span></span>'
)
MATHJAX = (
    '<span class="MathJax_Preview">x2</span><span class="MathJax"><span>x<span>2</span></span></span>'
    '<script type="math/tex">x^2</script> and <script type="math/tex; mode=display">y < z</script>'
)
APART = f'<p>So</p><span class="katex-display">{KATEX.format("x")}</span><p>and {KATEX.format("y")}</p>'
CODE_TABLE = "<table><tr><td>1</td><td><pre>def f():\n    pass</pre></td></tr></table>"
CODE_LIST = "<ol><li>a<pre>if x:\n\n    y</pre></li><li>b</li></ol>"
MARKDOWN = [
    ('<p>a</p><p title="b>c</p><p>d "e"</p>', 'a\n\nc\n\nd "e"'),  # a quote that does not close
    (f"<p>So {KATEX.format('x^2 &lt; 1')} holds.</p>", "So $x^2 < 1$ holds."),
    (APART, "So\n\n$$x$$\n\nand $y$"),
    (KATEX.format("a\nb").replace("<math>", '<math display="block">'), "$$\na\nb\n$$"),
    (MATHJAX, "$x^2$ and\n\n$$y < z$$"),
    ("<p>a <math><mi>x</mi><mo>+</mo><mn>1</mn></math> b</p>", "a x+1 b"),
    (CODE_TABLE, "1\n\n```\ndef f():\n    pass\n```"),
    (CODE_LIST, "1. a\n\n   ```\n   if x:\n\n       y\n   ```\n\n2. b"),
    ("<div>one</div><div><span>t</span><span>wo</span></div>", "one\n\ntwo"),
    ("one<br>two<br/><br />three", "one\ntwo\n\nthree"),
    ("  <p>\n  one \n  two\t three&nbsp;four </p>\n", "one\ntwo three four"),
    ("<h1>One</h1><h3>Two <em>and</em><br>more</h3><p>text</p>", "# One\n\n### Two *and* more\n\ntext"),
    ("<b> blanks </b>outside", "**blanks** outside"),
    ("<p>a  b<b>c</b>\td\t\te<i>f</i></p>", "a b**c** d e*f*"),
    ("nothing<b> </b>marked<i></i>", "nothing marked"),
    ("<strong>a <em>b</strong> c</em>", "**a *b*** *c*"),
    ("<b><p>one</p><p>two</p></b>", "**one**\n\n**two**"),
    ("<b>a<b>b</b></b>", "**ab**"),
    ("x<sup>2</sup> and H<sub>2</sub>O", "x<sup>2</sup> and H<sub>2</sub>O"),
    ('<a href="https://a.b/c">text</a>', "[text](https://a.b/c)"),
    ('<a href="/w(x) y">text</a>', "[text](</w(x) y>)"),
    ('<a href="#top">text</a> <a>one</a> <a href="javascript:f()">two</a>', "text one two"),
    ('<p>a <img src="x.png" alt="a red\n  fox"> b</p>', "a a red fox b"),
    ('<img src="x.png">only', "only"),
    ("<p>a</p><hr><p>b</p>", "a\n\n---\n\nb"),
    ("<ul><li>a<li>b</ul>", "- a\n- b"),
    ('<ol start="9"><li>a</li><li>b</li><li value="20">c</li><li>d</li></ol>', "9. a\n10. b\n20. c\n21. d"),
    ("<ul><li>a<ol><li>b<ul><li>c</li></ul></li></ol></li></ul>", "- a\n  1. b\n     - c"),
    ("<ul><li>a</li><ul><li>b</li></ul><li>c</li></ul>", "- a\n  - b\n- c"),
    ("<ul><li><p>a</p><p>b</p></li><li>c</li></ul>", "- a\n\n  b\n\n- c"),
    ("<ul>stray<li>a</li></ul>", "- stray\n- a"),
    ("<li>a</li><li>b</li>after", "- a\n- b\n- after"),
    ("<blockquote><p>a</p><blockquote>b</blockquote></blockquote>c", "> a\n>\n> > b\n\nc"),
    ("<ol><li>a<blockquote>q</blockquote></li></ol>", "1. a\n\n   > q"),
    (
        "<table><thead><tr><th>A<th>B</thead><tbody><tr><td>1</td><td>x|<b>y</b><br>z</td></tr></tbody></table>",
        "| A | B |\n| --- | --- |\n| 1 | x\\|**y** z |",
    ),
    ('<table><tr><td colspan="2">a</td><td>b</td></tr></table>', "| a |  | b |\n| --- | --- | --- |"),
    ("<table><tr><td><p>only</p><p>one</p></td></tr></table>", "only\n\none"),
    ("<table><caption>C</caption><tr><td>a</td><td>b</td></tr></table>", "C\n\n| a | b |\n| --- | --- |"),
    ("&lt;p&gt; is &amp;lt; &copy; &#8364;&#x41; &nope; AT&T a&lt b", "<p> is &lt; © €A &nope; AT&T a&lt b"),
    ("<P>UPPER <B>case</B></P>", "UPPER **case**"),
    ("<script>var a = '<p>';</script>a<style>p {}</style>b<!-- <p> -->c", "abc"),
    ("<!DOCTYPE html><html><head><title>T</title></head><body>B</body></html>", "B"),
    ("<button>Copy</button><svg><path d='M0'/><text>t</text></svg>text", "text"),
    ("<p>2 * 3 * 4 and a_b_c and # no heading</p>", "2 * 3 * 4 and a_b_c and # no heading"),
    ("<p title=\"a > b\" data-x='x'>text</p>", "text"),
    ("<div>2 / 2</div><div><p>The answer.</p></div>", "The answer."),
    ("<p>1 / 2 is a half.</p>", "1 / 2 is a half."),
]


@pytest.mark.parametrize(("page", "markdown"), MARKDOWN)
def test_markdown(page: str, markdown: str) -> None:
    assert markdown_of(page) == markdown


ANGLES = [
    "#include <stdio.h>",
    "std::vector<std::string> and List<String> and Map<K, V>",
    "if a <b and c> d",
    "x < y, y > z, a<=b, <3, <-, ->, <>, << >>",
    "<name> and <your-name@example.org> and </endoftext>",
    "React has <Button onClick={f}> and <MyPage/>",
]


@pytest.mark.parametrize("text", ANGLES)
def test_text_in_angle_brackets_survives(text: str) -> None:
    assert markdown_of(f"<p>{text}</p>") == text
    assert markdown_of(f"<pre><code>{text}</code></pre>") == f"```\n{text}\n```"
    assert markdown_of(f"<p>{html.escape(text)}</p>") == text


@given(st.text(st.sampled_from("ab <>&;`'\"\n\t#*_/\\-é\N{GRINNING FACE}")).filter(str.strip))
@example("``` \n````")
@example("\n\n  a\n\n")
def test_code_comes_through_to_the_letter(code: str) -> None:
    spans = html.escape(code).replace("a", '<span class="hljs-a">a</span>')
    page = (
        f'<p>x</p><pre><div class="bar"><code class="hljs language-c++">{spans}\n</code></div></pre><p>y</p>'
    )
    head, fence, rest = markdown_of(page).partition("```")
    ticks = len(rest) - len(rest.lstrip("`"))
    fence += "`" * ticks
    assert head == "x\n\n"
    assert rest[ticks:] == f"c++\n{code}\n{fence}\n\ny"
    assert fence not in code


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_escaped_text_comes_through(text: str) -> None:
    words = text.replace("\N{NO-BREAK SPACE}", " ").split(" ")
    assert markdown_of(f"<p>x{html.escape(text)}x</p>").split() == " ".join(words).join("xx").split()


TOKENS = (
    "<p> </p> <b> </b> <ul> <ol> <li> </li> </ul> </ol> <table> <tr> <td> </td> </tr> </table> <pre> </pre>"
)
TOKENS += (
    " <code> </code> <blockquote> </blockquote> <h1> </h1> <a\thref=x> </a> <br> <math> <script> <!-- -->"
)
SOUP = st.lists(
    st.sampled_from([*(token.replace("\t", " ") for token in TOKENS.split()), "w", " ", "\n", "&lt;"])
)


@given(SOUP)
def test_no_soup_of_tags_breaks_it_or_loses_words(tags: list[str]) -> None:
    page = "".join(tags)
    markdown = markdown_of(page)
    if not {"<script>", "<!--"} & set(tags):
        assert markdown.count("w") == page.count("w")
    assert markdown == markdown.strip(" ")


BOMBS = {
    "div": "<div>", "list": "<ul><li>x", "closed": "<ol><li>x</li></ol>", "quote": "<blockquote>x",
    "table": "<table><tr><td>x<td>y", "marks": "<p><b a><i b>x", "comments": "<!--", "scripts": "<script>",
    "code": "<pre><code>", "quotes": "<p \"<p ' ", "brackets": "<", "entities": "&&#",
    "spans": '<td colspan="999999999">x',
    "katex": 'application/x-tex<span class="katex-html">',
    "undrawn": '<span class="katex-html"><span class="MathJax">',
    "math": "<math>",
    "math of nothing": "<math>application/x-tex><",
}  # fmt: skip


@pytest.mark.parametrize("part", BOMBS.values(), ids=BOMBS.keys())
def test_work_grows_with_the_text_alone(part: str) -> None:
    """A tree of 100,000 open <div> takes time with the square of their number, and recursion does not end."""
    few, many = calls_for(part * 200), calls_for(part * 2_000)
    assert many < few * 11


@pytest.mark.parametrize("part", BOMBS.values(), ids=BOMBS.keys())
def test_no_part_of_a_page_is_searched_again_and_again(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = passed_for(part * 200, monkeypatch), passed_for(part * 2_000, monkeypatch)
    assert many <= max(few, 200) * 11


def passed_for(page: str, monkeypatch: pytest.MonkeyPatch) -> int:
    passed, until, has = 0, Elements.until, Elements.has

    def counted_until(self: Elements, end: str, start: int) -> tuple[str, int] | None:
        nonlocal passed
        found = until(self, end, start)
        passed += len(found[0]) if found else 0
        return found

    def counted_has(self: Elements, text: str) -> bool:
        nonlocal passed
        passed += 0 if text in self._has else len(page)
        return has(self, text)

    monkeypatch.setattr(Elements, "until", counted_until)
    monkeypatch.setattr(Elements, "has", counted_has)
    markdown_of(page + "</math></pre></code></script></svg>-->")
    monkeypatch.undo()
    return passed


def calls_for(page: str) -> int:
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        markdown_of(page)
    finally:
        sys.setprofile(None)
    return calls


def test_deep_nesting_is_flattened_and_keeps_its_text() -> None:
    markdown = markdown_of("".join(f"<ul><li>w{i}" for i in range(10_000)) + "</li></ul>" * 10_000)
    assert markdown.count("w") == 10_000
    assert max(map(len, markdown.split("\n"))) < 60
