"""Describe files of chains: totals, tables, a histogram, findings and samples.

A report is data, the same for any number of worker processes. `lines`, `as_json` and `page` draw it. The
findings turn its numbers into warnings with advice, by the texts in `findings.yaml`: a fault spoils training
or forbids use, a warning deserves a look, a note informs. The rules fit SelFee's released data. Whether a
record is true or useful is not judged.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from shutil import get_terminal_size
from statistics import fmean
from textwrap import wrap
from typing import Any, Literal, NamedTuple

from redraft.chain import Chain
from redraft.chain.documents import yaml_of
from redraft.chain.read.files import name_of
from redraft.chain.read.records import RawRecord, raw_records
from redraft.chain.texts import asked_turns, gold_answers, rationales
from redraft.data.output import UNREADABLE, Drop, chain_or_drop
from redraft.data.summary import DEPTHS, GOOD_SCORE, LONG, Count, DataSummary, add_to, score_in
from redraft.data.texts import GOLD_LENGTH
from redraft.errors import RecordError
from redraft.jobs.counting import counted
from redraft.jobs.ledger import failures
from redraft.jobs.licences import UNKNOWN
from redraft.jobs.parallel import spread

SAMPLES = 8  # records on the page
LARGEST = 1 << 20  # most bytes of a sample
MIXED = 0.01  # least share of records in other languages than the main one to report

_BLOCK = 64  # records to summarise at once: sending each alone would cost more than the work
_EDGES = [0, 1, 2, 3, 5, 7, *(edge * 10**power for power in range(9) for edge in (10, 15, 20, 30, 50, 70))]
"""Starts of the bins of a histogram. They grow, so that most records and the few huge ones are visible."""

Value = str | int | float | None
Level = Literal["fault", "warning", "note"]
_LEVELS: tuple[Level, ...] = ("fault", "warning", "note")
_KINDS = ("sources", "languages", "licences", "stops", "failures")
_VERDICTS = ("accept", "revise", "unknown")


class Table(NamedTuple):
    """A table of a report. The column `share` has shares of 1."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]


@dataclass(frozen=True)
class Bin:
    """A bin of a histogram with the count of numbers from `low` to `high`, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class DataFinding:
    """One finding."""

    name: str
    level: Level
    count: int  # number of records, feedbacks or answers concerned
    text: str
    advice: str  # its meaning, or the remedy
    examples: tuple[str, ...] = ()  # places of some of the records, or messages about them


@dataclass(frozen=True)
class DataReport:
    """The description of some files."""

    files: tuple[str, ...]
    unit: str  # unit of lengths, such as `words`
    totals: dict[str, int]
    tables: list[Table]
    lengths: list[Bin]  # histogram of the lengths of records
    findings: list[DataFinding]
    licences: dict[str, int]  # records by licence
    samples: list[tuple[str, Chain]]  # drawn records with their places


def describe(
    paths: Sequence[Path],
    count: Count,
    *,
    unit: str = "words",
    long: int = LONG,
    samples: int = SAMPLES,
    workers: int = 1,
    strict: bool = False,
    read: Callable[[int], None] | None = None,
) -> DataReport:
    """Read files of any known shape once. `count` measures a text in `unit`; `read` receives read bytes.

    A file without a record before its damage is an error.
    """
    total, damaged = DataSummary(), DataSummary()
    drawn: list[RawRecord] = []
    lines = _drawing(_read(paths, None if strict else damaged, read), drawn, samples)
    blocks = iter(lambda: tuple(islice(lines, _BLOCK)), ())
    for part in spread(partial(summarize, count=count, long=long, strict=strict), blocks, workers):
        total += part
    total += damaged
    for failure in (failure for path in paths for failure in failures(path).values()):
        total.name("failures", str(failure["cause"]))
        total.warn("failed", f"{failure['cause']}: {failure.get('message')}")
    names = ("records", "answers", "feedbacks", "gold answers")
    shown = ((line.where, chain_or_drop(line, strict=False)) for line in sorted(drawn, key=_place))
    return DataReport(
        tuple(map(name_of, paths)),
        unit,
        {name: total.totals[name] for name in names} | {unit: total.totals["length"]},
        list(_tables(total, unit)),
        bins(total.tables["record length"]),
        findings(total, unit, long),
        dict(ranked(total.tables["licences"])),
        [(where, chain) for where, chain in shown if isinstance(chain, Chain)],
    )


def summarize(lines: Sequence[RawRecord], *, count: Count, long: int, strict: bool) -> DataSummary:
    """Summarise some records."""
    summary = DataSummary()
    for line in lines:
        chain = chain_or_drop(line, strict=strict)
        if isinstance(chain, Drop):
            summary.warn(chain.rule, chain.reason)
        else:
            add_to(summary, chain, line.where, name_of(Path(line.stem)), count, long)
    return summary


def _read(
    paths: Sequence[Path], faults: DataSummary | None, read: Callable[[int], None] | None
) -> Iterator[RawRecord]:
    """Read the records of all files. A file's damage after its first record is counted."""
    for path in paths:
        line = None
        try:
            for line in raw_records(path):
                if read:
                    read(len(line.data) + 1)
                yield line
        except RecordError as error:
            if faults is None or line is None:
                raise
            faults.warn(UNREADABLE, error.message)


