"""Make training and test records: answers to random exercises, and chains that begin with a model's drafts.

Half of the chains begin with a wrong draft. If the model wrote too few wrong drafts, `Task.spoil` makes more.
The task's check writes the feedback, so the feedback is always true.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from redraft.chain import Chain, CheckResult, Feedback, Prompt, Step, Verdict
from redraft.errors import UsageError
from redraft.train.self.tasks.task import HELD_OUT, Judged, Task

LONGEST_DRAFT = 200  # characters. Longer wrong drafts are replaced: feedback should not discuss them.
PHRASES = {True: "Revision is not needed.", False: "Revision is needed."}
"""The verdicts on a right and a wrong answer, in SelFee's words (reference/selfee.md)."""
UNKNOWN = "This cannot be worked out here step by step, so it stays unchecked."
"""The critic's feedback on an answer to a prompt that belongs to no task. The feedback has no verdict."""
_DRAWS = 100  # draws per exercise, after which a task counts as exhausted


def held_out(task: Task, count: int, seed: int) -> list[Chain]:
    """Return `count` exercises (random prompts) to test on. No two contain the same values.

    Raises:
        UsageError: The task has fewer than `count` different exercises.
    """
    found: dict[str, Chain] = {}
    rng = Random(f"{seed}/{task.name}/held-out")
    for _ in range(count * _DRAWS):
        chain = _asked(task, rng, task.wordings[-HELD_OUT:], f"{task.name}/held-out/{len(found):05}")
        found.setdefault(key(chain), chain)
        if len(found) == count:
            return list(found.values())
    raise UsageError(
        f"the task {task.name!r} draws only {len(found)} different exercises, but {count} must be held out.",
        hint="Let the task draw from more values, or hold out fewer exercises: --held-out N",
    )


def training(task: Task, part: str, count: int, seed: int, without: set[str]) -> Iterator[Chain]:
    """Yield `count` exercises whose keys are not in `without`. Raise `UsageError` if the task has too few."""
    rng = Random(f"{seed}/{task.name}/{part}")
    made = 0
    for _ in range(count * _DRAWS):
        chain = _asked(task, rng, task.wordings[:-HELD_OUT], f"{task.name}/{part}/{made:05}")
        if key(chain) not in without:
            made += 1
            yield chain
        if made == count:
            return
    hint = "Let the task draw from more values, or hold out fewer exercises: --held-out N"
    raise UsageError(f"the task {task.name!r} has too few exercises: nearly all are held out.", hint=hint)


def key(chain: Chain) -> str:
    """Return an exercise's key, which depends on the task and the values, but not on the wording."""
    return f"{chain.meta['task']} {sorted(chain.meta['values'].items())}"


def _asked(task: Task, rng: Random, wordings: Sequence[str], name: str) -> Chain:
    values = task.draw(rng)
    prompt = Prompt(instruction=rng.choice(wordings).format(**values))
    origin = {"dataset": f"the task {task.name}", "licence": task.licence}
    return Chain(id=name, prompt=prompt, meta={"task": task.name, "values": dict(values), "origin": origin})


def answered(task: Task, chain: Chain) -> Chain:
    """Return an exercise with a right answer and without feedback."""
    return _with(chain, (Step(answer=task.right(chain.meta["values"])),))


def passes(task: Task, chain: Chain, answer: str) -> bool:
    """Return whether an answer is right for an exercise."""
    return task.judge(chain.meta["values"], answer).passed


def chains_on(task: Task, drafted: Sequence[Chain]) -> Iterator[Chain]:
    """Turn a model's answers to a task's exercises into chains. Half begin with a wrong answer."""
    for place, chain in enumerate(sorted(drafted, key=lambda chain: _own_fault(task, chain), reverse=True)):
        right = task.right(chain.meta["values"])
        if place < len(drafted) // 2:
            draft, rng = chain.answer, Random(f"{chain.id}/wrong")
            if not _own_fault(task, chain):
                while passes(task, chain, draft := task.spoil(chain.meta["values"], rng)):
                    pass
            yield _with(chain, (_judged(task, chain, draft), Step(answer=right)))
        else:
            draft = chain.answer if passes(task, chain, chain.answer) else right
            yield _with(chain, (_judged(task, chain, draft),))


def _own_fault(task: Task, chain: Chain) -> bool:
    return 0 < len(chain.answer.strip()) <= LONGEST_DRAFT and not passes(task, chain, chain.answer)


def _judged(task: Task, chain: Chain, answer: str) -> Step:
    found: Judged = task.judge(chain.meta["values"], answer)
    text = f"{found.text} {PHRASES[found.passed]}"
    check = CheckResult(name=task.name, passed=found.passed, score=float(found.passed), message=text)
    verdict: Verdict = "accept" if found.passed else "revise"
    return Step(answer=answer, feedback=Feedback(text=text, verdict=verdict, by="checks", checks=(check,)))


def unchecked(chain: Chain) -> Chain:
    """Add feedback with the verdict `unknown` to an answered record that belongs to no task."""
    step = Step(answer=chain.answer, feedback=Feedback(text=UNKNOWN, verdict="unknown", by="checks"))
    return _with(chain, (step,))


def _with(chain: Chain, steps: tuple[Step, ...]) -> Chain:
    return chain.model_copy(update={"steps": steps, "best": len(steps) - 1, "stop": "accepted"})
