"""Say how ways to spend tokens compare: as rows, as a picture, as a sentence, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple
from typing import Any

from redraft.collect.report.charts import curves
from redraft.counting import counted, printable
from redraft.evaluation.diagnosis.decide import LEVEL
from redraft.evaluation.diagnosis.equal import Curves, Point, Versus
from redraft.evaluation.diagnosis.ways import NAMES
from redraft.evaluation.rows import Line, percent, plain, table, without_nan

_NEAR = 0.99
"""From which share of the tokens of revising another way counts as equal."""


def as_text(found: Curves) -> Iterator[str]:
    """Yield the lines of a comparison for a terminal."""
    for name, rows in sections(found).items():
        yield from (name, *table(rows), "")
    yield from notes(found)
    yield verdict(found)


def sections(found: Curves) -> dict[str, list[Line]]:
    """Return the rows of each part, by its title."""
    seeds = f"{counted(found.items, 'item')}, {counted(found.seeds, 'seed')}"
    at = f"revising less each other way, at {_tokens(found.revised.tokens)} new tokens an item"
    return {
        f"right answers by way: {seeds}": [_point(point) for point in found.points],
        at: [_versus(each, found.revised) for each in found.versus],
    }


def notes(found: Curves) -> Iterator[str]:
    """Yield what to know before reading the figures."""
    if found.left_out:
        yield f"Not counted, because a run lacks them: {counted(found.left_out, 'item')}."
    if found.unfinished:
        yield f"Not counted, because runs are missing: {', '.join(found.unfinished)}."


def drawn(found: Curves) -> str:
    """Draw the score of each way over its tokens."""
    series = {
        named(kind): [
            (point.tokens, *astuple(point.score.times(100)), _tooltip(point)) for point in found.curve(kind)
        ]
        for kind in [*(each.kind for each in found.versus if each.kind != "plain"), "revise"]  # on top
    }
    return curves(series, "new tokens an item")


def _tooltip(point: Point) -> str:
    value, interval = percent(point.score, 1)
    return f"{point.way.name}: {value} ({interval}), {_tokens(point.tokens)} tokens"


def _point(point: Point) -> Line:
    if point.way.kind in ("revise", "blind", "shuffled"):
        texts = f", {counted(point.way.texts - 1, 'revision')}"
    else:
        texts = f" of {point.way.texts}" if point.way.texts > 1 else ""
    guided = "" if point.way.kind == "vote" else f"; {point.guided:.1%} pass what guides".replace("%", " %")
    note = f"{_tokens(point.tokens)} new tokens an item, {point.prompts:,.0f} in prompts{guided}"
    name = named(point.way.kind).removesuffix(" of N")
    return Line(f"{name}{texts}", *percent(point.score, 1), note)


def _tokens(count: float) -> str:
    return f"{count:,.0f}" if count >= 10 else f"{count:.1f}"


def _versus(versus: Versus, revised: Point) -> Line:
    decision = versus.decision
    short = versus.at < _NEAR * revised.tokens
    fewer = f"; it takes {_tokens(versus.at)} tokens at most" if short else ""
    split = f"better in {counted(decision.better, 'item')}, worse in {decision.worse:,}"
    note = f"{split}, p = {decision.p:.2g}{fewer}"
    return Line(named(versus.kind), *plain(decision.gain.times(100), 1, sign=True), note)


def verdict(found: Curves) -> str:
    """Say in plain words whether to revise, at equal tokens."""
    if lost := _lost(found):
        best = max(lost, key=lambda each: -each.decision.gain.value)
        most = f"by {_points(best)}" if len(lost) == 1 else f"{named(best.kind)} by {_points(best)}"
        return f"Don't revise here: at equal tokens {_names(lost)} {_do(lost)} better, {most}."
    beaten = [each for each in found.versus if each.decision.outcome == "better"]
    if open_ := [each for each in found.versus if each not in beaten]:
        beats = f" It beats {_names(beaten)}." if beaten else ""
        return f"Undecided: revising is not shown to do better than {_names(open_)}. {_more(open_)}{beats}"
    close = min(found.versus, key=lambda each: each.decision.gain.value)
    least = (
        f", the closest of them ({named(close.kind)}) by {_points(close)}" if len(found.versus) > 1 else ""
    )
    return f"Revise: at equal tokens it does better than {_names(beaten)}{least}."


def _lost(found: Curves) -> list[Versus]:
    """Return the ways that do better than revising, in their order.

    Each of them alone would speak against revising, so their p-values are corrected by Holm's procedure
    (Holm, 1979, Scandinavian Journal of Statistics 6).
    """
    lost = []
    for number, each in enumerate(sorted(found.versus, key=lambda each: each.decision.p)):
        if each.decision.p * (len(found.versus) - number) >= LEVEL:
            break
        lost.append(each)
    return [each for each in found.versus if each in lost and each.decision.gain.value < 0]


def named(kind: str) -> str:
    """Return what a kind of way is called."""
    return printable(NAMES.get(kind, kind))


def _names(found: list[Versus]) -> str:
    *most, last = (named(each.kind) for each in found)
    return f"{', '.join(most)} and {last}" if most else last


def _do(found: list[Versus]) -> str:
    return "does" if len(found) == 1 else "do"


def _points(versus: Versus) -> str:
    return f"{abs(versus.decision.gain.value) * 100:.1f} points"


def _more(found: list[Versus]) -> str:
    """Return how many more items would decide against all of these ways."""
    if unsure := [each for each in found if each.decision.outcome == "worse"]:
        names = _names(unsure)
        return f"{names[0].upper()}{names[1:]} may do better, which is not sure among so many ways."
    counts = [each.decision.more or 0 for each in found]
    if equal := [each for each, more in zip(found, counts, strict=True) if not more]:
        which = f" from {_names(equal)}" * (len(equal) < len(found))
        return f"No difference{which} is in sight."
    return f"About {counted(max(counts), 'more item')} would decide it, if they go on like this."


def as_json(found: Curves) -> dict[str, Any]:
    """Return everything for JSON."""
    points = [
        {
            "way": point.way.kind,
            "texts": point.way.texts,
            "score": asdict(point.score),
            "guided": None if point.way.kind == "vote" else point.guided,
            "tokens": point.tokens,
            "prompt_tokens": point.prompts,
        }
        for point in found.points
    ]
    versus = [{"way": each.kind, "tokens": each.at, **each.decision.record()} for each in found.versus]
    about = {"items": found.items, "seeds": found.seeds, "left_out": found.left_out}
    values: dict[str, Any] = without_nan({**about, "ways": points, "revise_against": versus})
    return {**values, "verdict": verdict(found)}
