"""Describe files of chains in one pass: counts, lengths, languages, verdicts.

Worker processes summarise blocks of records, and the summaries are added, so the result is the same for any
number of workers. Samples are drawn while reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Any, Literal, get_args

from redraft.chain import Chain
from redraft.collect.output import UNREADABLE, Drop, chain_or_drop
from redraft.collect.report.summary import (
    LONG,
    QUOTES,
    Count,
    DataSummary,
    add_to,
    hashed,
    leaks_in,
    refuses_in,
)
from redraft.errors import RecordError
from redraft.formats.read.files import name_of
from redraft.formats.read.records import RawRecord, raw_records
from redraft.jobs.ledger import failures
from redraft.jobs.lines import parse_line, read_lines
from redraft.parallel import spread

_BLOCK = 1 << 16  # bytes of records to summarise at once


@dataclass(frozen=True)
class Sample:
    """A sampled record and its place."""

    where: str
    chain: Chain


Part = Literal["answer", "feedback"]
PARTS: tuple[Part, ...] = get_args(Part)  # the parts of a step

_LENGTHS = ("prompt", "answer", "feedback", "record")
_NUMBERS = {
    "turns": "turns a record",
    "answers a record": "answers a record",
    "best answer": "best answer (0 is the draft)",
}
_KINDS = ("sources", "languages", "licences", "stops", "cleaned", QUOTES, "failures")


KINDS: dict[str, Callable[[Chain], bool]] = {
    "accepted at once": lambda chain: [step.verdict for step in chain.steps] == ["accept"],
    "corrected": lambda chain: (
        bool(chain.steps) and (chain.steps[0].verdict, chain.steps[-1].verdict) == ("revise", "accept")
    ),
    "leaking": leaks_in,
    "refusing": refuses_in,
    "without a verdict": lambda chain: any(
        step.feedback and step.verdict == "unknown" for step in chain.steps
    ),
}
"""Kinds of chains, from good to bad. A page shows an example of each. A chain may be of several."""


@dataclass(frozen=True)
class DataReport:
    """The description of some files."""

    files: tuple[str, ...]
    unit: str  # unit of lengths, such as `words`
    long: int  # length above which a record is very long
    summary: DataSummary
    samples: tuple[Sample, ...]
    examples: dict[str, Sample]  # a record of each kind of chain that there is, by the kind

    def totals(self) -> dict[str, int]:
        """Return the totals by name. A record with several gold answers counts once."""
        totals = self.summary.totals
        counted = {name: totals[name] for name in ("records", "answers", "feedbacks", "gold answers")}
        return counted | {self.unit: totals["length"]}

    def numbers(self) -> dict[str, Counter[int]]:
        """Return counts of whole numbers by title, such as `turns a record`; all-zero ones are left out."""
        names = _NUMBERS | {f"{what} length": f"{self.unit}, {what}" for what in _LENGTHS}
        found = {title: self.summary.tables.get(table, Counter()) for table, title in names.items()}
        return {title: counts for title, counts in found.items() if any(counts)}

    def kinds(self) -> dict[str, list[tuple[str, int]]]:
        """Return counts of names by title, such as `languages`, the most frequent first."""
        tables = self.summary.tables
        return {name: ranked(tables[name]) for name in _KINDS if tables.get(name)}

    def by_place(self, table: str) -> dict[int, Counter[Any]]:
        """Return a table by step. `verdicts` and `scores` at 1 are of the feedback on the first answer."""
        places: dict[int, Counter[Any]] = {}
        for (place, value), times in sorted(self.summary.tables.get(table, Counter()).items()):
            places.setdefault(place, Counter())[value] += times
        return places


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sort by frequency, then by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


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
    """Read files of any known shape once. `count` measures a text in `unit`; `read` receives read bytes.

    With no `samples`, there are no examples either. A file without a record before its damage is an error.
    """
    total, early, drawn = DataSummary(), DataSummary(), Draw(samples, seed)
    lines = _read(paths, drawn, None if strict else early, read)
    work = partial(summarize, count=count, long=long, strict=strict, examples=samples > 0)
    for part in spread(work, _blocks(lines), workers):
        total += part
    total += early
    total += _rejects(paths)
    names = tuple(name_of(path) for path in paths)
    examples = {kind: sample for kind in KINDS if (sample := _sample(total.shown.get(kind)))}
    return DataReport(names, unit, long, total, tuple(drawn.samples()), examples)


def _sample(line: RawRecord | None) -> Sample | None:
    chain = chain_or_drop(line, strict=False) if line else None
    return Sample(line.where, chain) if line and isinstance(chain, Chain) else None


def _rejects(paths: Sequence[Path]) -> DataSummary:
    """Summarise what a run wrote beside its files. Lines of other programs there are passed over."""
    summary = DataSummary()
    for path in paths:
        for record in failures(path).values():
            summary.name("failures", str(record["cause"]))
            summary.warn("failed", f"{record['cause']}: {record.get('message')}")
        for reason, counted, shown in (
            ("leaks", "dropped", "leaking"),
            ("refusals", "dropped refusals", "refusing"),
        ):
            file = path.with_name(f"{path.name}.{reason}.jsonl")
            for number, line in enumerate(read_lines(file)):
                chain = parse_line(line)
                if chain and "steps" in chain:
                    where = f"{file}:{number + 1}"
                    summary.warn(counted, where)
                    summary.shown.setdefault(shown, RawRecord(where, file.stem, number, line))
    return summary


class Draw:
    """Draw records uniformly: those with the smallest hashes of seed and place, whatever the file's name."""

    LARGEST = 1 << 20
    """Most bytes of a sample, to bound memory and keep the page readable."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed, self._seen = size, seed, 0
        self._kept: list[tuple[int, int, RawRecord]] = []

    def offer(self, line: RawRecord) -> None:
        """Offer a record, which may replace another."""
        self._seen += 1
        if not self._size or len(line.data) > self.LARGEST:
            return
        item = (-hashed(f"{self._seed}:{self._seen}"), -self._seen, line)
        if len(self._kept) < self._size:
            heappush(self._kept, item)
        elif item > self._kept[0]:
            heapreplace(self._kept, item)

    def samples(self) -> Iterator[Sample]:
        """Give the readable samples in the order of the input."""
        for _, _, line in sorted(self._kept, key=lambda item: -item[1]):
            if sample := _sample(line):
                yield sample


def summarize(
    lines: Sequence[RawRecord],
    *,
    count: Count,
    long: int = LONG,
    strict: bool = False,
    examples: bool = False,
) -> DataSummary:
    """Summarise some records. With `examples`, keep the first of each kind that is not too large."""
    summary = DataSummary()
    for line in lines:
        chain = chain_or_drop(line, strict=strict)
        if isinstance(chain, Drop):
            summary.warn(chain.rule, chain.reason)
        else:
            add_to(summary, chain, line.where, name_of(Path(line.stem)), count, long)
            if examples and len(line.data) <= Draw.LARGEST:
                for kind in (kind for kind, fits in KINDS.items() if fits(chain)):
                    summary.shown.setdefault(kind, line)
    return summary


def _read(
    paths: Sequence[Path], drawn: Draw, faults: DataSummary | None, read: Callable[[int], None] | None
) -> Iterator[RawRecord]:
    """Read the records of all files. A file's damage after its first record is counted."""
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
    """Group neighbouring records up to a size in bytes: sending each alone would cost more than the work."""
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
