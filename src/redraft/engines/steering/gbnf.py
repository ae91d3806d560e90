"""Forms as GBNF, the grammars of llama.cpp: its servers take them, and vLLM and SGLang with any backend.

They have neither `~` nor `max_tokens`. So a text is always a row of words, as `lark` writes it, and a word
that may not come is left out letter by letter. What that cannot say is only checked (`says`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import ascii_letters

from redraft.engines.steering.form import ANY, Form
from redraft.engines.steering.lark import Words

MOST_LETTERS = 400  # of all words that may not come: each is a rule
MOST_ORDERS = 4  # texts that come in any order: that is 24 orders. More come as they are given.

_SAYS = (
    "without",
    "case",
    "lacks",
    "has",
    "opening",
    "closing",
    "postscript",
    "words",
    "sentences",
    "quoted",
)
_OUTSIDE = ("\0/", ":@", "[`", "{¿", "\u2000\u2bff", "\u3000\u303f", "\ud800\udfff", "\U0001f000\U0001faff")
"""Characters outside of words, from the first to the last: marks, symbols and spaces."""

_OTHER_CASE = {"": (), "upper": ("az", "ßÿ"), "lower": ("AZ", "ÀÞ")}
_LONGEST = 20  # letters of a word


def says(form: Form) -> bool:
    """Return whether GBNF can say all that a form says. An empty form says nothing."""
    known = Form(**{name: getattr(form, name) for name in _SAYS})
    return (
        Form() != form == known
        and all(map(_is_plain, form.lacks))
        and len("".join(form.lacks)) <= MOST_LETTERS
    )


def gbnf(form: Form, tokens: int) -> str:
    """Return the grammar of a form that `says` has, for a text of at most `tokens` tokens."""
    return _Rules(form, tokens).text()


class _Rules(Words):
    """Writes the rules of `Words` without regular expressions, and without characters that are words."""

    def __init__(self, form: Form, tokens: int) -> None:
        super().__init__(form, tokens)
        for name in "WGXLCZS":
            self.rules[name.lower()] = self.rules.pop(name)

    def text(self) -> str:
        """Return the grammar of a text."""
        self.rules["letter"] = self._letter()
        found = re.sub(r"^(\w+): (?:/(.*)/$)?", r"\1 ::= \2", super().text(), flags=re.M)
        found = re.sub(r"\\u\{(\w+)\}", lambda code: _escaped(chr(int(code[1], 16))), found)
        return found.replace("start ::=", "root ::=", 1)

    def _keys(self, gap: int) -> list[str]:
        row = super()._keys(gap)
        if self.rules.pop("keys::_", None) is None:
            return row
        words, names = f"g{{0,{gap}}}" if gap else "", [f"K{n}" for n in range(len(self.form.has))]

        def ways(left: list[str]) -> str:
            each = (f"{words} {name} {ways([n for n in left if n != name])}" for name in left)
            return f"({' | '.join(each)})" if left else ""

        if len(names) > MOST_ORDERS:
            return [part for name in names for part in (words, name)]
        return [ways(names)]

    def _key(self, name: str, text: str) -> str:
        first, *rest = re.split(r"\s+", self._cased(text))
        begin = (
            f"[{self._cases(first[0])}]" if first[0].isalpha() else _literal(first[0])
        )  # of a sentence, maybe
        words = f" {self.space} ".join([f"{begin} {_literal(first[1:])}", *map(_literal, rest)])
        before, after = self._around(within=self.form.sentences != ANY)
        self.rules[name] = f"{before} {words} {after} {self.space}"
        return name

    def _given(self, name: str, *texts: str) -> str:
        self.rules[name] = " | ".join(_literal(self._cased(text)) for text in texts)
        return name

    def _word(self, end: str, *, within: bool = False, first: str = "", other: Iterable[str] = ()) -> str:  # noqa: ARG002
        least = 3 if end.startswith(self.stop) and self.form.sentences != ANY else 1
        first = first.removesuffix(r"\p{Lu}")
        before, after = self._around(within=within)
        after = self._class(")\"'*") + "?" if end.startswith(self.stop) else after  # and no `,.`
        return f"{before} {self._core(first, least)} {self._linked()} {after} {end}"

    def _linked(self) -> str:
        """Return what may be linked to a word: `don't` is one word, and `well-known` may be two."""
        links = "".join(char for char in "'-" if char not in self.form.without)
        if self.form.words != ANY:
            return f'("\'" {self._core("", 1)})?' if "'" in links else ""
        return f"([{links}] {self._core('', 1)}){{0,2}}" if links else ""

    def _around(self, *, within: bool) -> tuple[str, str]:
        """Return the marks before and after a word."""
        return self._class('"(*') + "?", self._class(",;:)\"'*" + ("" if within else ".!?")) + "{0,2}"

    def _letter(self, *without: str) -> str:
        """Return the class of letters, but for some. XGrammar reads `[^…]` wrongly beyond ASCII."""
        banned = (char + char for char in (*self.form.without, *"".join(without)))
        ranges, start = "", 0
        for first, last in sorted((*_OUTSIDE, *_OTHER_CASE[self.form.case], *banned)):
            if start < ord(first):
                ranges += f"{chr(start)}-{chr(ord(first) - 1)}"
            start = max(start, ord(last) + 1)
        return f"[{ranges}{chr(start)}-\U0010ffff]"

    def _cases(self, letter: str) -> str:
        """Return a letter in the cases that it may have."""
        every = {"": letter.lower() + letter.upper(), "upper": letter.upper(), "lower": letter.lower()}
        return "".join(sorted(set(every[self.form.case]) - self.form.without))

    def _core(self, first: str, least: int) -> str:
        """Return a word of at least `least` letters. It begins with one of the class `first`."""
        words = {text.lower() for text in self.lacks if _is_plain(text)}
        if not words:
            return f"{f'[{first}]' if first else 'letter'} letter{{{max(least - 1, 0)},{_LONGEST - 1}}}"
        name = f"P{least}{first[:1]}0"
        if name not in self.rules:
            self._write_core(name, words, first, least)
        return name

    def _write_core(self, name: str, words: set[str], first: str, least: int) -> None:
        """Write the rule of a word that is none of these, and the rules behind each of their letters."""
        tails: dict[str, set[str]] = {}
        for word in words - {""}:
            tails.setdefault(word[0], set()).add(word[1:])
        ways = [] if "" in words or least > 0 else ['""']
        for letter, left in sorted(tails.items()):
            cases = "".join(re.findall(f"[{first or 'A-Za-z0-9'}]", self._cases(letter)))
            if cases:
                ways.append(f"[{cases}] {name}{letter}")
                self._write_core(f"{name}{letter}", left, "", least - 1)
        known = "".join(map(self._cases, tails))
        other = "".join(re.findall(f"(?![{known or ' '}])[{first}]", ascii_letters)) if first else ""
        begin = f"[{other}]" if first else self._letter(known)
        self.rules[name] = " | ".join([*ways, f"{begin} letter{{{max(least - 1, 0)},{_LONGEST - 1}}}"])


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _literal(text: str) -> str:
    return '"' + "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n"}.get(char, char) for char in text) + '"'


def _escaped(chars: str) -> str:
    """Return characters as they stand in a class."""
    return "".join(char if char.isalnum() or char > "\x7f" else f"\\x{ord(char):02X}" for char in chars)
