"""What was taken out of the data: counted by rule, and kept in a side file with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import IO, Any

from redraft.errors import RecordError
from redraft.formats.read.files import decode, to_line

UNREADABLE = "unreadable"
"""The rule that drops what is not a record."""

DAMAGED = "damaged"
"""The rule by which the rest of a file is lost: it ends too early, or its next record cannot be found."""

SHOWN = 5
"""Records that could not be read of which each is told; the others are counted, and kept in the side file."""


@dataclass(frozen=True)
class Drop:
    """One record, or part of one, that was taken out.

    Attributes:
        rule: The rule's name, such as `short`.
        reason: What it found, in words.
        where: Where the record stood, such as `a.jsonl:12`.
        id: The record's id, if it has one.
        record: The record as it was. Bytes are its line, of what could not be read; None is a file's damage.
    """

    rule: str
    reason: str
    where: str
    id: str = ""
    record: Any = None


class Dropped:
    """Counts drops, and writes each to the side file.

    Args:
        side: The side file.
        tell: Told of the first few that could not be read: where each stands, and why.

    Attributes:
        counts: Drops by rule.
        damage: What is wrong with the files that are damaged.
    """

    def __init__(self, side: IO[bytes] | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.damage: list[str] = []
        self._side, self._tell = side, tell

    def add(self, drop: Drop) -> None:
        """Takes one."""
        self.counts[drop.rule] += 1
        if drop.rule == DAMAGED:
            self.damage.append(_said(drop))
        if drop.rule == UNREADABLE and self._tell and self.counts[UNREADABLE] <= SHOWN:
            self._tell(_said(drop))
        if self._side:
            self._side.write(_written(drop))

    def untold(self) -> int:
        """How many more could not be read than were told of."""
        return max(self.counts[UNREADABLE] - SHOWN, 0)

    def lines(self) -> list[str]:
        """The counts as text, most frequent first, those of equal counts by name."""
        width = max((len(rule) for rule in self.counts), default=0)
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [f"{rule:{width}}  {count:>9,}" for rule, count in ordered]


def _said(drop: Drop) -> str:
    return f"{drop.where}: {_reason(drop)}"


def _reason(drop: Drop) -> str:
    """The reason without the place, which the messages of errors begin with."""
    return drop.reason.removeprefix(f"{drop.where}: ")


def _written(drop: Drop) -> bytes:
    """A drop as a line. What is no JSON, or nested deeper than can be written, stands there as text."""
    line = drop.record if isinstance(drop.record, bytes) else None
    values = {each.name: getattr(drop, each.name) for each in fields(drop)} | {"reason": _reason(drop)}
    try:
        return to_line(values if line is None else values | {"record": decode(line, drop.where)})
    except (ValueError, RecursionError, RecordError):
        text = None if line is None else line.decode("utf-8", "backslashreplace")
        return to_line(values | {"record": text})
