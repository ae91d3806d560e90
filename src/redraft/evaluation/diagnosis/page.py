"""The page of a diagnosis: the sentence, charts by step, and all rows. It has no script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.equal_tokens import Curves
from redraft.evaluation.diagnosis.figures import Changes, Figures, Level
from redraft.evaluation.diagnosis.text import notes, sections, title, verdict
from redraft.evaluation.tables import p_value, percent, plain
from redraft.pages.charts import curves as drawn
from redraft.pages.charts import intervals, levels, stacks
from redraft.pages.page import Card, Part, render

_KINDS = {"fixed": (False, True), "broken": (True, False), "right": (True, True), "wrong": (False, False)}


def page(found: Figures, curves: Curves | None, made: str) -> str:
    """Return the page.

    Args:
        found: What revising did.
        curves: How revising compares with other strategies at equal tokens.
        made: How the diagnosis was made.
    """
    said = equal_tokens.verdict(curves) if curves else verdict(found)
    parts = [Part(verdict=said, tiles=_tiles(found), notes=[*notes(found)], cards=[*_cards(found)])]
    if curves:
        parts += _equal(curves)
    parts += [Part(name, lines=rows) for name, rows in sections(found).items()]
    return render("Does revising pay?", title(found), parts, made)


def _equal(found: Curves) -> Iterator[Part]:
    """Yield the sections of the ways at equal tokens."""
    note = "right answers in per cent, with 95 % bands"
    chart = drawn(equal_tokens.series(found), "new tokens an item")
    card = Card("score over tokens", note, chart, wide=True)
    yield Part("At equal tokens", notes=[*equal_tokens.notes(found)], cards=[card])
    yield from (Part(name, lines=rows) for name, rows in equal_tokens.sections(found).items())


def _tiles(found: Figures) -> dict[str, str]:
    first, best = found.levels[0].right, found.levels[-1].right
    gain, interval = plain(found.decision.gain.times(100), 1, sign=True)
    return {
        "first answers are right": percent(first, 1)[0],
        "best answers are right": percent(best, 1)[0],
        f"points gained{f', {interval}' if interval else ''}": gain,
        "McNemar's p": p_value(found.decision.p),
    }


def _cards(found: Figures) -> Iterator[Card]:
    first = found.levels[0].right.value * 100
    rows = [_band(level) for level in found.levels]
    yield Card(
        "right answers", "per cent, with 95 % intervals; the line is at first answers", intervals(rows, first)
    )
    if found.revised:
        counts = {
            f"revision {number}": _counted(each) for number, each in enumerate(found.revisions, start=1)
        }
        counts["first to best"] = _counted(found.of_revised)
        note = "wrong → right is fixed, right → wrong is broken; the others stayed right or wrong"
        yield Card("what revising did", note, stacks(counts, [*_KINDS]))
    lengths = [(level.name, round(level.words, 1)) for level in found.levels if not math.isnan(level.words)]
    yield Card("length", "words, on average", levels(lengths))


def _band(level: Level) -> tuple[str, float, float, float, str]:
    right = level.right.times(100)
    return level.name, right.value, right.low, right.high, f"{right.value:.1f}"


def _counted(changes: Changes) -> Counter[str]:
    return Counter({name: changes.count(*cell) for name, cell in _KINDS.items()})
