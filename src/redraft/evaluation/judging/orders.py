"""The orders in which a judge sees a pair of answers, and what its verdicts in both come to.

Judges favour an answer for its place. So each pair is shown in both orders, and a model wins a question only
if it wins in both: verdicts that disagree are a tie. A sign is 1 for a win of the model, -1 for a loss, 0
for a tie.
"""

from __future__ import annotations

from collections.abc import Sequence


def orders(answers: int, *, both: bool) -> tuple[bool, ...]:
    """Return the orders to show a number of answers in: for each, whether they are swapped."""
    return (False, True) if both and answers > 1 else (False,)


def majority(signs: Sequence[int]) -> int | None:
    """Return what most of several reviews in one order say; None without any."""
    return (sum(signs) > 0) - (sum(signs) < 0) if signs else None


def in_both_orders(one: int | None, other: int | None) -> int | None:
    """Return the outcome of two orders: a win or loss in both, else a tie. None if an order has no review."""
    if one is None or other is None:
        return None
    return one if one == other else 0