def _drawing(lines: Iterator[RawRecord], drawn: list[RawRecord], size: int) -> Iterator[RawRecord]:
    """Give the records, and draw some of them uniformly (a reservoir: Vitter, 1985)."""
    rng, seen = Random(0), 0  # noqa: S311  (the same samples each time)
    for line in lines:
        if len(line.data) <= LARGEST:
            seen += 1
            place = rng.randrange(seen)
            if len(drawn) < size:
                drawn.append(line)
            elif place < size:
                drawn[place] = line
        yield line


def _place(line: RawRecord) -> tuple[str, int]:
    return line.stem, line.number


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sort by frequency, then by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def bins(counts: Counter[int]) -> list[Bin]:
    """Return the histogram of counted whole numbers from 0 on, from the smallest to the largest."""
    found = Counter[int]()
    for value, times in counts.items():
        found[bisect_right(_EDGES, value) - 1] += times
    edges = [*_EDGES, 1 << 62]
    places = range(min(found), max(found) + 1) if found else ()
    return [Bin(edges[place], edges[place + 1] - 1, found[place]) for place in places]


def quantile(counts: Counter[Any], share: float) -> Any:
    """Return the number that a share of counted numbers does not exceed: one of them."""
    seen, values = 0, sorted(counts)
    for value in values:
        seen += counts[value]
        if seen >= share * counts.total():
            return value
    return None


def _tables(summary: DataSummary, unit: str) -> Iterator[Table]:
    tables = summary.tables
    names = {"turns": "turns a record", "answers a record": "answers a record"}
    names |= {f"{what} length": f"{unit}, {what}" for what in ("prompt", "answer", "feedback", "record")}
    rows: list[tuple[Value, ...]] = []
    for name, title in names.items():
        if any(counts := tables[name]):
            mean = fmean(counts, weights=counts.values())
            half, most = quantile(counts, 0.5), quantile(counts, 0.95)
            rows.append((title, min(counts), half, round(mean, 2), most, max(counts)))
    if rows:
        yield Table("numbers", ("", "min", "median", "mean", "95 %", "max"), rows)
    if len(counts := tables["answers a record"]) > 1:
        yield _shares("answers a record", [(f"{number:,}", counts[number]) for number in sorted(counts)])
    if tables["verdicts"]:
        yield _by_step(summary, unit)
    for kind in _KINDS:
        if tables[kind]:
            yield _shares(kind, ranked(tables[kind]))


def _shares(title: str, counts: Sequence[tuple[str, int]]) -> Table:
    total = sum(times for _, times in counts)
    return Table(title, ("", "count", "share"), [(name, times, times / total) for name, times in counts])


