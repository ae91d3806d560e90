"""Checks: code that judges and scores an answer, and describes the answer's faults.

A check's message must help to correct the answer without revealing a reference answer. A check's *name* may
contain the reference (`number=42`), so models see only messages. A check that crashes raises `CheckError`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from redraft.chain import CheckResult, Place, Prompt, describe, is_blank, whole
from redraft.chain.thoughts import apart
from redraft.checks.json_reading import json_in
from redraft.engines.steering.form import Conflict, Form
from redraft.errors import CheckError, RedraftError, crash_of
from redraft.jobs.machine import all_cores
from redraft.jobs.signals import in_daemon_thread

T = TypeVar("T")
_log = logging.getLogger(__name__)

MOST_PLACES = 100
"""The most places in an outcome. A longer list becomes empty: its faults are not repaired one by one."""

REASONING: ContextVar[str] = ContextVar("reasoning", default="")
"""The model's reasoning before the checked answer, for checks that judge the reasoning."""
DEMANDS: ContextVar[str] = ContextVar("demands", default="")
"""More texts that `grounded` searches: requested changes, and checks' demands except limits on counts."""

Prospect = Literal["open", "lost"]
"""Whether an unfinished answer may still pass (`open`) or no continuation can pass (`lost`)."""


@dataclass(frozen=True)
class Outcome:
    """The result of a check.

    Attributes:
        score: 0 to 1, to rank answers. A passed answer scores 1, unless the check grades, as `judge` does.
        message: What is wrong, where, and by how much. If the answer passes: a finding such as `12 words`.
        places: The faults as (begin, end) or JSON pointers; empty if the place of some fault is unknown.
    """

    passed: bool
    score: float
    message: str
    places: Sequence[Place] = ()


def passed(message: str, *, score: float = 1.0) -> Outcome:
    """Return the outcome of an answer that passes."""
    return Outcome(passed=True, score=min(max(score, 0.0), 1.0), message=message)


def failed(message: str, *, score: float = 0.0, places: Sequence[Place] = ()) -> Outcome:
    """Return the outcome of an answer that fails. `score` ranks the answer among failed answers."""
    if isinstance(places, str) or [*map(type, places)] == [int, int]:
        raise TypeError(f"places is not a list. Did you mean [{places!r}]?")
    known = tuple(places) if len(places) <= MOST_PLACES else ()
    return Outcome(passed=False, score=min(max(score, 0.0), 1.0), message=message, places=known)


