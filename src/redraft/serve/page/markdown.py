"""Texts of models as HTML that can do nothing: it loads nothing, runs nothing and looks like nothing else.

Markdown is rendered without raw HTML, and built again from the few tags that are allowed. Pictures become
their description: loading one would tell its server of the conversation. Links show where they lead to.
"""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

from redraft.counting import printable

MOST_RENDERED = 100_000
"""Most characters that are rendered; a longer text is shown as it is. 100,000 take about half a second."""

_TAGS = (
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "blockquote", "pre", "code"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
)
_VOID = ("br", "hr")
_SCHEMES = ("http", "https", "mailto")
_LINK = '<a href="{}" target="_blank" rel="noopener noreferrer nofollow">'


def html_of(text: str) -> str:
    """Return a text in Markdown as HTML, on one line."""
    text = printable(text)
    if len(text) > MOST_RENDERED:
        return as_is(text)
    safe = _Safe()
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    safe.feed(parser.render(text))
    safe.close()
    return one_line("".join(safe.parts) + "".join(f"</{tag}>" for tag in reversed(safe.open)))


def as_is(text: str, kind: str = "asis") -> str:
    """Return a text that is not rendered, as HTML on one line."""
    return f'<p class="{kind}">{one_line(escape(printable(text)))}</p>'


def one_line(html: str) -> str:
    """Write line breaks as entities: to Gradio's own Markdown, an empty line would end the HTML."""
    return html.replace("\n", "&#10;")


class _Safe(HTMLParser):
    """Builds HTML again from what is allowed; the text of everything else stays as text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.open: list[str] = []
        self._hosts: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an allowed tag without its attributes, save where a link leads or a list begins to count."""
        given = {name: value or "" for name, value in attrs}
        if tag == "img":
            self.handle_data(f"[picture: {given.get('alt') or 'without a description'}]")
        elif tag == "a":
            address = given.get("href", "")
            host = _host(address)
            if host and "a" not in self.open:
                self.parts.append(_LINK.format(escape(address)))
                self.open.append("a")
                self._hosts.append((host, len(self.parts)))
        elif tag in _VOID:
            self.parts.append(f"<{tag}>")
        elif tag in _TAGS:
            first = given.get("start", "")
            self.parts.append(f'<ol start="{first}">' if tag == "ol" and first.isdecimal() else f"<{tag}>")
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close an open tag, and those in it."""
        while tag in self.open:
            last = self.open.pop()
            if last == "a":
                host, begin = self._hosts.pop()
                if host not in "".join(self.parts[begin:]):  # say where the link leads
                    self.parts.append(f' <span class="host">({escape(host)})</span>')
            self.parts.append(f"</{last}>")
            if last == tag:
                return

    def handle_data(self, data: str) -> None:
        """Take text as text."""
        self.parts.append(escape(data))


def _host(address: str) -> str:
    """Return the host or mailbox of an address that a link may have; empty for any other."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    if parts.scheme not in _SCHEMES:
        return ""
    return parts.path if parts.scheme == "mailto" else parts.netloc.rpartition("@")[2]
