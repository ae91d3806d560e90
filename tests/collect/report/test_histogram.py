"""Figures and bins of counted numbers."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.collect.report.show import MOST, Bin, bins, figures

NUMBERS = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 10**7)), min_size=1, max_size=60)


@given(NUMBERS)
def test_every_number_is_in_one_bin_and_bins_leave_no_gap(numbers: list[int]) -> None:
    found = bins(Counter(numbers))
    assert all(before.high + 1 == after.low for before, after in pairwise(found))
    for each in found:
        assert each.count == sum(each.low <= number <= each.high for number in numbers)
    assert sum(each.count for each in found) == len(numbers)
    assert found[0].count
    assert found[-1].count


@given(NUMBERS)
def test_figures_are_those_of_the_sorted_numbers(numbers: list[int]) -> None:
    said = figures(Counter(numbers))
    assert said
    assert (said.count, said.min, said.max) == (len(numbers), min(numbers), max(numbers))
    assert said.median == statistics.median_low(numbers)
    assert said.mean == pytest.approx(statistics.mean(numbers))
    assert sum(number <= said.p95 for number in numbers) >= 0.95 * len(numbers)
    assert sum(number < said.p95 for number in numbers) < 0.95 * len(numbers)


@given(NUMBERS)
def test_there_are_few_enough_bins_to_draw(numbers: list[int]) -> None:
    assert len(bins(Counter(numbers))) <= 2 * MOST


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        ([2, 2, 2], ["2"]),
        ([1, 5], ["1", "2", "3", "4", "5"]),
        (range(100, 200), [f"{low}–{low + 9}" for low in range(100, 200, 10)]),
        ([*[3] * 9, 40], ["3", "4", "5", "6", "7", "8", "9", "10–14", "15–19", "20–29", "30–49"]),
        ([*[70] * 9, 1500], ["70–99", "100–149", "150–199", "200–299", "300–499", "500–699", "700–999"]),
    ],
)
def test_bins_have_round_edges_that_fit_the_range(numbers: list[int], names: list[str]) -> None:
    found = [each.name for each in bins(Counter(numbers))]
    assert found[: len(names)] == names


def test_a_long_tail_is_seen_beside_the_many() -> None:
    found = bins(Counter([40] * 1000 + [100_000]))
    assert found[0] == Bin(30, 49, 1000)
    assert found[-1] == Bin(100_000, 149_999, 1)
    assert len(found) < MOST


def test_of_nothing_there_is_nothing_to_say() -> None:
    assert bins(Counter()) == []
    assert figures(Counter()) is None
