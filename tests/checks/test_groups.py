from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import CheckResult, Prompt
from redraft.checks.base import Check, Outcome, run_check
from redraft.checks.groups import AllOf, AnyOf


@dataclass
class Fixed:
    outcome: Outcome
    name: str = "fixed"
    asked: list[str] = field(default_factory=list)

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        self.asked.append(answer)
        return self.outcome


def fixed(score: float) -> Fixed:
    return Fixed(Outcome(score == 1, score, f"Scores {score}."))


def run(check: Check) -> CheckResult:
    return asyncio.run(run_check(check, "answer", Prompt()))


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=5))
def test_all_needs_each_part_and_scores_the_mean_and_any_needs_one_and_scores_the_best(
    scores: list[float],
) -> None:
    every, some = run(AllOf(tuple(map(fixed, scores)))), run(AnyOf(tuple(map(fixed, scores))))
    assert every.passed == all(score == 1 for score in scores)
    assert every.score == pytest.approx(sum(scores) / len(scores))
    assert (some.passed, some.score) == (1 in scores, max(scores))


def test_messages_of_failed_parts_are_put_together_without_names() -> None:
    parts = (fixed(0), fixed(1), fixed(0.5))
    assert run(AllOf(parts)).message == "Scores 0. Scores 0.5."
    assert run(AnyOf((parts[0], parts[2]))).message == (
        "One of these has to be fixed. Scores 0. Or: Scores 0.5."
    )
    assert run(AnyOf(parts)).message == "Scores 1."


def test_any_stops_at_the_first_that_passes() -> None:
    parts = (fixed(0), fixed(1), fixed(1))
    run(AnyOf(parts))
    assert [len(part.asked) for part in parts] == [1, 1, 0]
