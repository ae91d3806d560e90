r"""Grammars for forbidden characters, regular expressions and JSON.

`writer` handles words, sentences and required phrases, because a counting grammar makes models break words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redraft.engines.steering.form import Form
from redraft.engines.steering.pattern import pattern_of

HEAD = "%llguidance {}\n"
END_OF_VALUE = r"[ \n]*[,}\]]\n?"


def value(schema: Mapping[str, Any]) -> str:
    """Return the grammar of a JSON value and the punctuation after it."""
    # `",` may be a single token.
    return f"{HEAD}start: value end\nvalue: %json {json.dumps(schema)}\nend: /{END_OF_VALUE}/\n"


def lark(form: Form, stop: Sequence[str] = ()) -> str:
    """Return the grammar of a form in llguidance's syntax; empty if any text is allowed.

    One of the `stop` strings may follow the text.
    """
    plain = ("".join(char if char.isalnum() else _codes(char) for char in text) for text in stop if text)
    ended = "|".join(plain)
    end = f"([ \\n]{{0,2}}({ended}))?" if ended else ""
    if form.pattern:
        return f"{HEAD}start: /({pattern_of(form.pattern)}){end}/\n"
    never = _codes(sorted(form.without))
    return f"{HEAD}start: /[^{never}]*{end}/\n" if never else ""


def gbnf(form: Form) -> str:
    """Return the grammar of a form's characters in llama.cpp's syntax; empty if all are allowed."""
    if not form.without:
        return ""
    # Ranges, because XGrammar misreads `[^…]` beyond ASCII.
    ranges, start = "", 0
    for code in sorted(map(ord, form.without)):
        if start < code:
            ranges += f"{_escaped(chr(start))}-{_escaped(chr(code - 1))}"
        start = code + 1
    return f"root ::= [{ranges}{_escaped(chr(start))}-\U0010ffff]*"


def _escaped(char: str) -> str:
    return char if char.isalnum() or char > "\x7f" else f"\\x{ord(char):02X}"


def _codes(chars: Iterable[str]) -> str:
    return "".join(char if char in "\"',;:!<>=_#@&%~`" else f"\\u{{{ord(char):x}}}" for char in chars)
