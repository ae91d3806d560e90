"""Lists of words that a conversation is dropped for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import UsageError

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class WordList:
    """A list of words, of any case.

    Attributes:
        name: What a reason calls it.
        words: Found as whole words.
        phrases: Found as whole words too, but of several of them or with other characters.
        parts: Found inside of words too.
        asked_only: Whether only the first question is searched.
    """

    name: str
    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    asked_only: bool = False

    def find(self, text: str) -> str | None:
        """One of the list that the text has, always the same, or None."""
        text = text.casefold()
        if self.words and (found := self.words.intersection(_WORD.findall(text))):
            return min(found)
        parts = (part for part in self.parts if part in text)
        return next(parts, next((phrase for phrase in self.phrases if _stands_in(phrase, text)), None))


FASTCHAT = WordList("fastchat", parts=("openai", "chatgpt"))
"""Of FastChat's `data/clean_sharegpt.py`, which searches every turn for these as parts of words."""

_ALPACA = """
    image images graph graphs picture pictures file files map maps draw plot video audio music flowchart
    diagram
"""
ALPACA = WordList(
    "alpaca",
    frozenset(_ALPACA.split()),
    phrases=("go to",),
    asked_only=True,
)
"""Of Alpaca's `generate_instruction.py`: what a model of text cannot do. Only instructions are searched."""

LISTS = {words.name: words for words in (FASTCHAT, ALPACA)}


def load(name: str) -> WordList:
    """A list by its name, or of a file: a word or phrase a line, `#` begins a remark.

    Raises:
        UsageError: No such list or file, or nothing in it.
    """
    if name in LISTS:
        return LISTS[name]
    try:
        lines = Path(name).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(
            f"--blocked {name}: neither a list ({', '.join(LISTS)}) nor a file that can be read: {reason}.",
            hint="A file has a word or phrase a line.",
        ) from None
    entries = [
        line.strip().casefold() for line in lines if line.strip() and not line.lstrip().startswith("#")
    ]
    if not entries:
        raise UsageError(
            f"--blocked {name}: there are no words in it.", hint="Write a word or phrase a line."
        )
    return _of(name, entries)


def _of(name: str, entries: Iterable[str]) -> WordList:
    known = list(dict.fromkeys(" ".join(entry.split()) for entry in entries))
    single = frozenset(entry for entry in known if _WORD.fullmatch(entry))
    return WordList(name, single, tuple(entry for entry in known if entry not in single))


def _stands_in(phrase: str, text: str) -> bool:
    """Whether the phrase is there with no letter or digit right beside it that would make it longer."""
    place = text.find(phrase)
    while place >= 0:
        end = place + len(phrase)
        before, after = text[place - 1 : place], text[end : end + 1]
        if not (_joins(before, phrase[0]) or _joins(phrase[-1], after)):
            return True
        place = text.find(phrase, place + 1)
    return False


def _joins(left: str, right: str) -> bool:
    return bool(left and right and _WORD.fullmatch(left + right))
