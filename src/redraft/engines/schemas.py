r"""JSON schemas of answers: written so that servers keep to them, and watched in what models answer.

llama.cpp's grammar has no `\d`, `\w` and `\s`, no needless escapes and no pattern without `^` and `$`: its
server drops such a pattern with a line in its own log, and takes any text. Written out they mean the same, to
other servers too. It also matches a pattern with the text between the quotes of JSON, so that `.` ends the
text with a bare quote and the reply fails: for llama.cpp, what is not named leaves quotes, backslashes and
control characters out. The answer is checked against the pattern as the user wrote it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Set
from typing import Any

from redraft.chain import Finish

_log = logging.getLogger(__name__)

_FIRST = '{["-0123456789tfn'  # characters that JSON may begin with


UNBOUND = "replies are only checked, or read as text"
"""What becomes of replies that keep to no schema: answers are checked, and criticisms are read."""


class SchemaWatch:
    """Looks at the answers of one engine, and warns in the log once."""

    def __init__(self) -> None:
        self._warned = False
        self._left = set[str]()

    def leave(self, name: str, keywords: Set[str]) -> None:
        """Log the keywords that a grammar cannot express, each once."""
        new, self._left = keywords - self._left, self._left | keywords
        if new:
            words = ", ".join(sorted(new))
            _log.info("%s keeps to the JSON schema but for %s, which is only checked", name, words)

    def look(self, name: str, answer: str, finish: Finish) -> None:
        """Warn at the first answer that is no JSON. One that was cut off may be the beginning of some."""
        text = answer.strip()
        if self._warned or not text or (finish != "stop" and text[0] in _FIRST):
            return
        try:
            if finish == "stop":
                json.loads(text)
                return
        except (ValueError, RecursionError):
            pass
        self._warned = True
        _log.warning("%s does not keep to the JSON schema, so %s: %.60r", name, UNBOUND, answer)


_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\.", re.DOTALL)
"""An escape, a class in brackets, or a dot."""

_PARTS = frozenset(
    {"items", "additionalItems", "prefixItems", "additionalProperties", "anyOf", "allOf", "oneOf"}
)
_MAPS = frozenset({"$defs", "definitions", "properties", "patternProperties"})

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_À-ÖØ-öø-῿Ⰰ-퟿", "s": " "}
"""Letters beyond ASCII are whole blocks of Unicode: a little too much, and the check decides. Other space
than the blank is written with an escape in JSON."""

_SPECIAL = frozenset(r"\^$.|?*+()[]{}")
_SPECIAL_IN_CLASS = frozenset(r"\^[]")
_OF_JSON = r'"\\\x01-\x1F'  # what does not stand for itself between the quotes of JSON


def with_plain_patterns(schema: Any, *, llamacpp: bool) -> Any:
    """Return a schema, or a list of them, with its patterns written out. `llamacpp`: it is for llama.cpp."""
    if isinstance(schema, list):
        return [with_plain_patterns(part, llamacpp=llamacpp) for part in schema]
    if not isinstance(schema, Mapping):
        return schema

    def part(name: str, value: Any) -> Any:
        if name == "pattern" and isinstance(value, str):
            return plain(value, llamacpp=llamacpp)
        if name in _MAPS and isinstance(value, Mapping):
            return {key: with_plain_patterns(each, llamacpp=llamacpp) for key, each in value.items()}
        return with_plain_patterns(value, llamacpp=llamacpp) if name in _PARTS else value

    return {name: part(name, value) for name, value in schema.items()}


def plain(pattern: str, *, llamacpp: bool) -> str:
    r"""Return a pattern written out, such as `^[0-9]{4}$` for `^\d{4}$`; for llama.cpp with both anchors.

    One that has what llama.cpp cannot express (`\b`, lookarounds, anchors in the middle) is left as it is.
    """
    if re.search(r"\(\?[^:]|\\[bB\d]", pattern):
        return pattern
    bare = _ATOM.sub("e", pattern)
    begins, ends = bare.startswith("^"), bare.endswith("$")
    closed = _OF_JSON if llamacpp else ""
    written = _ATOM.sub(lambda found: _atom(found[0], closed), pattern).replace("(?:", "(")
    branches = "|" in re.sub(r"\([^()]*\)", "", bare)
    middle = bare[begins : len(bare) - ends]
    if not llamacpp or (begins and ends) or {"^", "$"} & set(middle) or (branches and (begins or ends)):
        return written
    text = f"({written})" if branches else written.removeprefix("^" * begins).removesuffix("$" * ends)
    anything = f"[^{_OF_JSON}]*"
    return f"^{anything * (not begins)}{text}{anything * (not ends)}$"


def _atom(text: str, closed: str) -> str:
    """Write out an atom. `closed` is what a class that names what it leaves out leaves out, too."""
    if text == ".":
        return f"[^{closed}]" if closed else text
    if text.startswith("["):
        return _class(text, closed)
    name = text[1]
    if name in _CLASSES:
        return f"[{_CLASSES[name]}]"
    if name.lower() in _CLASSES:
        return f"[^{_CLASSES[name.lower()]}{closed}]"
    return text if name.isalnum() or name in _SPECIAL else name


def _class(text: str, closed: str) -> str:
    r"""Write out a class. A dash that is no range goes to its end: `[\w-.]`."""
    start = "[^" if text.startswith("[^") else "["
    items = re.findall(r"\\.|.", text[len(start) : -1], re.DOTALL)
    if {r"\D", r"\W", r"\S"} & set(items):
        return text
    written, dash = "", ""
    for before, item, after in zip(["", *items], items, [*items[1:], ""], strict=False):
        if item == r"\-" or (item == "-" and ({before, after} & {"", r"\d", r"\w", r"\s"})):
            dash = "-"
        elif item[1:] in _CLASSES:
            written += _CLASSES[item[1:]]
        else:
            needless = len(item) == 2 and not (item[1].isalnum() or item[1] in _SPECIAL_IN_CLASS)
            written += item[needless:]
    return f"{start}{closed if start == '[^' else ''}{written}{dash}]"
