"""Define the parts of a report for the terminal and the page: titles with rows of figures.

An undefined figure is a dash in a table and null in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redraft.evaluation.stats import LEAST, Estimate


class Line(NamedTuple):
    """A table row of texts: name, figure, interval, and counts."""

    name: str
    value: str = ""
    interval: str = ""
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a report. Texts are plain, without markup. Empty fields are left out."""

    title: str = ""
    note: str = ""  # such as the number of items counted
    warns: bool = False  # the note is a warning
    verdict: str = ""
    tiles: Mapping[str, str] = field(default_factory=dict)  # large figures by name
    notes: Sequence[str] = ()
    lines: Sequence[tuple[str, str, str, str]] = ()  # `Line`s, whose names may be indented with spaces
    facts: Sequence[tuple[str, str]] = ()  # names and texts without an interval, such as the cost
    chart: str = ""  # SVG
    links: Sequence[tuple[str, str]] = ()  # names and addresses of pages
    records: Sequence[Mapping[str, Any]] = ()  # records as `browse.js` shows them
    kinds: Mapping[str, str] = field(default_factory=dict)  # filters of the records: name by kind
    claim: str = ""  # the finding as a sentence, for the page only


def percent(estimate: Estimate, digits: int) -> tuple[str, str]:
    """Return an estimate in per cent and its interval as two texts."""
    value, interval = plain(estimate.times(100), digits)
    return (f"{value} %" if value != "–" else value), interval


def plain(estimate: Estimate, digits: int, *, sign: bool = False) -> tuple[str, str]:
    """Return an estimate and its interval as two texts. An undefined value is a dash."""
    form = f"{'+' * sign}z.{digits}f"  # without -0.0
    value = "–" if math.isnan(estimate.value) else format(estimate.value, form)
    return value, "" if math.isnan(estimate.low) else f"{estimate.low:{form}} to {estimate.high:{form}}"


def claimed(name: str, other: str, lead: Estimate, level: float, told: str) -> str:
    """Compare two models in a sentence. The models differ if the interval of `lead` excludes `level`."""
    better = "is better than" if lead.low > level else "is not shown to differ from"
    return f"{name} {'is worse than' if lead.high < level else better} {other}: {told}."


def p_value(p: float) -> str:
    """Return a p-value as text: `0.33`, or `≤ 0.0001` if no random sign flip was as extreme."""
    return "≤ " * (p == LEAST) + f"{p:.2g}"


def p_text(p: float) -> str:
    """Return a p-value as text with a name: `p = 0.33`."""
    return f"p {p_value(p)}" if p == LEAST else f"p = {p_value(p)}"


def tokens_text(count: float) -> str:
    """Return a mean number of tokens as text. NaN and infinity mean that the number is unknown."""
    if not math.isfinite(count):
        return "an unknown number of"
    return f"{count:,.0f}" if count >= 10 else f"{count:.1f}"


def as_text(parts: Iterable[Part]) -> Iterator[str]:
    """Yield the lines of a report for the terminal, without the charts and lists of the page."""
    for number, part in enumerate(parts):
        yield from [""] * (number > 0)
        if part.title:
            intervals = "; 95 % intervals" * any(line[2] for line in part.lines)
            yield part.title + f": {part.note}" * bool(part.note) + intervals
        yield from part.notes
        widths = [max((len(line[place]) for line in part.lines), default=0) for place in range(3)]
        for name, value, interval, note in part.lines:
            yield f"{name:{widths[0]}}  {value:>{widths[1]}}  {interval:>{widths[2]}}  {note}".rstrip()
        width = max((len(name) for name, _ in part.facts), default=0)
        yield from (f"{name:{width}}  {text}" for name, text in part.facts)
        yield from [part.verdict] * bool(part.verdict)
