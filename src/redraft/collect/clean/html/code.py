"""Convert code, which is kept unchanged, and formulas, which become their TeX source."""

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
"""Most characters of the source of a bar above code. ChatGPT's have about 700."""


def plain(source: str) -> str:
    """Return the text of code without tags. Line breaks and spaces stay."""
    if "<" in source:
        source = ANY_TAG.sub("", _BREAK.sub("\n", source))
    return decoded(source).replace("\xa0", " ")


def fenced(code: str, language: str = "") -> str:
    """Return a code block, whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + _longest(code))
    end = "" if code.endswith("\n") else "\n"
    return f"{fence}{language}\n{code}{end}{fence}"


def spanned(code: str) -> str:
    """Return inline code between more backticks than any run in it has."""
    ticks = "`" * (1 + _longest(code))
    room = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{ticks}{room}{code}{room}{ticks}"


def _longest(code: str) -> int:
    return max(map(len, _TICKS.findall(code))) if "`" in code else 0


def language_of(attributes: str) -> str:
    """Return the language that a class names, such as `language-python` or `hljs python`."""
    found = _CLASS.search(attribute(attributes, "class"))
    return (found[1] or found[2]) if found else ""


def code_block(inside: str, attributes: str = "") -> str:
    """Return the contents of a `<pre>` as a fenced block, or an empty text if it has none.

    A bar above the code, with the language and a copy button, is left out. It gives the language if no class
    does.
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
    """Return the language that a bar names, or an empty text; None if this is no bar."""
    if len(source) > _BAR:
        return None
    label = plain(_undrawn(source)).strip()
    name = _unbuttoned(label)
    if not name:
        return ""
    is_bar = name != label or "<button" in source or "<div" in source
    return name.lower().replace(" ", "-") if is_bar and _NAME.fullmatch(name) else None


def _undrawn(source: str) -> str:
    """Return the source without buttons and drawings."""
    elements, kept, at = Elements(source), "", 0
    for found in _DRAWN.finditer(source):
        if found.start() >= at and (drawn := elements.until(f"</{found[1].lower()}", found.end())):
            kept += source[at : found.start()]
            at = drawn[1]
    return kept + source[at:]


def _unbuttoned(label: str) -> str:
    """Return the text without the labels of buttons at its end."""
    while button := next((each for each in _BUTTONS if label.endswith(each)), None):
        label = label.removesuffix(button).rstrip()
    return label


def tex_of(inside: str) -> str | None:
    """Return the TeX source of a `<math>`, if it has one."""
    place = inside.find("application/x-tex")
    begin = inside.find(">", place)
    if place < 0 or begin < 0:
        return None
    return decoded(inside[begin + 1 : inside.find("<", begin)]).strip()
