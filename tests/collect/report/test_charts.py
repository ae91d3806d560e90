"""Charts: whatever the numbers and names, the drawing is well-formed and stays inside."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.collect.report.charts import HEIGHT, TALL, WIDTH, curves, intervals, safe, scatter
from redraft.counting import printable

numbers = st.floats(-1e6, 1e6)


def drawn(html: str, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(html).iter(tag))  # noqa: S314  (our own drawing)


@given(st.lists(st.tuples(numbers, st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=6), numbers)
def test_intervals_hold_their_figure_and_stay_inside(
    figures: list[tuple[float, float, float]], at: float
) -> None:
    rows = [("<b>", value, value - below, value + above, "9 %") for value, below, above in figures]
    html = intervals(rows, at)
    assert "<b>" not in html
    for svg in drawn(html, "svg"):
        band, mark = svg.iter("rect")
        left, width = float(band.attrib["x"]), float(band.attrib["width"])
        middle = float(mark.attrib["x"]) + 0.6
        assert -0.02 <= left <= middle + 0.02
        assert middle <= left + width + 0.02 <= 100.06


def test_without_an_interval_there_is_a_mark_alone() -> None:
    html = intervals([("a", 98.0, math.nan, math.nan, ""), ("b", 102.0, 99.0, 104.0, "")], 100)
    assert [len(list(svg.iter("rect"))) for svg in drawn(html, "svg")] == [1, 2]
    assert "nan" not in html


@given(st.lists(st.tuples(numbers, numbers), max_size=9))
def test_dots_stay_inside_and_the_origin_is_shown(points: list[tuple[float, float]]) -> None:
    svg = scatter([(x, y, "<i>&") for x, y in points], "dots", "x", "y")
    dots = drawn(svg, "circle")
    assert len(dots) == len(points)
    for dot in [*dots, *drawn(svg, "line")]:
        for name, value in dot.attrib.items():
            if name[-1] in "xy12" and name != "r":
                assert -0.1 <= float(value) <= (WIDTH if "x" in name else HEIGHT) + 0.1


@pytest.mark.parametrize("text", ["\x00\x1b[31m", "\u202e", "\u2066x"])
def test_control_characters_are_replaced(text: str) -> None:
    assert printable(text)[0] == "\ufffd"
    assert safe("<" + text).startswith("&lt;\ufffd")


@given(
    st.lists(st.lists(st.tuples(numbers, numbers, st.floats(0, 1e6)), min_size=1), min_size=1, max_size=12)
)
def test_curves_stay_inside_and_have_colours(series: list[list[tuple[float, float, float]]]) -> None:
    made = {
        f"<b>{number}": [(x, y, y - half, y + half, "<i>") for x, y, half in points]
        for number, points in enumerate(series)
    }
    html = f"<div>{curves(made, '<u>')}</div>"
    assert all(tag not in html for tag in ("<b>", "<i>", "<u>"))
    for svg in drawn(html, "svg"):
        places = [
            tuple(map(float, place.split(",")))
            for tag in ("polyline", "polygon")
            for line in svg.iter(tag)
            for place in line.attrib["points"].split()
        ]
        assert all(0 <= x <= WIDTH and 0 <= y <= TALL for x, y in places)
        colours = [group.attrib["class"] for group in svg.findall("g")]
        assert colours == [f"s{number % 8}" for number in range(len(series))]


def test_a_point_without_a_band_and_a_single_value_are_drawn() -> None:
    html = f"<div>{curves({'a': [(5, 20, math.nan, math.nan, 'x')]}, 'tokens')}</div>"
    assert "nan" not in html
    assert [span.text for span in drawn(html, "span")][-5:] == ["21", "19", "4", "tokens", "6"]
