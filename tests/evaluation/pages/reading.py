"""Reads a page as a browser does, and checks that nothing in it runs or loads."""

from __future__ import annotations

import re
from html.parser import HTMLParser

BAD = "</script><script>document.title='owned'</script></pre><img src=x onerror=\"document.title='owned'\">"
BESIDE = re.compile(r"[\w.%~-]+(#[\w.%~-]*)?")  # a link to a file beside the page
VOID = {"meta", "input", "br", "wbr"}


class Reader(HTMLParser):
    """Checks that tags are closed in order and nothing runs or loads, and keeps texts and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        assert tag not in {"img", "link", "iframe", "form", "object", "base", "use", "image"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "href" or (tag == "a" and BESIDE.fullmatch(value or ""))
            assert name not in {"src", "xlink:href", "action", "srcset"}
            assert "url(" not in (value or "")
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""
        if tag == "script":
            self.scripts.append((named, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            named, text = self.scripts[-1]
            self.scripts[-1] = (named, text + data)
        else:
            self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader
