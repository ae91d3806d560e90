"""Write a report as text for a terminal, and as JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from redraft.collect.report.findings import DataFinding, findings
from redraft.collect.report.histogram import bins, figures
from redraft.collect.report.stats import PARTS, DataReport
from redraft.collect.report.summary import DEPTHS

_BAR = 24  # characters of the longest bar
_SHOWN = 8  # names of a kind that get a line each


def lines(report: DataReport) -> Iterator[str]:
    """Give the lines of a report."""
    yield " · ".join(
        f"{number:,} {what.removesuffix('s') if number == 1 else what}"
        for what, number in report.totals().items()
    )
    yield from _figures(report)
    yield from _by_place(report)
    for name, kinds in report.kinds().items():
        yield from ("", name, *_bars(kinds))
    for number, each in enumerate(findings(report)):
        yield from ([] if number else ["", "warnings"])
        yield from _finding(each)


def _finding(each: DataFinding) -> Iterator[str]:
    width = max(min(get_terminal_size().columns, 100) - 11, 40)
    text = [*wrap(each.text, width), *wrap(each.advice, width), *each.examples[:2]]
    for level, line in zip_longest([each.level], text, fillvalue=""):
        yield f"  {level:7}  {line}"


def _figures(report: DataReport) -> Iterator[str]:
    rows = [(title, found) for title, counts in report.numbers().items() if (found := figures(counts))]
    if not rows:
        return
    width = max(len(title) for title, _ in rows)
    yield ""
    yield f"{'':{width}}  {'min':>7} {'median':>7} {'mean':>7} {'95 %':>7} {'max':>9}"
    for title, row in rows:
        yield f"{title:{width}}  {row.min:>7,} {row.median:>7,} {row.mean:>7,.1f} {row.p95:>7,} {row.max:>9,}"
    counts = sorted(report.summary.tables["answers a record"].items())
    if len(counts) > 1:
        yield from ("", "answers a record", *_bars([(f"{number:,}", times) for number, times in counts]))


def _by_place(report: DataReport) -> Iterator[str]:
    """Yield a table of steps: verdicts and scores of feedback, and median lengths."""
    verdicts, scores = report.verdicts(), report.scores()
    if not verdicts:
        return
    lengths = [report.lengths(part) for part in PARTS]
    names = ("accept", "revise", "unknown", "scores", "mean")
    yield from ("", f"{f'median {report.unit}':>73}")
    yield f"{'feedback':8} " + " ".join(f"{name:>8}" for name in (*names, "answer", "feedback"))
    for place in sorted({*verdicts, *lengths[0]}):
        counts, score = verdicts.get(place, Counter()), figures(scores.get(place, Counter()))
        cells = [f"{counts[kind]:,}" for kind in names[:3]]
        cells += [f"{score.count:,}", f"{score.mean:.2f}"] if score else ["", ""]
        found = (figures(each.get(place, Counter())) for each in lengths)
        cells += [f"{length.median:,}" if length else "" for length in found]
        row = " ".join(f"{cell:>8}" for cell in cells)
        yield f"{f'{place}+' if place == DEPTHS else place:>8} {row}".rstrip()


def _bars(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    shown, rest = list(counts[:_SHOWN]), counts[_SHOWN:]
    if rest:
        shown.append((f"{len(rest):,} others", sum(times for _, times in rest)))
    width = max(len(name) for name, _ in shown)
    most, total = max(times for _, times in shown), sum(times for _, times in shown)
    for name, times in shown:
        bar = "█" * round(times / most * _BAR) or "▏"
        yield f"  {name:{width}}  {times:>9,}  {times / total:>6.1%}  {bar}"


def as_json(report: DataReport) -> dict[str, Any]:
    """Return the report as JSON values."""
    numbers = report.numbers()
    return {
        "files": report.files,
        "unit": report.unit,
        "totals": report.totals(),
        "answers_a_record": dict(sorted(report.summary.tables["answers a record"].items())),
        "numbers": {
            title: {**asdict(row), "bins": [asdict(each) for each in bins(counts)]}
            for title, counts in numbers.items()
            if (row := figures(counts))
        },
        "kinds": {name: dict(counts) for name, counts in report.kinds().items()},
        "verdicts": report.verdicts(),
        "scores": {place: dict(sorted(counts.items())) for place, counts in report.scores().items()},
        "lengths": {
            part: {
                place: asdict(row) for place, each in report.lengths(part).items() if (row := figures(each))
            }
            for part in PARTS
        },
        "findings": [asdict(each) for each in findings(report)],
    }
