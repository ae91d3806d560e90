"""Render a diagnosis as one HTML page: the sentence, pictures by step, and all rows.

The page has no script, and asks no host for anything. Head, tables and charts are those of other reports.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files

from redraft.collect.report.charts import intervals, levels, safe, stacks
from redraft.collect.report.page import card, document, tiles
from redraft.evaluation.diagnosis import equal_text
from redraft.evaluation.diagnosis.diagnose import Changes, Diagnosis, Level
from redraft.evaluation.diagnosis.equal import Curves
from redraft.evaluation.diagnosis.text import notes, sections, title, verdict
from redraft.evaluation.reports.page import line_table
from redraft.evaluation.rows import p_value, percent, plain

_KINDS = {"fixed": (False, True), "broken": (True, False), "right": (True, True), "wrong": (False, False)}


def page(found: Diagnosis, made: str, curves: Curves | None = None) -> str:
    """Return the page.

    Args:
        found: What revising did.
        made: How the diagnosis was made.
        curves: How revising compares with other ways at equal tokens.
    """
    parts = [_top(found, equal_text.verdict(curves) if curves else verdict(found))]
    if curves:
        parts += _equal(curves)
    parts += [
        f"<section><h2>{safe(name)}</h2>{line_table(rows)}</section>\n"
        for name, rows in sections(found).items()
    ]
    style = files("redraft.evaluation").joinpath("page.css").read_text("utf-8")
    return document("Does revising pay?", title(found), parts, made, style=style)


def _top(found: Diagnosis, said: str) -> str:
    return (
        f'<section><p class="verdict">{safe(said)}</p>{tiles(_tiles(found))}{_told(notes(found))}'
        f'<div class="cards">{"".join(_cards(found))}</div></section>\n'
    )


def _told(notes: Iterable[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{safe(note)}</li>" for note in notes)}</ul>'


def _equal(found: Curves) -> Iterator[str]:
    """Yield the sections of the ways at equal tokens."""
    note = "right answers in per cent, with 95 % bands"
    curve = card("score over tokens", note, equal_text.drawn(found))
    yield f"<section><h2>At equal tokens</h2>{curve}{_told(equal_text.notes(found))}</section>\n"
    for name, rows in equal_text.sections(found).items():
        yield f"<section><h2>{safe(name)}</h2>{line_table(rows)}</section>\n"


def _tiles(found: Diagnosis) -> dict[str, int | str]:
    first, best = found.levels[0].right, found.levels[-1].right
    gain, interval = plain(found.decision.gain.times(100), 1, sign=True)
    return {
        "first answers are right": percent(first, 1)[0],
        "best answers are right": percent(best, 1)[0],
        f"points gained{f', {interval}' if interval else ''}": gain,
        "McNemar's p": p_value(found.decision.p),
    }


def _cards(found: Diagnosis) -> Iterator[str]:
    first = found.levels[0].right.value * 100
    rows = [_band(level) for level in found.levels]
    yield card(
        "right answers", "per cent, with 95 % intervals; the line is at first answers", intervals(rows, first)
    )
    if found.revised:
        counts = {
            f"revision {number}": _counted(each) for number, each in enumerate(found.revisions, start=1)
        }
        counts["first to best"] = _counted(found.of_revised)
        note = "wrong → right is fixed, right → wrong is broken; the others stayed right or wrong"
        yield card("what revising did", note, stacks(counts, [*_KINDS]))
    lengths = [(level.name, round(level.words, 1)) for level in found.levels if not math.isnan(level.words)]
    yield card("length", "words, on average", levels(lengths))


def _band(level: Level) -> tuple[str, float, float, float, str]:
    right = level.right.times(100)
    return level.name, right.value, right.low, right.high, f"{right.value:.1f}"


def _counted(changes: Changes) -> Counter[str]:
    return Counter({name: changes.count(*cell) for name, cell in _KINDS.items()})
