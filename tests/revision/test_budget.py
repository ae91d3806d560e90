"""Budgets and prices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Usage
from redraft.engines.base import Price
from redraft.errors import UsageError
from redraft.revision.options import Budget


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=100)
    assert Price(2, 8).cost(usage) == pytest.approx(0.0028)
    assert Price(2, 8, cached=0.5).cost(usage) == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0.01, 10))
def test_what_is_left_is_never_more_than_the_budget(tokens: int, used: int, usd: float) -> None:
    budget, price = Budget(tokens=tokens, usd=usd), Price(1, 2)
    usage = Usage(completion_tokens=used, cost_usd=used * 2e-6)
    left = budget.tokens_left(usage, price)
    assert left is not None
    assert left == max(0, min(tokens - used, int(round(usd - used * 2e-6, 9) * 5e5)))
    assert budget.spent(usage, price, 0) == (left == 0 or round(used * 2e-6, 9) >= usd)


def test_no_limit_is_never_reached() -> None:
    assert Budget().tokens_left(Usage(completion_tokens=10**9), None) is None
    assert not Budget().spent(Usage(completion_tokens=10**9), None, 1e9)


@pytest.mark.parametrize("value", [0, "x", True, -1, float("nan"), float("inf"), 1.5, [1]])
def test_a_budget_that_is_no_number_above_zero_is_refused(value: Any) -> None:
    for name in ("tokens", "seconds", "usd")[: 1 if value == 1.5 else 3]:
        with pytest.raises(UsageError, match=f"the budget of {name} is"):
            Budget(**{name: value})


@pytest.mark.parametrize("value", ["x", True, None, [1], -1, float("nan"), float("inf"), 10**400])
def test_a_price_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="the price of prompt tokens is"):
        Price(value, 1)
    with pytest.raises(UsageError, match="the price of completion tokens is"):
        Price(1, value)
    assert Price(1, 1, None).cached is None
