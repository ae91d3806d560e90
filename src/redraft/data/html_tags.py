"""Find HTML tags, entities, attributes and code in linear time.

Only names of HTML elements make tags: `#include <stdio.h>` and `List<String>` are text. The pattern of a tag
never reads past the next `<`. Code keeps its line breaks and spaces. Formulas become TeX.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape

_MARKS = "b strong i em s del strike sup sub a"  # elements that mark text
CODE = "code kbd samp tt"  # elements of inline code
_PLAIN = (
    "u ins mark small big font var abbr cite q dfn time label bdi bdo data wbr nobr input ruby rt rp picture "
    "source area acronym meter output progress link meta base embed param track thead tbody tfoot colgroup "
    "col annotation semantics mrow mi mo mn mtext mspace msup msub mfrac msqrt"
)
"""Elements whose tags are dropped and whose text is kept."""
BLOCKS = (
    "div p section article header footer main aside nav address figure figcaption fieldset form details "
    "summary dl dt dd center hgroup body html legend caption optgroup option dialog search textarea"
)
"""Elements that begin and end a paragraph."""
SKIPPED = "script style svg button head title template iframe object video audio canvas noscript select map"
"""Elements that are left out, including the contents."""
_OTHERS = "span br img pre ul ol menu li table tr td th blockquote h1 h2 h3 h4 h5 h6 hr math"

NAMES = tuple(f"{_OTHERS} {_MARKS} {CODE} {BLOCKS} {SKIPPED} {_PLAIN}".split())  # the elements of HTML
WHITE = " \t\n\r\f\xa0"  # white space of HTML, and the no-break space

_BARE = (
    r"\s+(?:async|checked|controls|defer|disabled|hidden|itemscope|nowrap|open|readonly|required|reversed"
    r"|selected)[\s/>]"
)
# Names are in lower or upper case: React's <Button> is text, and ignoring case takes three times as long.
TAG = (
    rf"<(?P<end>/?)(?P<name>{'|'.join(NAMES)}|{'|'.join(NAMES).upper()}|mjx-[a-z-]+)"
    rf"(?=[\s/]*>|\s[^<>=]*=|{_BARE})"
    r"""(?P<attributes>(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*(?=>)|[^<>]*+)>"""
)
"""Matches a start, end or empty tag. An unclosed quote ends with the tag. `a <b and c> d` has no tag."""
ANY_TAG = re.compile(TAG)
TOKEN = re.compile(rf"{TAG}|<!--|<!(?:doctype|DOCTYPE)[^<>]*>")

_USUAL = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#x27;", "'"), ("&#39;", "'"))
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ATTRIBUTE = {
    name: re.compile(rf"""(?:^|\s){name}\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))""", re.I)
    for name in ("alt", "class", "colspan", "href", "start", "value")
}


def decoded(text: str) -> str:
    """Decode entities such as `&lt;`. An entity must end in a semicolon: `?a=1&copy=2` is left unchanged."""
    if "&" not in text:
        return text
    for entity, char in _USUAL:  # much faster than a regular expression
        text = text.replace(entity, char)
    return _ENTITY.sub(lambda found: unescape(found[0]), text) if "&" in text else text


def attribute(attributes: str, name: str) -> str:
    """Return an attribute's value, or an empty text if it is missing. `name` is a key of `_ATTRIBUTE`."""
    found = _ATTRIBUTE[name].search(attributes)
    return decoded(next(filter(None, found.groups()), "")).strip() if found else ""


def number(attributes: str, name: str, default: int) -> int:
    """Return the value of an attribute as an integer of at most nine digits, otherwise the default."""
    value = attribute(attributes, name)
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else default


