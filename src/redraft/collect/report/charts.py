"""Draw charts as SVG and as boxes. The page's style sheet colours their classes; texts go through `safe`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape

from redraft.collect.report.histogram import Bin
from redraft.counting import printable

WIDTH, HEIGHT = 400, 150  # of a histogram, in units of the drawing
TALL, _EDGE = 200, 8  # height of a chart with several curves, and the space around them
_COLOURS = 8  # of curves, before they begin again
_TOP, _FOOT = 18, 22  # space for the largest count above, and for the numbers below
_LABEL = 40  # width of a number below the bars
_SHOWN = 12  # most bars of names


def safe(text: str) -> str:
    """Escape a text as HTML, and replace its control and direction characters."""
    return escape(printable(text))


def histogram(bins: Sequence[Bin], title: str) -> str:
    """Draw a vertical bar for each bin, with the largest count and the starts of bins."""
    most = max(each.count for each in bins)
    step = min(WIDTH / len(bins), WIDTH / 6)  # limits the width of a few bars
    bars = "".join(_bar(each, number * step, step, most) for number, each in enumerate(bins))
    every = -(-_LABEL // int(step)) if step >= 1 else len(bins)
    marks = "".join(
        f'<text x="{(number + 0.5) * step:.1f}" y="{HEIGHT - 5}" text-anchor="middle">{_short(each)}</text>'
        for number, each in enumerate(bins)
        if number % every == 0
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{safe(title)}">'
        f'<text x="0" y="12">{most:,}</text>'
        f'<line x1="0" x2="{WIDTH}" y1="{_TOP}" y2="{_TOP}"/>{bars}'
        f'<line x1="0" x2="{WIDTH}" y1="{HEIGHT - _FOOT}" y2="{HEIGHT - _FOOT}"/>{marks}</svg>'
    )


def _bar(each: Bin, left: float, step: float, most: int) -> str:
    """Draw a bar with its count as a tooltip. A bin that is not empty is always visible."""
    height = max(each.count / most * (HEIGHT - _TOP - _FOOT), 1.5 if each.count else 0)
    top = HEIGHT - _FOOT - height
    return (
        f'<g><title>{each.name}: {each.count:,}</title><rect x="{left + step * 0.08:.2f}" y="{top:.2f}" '
        f'width="{step * 0.84:.2f}" height="{height:.2f}"/></g>'
    )


def _short(each: Bin) -> str:
    """Return where a bin begins as a short text, such as `1.5k`."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if each.low >= unit:
            return f"{each.low / unit:.3g}{name}"
    return str(each.low)


def bars(counts: Sequence[tuple[str, int]]) -> str:
    """Draw a horizontal bar for each name, with count and share. Rare names share one bar."""
    total = sum(times for _, times in counts)
    shown, rest = list(counts[:_SHOWN]), counts[_SHOWN:]
    if rest:
        shown.append((f"{len(rest):,} others", sum(times for _, times in rest)))
    texts = [f"{times:,} <small>{_share(times, total)}</small>" for _, times in shown]
    return _rows(shown, texts)


def levels(values: Sequence[tuple[str, float]]) -> str:
    """Draw a horizontal bar for the value of each name. The first word of a name is its class."""
    return _rows(values, [f"{value:,g}" for _, value in values], [name.split()[0] for name, _ in values])


def _rows(values: Sequence[tuple[str, float]], texts: Sequence[str], kinds: Sequence[str] = ()) -> str:
    most = max(value for _, value in values) or 1
    rows = (
        f'<dt title="{safe(name)}">{safe(name)}</dt>'
        f'<dd><i class="{kind}" style="width:{value / most * 100:.2f}%"></i></dd><dd>{text}</dd>'
        for (name, value), text, kind in zip(values, texts, kinds or [""] * len(texts), strict=True)
    )
    return f'<dl class="bars">{"".join(rows)}</dl>'


def stacks(places: dict[str, Counter[str]], order: Sequence[str]) -> str:
    """Draw a bar for each place, divided by kind in the given order."""
    most = max(counts.total() for counts in places.values())
    rows = []
    for place, counts in places.items():
        parts = "".join(
            f'<i class="{kind}" style="width:{counts[kind] / most * 100:.2f}%" '
            f'title="{kind}: {counts[kind]:,}"></i>'
            for kind in order
            if counts[kind]
        )
        numbers = " · ".join(f"{counts[kind]:,}" for kind in order)
        rows.append(f"<dt>{safe(place)}</dt><dd>{parts}</dd><dd>{numbers}</dd>")
    key = " ".join(f'<span><i class="{kind}"></i>{kind}</span>' for kind in order)
    return f'<p class="key">{key}</p><dl class="bars stacks">{"".join(rows)}</dl>'


