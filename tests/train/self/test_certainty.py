from __future__ import annotations

from redraft.train.self.certainty import Revised, threshold


def found(*certain: float, broken: bool) -> list[Revised]:
    return [Revised("add", each, broken) for each in certain]


def test_the_threshold_leaves_two_broken_answers_in_a_hundred() -> None:
    mended = found(0.3, 0.9, 0.9, broken=False)
    assert threshold([*mended, *found(0.9, 0.9, broken=True)], {"add": 100}) == 0.15
    assert threshold([*mended, *found(0.41, 0.9, 0.9, broken=True)], {"add": 100}) == 0.6
    assert threshold([*mended, *found(0.41, 0.9, 0.9, broken=True)], {"add": 200, "dates": 200}) == 0.15
    assert threshold([*mended, *found(0.41, broken=True)], {"add": 49}) == 0.6


def test_a_critic_that_is_certain_of_all_is_trusted_least() -> None:
    assert threshold(found(1.0, 1.0, 1.0, broken=True), {"add": 100}) == 0.95
