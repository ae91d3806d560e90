"""Read records, count the dropped ones by rule, and keep them in a side file with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import IO, Any

from redraft.chain import Chain
from redraft.errors import RecordError
from redraft.formats.read.files import decode, to_line
from redraft.formats.read.records import Damage, RawRecord

UNREADABLE = "unreadable"
"""The rule that drops unreadable records."""

DAMAGED = "damaged"
"""The rule for the lost rest of a damaged file."""

SHOWN = 5
"""Unreadable records to report one by one; all are counted and kept in the side file."""


@dataclass(frozen=True)
class Drop:
    """A dropped record, or a dropped part of one.

    Attributes:
        rule: The rule's name, such as `short`.
        reason: What the rule found.
        where: The record's place, such as `a.jsonl:12`.
        id: The record's id, if any.
        record: The record. Bytes are an unreadable line; None is a file's damage.
    """

    rule: str
    reason: str
    where: str
    id: str = ""
    record: Any = None


def chain_or_drop(raw: RawRecord, *, strict: bool) -> Chain | Drop:
    """Return a record's chain, or the drop of a record that cannot be read.

    Raises:
        RecordError: With `strict`, instead of a drop.
    """
    try:
        return raw.chain()
    except RecordError as error:
        if strict:
            raise
        if isinstance(error, Damage):
            return Drop(DAMAGED, error.message, raw.where)
        return Drop(UNREADABLE, error.message, raw.where, record=raw.data)


class Dropped:
    """Count drops, and write each to the side file.

    Args:
        side: The side file.
        tell: Receives place and reason of the first unreadable records.

    Attributes:
        counts: Drops by rule.
        damage: The faults of damaged files.
    """

    def __init__(self, side: IO[bytes] | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.damage: list[str] = []
        self._side, self._tell = side, tell

    def add(self, drop: Drop) -> None:
        """Count and keep one drop."""
        self.counts[drop.rule] += 1
        if drop.rule == DAMAGED:
            self.damage.append(_message(drop))
        if drop.rule == UNREADABLE and self._tell and self.counts[UNREADABLE] <= SHOWN:
            self._tell(_message(drop))
        if self._side:
            self._side.write(_written(drop))

    def untold(self) -> int:
        """Count the unreadable records that were not reported."""
        return max(self.counts[UNREADABLE] - SHOWN, 0)

    def lines(self) -> list[str]:
        """Return the counts as text, most frequent first, then by name."""
        width = max((len(rule) for rule in self.counts), default=0)
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [f"{rule:{width}}  {count:>9,}" for rule, count in ordered]


def _message(drop: Drop) -> str:
    return f"{drop.where}: {_reason(drop)}"


def _reason(drop: Drop) -> str:
    """Return the reason without the place that begins error messages."""
    return drop.reason.removeprefix(f"{drop.where}: ")


def _written(drop: Drop) -> bytes:
    """Return a drop as a line. A record that is not JSON or nested too deep is kept as text."""
    line = drop.record if isinstance(drop.record, bytes) else None
    values = {entry.name: getattr(drop, entry.name) for entry in fields(drop)} | {"reason": _reason(drop)}
    try:
        return to_line(values if line is None else values | {"record": decode(line, drop.where)})
    except (ValueError, RecursionError, RecordError):
        text = None if line is None else line.decode("utf-8", "backslashreplace")
        return to_line(values | {"record": text})
