"""Lessons: what is learnt is true, and what is tested was not learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redraft.chain import Chain, Prompt, Step
from redraft.chain.selfee import parse, render, verdict_of
from redraft.errors import UsageError
from redraft.jobs.licences import origin_of
from redraft.train.self import lessons
from redraft.train.self.tasks import TASKS
from redraft.train.self.tasks.task import HELD_OUT

TASK = TASKS["add"]


def test_held_out_exercises_share_neither_values_nor_wordings_with_training() -> None:
    for task in TASKS.values():
        apart = lessons.held_out(task, 20, seed=1)
        keys = {lessons.key(chain) for chain in apart}
        learnt = list(lessons.training(task, "answers", 50, 1, keys))
        assert len(keys) == 20
        assert not keys & {lessons.key(chain) for chain in learnt}
        for chain in apart:
            asked = {wording.format(**chain.meta["values"]) for wording in task.wordings[-HELD_OUT:]}
            assert chain.prompt.instruction in asked


def test_another_seed_draws_others_and_the_same_draws_the_same() -> None:
    assert lessons.held_out(TASK, 5, 1) == lessons.held_out(TASK, 5, 1) != lessons.held_out(TASK, 5, 2)


def test_a_task_with_too_few_exercises_is_named() -> None:
    few = replace(TASK, draw=lambda rng: {"a": rng.randint(1, 3), "b": 1})
    with pytest.raises(UsageError, match="'add' draws only 3 different exercises, but 4"):
        lessons.held_out(few, 4, 1)
    apart = {lessons.key(chain) for chain in lessons.held_out(few, 3, 1)}
    with pytest.raises(UsageError, match="too few exercises"):
        list(lessons.training(few, "answers", 1, 1, apart))


def test_exercises_name_the_licence_of_their_task() -> None:
    assert origin_of(lessons.held_out(TASK, 1, 1)[0].meta, "file") == ("the task add", "Apache-2.0")


def drafted(count: int, right: int) -> list[Chain]:
    return [
        chain.model_copy(update={"steps": (Step(answer=answer if place < right else "12"),), "best": 0})
        for place, chain in enumerate(list(lessons.training(TASK, "drafts", count, 1, set())))
        for answer in [TASK.right(chain.meta["values"])]
    ]


def test_half_of_the_first_drafts_are_wrong_whatever_the_model_could() -> None:
    for right in (0, 5, 10):
        chains = list(lessons.chains_on(TASK, drafted(10, right)))
        wrong = [chain for chain in chains if not lessons.passes(TASK, chain, chain.steps[0].answer)]
        assert len(wrong) == 5
        for chain in chains:
            assert lessons.passes(TASK, chain, chain.answer)
            first = chain.steps[0]
            assert first.verdict == verdict_of(first.criticism) == ("revise" if chain in wrong else "accept")
            assert len(chain.steps) == (2 if chain in wrong else 1)
            assert parse(render(chain)).answer == chain.answer


def test_the_models_own_faults_come_before_made_ones() -> None:
    assert sum(chain.steps[0].answer == "12" for chain in list(lessons.chains_on(TASK, drafted(10, 7)))) == 3


def test_outside_the_tasks_the_critic_does_not_know() -> None:
    chain = Chain(id="x", prompt=Prompt(instruction="Hello?"), steps=(Step(answer="Hello."),), best=0)
    taught = lessons.unchecked(chain)
    assert taught.steps[0].verdict == verdict_of(taught.steps[0].criticism) == "unknown"
