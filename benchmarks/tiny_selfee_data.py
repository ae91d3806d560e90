"""Records of tiny_selfee, to train and to test on: answers first, then chains on the model's own drafts.

Half of the first drafts of the chains are wrong. As many of them as can be are the model's own (`redraft
answer` with what was trained on answers); the rest are spoiled on purpose. One wrong draft in ten is followed
by a second wrong one, so that `### Revision 2:` is not new to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

from redraft.chain import Chain, CheckResult, Feedback, Step, Verdict
from tiny_selfee_tasks import TASKS, Exercise, feedback, name_of, wrong

SEED = 20261120
LONGEST_DRAFT = 200
"""Characters. A longer draft is none that a feedback should walk through."""
TWICE = 0.1
"""Share of the wrong drafts after which comes another wrong answer."""


def held_out(task: str, count: int) -> list[Exercise]:
    """So many exercises of a task to test on, no two with one key. The same ones every time."""
    found: dict[str, Exercise] = {}
    rng = _rng(task, "held-out")
    while len(found) < count:
        exercise = TASKS[task].draw(rng)
        found.setdefault(exercise.key, exercise)
    return list(found.values())


def training(task: str, part: str, count: int, without: Sequence[Exercise]) -> Iterator[Exercise]:
    """So many exercises of a task to train on: none has the key of one that is held out."""
    kept = {exercise.key for exercise in without}
    rng = _rng(task, part)
    while count:
        exercise = TASKS[task].draw(rng)
        if exercise.key not in kept:
            count -= 1
            yield exercise


def asked(exercise: Exercise, name: str) -> Chain:
    """An exercise as a record without an answer."""
    meta = {"task": name_of(exercise), "exercise": asdict(exercise)}  # type: ignore[call-overload]
    return Chain(id=name, prompt=exercise.prompt, meta=meta)


def exercise_of(chain: Chain) -> Exercise:
    """The exercise of a record that `asked` began."""
    fields: Mapping[str, Any] = chain.meta["exercise"]
    kind: Any = TASKS[chain.meta["task"]]
    made: Exercise = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    return made


def answered(chain: Chain) -> Chain:
    """A record of `asked` with a right answer, and nothing said of it."""
    right = exercise_of(chain).right(_rng(chain.id, "right"))
    return _with(chain, (Step(answer=right),))


def revised(chain: Chain, drafts: Sequence[str]) -> Chain:
    """A record of `asked` with drafts in their order, each with feedback: a right one, or wrong ones to which
    a right answer is added.
    """
    exercise = exercise_of(chain)
    right = exercise.right(_rng(chain.id, "right"))
    answers = list(drafts)
    if not exercise.passes(answers[-1]):
        answers.append(right)
    return _with(chain, tuple(_judged(exercise, answer, right) for answer in answers))


def _with(chain: Chain, steps: tuple[Step, ...]) -> Chain:
    return chain.model_copy(update={"steps": steps, "best": len(steps) - 1, "stop": "accepted"})


def _judged(exercise: Exercise, answer: str, right: str) -> Step:
    text, passed = feedback(exercise, answer, right), exercise.passes(answer)
    check = CheckResult(name=name_of(exercise), passed=passed, score=float(passed), message=text)
    verdict: Verdict = "accept" if passed else "revise"
    return Step(answer=answer, feedback=Feedback(text=text, verdict=verdict, by="checks", checks=(check,)))


def chains_on(drafted: Sequence[Chain]) -> Iterator[Chain]:
    """Chains on what a model answered, of one task: half of their first drafts are wrong.

    Args:
        drafted: Records of `asked` with the answer that a model gave.
    """
    usable = sorted(drafted, key=_own_fault, reverse=True)
    for place, chain in enumerate(usable):
        yield _on_wrong(chain) if place < len(usable) // 2 else _on_right(chain)


def _own_fault(chain: Chain) -> bool:
    """Whether the model's draft is wrong, and of a length that can be talked about."""
    return 0 < len(chain.answer.strip()) <= LONGEST_DRAFT and not exercise_of(chain).passes(chain.answer)


def _on_wrong(chain: Chain) -> Chain:
    exercise, rng = exercise_of(chain), _rng(chain.id, "wrong")
    own = _own_fault(chain)
    drafts = [chain.answer if own else wrong(exercise, rng)]
    if rng.random() < TWICE and (again := wrong(exercise, rng)) != drafts[0]:
        drafts.append(again)
    return _marked(revised(chain, drafts), own=own)


def _on_right(chain: Chain) -> Chain:
    exercise = exercise_of(chain)
    own = exercise.passes(chain.answer)
    draft = chain.answer if own else exercise.right(_rng(chain.id, "draft"))
    return _marked(revised(chain, [draft]), own=own)


def _marked(chain: Chain, *, own: bool) -> Chain:
    return chain.model_copy(update={"meta": chain.meta | {"draft": "sampled" if own else "made"}})


def _rng(name: str, use: str) -> Random:
    return Random(f"{SEED}/{name}/{use}")