def _by_step(summary: DataSummary, unit: str) -> Table:
    """Return verdicts and scores of feedback, and median lengths, by step: 1 is the first answer."""

    def by_place(name: str) -> dict[int, Counter[Any]]:
        places: dict[int, Counter[Any]] = {}
        for (place, value), times in summary.tables[name].items():
            places.setdefault(place, Counter())[value] += times
        return places

    verdicts, scores = by_place("verdicts"), by_place("scores")
    lengths = [by_place("answer by step"), by_place("feedback by step")]
    rows: list[tuple[Value, ...]] = []
    for place in sorted({*verdicts, *lengths[0]}):
        judged, score = verdicts.get(place, Counter()), scores.get(place, Counter())
        mean = round(fmean(score, weights=score.values()), 2) if score else None
        row = (*(judged[verdict] for verdict in _VERDICTS), score.total() or None, mean)
        medians = (quantile(each.get(place, Counter()), 0.5) for each in lengths)
        rows.append((f"{place}+" if place == DEPTHS else str(place), *row, *medians))
    named = (*_VERDICTS, "scores", "mean", f"answer, {unit}", f"feedback, {unit}")
    return Table("feedback", ("step", *named), rows)


def findings(summary: DataSummary, unit: str, long: int) -> list[DataFinding]:
    """Return the findings of a summary, faults first."""
    totals, tables = summary.totals, summary.tables
    again, same = repeats(summary.queries), repeats(summary.texts)
    languages = Counter(tables["languages"])
    del languages[UNKNOWN]
    (main, most), *others = ranked(languages) or [("", 0)]
    foreign = languages.total() - most
    counts = {
        **totals,
        "empty": int(not totals["records"]),
        "licence": tables["licences"][UNKNOWN],
        "repeated": max(again, same),
        "languages": foreign if foreign >= MIXED * languages.total() else 0,
    }
    figures = {
        "records": totals["records"],
        "failures": _named(ranked(tables["failures"])[:4]),
        "role_faults": _named(ranked(tables["role faults"])[:4]),
        "long": long,
        "unit": unit,
        "usual_long": LONG,
        "how_to_count": "" if unit == "tokens" else " --tokenizer counts tokens.",
        "quotes": counted(totals["leaking feedbacks"], "feedback"),
        "new_leaks": totals["new leaks"],
        "gold_length": GOLD_LENGTH,
        "written": totals["written feedbacks"],
        "undecided": totals["undecided"],
        "good_score": GOOD_SCORE,
        "scores": totals["last scores"],
        "again": counted(again, "record"),
        "same": same,
        "main": main,
        "known": languages.total(),
        "others": _named(others[:6]),
    }
    path = Path(__file__).with_name("findings.yaml")
    found = []
    for each in yaml_of(path.read_text("utf-8"), path):
        name, count = each["name"], counts.get(each["name"], 0)
        figures["many"] = counted(count, each.get("noun", "record"))
        text, advice = (each[part].format(**figures) for part in ("text", "advice"))
        examples = tuple(summary.examples.get(name, ()))
        found.append(DataFinding(name, each["level"], count, text, advice, examples))
    return sorted((each for each in found if each.count), key=lambda each: _LEVELS.index(each.level))


def repeats(hashes: array[int]) -> int:
    """Count the hashes that repeat an earlier one."""
    import numpy as np

    return len(hashes) - len(np.unique(np.frombuffer(hashes, dtype=np.uint64))) if hashes else 0


