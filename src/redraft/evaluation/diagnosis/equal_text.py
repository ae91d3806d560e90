"""Say how ways to spend tokens compare: as rows, as a picture, as a sentence, and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from redraft.counting import counted, printable
from redraft.evaluation.diagnosis.equal import Curves, Point, Versus
from redraft.evaluation.diagnosis.ways import NAMES
from redraft.evaluation.rows import Line, p_text, percent, plain, table, tokens_text, without_nan


def as_text(found: Curves) -> Iterator[str]:
    """Yield the lines of a comparison for a terminal."""
    for name, rows in sections(found).items():
        yield from (name, *table(rows), "")
    yield from notes(found)
    yield verdict(found)


def sections(found: Curves) -> dict[str, list[Line]]:
    """Return the rows of each part, by its title."""
    seeds = f"{counted(found.items, 'item')}, {counted(found.seeds, 'seed')}"
    return {
        f"right answers by way: {seeds}": [_point(point) for point in found.points],
        "revising less each other way": [_versus(each, found) for each in found.versus],
    }


def notes(found: Curves) -> Iterator[str]:
    """Yield what to know before reading the figures."""
    if found.left_out:
        yield f"Not counted, because a run lacks them: {counted(found.left_out, 'item')}."
    if found.unfinished:
        yield f"Not counted, because runs are missing: {', '.join(found.unfinished)}."
    if len(found.versus) > 1:
        yield "Each p is that of its row alone; the verdict on revising corrects them by Holm's procedure."


def series(found: Curves) -> dict[str, list[tuple[float, float, float, float, str]]]:
    """Return for each way its points for a chart: tokens, score with its ends in per cent, and a tooltip."""
    kinds = [*(each.kind for each in found.versus if each.kind != "plain"), "revise"]  # that one on top
    return {named(kind): [_drawn(point) for point in found.curve(kind)] for kind in kinds}


def _drawn(point: Point) -> tuple[float, float, float, float, str]:
    score = point.score.times(100)
    return point.tokens, score.value, score.low, score.high, _tooltip(point)


def _tooltip(point: Point) -> str:
    value, interval = percent(point.score, 1)
    return f"{point.way.name}: {value} ({interval}), {tokens_text(point.tokens)} tokens"


def _point(point: Point) -> Line:
    if point.way.kind in ("revise", "blind", "shuffled"):
        texts = f", {counted(point.way.texts - 1, 'revision')}"
    else:
        texts = f" of {point.way.texts}" if point.way.texts > 1 else ""
    guided = "" if point.way.kind == "vote" else f"; {point.guided:.1%} pass what guides".replace("%", " %")
    note = f"{tokens_text(point.tokens)} new tokens an item, {point.prompts:,.0f} in prompts{guided}"
    name = named(point.way.kind).removesuffix(" of N")
    return Line(f"{name}{texts}", *percent(point.score, 1), note)


def _versus(versus: Versus, found: Curves) -> Line:
    decision, run, revised = versus.decision, versus.run, found.revised
    if versus.basis == "equal":
        at = f"at {tokens_text(versus.at)} tokens"
    else:
        at = f"not comparable at equal tokens, {_why(versus, found)}"
    real = f", runs with {tokens_text(run.tokens)} and {tokens_text(revised.tokens)}"
    real *= versus.basis == "equal" and run.tokens != revised.tokens
    counts = f"better in {counted(decision.better, 'item')}, worse in {decision.worse:,}{real}"
    figures = plain(decision.gain.times(100), 1, sign=True)
    return Line(named(versus.kind), *figures, f"{at}, {p_text(decision.p)}; {counts}")


def _why(versus: Versus, found: Curves) -> str:
    """Return why a way cannot be compared at equal tokens."""
    revised = found.revised.tokens
    if versus.basis == "unknown":
        return f"no usage in some chains of {'revise' if math.isnan(revised) else 'this way'}"
    start = found.curve("revise")[0]
    more = f", more than the {tokens_text(start.tokens)} of one answer"
    more *= versus.kind != "plain" and versus.at <= start.tokens < revised
    return f"{tokens_text(versus.at)} against {tokens_text(revised)}{more}"


def verdict(found: Curves) -> str:
    """Say in plain words whether to revise, with what is said at unequal tokens marked as such."""
    lost, open_, beaten = (
        [each for each in found.versus if each.finding == name] for name in ("against", "open", "for")
    )
    if lost:
        parts = "; ".join(_better(each) for each in _by_basis(lost))
        return f"Don't revise here: {parts}.{_apart(found)}"
    beats = "; ".join(
        f"{_AT[each[0].basis]} it does better than {_names(each)}" for each in _by_basis(beaten)
    )
    if open_:
        also = f" {beats[:1].upper()}{beats[1:]}." * bool(beats)
        which = _names(open_)
        return (
            f"Undecided: revising is not shown to do better than {which}. {_more(open_)}{also}{_apart(found)}"
        )
    if not beaten:
        return f"Undecided: no other way can be compared at equal tokens.{_apart(found)}"
    close = min(beaten, key=lambda each: each.decision.gain.value)
    least = f", the closest of them ({named(close.kind)})" * (len(beaten) > 1)
    return f"Revise: {beats}{least or ','} by {_points(close)}.{_apart(found)}"


_AT = {"equal": "at equal tokens", "fewer": "with fewer tokens", "more": "with fewer tokens"}
"""How a way does better, by the tokens of the other way; only the one with fewer tokens is said to."""


def _by_basis(found: Sequence[Versus]) -> Iterator[list[Versus]]:
    """Yield the ways at equal tokens, then the others."""
    for equal in (True, False):
        if some := [each for each in found if (each.basis == "equal") == equal]:
            yield some


def _better(found: Sequence[Versus]) -> str:
    best = min(found, key=lambda each: each.decision.gain.value)
    do = "does" if len(found) == 1 else "do"
    which = f"{named(best.kind)} " * (len(found) > 1)
    return f"{_AT[best.basis]} {_names(found)} {do} better, {which}by {_points(best)}"


def _apart(found: Curves) -> str:
    """Return what was compared at unequal tokens and decides nothing."""
    apart = [each for each in found.versus if each.finding == "none"]
    dearer = [each for each in apart if each.basis == "fewer"]
    said = "".join(
        f" Revising adds {_points(each)} to {named(each.kind)}, "
        f"for {tokens_text(found.revised.tokens - each.at)} more tokens an item."
        for each in dearer
    )
    others = [each for each in apart if each not in dearer]
    return said + f" Not comparable at equal tokens: {_names(others)}." * bool(others)


def named(kind: str) -> str:
    """Return what a kind of way is called."""
    return printable(NAMES.get(kind, kind))


def _names(found: Sequence[Versus]) -> str:
    if not found:
        return ""
    *most, last = (named(each.kind) for each in found)
    return f"{', '.join(most)} and {last}" if most else last


def _points(versus: Versus) -> str:
    return f"{abs(versus.decision.gain.value) * 100:.1f} points"


def _more(found: Sequence[Versus]) -> str:
    """Return how many more items would decide against all of these ways."""
    if unsure := [each for each in found if each.decision.outcome != "undecided"]:
        worse = [each for each in unsure if each.decision.outcome == "worse"]
        names = _names(worse or unsure)
        may = f"{names[0].upper()}{names[1:]} may do better" if worse else f"It may do better than {names}"
        return f"{may}, which is not sure among so many ways."
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
    versus = [
        {
            "way": each.kind,
            "tokens": each.basis,
            "at": each.at,
            "run": each.run.way.name,
            **each.decision.record(),
            "p_holm": each.p,
            "finding": each.finding,
        }
        for each in found.versus
    ]
    about = {"items": found.items, "seeds": found.seeds, "left_out": found.left_out}
    values: dict[str, Any] = without_nan({**about, "ways": points, "revise_against": versus})
    return {**values, "verdict": verdict(found)}
