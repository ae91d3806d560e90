"""Code and formulas of a page: the one kept to the letter, the other as the TeX that it was made from."""

from __future__ import annotations

import re

from redraft.collect.clean.html.tags import ANY_TAG, Elements, attribute, decoded

_BREAK = re.compile(r"<br(?=[\s/>])[^<>]*>", re.I)
_CODE = re.compile(r"<code(?=[\s>])([^<>]*)>", re.I)
_DRAWN = re.compile(r"<(button|svg)(?=[\s>])", re.I)
_CLASS = re.compile(r"(?:^|\s)(?:language|lang)-([\w+#.-]+)|(?:^|\s)hljs (?!language-)([a-z][\w+#]*)(?:\s|$)")
_BUTTONS = ("Copy code", "Copy", "Edit", "Wrap", "Run", "Download")
_NAME = re.compile(r"[\w+#./-]{1,24}(?: [\w+#./-]{1,12})?")
_TICKS = re.compile(r"`+")

_BAR = 10_000
"""Characters of a page's source that a bar above code may take. ChatGPT's take about 700."""


def plain(source: str) -> str:
    """The text of code: without tags, its line breaks and blanks as they are."""
    if "<" in source:
        source = ANY_TAG.sub("", _BREAK.sub("\n", source))
    return decoded(source).replace("\xa0", " ")


def fenced(code: str, language: str = "") -> str:
    """A code block. Its fence is longer than any row of backticks in it; one line break at its end goes."""
    fence = "`" * max(3, 1 + _longest(code))
    end = "" if code.endswith("\n") else "\n"
    return f"{fence}{language}\n{code}{end}{fence}"


def spanned(code: str) -> str:
    """Code in a line, between more backticks than it has in a row."""
    ticks = "`" * (1 + _longest(code))
    room = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{ticks}{room}{code}{room}{ticks}"


def _longest(code: str) -> int:
    return max(map(len, _TICKS.findall(code))) if "`" in code else 0


def language_of(attributes: str) -> str:
    """The language that a class names, as `language-python` or `hljs python` does."""
    found = _CLASS.search(attribute(attributes, "class"))
    return (found[1] or found[2]) if found else ""


def code_block(inside: str, attributes: str = "") -> str:
    """What is in a `<pre>`, as a fenced block; empty if that is nothing.

    A bar above the code, with the language and a button to copy, is not code: it gives the language where no
    class does.
    """
    inside = inside.removeprefix("\n")  # HTML does not show a line break that begins a <pre>
    language, code = language_of(attributes), inside
    if (begin := _CODE.search(inside)) and (bar := _bar(inside[: begin.start()])) is not None:
        language = language_of(begin[1]) or language or bar
        code = inside[begin.end() :]
        last = code.rfind("</code")
        code = code[:last] if last >= 0 and _bar(code[last:]) is not None else code
    text = plain(code)
    return fenced(text, language) if text.strip() else ""


def _bar(source: str) -> str | None:
    """The language that a bar names, empty if it names none; None if this is no bar."""
    if len(source) > _BAR:
        return None
    said = plain(_undrawn(source)).strip()
    name = _unbuttoned(said)
    if not name:
        return ""
    is_bar = name != said or "<button" in source or "<div" in source
    return name.lower().replace(" ", "-") if is_bar and _NAME.fullmatch(name) else None


def _undrawn(source: str) -> str:
    """The source without buttons and drawings, and what is in them."""
    elements, kept, at = Elements(source), "", 0
    for found in _DRAWN.finditer(source):
        if found.start() >= at and (drawn := elements.until(f"</{found[1].lower()}", found.end())):
            kept += source[at : found.start()]
            at = drawn[1]
    return kept + source[at:]


def _unbuttoned(said: str) -> str:
    """The text without what is on the buttons at its end."""
    while button := next((each for each in _BUTTONS if said.endswith(each)), None):
        said = said.removesuffix(button).rstrip()
    return said


def tex_of(inside: str) -> str | None:
    """The TeX that a `<math>` was made from, if it says so."""
    place = inside.find("application/x-tex")
    begin = inside.find(">", place)
    if place < 0 or begin < 0:
        return None
    return decoded(inside[begin + 1 : inside.find("<", begin)]).strip()
