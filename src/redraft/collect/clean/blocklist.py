"""Word lists whose matches drop a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import UsageError

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class WordList:
    """A list of words, matched in any case.

    Attributes:
        name: The list's name in reasons.
        words: Single words, matched as whole words.
        phrases: Entries of several words or with other characters, matched at word boundaries.
        parts: Matched inside words too.
        asked_only: Search the first question only.
    """

    name: str
    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    asked_only: bool = False

    def find(self, text: str) -> str | None:
        """Return a matching entry, always the same for a text, or None."""
        text = text.casefold()
        if self.words and (found := self.words.intersection(_WORD.findall(text))):
            return min(found)
        parts = (part for part in self.parts if part in text)
        return next(parts, next((phrase for phrase in self.phrases if _stands_in(phrase, text)), None))


FASTCHAT = WordList("fastchat", parts=("openai", "chatgpt"))
"""From FastChat's `data/clean_sharegpt.py`, which searches every turn for parts of words."""

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
"""From Alpaca's `generate_instruction.py`: tasks that a text model cannot do. Searched in instructions."""

LISTS = {words.name: words for words in (FASTCHAT, ALPACA)}


def load(name: str) -> WordList:
    """Return a named list, or read a file with one word or phrase per line; `#` begins a comment.

    Raises:
        UsageError: There is no such list or file, or it is empty.
    """
    if name in LISTS:
        return LISTS[name]
    try:
        lines = Path(name).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(
            f"--blocked {name}: neither a list ({', '.join(LISTS)}) nor a readable file: {reason}.",
            hint="A file has one word or phrase per line.",
        ) from None
    entries = [
        line.strip().casefold() for line in lines if line.strip() and not line.lstrip().startswith("#")
    ]
    if not entries:
        raise UsageError(f"--blocked {name}: it has no words.", hint="Write one word or phrase per line.")
    return _of(name, entries)


def _of(name: str, entries: Iterable[str]) -> WordList:
    known = list(dict.fromkeys(" ".join(entry.split()) for entry in entries))
    single = frozenset(entry for entry in known if _WORD.fullmatch(entry))
    return WordList(name, single, tuple(entry for entry in known if entry not in single))


def _stands_in(phrase: str, text: str) -> bool:
    """Whether the phrase occurs without a letter or digit beside it that would extend it."""
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
