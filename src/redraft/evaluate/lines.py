"""Rows of figures, as a terminal and a page show them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from redraft.evaluate.stats import Estimate


class Line(NamedTuple):
    """A row of a table: what, the figure, its interval, and what it is made of. All are text."""

    name: str
    value: str = ""
    interval: str = ""
    note: str = ""


def table(rows: Sequence[Line]) -> Iterator[str]:
    """Yield rows as lines of a terminal, in columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for name, value, interval, note in rows:
        yield f"{name:{widths[0]}}  {value:>{widths[1]}}  {interval:>{widths[2]}}  {note}".rstrip()


def percent(estimate: Estimate, digits: int) -> tuple[str, str]:
    """Return an estimate in per cent, and its interval, as texts."""
    value, interval = plain(estimate.times(100), digits)
    return (f"{value} %" if value != "–" else value), interval


def plain(estimate: Estimate, digits: int, *, sign: bool = False) -> tuple[str, str]:
    """Return an estimate and its interval as texts; `sign` puts a plus before those above 0."""
    form = f"{'+' * sign}.{digits}f"
    value = "–" if math.isnan(estimate.value) else format(estimate.value, form)
    interval = "" if math.isnan(estimate.low) else f"{estimate.low:{form}} to {estimate.high:{form}}"
    return value, interval


def without_nan(value: Any) -> Any:
    """Return a JSON value with null for NaN."""
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
