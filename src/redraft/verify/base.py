"""What a check is: code that judges an answer, gives a score, and says in words what is wrong.

A check is a value with a name and one method. It may be sync or async. Its message must help to mend the
answer without giving a reference answer away; a check's *name* may hold the reference (`number=42`), so only
messages are ever shown to a model. A check that raises has crashed: `run_check` reports that as a fault of
the check (`CheckError`), never as a failed answer.
"""

from __future__ import annotations

import asyncio
import inspect
import sysconfig
import traceback
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from redraft.chain import CheckResult, Prompt, whole
from redraft.engines.threads import in_daemon_thread
from redraft.errors import CheckError, RedraftError

T = TypeVar("T")


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
    return Outcome(passed=True, score=min(max(score, 0.0), 1.0), message=message)


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


@dataclass(frozen=True)
class Weighted:
    """`2*words<=50`: a check with another share in the score of an answer than 1."""

    part: Check
    weight: float

    @property
    def name(self) -> str:
        """The short form, with the weight in front."""
        return f"{self.weight!r}".removesuffix(".0") + f"*{self.part.name}"

    def check(self, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
        """What the check itself says."""
        return self.part.check(answer, prompt)


def weight_of(check: Check) -> float:
    """The share of a check in the score of an answer: 1 where none was given."""
    return check.weight if isinstance(check, Weighted) else 1.0


async def outcome_of(check: Check, answer: str, prompt: Prompt) -> Outcome:
    """Asks one check, in a thread where it is not async: a slow one holds up neither other streams nor the
    end of the program.

    Raises:
        CheckError: The check itself crashed.
    """
    try:
        if inspect.iscoroutinefunction(check.check):
            said: Outcome | Awaitable[Outcome] = check.check(answer, prompt)
        else:
            said = await in_daemon_thread(lambda: _ask(check, answer, prompt))
        return said if isinstance(said, Outcome) else await said
    except RedraftError:
        raise
    except (Exception, SystemExit) as error:  # a check may call sys.exit()
        raise CheckError(
            f"the check {check.name!r} crashed: {crash_of(error)}",
            hint="This is a fault of the check, not of the answer. Mend the check and run again.",
        ) from error


def crash_of(error: BaseException) -> str:
    """What an error is and where it was raised, as `rules.py:12, in polite: KeyError: 'x'`.

    The place is the last one in code that is neither redraft's nor installed, if there is one: there the
    user can mend it.
    """
    said = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THE_USERS)]
    if not own:
        return said
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}: {said}"


_NOT_THE_USERS = (
    str(Path(__file__).parents[1]),
    "<frozen ",
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
"""How the paths of code begin that a user did not write for a check."""


def _ask(check: Check, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
    try:
        return check.check(answer, prompt)
    except StopIteration as error:  # asyncio could not hand this one out of a thread, and would wait for ever
        raise RuntimeError("StopIteration") from error


async def run_check(check: Check, answer: str, prompt: Prompt) -> CheckResult:
    """Runs one check and makes the record of it.

    Raises:
        CheckError: The check itself crashed, or gave a score that is none.
    """
    outcome = await outcome_of(check, answer, prompt)
    if not 0 <= outcome.score <= 1:
        raise CheckError(
            f"the check {check.name!r} gave the score {outcome.score}.", hint="A score lies between 0 and 1."
        )
    return CheckResult(
        name=check.name,
        passed=outcome.passed,
        score=outcome.score,
        message=whole(outcome.message),
        weight=weight_of(check),
    )


async def run_checks(checks: Iterable[Check], answer: str, prompt: Prompt) -> tuple[CheckResult, ...]:
    """Runs checks side by side; the results come in the order of the checks.

    An empty text is no answer: it fails every check, even one that only forbids something.

    Raises:
        CheckError: A check crashed. The first to crash is named, and the others are cancelled.
    """
    if not answer.strip():
        return tuple(_fails_empty(check) for check in checks)
    return tuple(await together([run_check(check, answer, prompt) for check in checks]))


def _fails_empty(check: Check) -> CheckResult:
    message = "The answer is empty."
    return CheckResult(name=check.name, passed=False, score=0.0, message=message, weight=weight_of(check))


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Does pieces of work side by side and gives their results in order.

    What still runs when one fails, or when the caller is cancelled, is cancelled and has ended on return.
    """
    tasks = [asyncio.ensure_future(piece) for piece in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
