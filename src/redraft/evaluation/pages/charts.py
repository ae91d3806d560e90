"""Draw line charts as SVG with Vega-Lite. Colours are the page's CSS variables, for light and dark themes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from redraft.errors import MissingExtra
from redraft.jobs.counting import printable

try:
    import vl_convert
except ModuleNotFoundError as error:
    raise MissingExtra(f"drawing charts (with {error.name})", "eval") from None

Spec = dict[str, Any]  # Vega-Lite's JSON: a chart, or a part of one

_WIDTH, _HEIGHT = 760, 320  # pixels
_MOVED = 0.004  # distance between coinciding lines, as a share of the chart's width
_COLOURS = [f"var(--s{place})" for place in range(8)]
_DASHES = [[1, 0], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2], [12, 3]]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"]

_THEME = json.loads(files("redraft.evaluation.pages").joinpath("theme.json").read_text("utf-8"))
_NOT_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
_HEAD = re.compile(r"<svg [^>]*?(viewBox=[^>]*)>")
_NAMED = re.compile(r'<path aria-label="([^"]*)"([^>]*)/>')


def curves(
    series: Mapping[str, Sequence[tuple[float, float, float, float, str]]], x_name: str, y_name: str
) -> str:
    """Return an SVG chart with a line for each series, in the stylesheet's colours `--s0` to `--s7`.

    Each point is (x, value, low, high, tooltip). Without an interval, low and high are NaN.
    """
    xs = [x for points in series.values() for x, *_ in points]
    left, right = min(xs, default=0.0), max(xs, default=1.0)
    span, names = (right - left) or 1.0, [_drawable(name) for name in series]
    rows: list[Spec] = []
    for place, points in enumerate(series.values()):
        # Lines are shifted slightly, so that equal lines stay visible.
        moved = (place - (len(series) - 1) / 2) * _MOVED * span
        row = {"series": place, "name": names[place]}
        for at, *values, tip in points:
            ends = (value if math.isfinite(value) else None for value in values)
            drawn = dict(zip(("y", "low", "high"), ends, strict=True))
            rows.append({**row, **drawn, "x": at + moved, "tip": _drawable(tip)})
    colour, dash, shape = (
        _looks(names, [values[place % len(values)] for place in range(len(series))])
        for values in (list[object](_COLOURS), _DASHES, _SHAPES)
    )
    dash["legend"] = shape["legend"] = None
    domain = [left - 0.03 * span, right + 0.03 * span]
    number: Spec = {"type": "quantitative"}
    described: Spec = {"description": {"field": "tip"}}
    x = {**number, "field": "x", "title": _drawable(x_name), "axis": {"tickCount": 7}}
    x["scale"] = {"domain": domain, "nice": False, "zero": False}
    y = {**number, "field": "y", "title": _drawable(y_name), "scale": {"zero": False, "nice": True}}
    y["axis"] = {"tickCount": 5, "labelExpr": "format(datum.value, ',~r')" + "+' %'" * y_name.endswith("%")}
    both = {"x": x, "y": y, "color": colour}
    whisker, line = {"type": "rule", "strokeWidth": 1}, {"type": "line", "strokeWidth": 2}
    mark = {"type": "point", "filled": True, "size": 55, "opacity": 1}
    whiskers = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    spec = {
        "data": {"values": rows},
        "width": _WIDTH,
        "height": _HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 2,
        "layer": [
            {"mark": whisker, "encoding": {**both, **whiskers, **described}},
            {"mark": line, "encoding": {**both, "strokeDash": dash, "description": {"field": "name"}}},
            {"mark": mark, "encoding": {**both, "shape": shape, **described}},
        ],
        "config": _THEME,
    }
    svg: str = vl_convert.vegalite_to_svg(spec)
    svg = _HEAD.sub(r'<svg role="graphics-document" \1>', svg, count=1)
    return _NAMED.sub(r'<path aria-label="\1"\2><title>\1</title></path>', svg)


def _looks(names: Sequence[str], values: Sequence[object]) -> Spec:
    scale = {"domain": list(range(len(names))), "range": list(values)}
    legend = {"labelExpr": f"{json.dumps(names)}[datum.value] || ''"}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": legend}


def _drawable(text: str) -> str:
    return _NOT_XML.sub("\ufffd", printable(text))
