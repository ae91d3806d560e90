"""Describe files of chains in one pass: counts, lengths, languages, verdicts.

Worker processes summarise blocks of records, and the summaries are added (`report.summary`), so the result is
the same for any number of workers. Samples are drawn while reading.
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


def _corrected(chain: Chain) -> bool:
    return len(chain.steps) > 1 and chain.steps[0].verdict == "revise" and chain.steps[-1].verdict == "accept"


KINDS: dict[str, Callable[[Chain], bool]] = {
    "accepted at once": lambda chain: [step.verdict for step in chain.steps] == ["accept"],
    "corrected": _corrected,
    "leaking": leaks_in,
    "refusing": refuses_in,
    "without a verdict": lambda chain: any(
        step.feedback and step.verdict == "unknown" for step in chain.steps
    ),
}
"""Kinds of chains, from good to bad. A page shows an example of each. A chain may be of several."""


@dataclass(frozen=True)
class DataReport:
    """The description of some files.

    Attributes:
        unit: Unit of lengths, such as `words`.
        long: Length above which a record is very long.
        samples: Records drawn at random.
        examples: A record of each kind of chain that there is, by the kind.
    """

    files: tuple[str, ...]
    unit: str
    long: int
    summary: DataSummary
    samples: tuple[Sample, ...]
    examples: dict[str, Sample]

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

    def verdicts(self) -> dict[int, Counter[str]]:
        """Return counts of verdicts by place: 1 is the feedback on the first answer."""
        return _by_place(self.summary.tables.get("verdicts", Counter()))

    def lengths(self, part: Part) -> dict[int, Counter[int]]:
        """Return counts of lengths by step: 1 is the first answer, or the feedback on it."""
        return _by_place(self.summary.tables.get(f"{part} by step", Counter()))

    def scores(self) -> dict[int, Counter[float]]:
        """Return counts of scores out of 10 by place."""
        return _by_place(self.summary.tables.get("scores", Counter()))


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sort by frequency, then by name."""
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
    """Read files of any known shape once.

    Args:
        paths: The files; `-` is standard input.
        count: Measures a text in `unit`.
        unit: Its unit, for texts.
        long: Length above which a record is very long.
        samples: Number of records to draw; 0 for no examples either.
        seed: Decides which records are drawn.
        workers: Processes; the result is the same for any number.
        strict: Raise for an unreadable record instead of counting it.
        read: Receives the bytes of each record read.

    Raises:
        RecordError: A file has no record before its damage; with `strict`, a record cannot be read.
        MissingExtra: Reading a `.zst` file needs a package that is not installed.
    """
    total, early, drawn = DataSummary(), DataSummary(), Draw(samples, seed)
    lines = _read(paths, drawn, None if strict else early, read)
    work = partial(summarize, count=count, long=long, strict=strict, examples=samples > 0)
    for part in spread(work, _blocks(lines), workers):
        total += part
    total += early
    total += _rejects(paths)
    names = tuple(name_of(path) for path in paths)
    return DataReport(names, unit, long, total, tuple(drawn.samples()), _examples(total))


def _rejects(paths: Sequence[Path]) -> DataSummary:
    """Return a summary of what a run wrote beside its files: failures by cause, and dropped chains.

    Lines of other programs in files of these names are passed over.
    """
    summary = DataSummary()
    for path in paths:
        for record in failures(path).values():
            summary.name("failures", str(record["cause"]))
            summary.warn("failed", f"{record['cause']}: {record.get('message')}")
        for reason, counted, shown in (
            ("leaks", "dropped", "leaking"),
            ("refusals", "dropped refusals", "refusing"),
        ):
            _dropped(summary, path.with_name(f"{path.name}.{reason}.jsonl"), counted, shown)
    return summary


def _dropped(summary: DataSummary, file: Path, counted: str, shown: str) -> None:
    for number, line in enumerate(read_lines(file)):
        record = parse_line(line)
        if record and "steps" in record:
            summary.warn(counted, f"{file}:{number + 1}")
            summary.shown.setdefault(shown, RawRecord(f"{file}:{number + 1}", file.stem, number, line))


def _examples(summary: DataSummary) -> dict[str, Sample]:
    found = {kind: summary.shown[kind] for kind in KINDS if kind in summary.shown}
    chains = {kind: chain_or_drop(line, strict=False) for kind, line in found.items()}
    return {
        kind: Sample(found[kind].where, chain) for kind, chain in chains.items() if isinstance(chain, Chain)
    }


class Draw:
    """Draw records uniformly: those with the smallest hashes of seed and place.

    The draw does not depend on the file's name.
    """

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
            chain = chain_or_drop(line, strict=False)
            if isinstance(chain, Chain):
                yield Sample(line.where, chain)


def summarize(
    lines: Sequence[RawRecord],
    *,
    count: Count,
    long: int = LONG,
    strict: bool = False,
    examples: bool = False,
) -> DataSummary:
    """Summarise some records. With `examples`, keep the first of each kind that is not too large.

    Raises:
        RecordError: With `strict`, a record cannot be read.
    """
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