class Elements:
    """Find where elements end."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._never: set[str] = set()  # missing end tags, so as not to search twice
        self._has: dict[str, bool] = {}

    def has(self, text: str) -> bool:
        """Return whether the page contains a text."""
        if text not in self._has:
            self._has[text] = text in self._html
        return self._has[text]

    def until(self, end: str, start: int) -> tuple[str, int] | None:
        """Find an end tag, such as `</pre`. Return the text before and the index after the tag, or None."""
        if end in self._never:
            return None
        if (found := re.compile(re.escape(end), re.I).search(self._html, start)) is None:
            self._never.add(end)
            return None
        over = self._html.find(">", found.end() - 1)
        return self._html[start : found.start()], over + 1 if over >= 0 else len(self._html)

    def behind(self, name: str, start: int) -> int:
        """Return the index after an element. If its end tag is missing, return `start`."""
        if name in self._never:
            return start
        depth = 1
        for found in re.compile(rf"<(/?){name}(?=[\s/>])", re.I).finditer(self._html, start):
            depth += -1 if found[1] else 1
            if depth == 0:
                over = self._html.find(">", found.end())
                return over + 1 if over >= 0 else len(self._html)
        self._never.add(name)
        return start


_COLOURS = re.compile(r'<(?:/span|span class="[^"<>]*")>')  # in most code, the only tags
_BREAK = re.compile(r"<br(?=[\s/>])[^<>]*>", re.I)
_CODE = re.compile(r"<code(?=[\s>])([^<>]*)>", re.I)
_DRAWN = re.compile(r"<(button|svg)(?=[\s>])", re.I)
_CLASS = re.compile(r"(?:^|\s)(?:language|lang)-([\w+#.-]+)|(?:^|\s)hljs (?!language-)([a-z][\w+#]*)(?:\s|$)")
_BUTTONS = ("Copy code", "Copy", "Edit", "Wrap", "Run", "Download")
_NAME = re.compile(r"[\w+#./-]{1,24}(?: [\w+#./-]{1,12})?")
_TICKS = re.compile(r"`+")

_LONG = 10_001  # HTML of this many characters is not a bar above code. ChatGPT's bar has about 700.


def plain(source: str) -> str:
    """Return code without HTML tags. Line breaks and spaces are kept."""
    if "<" in source:
        plain = "".join(_COLOURS.split(source))
        source = ANY_TAG.sub("", _BREAK.sub("\n", source)) if "<" in plain else plain
    return decoded(source).replace("\xa0", " ")


def fenced(code: str, language: str = "") -> str:
    """Return a code block, whose fence is longer than any run of backticks in the code."""
    fence, end = "`" * max(3, 1 + _longest(code)), "" if code.endswith("\n") else "\n"
    return f"{fence}{language}\n{code}{end}{fence}"


def spanned(code: str) -> str:
    """Return inline code, in more backticks than its longest run of backticks has."""
    ticks = "`" * (1 + _longest(code))
    room = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{ticks}{room}{code}{room}{ticks}"


def _longest(code: str) -> int:
    return max(map(len, _TICKS.findall(code))) if "`" in code else 0


def class_language(attributes: str) -> str:
    """Return the language that a class names, such as `language-python` or `hljs python`."""
    found = _CLASS.search(attribute(attributes, "class"))
    return (found[1] or found[2]) if found else ""


def code_block(inside: str, attributes: str = "") -> str:
    """Return the contents of a `<pre>` as a fenced block, or an empty text for a blank `<pre>`.

    A bar above the code, with the language and a copy button, is left out.
    """
    inside = inside.removeprefix("\n")  # HTML does not show a line break that begins a <pre>
    language, code = class_language(attributes), inside
    if (begin := _CODE.search(inside)) and (bar := _bar(inside[: min(begin.start(), _LONG)])) is not None:
        language = class_language(begin[1]) or language or bar
        code = inside[begin.end() :]
        last = code.rfind("</code")
        code = code[:last] if last >= 0 and _bar(code[last : last + _LONG]) is not None else code
    text = plain(code)
    return fenced(text, language) if text.strip() else ""


@lru_cache
def _bar(source: str) -> str | None:
    if len(source) >= _LONG:
        return None
    elements, shown, at = Elements(source), "", 0
    for found in _DRAWN.finditer(source):
        if found.start() >= at and (drawn := elements.until(f"</{found[1].lower()}", found.end())):
            shown += source[at : found.start()]
            at = drawn[1]
    name = label = plain(shown + source[at:]).strip()
    while button := next((each for each in _BUTTONS if name.endswith(each)), None):
        name = name.removesuffix(button).rstrip()
    if not name:
        return ""
    is_bar = name != label or "<button" in source or "<div" in source
    return name.lower().replace(" ", "-") if is_bar and _NAME.fullmatch(name) else None


def tex_of(inside: str) -> str | None:
    """Return the TeX source of a `<math>` element, or None."""
    place = inside.find("application/x-tex")
    begin = inside.find(">", place)
    return None if place < 0 or begin < 0 else decoded(inside[begin + 1 : inside.find("<", begin)]).strip()
