"""Markdown of models: whatever they write, the HTML is of a few tags, and loads and runs nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.serve.page.markdown import MOST_RENDERED, html_of

TAGS = (
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "blockquote", "pre", "code"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "a", "span"),
)
TEXTS = (
    *("<script>", "</p>", "[a](", "javascript:", "](x)", "![", "`", "```\n", "**", "&#x3c;", '"', "onerror="),
    *(
        "\n2. ",
        "|-|\n",
        "<img src=x>",
        "<!--",
        "]]>",
        "<a href='",
        "data:",
        "https://evil.example/",
        "\n\n",
        "> ",
        "- ",
    ),
)
PIECES = st.sampled_from(TEXTS)


class Reader(HTMLParser):
    """Fails at a tag or attribute that is not allowed, or if tags are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        for name, value in attrs:
            assert (tag, name) in {
                ("a", "href"),
                ("a", "target"),
                ("a", "rel"),
                ("span", "class"),
                ("p", "class"),
                ("ol", "start"),
            }
            if name == "href":
                assert (value or "").startswith(("http://", "https://", "mailto:"))
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@given(st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join))
def test_html_is_of_a_few_tags_whatever_the_text(text: str) -> None:
    html = html_of(text)
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert "\n" not in html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** `<b>`", "<p><strong>a</strong> <code>&lt;b&gt;</code></p>"),
        ("![what](https://evil.example/x.png)", "<p>[picture: what]</p>"),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("[x](/v1/models)", "<p>x</p>"),
        ("[x](ftp://evil.example/x)", "<p>x</p>"),
        ("2. b", '<ol start="2">&#10;<li>b</li>&#10;</ol>'),
        ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
    ],
)
def test_what_becomes_of_a_text(text: str, html: str) -> None:
    assert html_of(text).removesuffix("&#10;") == html


def test_a_link_says_where_it_leads() -> None:
    link = html_of("[my bank](https://bank.example@evil.example/x)")
    assert "(evil.example)" in link
    assert 'rel="noopener noreferrer nofollow"' in link
    assert "host" not in html_of("<https://rain.example/>")


def test_a_very_long_text_is_shown_as_it_is() -> None:
    assert html_of("*a* " * MOST_RENDERED).startswith('<p class="asis">*a* ')
