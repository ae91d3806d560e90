"""The page of a diagnosis: the sentence, charts by step, and all rows. It has no script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.equal_tokens import Curves
from redraft.evaluation.diagnosis.figures import Figures
from redraft.evaluation.diagnosis.text import notes, sections, title, verdict
from redraft.evaluation.tables import p_value, percent, plain
from redraft.pages.charts import curves as drawn
from redraft.pages.charts import intervals, levels, stacks
from redraft.pages.page import Card, Part, render

_KINDS = {"fixed": (False, True), "broken": (True, False), "right": (True, True), "wrong": (False, False)}


def page(found: Figures, curves: Curves | None, made: str) -> str:
    """Return the page. `curves` compare revising with other strategies; `made` says how it was made."""
    said = equal_tokens.verdict(curves) if curves else verdict(found)
    first, best = found.levels[0].right, found.levels[-1].right
    gain, interval = plain(found.decision.gain.times(100), 1, sign=True)
    tiles = {
        "first answers are right": percent(first, 1)[0],
        "best answers are right": percent(best, 1)[0],
        f"points gained{f', {interval}' if interval else ''}": gain,
        "McNemar's p": p_value(found.decision.p),
    }
    parts = [Part(verdict=said, tiles=tiles, notes=[*notes(found)], cards=[*_cards(found)])]
    if curves:
        chart = drawn(equal_tokens.series(curves), "new tokens an item", "right answers, %")
        card = Card("score over tokens", "right answers, with 95 % intervals", chart, wide=True)
        parts.append(Part("At equal tokens", notes=[*equal_tokens.notes(curves)], cards=[card]))
        parts += [Part(name, lines=rows) for name, rows in equal_tokens.sections(curves).items()]
    parts += [Part(name, lines=rows) for name, rows in sections(found).items()]
    return render("Does revising pay?", title(found), parts, made)


def _cards(found: Figures) -> Iterator[Card]:
    rights = [(level.name, level.right.times(100)) for level in found.levels]
    rows = [(name, each.value, each.low, each.high, f"{each.value:.1f}") for name, each in rights]
    note = "per cent, with 95 % intervals; the line is at first answers"
    yield Card("right answers", note, intervals(rows, rights[0][1].value))
    if found.revised:
        changes = {f"revision {number}": each for number, each in enumerate(found.revisions, start=1)}
        changes["first to best"] = found.of_revised
        counts = {
            name: Counter({kind: each.count(*cell) for kind, cell in _KINDS.items()})
            for name, each in changes.items()
        }
        note = "wrong → right is fixed, right → wrong is broken; the others stayed right or wrong"
        yield Card("what revising did", note, stacks(counts, [*_KINDS]))
    lengths = [(level.name, round(level.words, 1)) for level in found.levels if not math.isnan(level.words)]
    yield Card("length", "words, on average", levels(lengths))
