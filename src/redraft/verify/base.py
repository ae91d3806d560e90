"""What a check is: code that judges an answer, gives a score, and says in words what is wrong.

A check is a value with a name and one method. It may be sync or async. Its message must help to mend the
answer without giving a reference answer away. A check that raises has crashed: `run_check` reports that as a
fault of the check (`CheckError`), never as a failed answer.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from redraft.chain import CheckResult, Prompt
from redraft.errors import CheckError, RedraftError


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        passed: Whether the answer passes.
        score: 0 to 1; it orders failed answers. A passed answer has 1 unless the check is graded.
        message: What is wrong, where, and by how much; or what was found, if it passed.
    """

    passed: bool
    score: float
    message: str


def passed(message: str, *, score: float = 1.0) -> Outcome:
    """An answer that passes."""
    return Outcome(passed=True, score=score, message=message)


def failed(message: str, *, score: float = 0.0) -> Outcome:
    """An answer that fails, and how near it came."""
    return Outcome(passed=False, score=min(max(score, 0.0), 1.0), message=message)


@runtime_checkable
class Check(Protocol):
    """Judges an answer. `name` is its short form, such as `words<=50`."""

    @property
    def name(self) -> str:
        """The short form that `parse_check` reads."""
        ...

    def check(self, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
        """Judges one answer to one prompt."""
        ...


async def run_check(check: Check, answer: str, prompt: Prompt) -> CheckResult:
    """Runs one check, in a thread where it is not async, so that a slow one does not hold up other streams.

    Raises:
        CheckError: The check itself crashed.
    """
    try:
        if inspect.iscoroutinefunction(check.check):
            outcome = await check.check(answer, prompt)
        else:
            outcome = await asyncio.to_thread(check.check, answer, prompt)
            if inspect.isawaitable(outcome):
                outcome = await outcome
    except RedraftError:
        raise
    except Exception as error:
        raise CheckError(
            f"the check {check.name!r} crashed: {type(error).__name__}: {error}",
            hint="This is a fault of the check, not of the answer. Mend the check and run again.",
        ) from error
    return CheckResult(name=check.name, passed=outcome.passed, score=outcome.score, message=outcome.message)
