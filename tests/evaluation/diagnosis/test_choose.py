"""The choice of a way: what is certain is true, and what is promised holds, however often one looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

import numpy as np
from scipy.special import ndtri

from redraft.evaluation.diagnosis import choose
from redraft.evaluation.diagnosis.choose import ONE, Race, blocks
from redraft.evaluation.diagnosis.equal_tokens import Spent
from redraft.evaluation.diagnosis.matrix import WAYS, Matrix
from redraft.evaluation.diagnosis.options import DiagnoseOptions
from redraft.evaluation.diagnosis.runs import Ended
from redraft.evaluation.diagnosis.strategies import Strategy
from redraft.evaluation.tables import tokens_text
from redraft.revision.runs.plan import RunPlan
from redraft.revision.settings import Settings

REVISE, BEST, STEERED = Strategy("revise", 2), Strategy("best-of", 4), Strategy("steered", 2)
DRAFTS, VOTE, SHUFFLED = Strategy("best-of", 2), Strategy("vote", 4), Strategy("shuffled", 2)
TOKENS = {ONE: 40, REVISE: 60, STEERED: 70, BEST: 90}
COSTS = {**TOKENS, VOTE: 50, SHUFFLED: 60}
MARGIN = 0.1
AT_ONCE = 145  # prompts in each way, for one look with the power that racing has with up to 300


def race(**scores: Sequence[float]) -> Race:
    ways = {"one": ONE, "revise": REVISE, "best": BEST, "vote": VOTE}
    return Race({ways[name]: spent(ways[name], of) for name, of in scores.items()}, MARGIN)


def spent(way: Strategy, scores: Sequence[float]) -> dict[str, list[Spent]]:
    return {str(place): [Spent(score, COSTS[way], 0)] for place, score in enumerate(scores)}


def test_looks_become_fewer_and_the_last_one_sees_all() -> None:
    assert list(blocks(100)) == [20, 25, 30, 35, 40, 45, 50, 55, 60, 66, 72, 79, 86, 94, 100]
    assert list(blocks(7)) == [7]


def test_a_way_that_does_better_for_certain_is_chosen_and_the_others_are_dropped() -> None:
    found = race(one=[0] * 40 + [1] * 20, best=[1] * 60)
    assert (found.left, found.certain, found.chosen) == ([BEST], True, BEST)
    promise = found.promise(BEST)
    assert 0.3 < promise.gain < 40 / 60
    assert 0.8 < promise.right < 1
    assert 0 < promise.harm < 0.15


def test_of_ways_that_are_equal_within_the_margin_the_cheapest_is_chosen() -> None:
    same = [1, 0] * 60
    found = race(one=[0] * 120, revise=same, best=same)
    assert (found.left, found.chosen, found.certain) == ([REVISE], REVISE, True)


def test_a_dearer_way_that_leads_is_chosen_before_it_is_known_how_far_a_cheaper_one_is_behind() -> None:
    found = race(one=[0] * 60, revise=[0] * 4 + [1] * 56, best=[1] * 60)
    assert (found.left, found.chosen, found.certain) == ([BEST], BEST, True)


def test_while_little_is_known_what_did_best_so_far_is_chosen_and_it_is_not_certain() -> None:
    found = race(one=[1, 0] * 10, revise=[1, 1, 1, 0] * 5, best=[1, 1, 1, 0] * 5)
    assert (found.chosen, found.certain, found.finding(BEST)) == (REVISE, False, "open")
    assert found.left == [ONE, REVISE, BEST], "any of them may be ahead"
    assert found.promise(REVISE).gain < 0
    assert (found.promise(ONE).gain, found.promise(ONE).harm) == (0, 0)


def test_a_way_that_nothing_can_use_is_compared_and_neither_chosen_nor_waited_for() -> None:
    found = race(one=[0] * 60, best=[1, 1, 1, 0] * 15, vote=[1] * 60)
    assert (found.leader, found.chosen, found.certain) == (BEST, BEST, True)
    assert found.left == [VOTE, BEST], "whether the vote is ahead goes on being asked"
    assert (found.finding(VOTE), found.record["ways"]) == ("better", ["one", "best-of-4", "vote-4"])
    assert not Race({**found.seen, BEST: {}}, MARGIN).certain
    assert Race({**found.seen, VOTE: {}}, MARGIN).certain, "nor does it matter that it failed"
    assert race(one=[1] * 9, vote=[1] * 9).certain, "one answer is all that there is to choose"


def test_a_way_that_nothing_can_use_makes_no_choice_wait_for_more_evidence() -> None:
    def needed(**more: Sequence[float]) -> int:
        return next(n for n in range(1, 99) if race(one=[0] * n, best=[1] * n, **more).certain)

    assert needed() == needed(vote=[0]) < needed(revise=[0] * 99)


def test_at_equal_cost_a_way_is_held_against_a_random_choice_between_two_runs_of_best_of_n() -> None:
    scores = {ONE: [0] * 100, REVISE: [1] * 60 + [0] * 40, STEERED: [1] * 100, BEST: [1] * 50 + [0] * 50}
    found = Race({way: spent(way, of) for way, of in scores.items()}, MARGIN)
    gain = found.at_equal(REVISE, "best-of", "tokens")
    assert gain
    assert gain.value == pytest.approx(0.6 - 0.4 * 0.5), "60 tokens are 2/5 of the way from 40 to 90"
    assert 0 < gain.low < gain.value < gain.high < 0.7
    assert found.at_equal(BEST, "best-of", "tokens") is None
    assert found.at_equal(REVISE, "best-of", "seconds") is None, "nothing took a known time"
    against = found.at_equal(REVISE, "steered", "tokens")
    assert against
    assert against.value == pytest.approx(0.6 - 2 / 3), "60 tokens are 2/3 of the way from 40 to 70"
    assert found.at_equal(STEERED, "revise", "tokens") is None, "no revising takes as many"
    dear = {**found.seen, REVISE: {"1": [Spent(1, 91, 0)]}}
    assert Race(dear, MARGIN).at_equal(REVISE, "best-of", "tokens") is None, "no best of N takes as many"


def test_of_a_judge_only_ties_are_no_evidence() -> None:
    found = Race({way: spent(way, [way != ONE] * 400) for way in (ONE, REVISE, BEST)}, MARGIN, "judge")
    assert (found.chosen, found.certain, found.promise(BEST).gain > 0.9) == (REVISE, True, True)
    found = Race({way: spent(way, [0] * 4000) for way in (ONE, REVISE, BEST)}, MARGIN, "judge")
    assert (found.chosen, found.certain, found.finding(BEST)) == (ONE, False, "open")


def test_tokens_that_no_server_tells_are_unknown_and_not_infinite() -> None:
    found = Race({ONE: {"1": [Spent(1, math.nan, 0)]}}, MARGIN)
    assert (found.record["tokens"], tokens_text(found.spent(ONE).tokens)) == (None, "an unknown number of")


def test_ways_are_compared_on_the_items_that_both_have() -> None:
    assert len(Race({ONE: spent(ONE, [0] * 60), BEST: spent(BEST, [1] * 20)}, MARGIN).gains(BEST, ONE)) == 20


def test_seeds_that_break_and_mend_one_item_do_not_cancel_in_the_harm() -> None:
    one, way = [[Spent(score, 40, 0) for score in scores] for scores in ([1, 0], [0, 1])]
    names = [str(number) for number in range(300)]
    found = Race({ONE: dict.fromkeys(names, one), REVISE: dict.fromkeys(names, way)}, MARGIN)
    assert found.gain(REVISE).value == 0
    assert found.promise(REVISE).harm > 0.5


def drawn(rng: Any, rates: Sequence[float], items: int) -> Any:
    """Answers of ways with these shares of right ones, shape [items, ways]; hard items are hard for all."""
    hard = rng.standard_normal((items, 1)) * 0.8
    return (hard + rng.standard_normal((items, len(rates))) * 0.6 < ndtri(rates)).astype(float)


Answers = Mapping[Strategy, dict[str, list[Spent]]]


@dataclass(frozen=True)
class Drawn(Matrix):
    answers: Answers = field(default_factory=dict)
    given: dict[Strategy, dict[str, list[Spent]]] = field(default_factory=dict)

    def prepare(self, *, run_code: bool) -> int:
        return len(self.answers[ONE])

    def run(self, share: float | None = None) -> Ended:
        count = round((share or 1) * len(self.answers[ONE]))
        for way in self.answers:
            if way.kind in {WAYS[name] for name in self.ways}:
                self.given[way] = dict([*self.answers[way].items()][:count])
        return Ended(0, "", self.plan.limits)


def raced(answers: Answers, **options: str) -> Race:
    settings = Settings.read(DiagnoseOptions, {"choose": "way.yaml", **options})
    ways = [name for name, kind in WAYS.items() if kind in {way.kind for way in answers}]
    matrix = Drawn(settings, RunPlan(Path(), quiet=True), ["model"], (), ways, answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "seen_in", lambda _: {way: matrix.given.get(way, {}) for way in answers})
        _, choice = choose.choose(matrix, MARGIN)
    assert choice
    assert str(choice)
    return choice.race


def test_ways_that_share_no_item_are_printed() -> None:
    ones = {ONE: spent(ONE, [1, 0]), REVISE: {"1": [Spent(1, 60, 0)]}, BEST: {"0": [Spent(1, 90, 0)]}}
    assert raced(ones).chosen == REVISE


def test_a_way_that_was_dropped_gets_prompts_again_when_another_one_leads() -> None:
    one, revise = [1] * 15 + [0] * 5 + [1, 0] * 90, [1] * 10 + [0] * 10 + [1] * 180
    answers = {ONE: spent(ONE, one), REVISE: spent(REVISE, revise), BEST: spent(BEST, [1] * 20 + [0] * 180)}
    first = Race({way: dict([*items.items()][:20]) for way, items in answers.items()}, MARGIN)
    assert (first.leader, first.left) == (BEST, [ONE, BEST])
    found = raced(answers)
    assert (found.chosen, found.certain) == (REVISE, True)
    assert len(found.seen[REVISE]) < 200


def test_while_shuffled_feedback_gets_prompts_revising_does_for_that_is_whose_feedback_it_is() -> None:
    some, none = [1, 0] * 50, [0] * 100
    answers = {ONE: none, REVISE: none, BEST: some, STEERED: some[::-1], SHUFFLED: some}
    found = raced({way: spent(way, scores) for way, scores in answers.items()})
    assert REVISE not in found.left
    assert len(found.seen[REVISE]) == len(found.seen[SHUFFLED]) > 20


def test_a_way_that_steers_nothing_is_left_out_though_its_replies_took_other_seconds() -> None:
    scores = [1, 0] * 10
    drafts = {str(place): [Spent(score, 70, 9, 0.2)] for place, score in enumerate(scores)}
    again = {name: [run._replace(seconds=0.1) for run in runs] for name, runs in drafts.items()}
    assert [*raced({ONE: spent(ONE, scores), DRAFTS: drafts, STEERED: again}).seen] == [ONE, DRAFTS]
    other = {name: [run._replace(tokens=60) for run in runs] for name, runs in drafts.items()}
    assert STEERED in raced({ONE: spent(ONE, scores), DRAFTS: drafts, STEERED: other}).seen


def certain_at_once(answers: Any) -> bool:
    """Whether one z-test, corrected by Bonferroni, shows that no way is ahead of the best by the margin."""
    best = answers.mean(axis=0).argmax()
    gains = np.delete(answers[:, [best]] - answers, best, axis=1)
    error = gains.std(axis=0, ddof=1) / len(answers) ** 0.5
    return bool((gains.mean(axis=0) + MARGIN > ndtri(1 - 0.05 / gains.shape[1]) * error).all())


@pytest.mark.slow
def test_choices_and_promises_hold_in_95_of_100_runs_and_racing_saves_answers() -> None:
    rng, runs, items = np.random.default_rng(6), 1000, 300
    false = broken = certain = count = at_once = 0
    for _ in range(runs):
        rates = rng.uniform(0.3, 0.7) + np.array([0, *rng.normal(0.08, 0.1, 3)]).clip(-0.25, 0.28)
        answers = drawn(rng, rates, items)
        found = raced({way: spent(way, answers[:, place]) for place, way in enumerate(TOKENS)})
        at_once += certain_at_once(answers[:AT_ONCE])
        many, true = drawn(rng, rates, 4000), dict(zip(TOKENS, rates, strict=True))
        harm = dict(zip(TOKENS, np.maximum(many[:, :1] - many, 0).mean(axis=0), strict=True))
        way, promise = found.chosen, found.promise(found.chosen)
        certain, count = certain + found.certain, count + sum(map(len, found.seen.values()))
        false += found.certain and true[way] <= max(rates) - MARGIN
        kept = promise.right <= true[way] and promise.gain <= true[way] - true[ONE]
        broken += not (kept and promise.harm >= harm[way] - 0.02)
    print(f"{certain} of {runs} certain, {false} false, {broken} broken, {count / runs:.0f} answers")
    print(f"{at_once} of {runs} certain with one look, after {AT_ONCE} prompts in each way")
    assert false <= 0.05 * runs
    assert broken <= 0.05 * runs
    assert abs(at_once - certain) <= 0.005 * runs, "what looking at any time is measured against"
    assert count <= 0.6 * runs * AT_ONCE * len(TOKENS)


@pytest.mark.slow
def test_choices_and_promises_by_a_judges_preferences_hold_as_often() -> None:
    rng, runs, false, broken = np.random.default_rng(8), 500, 0, 0
    for _ in range(runs):
        won, lost = rng.dirichlet([2, 1, 1], len(TOKENS)).T[:2] * (np.arange(len(TOKENS)) > 0)
        place = rng.uniform(size=(200, 1)) * 0.9 + rng.uniform(size=(200, len(TOKENS))) * 0.1  # alike
        said = (place < won) * 1.0 - (place > 1 - lost)
        found = raced({way: spent(way, said[:, k]) for k, way in enumerate(TOKENS)}, judge="judge")
        way, promise = [*TOKENS].index(found.chosen), found.promise(found.chosen)
        false += found.certain and (won - lost)[way] <= max(won - lost) - MARGIN
        broken += promise.gain > (won - lost)[way] or promise.harm < lost[way]
    assert max(false, broken) <= 0.05 * runs