def intervals(rows: Sequence[tuple[str, float, float, float, str]], at: float) -> str:
    """Draw a figure with its interval in each row, and a line at a value to compare them with.

    Args:
        rows: Name, figure, lower and upper end (NaN without an interval), and the text on the right.
        at: Where the line is.
    """
    ends = [end for _, value, low, high, _ in rows for end in (value, low, high) if math.isfinite(end)]
    left, right = min([at, *ends]), max([at, *ends])
    scale = 100 / max(right - left, 1e-9)
    drawn = (
        f'<dt title="{safe(name)}">{safe(name)}</dt><dd>'
        f"{_interval(*((each - left) * scale for each in (at, value, low, high)))}</dd><dd>{safe(text)}</dd>"
        for name, value, low, high, text in rows
    )
    return f'<dl class="bars intervals">{"".join(drawn)}</dl>'


def _interval(at: float, value: float, low: float, high: float) -> str:
    band = f'<rect x="{low:.2f}" y="3" width="{high - low:.2f}" height="4"/>' if math.isfinite(low) else ""
    mark = f'<rect class="mark" x="{value - 0.6:.2f}" y="0" width="1.2" height="10"/>'
    line = f'<line x1="{at:.2f}" x2="{at:.2f}" y1="-4" y2="14"/>'
    return f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{line}{band}{mark}</svg>'


def scatter(points: Sequence[tuple[float, float, str]], title: str, x_name: str, y_name: str) -> str:
    """Draw a dot for each point, with its name as a tooltip, and lines through the origin."""
    (left, right), (low, high) = _span([x for x, _, _ in points]), _span([y for _, y, _ in points])

    def x_of(value: float) -> float:
        return (value - left) / (right - left) * (WIDTH - 16) + 8

    def y_of(value: float) -> float:
        return HEIGHT - _FOOT - 6 - (value - low) / (high - low) * (HEIGHT - _TOP - _FOOT - 12)

    dots = "".join(
        f'<g><title>{safe(name)}</title><circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3.2"/></g>'
        for x, y, name in points
    )
    bottom = HEIGHT - _FOOT
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{safe(title)}">'
        f'<line x1="0" x2="{WIDTH}" y1="{y_of(0):.1f}" y2="{y_of(0):.1f}"/>'
        f'<line x1="{x_of(0):.1f}" x2="{x_of(0):.1f}" y1="{_TOP}" y2="{bottom}"/>{dots}'
        f'<text x="0" y="12">{safe(y_name)}: {low:+,g} to {high:+,g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 5}" text-anchor="end">'
        f"{safe(x_name)}: {left:+,g} to {right:+,g}</text></svg>"
    )


def curves(series: Mapping[str, Sequence[tuple[float, float, float, float, str]]], x_name: str) -> str:
    """Draw a line with its band for each series, all on one scale. The style colours the classes s0 to s7.

    Args:
        series: Name -> points: place, value, lower and upper end (NaN without a band), and a tooltip.
        x_name: What the places are.
    """
    points = [point for each in series.values() for point in each]
    ends = [end for _, *values, _ in points for end in values if math.isfinite(end)]
    (left, right), (low, high) = _range([point[0] for point in points]), _range(ends)

    def at(x: float, y: float) -> str:
        across, up = (x - left) / (right - left), (y - low) / (high - low)
        return f"{across * (WIDTH - 2 * _EDGE) + _EDGE:.1f},{TALL - _EDGE - up * (TALL - 2 * _EDGE):.1f}"

    drawn = "".join(_curve(n % _COLOURS, each, at) for n, each in enumerate(series.values()))
    key = " ".join(
        f'<span><i class="s{n % _COLOURS}"></i>{safe(name)}</span>' for n, name in enumerate(series)
    )
    return (
        f'<p class="key">{key}</p><div class="curves"><span>{high:,.3g}</span>'
        f'<svg viewBox="0 0 {WIDTH} {TALL}" role="img" aria-label="{safe(", ".join(series))}">'
        f'<line x1="0" x2="0" y1="0" y2="{TALL}"/><line x1="0" x2="{WIDTH}" y1="{TALL}" y2="{TALL}"/>'
        f"{drawn}</svg><span>{low:,.3g}</span>"
        f"<p><span>{left:,.3g}</span> <span>{safe(x_name)}</span> <span>{right:,.3g}</span></p></div>"
    )


def _curve(
    number: int, points: Sequence[tuple[float, float, float, float, str]], at: Callable[[float, float], str]
) -> str:
    known = [point for point in points if math.isfinite(point[2])]
    edge = [at(x, low) for x, _, low, _, _ in known] + [at(x, high) for x, _, _, high, _ in known[::-1]]
    dots = []
    for x, y, _, _, name in points:
        across, down = at(x, y).split(",")
        dots.append(f'<g><title>{safe(name)}</title><circle cx="{across}" cy="{down}" r="3.2"/></g>')
    line = " ".join(at(x, y) for x, y, *_ in points)
    band = f'<polygon points="{" ".join(edge)}"/>' if len(known) > 1 else ""
    return f'<g class="s{number}">{band}<polyline points="{line}"/>{"".join(dots)}</g>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of values, with a little space if they are all the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 1, high + 1)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of values, with 0 in it."""
    low, high = min([0.0, *values]), max([0.0, *values])
    return (low, high) if high > low else (low - 1, high + 1)


def _share(times: int, total: int) -> str:
    share = times / total * 100
    return "&lt;0.1%" if share < 0.1 else f"{share:.1f}%"
