"""What was taken out of the data: counted by rule, and kept in a side file with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import IO, Any

from redraft.formats.files import to_line

DAMAGED = "damaged"
"""The rule by which the rest of a file is lost: it ends too early, or its next record cannot be found."""


@dataclass(frozen=True)
class Drop:
    """One record, or part of one, that was taken out.

    Attributes:
        rule: The rule's name, such as `short`.
        reason: What it found, in words.
        where: Where the record stood, such as `a.jsonl:12`.
        id: The record's id, if it has one.
        record: The record as it was; None where it could not be read, or is nested too deep to be written.
    """

    rule: str
    reason: str
    where: str
    id: str = ""
    record: Any = None


class Dropped:
    """Counts drops, and writes each to the side file.

    Attributes:
        counts: Drops by rule.
        damage: What is wrong with the files that are damaged.
    """

    def __init__(self, side: IO[bytes] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.damage: list[str] = []
        self._side = side

    def add(self, drop: Drop) -> None:
        """Takes one."""
        self.counts[drop.rule] += 1
        if drop.rule == DAMAGED:
            self.damage.append(f"{drop.where}: {drop.reason.removeprefix(f'{drop.where}: ')}")
        if self._side:
            self._side.write(_written(drop))

    def lines(self) -> list[str]:
        """The counts as text, most frequent first, those of equal counts by name."""
        width = max((len(rule) for rule in self.counts), default=0)
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [f"{rule:{width}}  {count:>9,}" for rule, count in ordered]


def _written(drop: Drop) -> bytes:
    """A drop as a line. A record may be nested deeper than can be written: then it is left out."""
    values = {each.name: getattr(drop, each.name) for each in fields(drop)}
    try:
        return to_line(values)
    except (ValueError, RecursionError):
        return to_line(values | {"record": None})
