"""Sections of a report: a title with rows of figures. Terminal and page show the same ones.

A figure that is not defined is a dash in a table and null in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redraft.chain import Usage
from redraft.evaluation.stats import LEAST, Estimate


class Line(NamedTuple):
    """A row of a table, as texts: what is measured, the figure, its interval, and what the figure counts."""

    name: str
    value: str = ""
    interval: str = ""
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    title: str
    note: str  # how much was counted
    lines: tuple[Line, ...]
    facts: tuple[tuple[str, str], ...] = ()  # names and texts without an interval, such as the cost


def percent(estimate: Estimate, digits: int) -> tuple[str, str]:
    """Return an estimate in per cent, and its interval, as texts."""
    value, interval = plain(estimate.times(100), digits)
    return (f"{value} %" if value != "–" else value), interval


def plain(estimate: Estimate, digits: int, *, sign: bool = False) -> tuple[str, str]:
    """Return an estimate and its interval as texts."""
    form = f"{'+' * sign}.{digits}f"
    value = "–" if math.isnan(estimate.value) else format(estimate.value, form)
    interval = "" if math.isnan(estimate.low) else f"{estimate.low:{form}} to {estimate.high:{form}}"
    return value, interval


def p_value(p: float) -> str:
    """Return a p-value: `0.33`, or `≤ 0.0001` if no random flip was as extreme."""
    return "≤ " * (p == LEAST) + f"{p:.2g}"


def p_text(p: float) -> str:
    """Return a p-value with its name: `p = 0.33`."""
    return f"p {p_value(p)}" if p == LEAST else f"p = {p_value(p)}"


def tokens_text(count: float) -> str:
    """Return a mean number of tokens, which is NaN for chains without usage."""
    if math.isnan(count):
        return "an unknown number of"
    return f"{count:,.0f}" if count >= 10 else f"{count:.1f}"


def cost_facts(usage: Usage) -> Iterator[tuple[str, str]]:
    """Yield tokens and cost, if they are known."""
    if usage.prompt_tokens or usage.completion_tokens:
        yield "tokens", f"{usage.completion_tokens:,} new, {usage.prompt_tokens:,} in prompts"
    if usage.cost_usd is not None:
        yield "cost", f"{usage.cost_usd:.4f} USD"


def table(rows: Sequence[Line]) -> Iterator[str]:
    """Yield the rows as lines of a table for the terminal."""
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(3)]
    for name, value, interval, note in rows:
        yield f"{name:{widths[0]}}  {value:>{widths[1]}}  {interval:>{widths[2]}}  {note}".rstrip()


def as_text(sections: Iterable[Section]) -> Iterator[str]:
    """Yield the lines of a report for the terminal."""
    for number, section in enumerate(sections):
        yield from [""] * (number > 0)
        yield section.title + f": {section.note}" * bool(section.note)
        yield from table(section.lines)
        width = max((len(name) for name, _ in section.facts), default=0)
        yield from (f"{name:{width}}  {text}" for name, text in section.facts)
