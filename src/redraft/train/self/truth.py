"""Define the task `exercises` of `redraft eval`: random prompts of `redraft train self` with exact checks.

The check reports only whether an answer is right: the feedback of `Task.judge` would reveal the right answer.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from redraft.chain import Chain, Prompt
from redraft.checks.base import Check, Outcome, failed, passed
from redraft.checks.final import Number
from redraft.errors import CheckSyntaxError
from redraft.evaluation.tasks.tasks import Task as ScoredTask
from redraft.train.self.lessons import held_out
from redraft.train.self.tasks import TASKS
from redraft.train.self.tasks.task import Task, Values, plain

_AROUND = re.compile(
    r"^(?:(?:the )?(?:answer|result|date|time|it|that)(?: is| will be)?:? )?[*_`\"'“ ]*|[*_`\"'”.! ]+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Solved:
    """A check that the answer to an exercise is right, also within a sentence: "The answer is 84."."""

    task: Task
    values: Values

    @property
    def name(self) -> str:
        """The name of the check, such as `exercise add`."""
        return f"exercise {self.task.name}"

    @property
    def _number(self) -> Number | None:
        try:
            return Number.of(self.task.right(self.values))
        except CheckSyntaxError:
            return None

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Pass if `Task.judge` accepts the answer, or if its final number is the right one."""
        right = any(self.task.judge(self.values, each).passed for each in (answer, _alone(answer)))
        right = right or (self._number is not None and self._number.check(answer, prompt).passed)
        return passed("right") if right else failed("This is not the right answer.")

    def said(self, answer: str) -> Hashable:
        """Return the key by which a vote groups answers: the final number or, without one, the answer."""
        number = self._number.said(answer) if self._number else None
        return number if number is not None else _alone(answer) or None


def _alone(answer: str) -> str:
    return _AROUND.sub("", plain(answer))


def _checks(_: str, record: Chain) -> Sequence[Check]:
    task, values = TASKS.get(str(record.meta.get("task"))), record.meta.get("values")
    if task is None or not isinstance(values, dict):
        raise CheckSyntaxError("`meta.task` is not a known task, or `meta.values` is not an object.")
    return [Solved(task, values)]


EXERCISES = ScoredTask(
    "`meta` with a `task` and its `values`, as `redraft train self` draws them",
    _checks,
    draws={name: partial(held_out, task) for name, task in TASKS.items()},
)
