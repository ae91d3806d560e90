"""Checks as metrics of DSPy: with feedback for GEPA, and as the reward function of Refine and BestOfN.

`dspy.GEPA(metric=metric("words<=50"), …)`
`dspy.Refine(module, N=3, reward_fn=reward("words<=50"), threshold=1.0)`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redraft.bridges.judged import Given, Judged, checks_of, judged, missing, wait

try:
    import dspy
except ModuleNotFoundError:
    raise missing("dspy") from None


def metric(*checks: Given, field: str = "answer", asked: str = "question") -> Callable[..., Any]:
    """Return a metric with `score` and `feedback`.

    Args:
        *checks: They judge the prediction.
        field: The field of the prediction that is judged.
        asked: The field of the example that is the prompt, for checks that read it.
    """
    judge = _judge(checks, field)

    def checked(gold: Any, pred: Any, *_: Any, **_more: Any) -> dspy.Prediction:
        found = judge(pred, gold.get(asked, ""))
        return dspy.Prediction(score=found.score, feedback=found.feedback or "All checks passed.")

    return checked


def reward(
    *checks: Given, field: str = "answer", asked: str = "question"
) -> Callable[[dict[str, Any], Any], float]:
    """Return a reward function: the score of a prediction. Arguments as of `metric`."""
    judge = _judge(checks, field)
    return lambda args, pred: judge(pred, args.get(asked, "")).score


def _judge(checks: tuple[Given, ...], field: str) -> Callable[[Any, object], Judged]:
    parsed = checks_of(checks)
    return lambda pred, prompt: wait(judged(parsed, str(getattr(pred, field)), prompt))