def _named(counts: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({times:,})" for name, times in counts)


# How a report is drawn: as text for a terminal, as JSON values, and as a page.

_ROWS = 8  # rows of a table to show; JSON has all
_FILES, _PATHS = 3, 50  # files to name in the title of the page, and below it
_TEXT, _TURNS, _STEPS = 1500, 20, 10  # characters of a text, turns and steps to show of a sample


def lines(report: DataReport) -> Iterator[str]:
    """Give the lines of a report, with its findings or without."""
    yield " · ".join(counted(number, what.removesuffix("s")) for what, number in report.totals.items())
    for table in report.tables:
        yield from ("", table.title)
        cells = _cells(table)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            yield f"  {row[0]:{widths[0]}}  {'  '.join(rest)}".rstrip()
    width = max(min(get_terminal_size().columns, 100) - 11, 40)
    for number, each in enumerate(report.findings):
        yield from ([] if number else ["", "warnings"])
        text = [*wrap(each.text, width), *wrap(each.advice, width), *each.examples[:2]]
        for level, line in zip_longest([each.level], text, fillvalue=""):
            yield f"  {level:7}  {line}"


def _cells(table: Table) -> list[list[str]]:
    """Return the first rows of a table as texts, below its columns."""

    def shown(column: str, value: Value) -> str:
        if isinstance(value, float):
            return f"{value:.1%}" if column == "share" else f"{value:,.2f}"
        return "" if value is None else value if isinstance(value, str) else f"{value:,}"

    rows = [[shown(*cell) for cell in zip(table.columns, row, strict=True)] for row in table.rows[:_ROWS]]
    if more := len(table.rows) - _ROWS:
        rows += [[f"… {more:,} more", *[""] * (len(table.columns) - 1)]] * (more > 0)
    return [list(table.columns), *rows]


def as_json(report: DataReport) -> dict[str, Any]:
    """Return the report as JSON values, without its samples."""
    return {
        "files": report.files,
        "unit": report.unit,
        "totals": report.totals,
        "tables": {
            table.title: [
                {name or "name": value for name, value in zip(table.columns, row, strict=True)}
                for row in table.rows
            ]
            for table in report.tables
        },
        "lengths": [asdict(each) for each in report.lengths],
        "findings": [asdict(each) for each in report.findings],
    }


def page(report: DataReport, made: str) -> str:
    """Return the report as a page. `made` says how it was made: version and settings."""
    from redraft.evaluation.pages.charts import histogram
    from redraft.evaluation.pages.page import Card, Part, Sample, render

    title, paths = ", ".join(Path(name).name for name in report.files[:_FILES]), report.files[:_PATHS]
    if len(report.files) > _FILES:
        title += f" and {len(report.files) - _FILES:,} more"
    tiles = {name: f"{each:,}" for name, each in report.totals.items()}
    parts = [Part(tiles=tiles), Part("Warnings", warnings=report.findings)]
    if report.lengths:
        bars = [(_short(each.low), f"{each.low:,} to {each.high:,}", each.count) for each in report.lengths]
        note = "records by length; a bar has a wider range than those before it"
        card = Card(f"{report.unit} a record", note, histogram(bars), wide=True)
        parts.append(Part("Lengths", cards=(card,)))
    parts += [Part(table.title.capitalize(), table=_cells(table)) for table in report.tables]
    if report.samples:
        shown = [
            Sample(where, chain.stop or "", list(_texts(chain)), open=not number)
            for number, (where, chain) in enumerate(report.samples)
        ]
        parts.append(Part("Samples", samples=shown))
    return render(title, " · ".join(paths) if title not in paths else "", parts, made)


def _short(number: int) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else str(number)


def _texts(chain: Chain) -> Iterator[tuple[str, str, str]]:
    """Give the texts of a sample: who says it, the text, its kind."""
    asked = asked_turns(chain.prompt)
    texts: list[tuple[str, str, str]] = [(turn.role, turn.text, "") for turn in asked[:_TURNS]]
    texts += [("rationale", way, "gold") for way in rationales(chain)[:1]]
    texts += [("gold answer", gold, "gold") for gold in gold_answers(chain)[:1]]
    for place, step in enumerate(chain.steps[:_STEPS]):
        name = f"revision {place}" if place else "answer"
        texts.append((name + " · best" * (place == chain.best), step.answer, "answer"))
        if feedback := step.feedback:
            score = score_in(feedback)
            named = "" if score is None else f" · {score:g} of 10"
            who = f"feedback {place + 1} · {feedback.verdict}{named}"
            texts.append((who, feedback.text, feedback.verdict))
    for who, text, kind in texts:
        more = f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else ""
        yield who, text[:_TEXT] + more, kind
    for many, what in ((len(asked) - _TURNS, "turns"), (len(chain.steps) - _STEPS, "answers")):
        if many > 0:
            yield "", f"… {many:,} more {what}", ""