@runtime_checkable
class Check(Protocol):
    """A check judges an answer."""

    @property
    def name(self) -> str:
        """The check's name in results, usually the text that `parse_check` accepts: `words<=50`."""
        ...

    def check(self, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
        """Judge an answer to a prompt."""
        ...


def demand_of(check: Check) -> str:
    """Return a check's `demand`, a sentence that tells the model what to do; empty if there is none."""
    demand = getattr(check, "demand", "")
    return demand if isinstance(demand, str) else ""


def schema_of(check: Check) -> Mapping[str, Any] | None:
    """Return a check's `schema`, the JSON Schema that answers must match; None if there is none."""
    schema = getattr(check, "schema", None)
    return schema if isinstance(schema, Mapping) else None


def form_of(check: Check) -> Form | None:
    """Return a check's `form`, which steers a model to passing answers; None if missing or unusable."""
    if (check.name, "form") in _unasked:
        return None
    try:
        form = getattr(check, "form", None)
        if not isinstance(form, Form):
            return None
        Form() & form
    except Conflict:
        return None
    except BaseException as error:  # noqa: BLE001  (the user's code may raise anything)
        ask_no_more(check, "form", f"crashed: {crash_of(error)}")
        return None
    return form


@runtime_checkable
class Prefixed(Check, Protocol):
    """A check that can stop an answer early, because no continuation passes."""

    def prefix(self, text: str) -> Prospect:
        """Judge the beginning of an answer: `lost` if neither `text` nor any continuation passes.

        The last word of `text` may be unfinished ("light" of "lighthouse"). Ignore white space around
        `text`. The method is called often: a few milliseconds are too long.
        """
        ...


_unasked: set[tuple[str, str]] = set()
"""Faulty attributes that are not used again, as pairs of a check's name and `prefix` or `form`."""


def prefix_of(check: Check, text: str) -> Prospect:
    """Return a check's verdict on the beginning of an answer; `open` if the check has no working `prefix`."""
    if not isinstance(check, Prefixed) or (check.name, "prefix") in _unasked:
        return "open"
    try:
        found: object = check.prefix(text)
    except BaseException as error:  # noqa: BLE001  (the user's code may raise anything)
        ask_no_more(check, "prefix", f"crashed: {crash_of(error)}")
        return "open"
    if found == "lost":
        return "lost"
    if found != "open":
        ask_no_more(check, "prefix", f"returned {found!r:.80}, not 'open' or 'lost'")
    return "open"


def ask_no_more(check: Check, what: str, fault: str) -> None:
    """Log once how a check's `prefix` or `form` fails, and stop using the attribute."""
    if (check.name, what) not in _unasked:
        _unasked.add((check.name, what))
        _log.warning("the %s of the check %r %s. This attribute is not used again.", what, check.name, fault)


async def outcome_of(check: Check, answer: str, prompt: Prompt) -> Outcome:
    """Run a check. Raise `CheckError` if the check crashes or returns no `Outcome`."""
    try:
        if inspect.iscoroutinefunction(check.check):
            found: Outcome | Awaitable[Outcome] = check.check(answer, prompt)
        else:
            found = await in_daemon_thread(lambda: _call(check, answer, prompt))
        outcome: object = await found if inspect.isawaitable(found) else found
    except RedraftError:
        raise
    except BaseException as error:
        if not is_crash(error):
            raise
        hint = "This is a fault of the check, not of the answer. Fix the check and run again."
        if str(error).startswith(("'str' object has no attribute", "string indices must be")):
            hint += " A check gets the answer as text. To judge a value of output=, use a pydantic validator."
        raise CheckError(f"the check {check.name!r} crashed: {crash_of(error)}", hint=hint) from error
    if isinstance(outcome, Outcome):
        return outcome
    raise CheckError(
        f"the check {check.name!r} returned {outcome!r:.80}, which is not a valid result.",
        hint="Return redraft.passed(…) or redraft.failed(…), or pass a function that returns True or a text.",
    )


def is_crash(error: BaseException) -> bool:
    """Return whether an error comes from the user's code, not from cancelling or closing the task."""
    if isinstance(error, GeneratorExit):
        return False
    task = asyncio.current_task()
    return not (isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling())


def _call(check: Check, answer: str, prompt: Prompt) -> Outcome | Awaitable[Outcome]:
    try:
        return check.check(answer, prompt)
    except (StopIteration, asyncio.CancelledError, GeneratorExit) as error:  # futures treat them specially
        raise RuntimeError(type(error).__name__) from error


async def run_check(check: Check, answer: str, prompt: Prompt) -> CheckResult:
    """Run a check, and convert the outcome to a `CheckResult`."""
    outcome = await outcome_of(check, answer, prompt)
    if not 0 <= outcome.score <= 1:
        message = f"the check {check.name!r} returned the score {outcome.score}."
        raise CheckError(message, hint="A score must be from 0 to 1.")
    hint = "A place is (begin, end), in characters of the answer, or a JSON pointer such as '/a'."
    try:
        found = {"name": check.name, "score": outcome.score, "message": whole(outcome.message)}
        result = CheckResult.model_validate({**found, "passed": outcome.passed, "places": outcome.places})
    except ValidationError as error:
        said = f"the check {check.name!r} returned an invalid outcome: {describe(error)}."
        raise CheckError(said, hint=hint) from None
    for at in result.places:
        if not (at[:1] in ("", "/") if isinstance(at, str) else 0 <= at[0] <= at[1] <= len(answer)):
            raise CheckError(f"the check {check.name!r} returned the invalid place {at!r:.60}.", hint=hint)
    return result


async def run_checks(
    checks: Iterable[Check], answer: str, prompt: Prompt, reasoning: str = "", *, wishes: str = ""
) -> tuple[CheckResult, ...]:
    """Run checks concurrently, and return their results in order.

    Reasoning in tags (`chain.thoughts`) is removed from the answer. A blank answer fails. If some check has a
    schema and no check is from IFEval, all checks get only the answer's JSON (`json_in`). `grounded` also
    accepts facts in `wishes`, the changes that a person asked for.
    """
    checks, (opened, answer) = [*checks], apart(answer)
    REASONING.set(reasoning or opened)
    told = (each for each in checks if not getattr(form_of(each), "limits", ()))
    DEMANDS.set("\n".join([wishes, *map(_facts_of, told)]))
    if is_blank(answer):
        message = "The answer is empty."
        return tuple(CheckResult(name=each.name, passed=False, score=0.0, message=message) for each in checks)
    whole = any(check.name.startswith("ifeval:") for check in checks) or not any(map(schema_of, checks))
    begin, text = (-1, "") if whole else json_in(answer)
    begin, text = (begin, text) if text else (0, answer)

    def moved(place: Place) -> Place:
        return place if isinstance(place, str) else (place[0] + begin, place[1] + begin)

    results = await together([run_check(check, text, prompt) for check in checks])
    known = begin >= 0  # -1: the place of the JSON is unknown
    return tuple(one.model_copy(update={"places": tuple(map(moved, one.places * known))}) for one in results)


def _facts_of(check: Check) -> str:
    demand, schema = demand_of(check), schema_of(check)
    return demand if schema is None else "\n".join([demand.partition("\n")[0], *_fixed(schema)])


def _fixed(part: object) -> list[str]:
    """Return a schema's names, descriptions and fixed values, as JSON. Bounds and patterns are left out."""
    if isinstance(part, Mapping):
        own = json.dumps([[*part], *map(part.get, ("description", "enum", "const"))], ensure_ascii=False)
        return [own, *_fixed([*part.values()])]
    return [fact for each in part for fact in _fixed(each)] if isinstance(part, list) else []


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently, and return their results in order.

    If a coroutine fails, the rest still finish. If the caller is cancelled, all coroutines are cancelled.
    """
    tasks = [asyncio.ensure_future(piece) for piece in work]
    try:
        if tasks:
            await asyncio.wait(tasks)  # also after a failure: model calls may cost money
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


AT_ONCE = min(32, all_cores())
"""The most checks whose processes run at the same time. With more, a check might exceed its time limit."""

_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def turn() -> asyncio.Semaphore:
    """Return the semaphore that limits how many checks run processes at the same time."""
    return _of_loop.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
