"""All models on one scale: strengths that are known, and who was hardly met."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import special

from redraft.evaluation.reports.ranking import Battles, Ranking
from redraft.evaluation.reports.reviews import Report
from redraft.evaluation.tables import as_text
from tests.cli.verbs import write
from tests.evaluation import made

STRENGTH = {"strong": 1.0, "middle": 0.0, "weak": -1.0}


def review(question: int, one: str, two: str, sign: int) -> dict[str, object]:
    return made.review(question, one, two, (5 + sign, 5)) | {"model_1": one, "model_2": two}


def report(folder: Path, reviews: list[dict[str, object]], **more: object) -> Report:
    return made.report([write(folder / "reviews.jsonl", reviews)], **more)


def ranking(found: Report) -> Ranking:
    assert found.ranking
    return found.ranking


def drawn(*pairs: tuple[str, str], questions: int = 600) -> list[dict[str, object]]:
    dice = random.Random(1)
    return [
        review(question, one, two, 1 if dice.random() < chance(one, two) else -1)
        for question in range(questions)
        for one, two in pairs
    ]


def chance(one: str, two: str) -> float:
    return 1 / (1 + math.exp(STRENGTH[two] - STRENGTH[one]))


def test_strengths_are_found_through_others(tmp_path: Path) -> None:
    found = ranking(report(tmp_path, drawn(("strong", "middle"), ("middle", "weak"))))
    assert ([*found.models], found.against) == (["strong", "middle", "weak"], "middle")
    for name, rate in found.models.items():
        if name != "middle":
            assert rate.low < chance(name, "middle") < rate.high
            assert rate.high - rate.low < 0.1


def test_without_a_common_opponent_a_model_of_mean_strength_is_the_measure(tmp_path: Path) -> None:
    pairs = (("strong", "middle"), ("middle", "weak"), ("weak", "strong"))
    found = ranking(report(tmp_path, drawn(*pairs)))
    assert found.against == ""
    assert abs(next(iter(found.models.values())).value - 1 / (1 + math.exp(-1))) < 0.03


def test_with_one_opponent_it_is_the_win_rate(tmp_path: Path) -> None:
    found = report(tmp_path, drawn(("strong", "weak"), ("middle", "weak"), questions=60))
    rates = {name: rate.value for name, rate in ranking(found).models.items()}
    for comparison in found.comparisons:
        assert rates[comparison.model] == pytest.approx(comparison.whole.win_rate.value, abs=1e-3)
    assert "against weak" in "\n".join(as_text(found.sections()))
    assert next(iter(found.record()["ranking"]["models"])) == "strong"


@pytest.mark.parametrize("questions", [9, 25, 100])
def test_a_model_that_always_wins_is_finite_and_its_interval_has_a_width(
    tmp_path: Path, questions: int
) -> None:
    reviews = [review(n, one, "weak", 1) for n in range(questions) for one in ("strong", "middle")]
    rate, *_ = ranking(report(tmp_path, reviews)).models.values()
    assert 0.98 < rate.value <= rate.high <= 1
    assert rate.low == pytest.approx(0.025 ** (1 / questions), abs=0.01)  # Clopper and Pearson's


@pytest.mark.parametrize("runs", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_intervals_of_20_questions_hold_the_truth(runs: int) -> None:
    dice, strengths, estimates = random.Random(1), (1.5, 0.5, 0.0), []
    met = np.array([[1.0, 0, -1], [0, 1, -1]] * 20)
    for _ in range(runs):
        wins = np.array([float(dice.random() < special.expit(strengths[n % 2])) for n in range(40)])
        battles = Battles(("a", "b", "c"), wins, met, tuple(n // 2 for n in range(40)), 20)
        estimates += list(zip(battles.rates("c", 200), strengths, strict=True))[:2]
    held = [each.low <= special.expit(strength) <= each.high for each, strength in estimates]
    assert sum(held) >= 0.93 * len(held)
    assert min(each.high - each.low for each, _ in estimates) > 0.05


def test_models_that_have_no_battles_in_common_are_on_no_scale(tmp_path: Path) -> None:
    reviews = [review(n, *pair, 1) for n in range(9) for pair in (("a", "b"), ("c", "d"))]
    assert report(tmp_path, reviews).ranking is None
    assert report(tmp_path, drawn(("strong", "weak"), questions=9)).ranking is None
