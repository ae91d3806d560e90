"""Charts: whatever the numbers and names, the drawing is well-formed and says what it shows."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vl_convert")

from redraft.evaluation.pages.charts import curves
from tests.evaluation.pages.reading import read

NAMES = ["<b onclick=x>", "\ufffe\uffff\x00", "🌳" * 60, "$x_1$ 'a' \"b\"", "\u202e", "", "\ud800"]


def texts(svg: str, tag: str = "text") -> list[str]:
    return [each.text or "" for each in ET.fromstring(svg).iter(tag)]  # noqa: S314  (our own drawing)


def test_figures_without_an_interval_are_drawn() -> None:
    svg = curves(
        {"a": [(5, 20, math.nan, math.nan, "x")], "b": [(5, 20, 19, 21, "y"), (7, 2, 1, 3, "z")]}, "n", "m, %"
    )
    assert {"a", "b", "n", "m, %", "20 %"} <= {*texts(svg)}
    assert {"x", "y", "z"} <= {*texts(svg, "title")}
    assert "NaN" not in svg


def test_lines_that_coincide_are_told_apart() -> None:
    points = [(x, 10.0, 9.0, 11.0, "p") for x in (1.0, 2.0)]
    svg = curves({"one": points, "other": points}, "x", "y")
    lines = re.findall(r'd="(M[^"]*L[^"]*)" stroke="var\(--s\d\)"(?: stroke-width="2")?[^>]*', svg)
    assert len({*lines}) >= 2
    assert "stroke-dasharray" in svg


def test_a_name_may_be_anything() -> None:
    for name in NAMES:
        svg = curves({name: [(1, 2, 1, 3, name)]}, name, name)
        assert texts(svg, "title")
        read(svg)
        assert not {"\x00", "\u202e", "\ufffe", "\ud800"} & {*svg}


@settings(max_examples=10)
@given(st.text(), st.floats(-1e300, 1e300), st.floats(-1e9, 1e9))
def test_any_text_and_number_is_drawn(name: str, value: float, at: float) -> None:
    assert len(texts(curves({name: [(at, value, value, value, "tip")]}, "x", "y"), "title")) >= 1


def test_the_axis_of_a_curve_has_decimal_numbers() -> None:
    drawn = curves({"a": [(at, 20.0 * at, math.nan, math.nan, "") for at in (1, 2, 4)]}, "tokens", "score")
    assert {"20", "80"} <= {*re.findall(r">([^<>]*)</text>", drawn)}
    assert "e+" not in drawn
