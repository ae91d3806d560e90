"""Describes files of chains in one pass: how many of what, how long, in which languages, judged how.

A block of records becomes a summary in some process, and summaries add up (`collect.summary`), so that the
result is the same for any number of workers. Samples are drawn while reading. What the numbers warn of is in
`collect.findings`, and the page in `collect.page`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Any

from redraft.chain import Chain
from redraft.collect.clean.dropped import UNREADABLE, Drop
from redraft.collect.read.records import chain_or_drop
from redraft.collect.report.summary import LONG, Count, DataSummary, hashed, look
from redraft.errors import RecordError
from redraft.formats.read.files import name_of
from redraft.formats.read.records import RawRecord, raw_records
from redraft.parallel import spread

_BLOCK = 1 << 16  # bytes of records that are summed up at once


@dataclass(frozen=True)
class Sample:
    """A record that was drawn: where it stands, and the chain that it is."""

    where: str
    chain: Chain


_LENGTHS = ("prompt", "answer", "feedback", "record")
_NUMBERS = {
    "turns": "turns a record",
    "answers a record": "answers a record",
    "best answer": "best answer (0 is the draft)",
}
_KINDS = ("sources", "languages", "licences", "stops")


@dataclass(frozen=True)
class DataReport:
    """All that is known of some files.

    Attributes:
        unit: What lengths are counted in, such as `words`.
        long: The length from which a record counts as very long.
    """

    files: tuple[str, ...]
    unit: str
    long: int
    summary: DataSummary
    samples: tuple[Sample, ...]

    def numbers(self) -> dict[str, Counter[int]]:
        """Counted whole numbers by what they are, such as `turns a record`; none that are 0 everywhere."""
        names = _NUMBERS | {f"{what} length": f"{self.unit}, {what}" for what in _LENGTHS}
        found = {title: self.summary.tables.get(table, Counter()) for table, title in names.items()}
        return {title: counts for title, counts in found.items() if any(counts)}

    def kinds(self) -> dict[str, list[tuple[str, int]]]:
        """Counted names by what they are, such as `languages`, the most frequent first."""
        tables = self.summary.tables
        return {name: ranked(tables[name]) for name in _KINDS if tables.get(name)}

    def verdicts(self) -> dict[int, Counter[str]]:
        """Counted verdicts by the place of their feedback: 1 is that on the first answer."""
        return _by_place(self.summary.tables.get("verdicts", Counter()))

    def scores(self) -> dict[int, Counter[float]]:
        """Counted scores out of 10, likewise."""
        return _by_place(self.summary.tables.get("scores", Counter()))


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first, those of equal counts by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _by_place(table: Counter[tuple[int, Any]]) -> dict[int, Counter[Any]]:
    places: dict[int, Counter[Any]] = {}
    for (place, value), times in sorted(table.items()):
        places.setdefault(place, Counter())[value] += times
    return places


def describe(
    paths: Sequence[Path],
    count: Count,
    *,
    unit: str = "words",
    long: int = LONG,
    samples: int = 8,
    seed: int = 0,
    workers: int = 1,
    strict: bool = False,
    read: Callable[[int], None] | None = None,
) -> DataReport:
    """Reads files of any known shape, once.

    Args:
        paths: The files; `-` is standard input.
        count: How long a text is.
        unit: What it counts.
        long: The length from which a record counts as very long.
        samples: How many records to draw.
        seed: Which ones.
        workers: Processes; the result is the same for any number.
        strict: Raise at a record that cannot be read, instead of counting it.
        read: Told of each record that was read, with its bytes.

    Raises:
        RecordError: No record of a file can be reached; with `strict`, one cannot be read.
        MissingExtra: A file is a `.zst`, and what reads those is not installed.
    """
    total, early, drawn = DataSummary(), DataSummary(), Draw(samples, seed)
    lines = _read(paths, drawn, None if strict else early, read)
    for part in spread(partial(summarize, count=count, long=long, strict=strict), _blocks(lines), workers):
        total += part
    total += early
    names = tuple(name_of(path) for path in paths)
    return DataReport(names, unit, long, total, tuple(drawn.samples()))


class Draw:
    """Draws records so that each has the same chance: those with the smallest hashes of seed and place.

    Whatever a file is called, the same records are drawn from it.
    """

    LARGEST = 1 << 20
    """Bytes of a record that may be drawn: what is kept is then bounded, and the page can be read."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed, self._seen = size, seed, 0
        self._kept: list[tuple[int, int, RawRecord]] = []

    def offer(self, line: RawRecord) -> None:
        """Shows a record, which may be taken, in place of another."""
        self._seen += 1
        if not self._size or len(line.data) > self.LARGEST:
            return
        item = (-hashed(f"{self._seed}:{self._seen}"), -self._seen, line)
        if len(self._kept) < self._size:
            heappush(self._kept, item)
        elif item > self._kept[0]:
            heapreplace(self._kept, item)

    def samples(self) -> Iterator[Sample]:
        """The drawn records in the order of the input, but for those that cannot be read."""
        for _, _, line in sorted(self._kept, key=lambda item: -item[1]):
            chain = chain_or_drop(line, strict=False)
            if isinstance(chain, Chain):
                yield Sample(line.where, chain)


def summarize(
    lines: Sequence[RawRecord], *, count: Count, long: int = LONG, strict: bool = False
) -> DataSummary:
    """The summary of some records.

    Raises:
        RecordError: With `strict`, a record cannot be read.
    """
    summary = DataSummary()
    for line in lines:
        chain = chain_or_drop(line, strict=strict)
        if isinstance(chain, Drop):
            summary.warn(chain.rule, chain.reason)
        else:
            source = name_of(Path(line.stem))
            look(summary, chain, line.where, source, count, long)
    return summary


def _read(
    paths: Sequence[Path], drawn: Draw, faults: DataSummary | None, read: Callable[[int], None] | None
) -> Iterator[RawRecord]:
    """The records of all files. A file that ends too early is noted if there was any record in it."""
    for path in paths:
        line = None
        try:
            for line in raw_records(path):
                drawn.offer(line)
                if read:
                    read(len(line.data) + 1)
                yield line
        except RecordError as error:
            if faults is None or line is None:
                raise
            faults.warn(UNREADABLE, error.message)


def _blocks(lines: Iterable[RawRecord]) -> Iterator[tuple[RawRecord, ...]]:
    """Neighbouring records, up to a size in bytes: sending them one by one would cost more than the work."""
    held: list[RawRecord] = []
    size = 0
    for line in lines:
        if held and size + len(line.data) > _BLOCK:
            yield tuple(held)
            held, size = [], 0
        size += len(line.data)
        held.append(line)
    if held:
        yield tuple(held)
