"""`redraft data stats`: describe data as a table, a page, or JSON."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft import __version__
from redraft.cli.data import common
from redraft.cli.data.common import Force, Strict, Workers
from redraft.cli.data.tokens import token_count
from redraft.cli.shell import write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redraft.collect.report.findings import DataFinding
    from redraft.collect.report.stats import DataReport

_BAR = 24  # characters of the longest bar
_SHOWN = 8  # names of a kind that get a line each


def stats(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Records of any known shape; '-' is stdin.")
    ],
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with charts and samples.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Count tokens of this folder or model.  [words]", show_default=False
        ),
    ] = None,
    long: Annotated[
        int, typer.Option(metavar="N", min=1, help="Length above which a record is very long.")
    ] = 2048,
    samples: Annotated[int, typer.Option(metavar="N", min=0, help="Records on the page.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", help="Chooses the sample records.")] = 0,
    workers: Workers = None,
    strict: Strict = False,
    force: Force = False,
) -> None:
    """Describe data, and warn of its faults.

    Counts turns, lengths, languages, sources, licences, answers, verdicts and scores. Warns of leaked gold
    answers, missing verdicts, low last scores, repeats, empty answers and roles out of order. Of a file that
    a teacher's run wrote, also counts failures (FILE.errors.jsonl) and dropped chains (FILE.leaks.jsonl,
    FILE.refusals.jsonl).
    """
    import json
    from contextlib import nullcontext

    from redraft.collect.read.inputs import check_records
    from redraft.collect.report.page import page
    from redraft.collect.report.stats import describe
    from redraft.formats.read.files import open_output
    from redraft.jobs.progress import RecordProgress, size_of
    from redraft.verify.segment import count_words

    common.not_twice(files[0], files[1:])
    common.not_an_input({"--html": html}, files)
    for path in files:
        check_records(path)
    count = token_count(tokenizer) if tokenizer else count_words
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        with RecordProgress(size_of(files)) as progress:
            report = describe(
                files,
                count,
                unit="tokens" if tokenizer else "words",
                long=long,
                samples=samples if file else 0,
                seed=seed,
                workers=common.processes(workers),
                strict=strict,
                read=progress.advance,
            )
        if file:
            by = f"tokens of {tokenizer}" if tokenizer else "words"
            file.write(page(report, f"redraft {__version__} · lengths in {by} · seed {seed}").encode())
    write(json.dumps(_json(report), ensure_ascii=False, indent=1) if as_json else "\n".join(_lines(report)))


def _lines(report: DataReport) -> Iterator[str]:
    from redraft.collect.report.findings import findings

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
    from shutil import get_terminal_size
    from textwrap import wrap

    width = max(min(get_terminal_size().columns, 100) - 11, 40)
    text = [*wrap(each.text, width), *wrap(each.advice, width), *each.examples[:2]]
    for level, line in zip_longest([each.level], text, fillvalue=""):
        yield f"  {level:7}  {line}"


def _figures(report: DataReport) -> Iterator[str]:
    from redraft.collect.report.histogram import figures

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
    from redraft.collect.report.histogram import figures
    from redraft.collect.report.stats import PARTS
    from redraft.collect.report.summary import DEPTHS

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


def _json(report: DataReport) -> dict[str, Any]:
    """Return the report as JSON values."""
    from dataclasses import asdict

    from redraft.collect.report.findings import findings
    from redraft.collect.report.histogram import bins, figures
    from redraft.collect.report.stats import PARTS

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
