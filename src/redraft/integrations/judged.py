"""Judge a text by checks, and return a score, a verdict and feedback that any framework can use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from redraft.chain import CheckResult, Prompt, content_of, score_of
from redraft.checks.base import Check, run_checks
from redraft.checks.parse import parse_checks
from redraft.errors import UsageError
from redraft.revision.prompts import complaint

T = TypeVar("T")

Given = str | Check | Callable[..., Any]  # a check as a user gives it: `words<=50`, a `Check`, or a function


class Judged(NamedTuple):
    """The score, verdict and feedback of checks on a text."""

    score: float  # the mean of the checks' scores, 0 to 1
    passed: bool  # whether all checks passed
    feedback: str  # a description of the faults for a model; empty if all checks passed
    results: tuple[CheckResult, ...]  # each check's own result, in order


def checks_of(given: Sequence[Given]) -> tuple[Check, ...]:
    """Parse checks. Raise `UsageError` if the sequence is empty."""
    if not given:
        raise UsageError("there are no checks.", hint='Give some: "words<=50"')
    return parse_checks(given)


async def judged(checks: Sequence[Check], answer: object, prompt: object = "") -> Judged:
    """Judge an answer: a text, or the last of several chat messages. The prompt may be chat messages too."""
    asked = Prompt(instruction=str(prompt))
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        asked = Prompt(messages=tuple(dict(message) for message in prompt))
    results = await run_checks(checks, _text_of(answer), asked)
    passed = all(result.passed for result in results)
    return Judged(score_of(results) or 0.0, passed, complaint(results, "stop"), results)


def _text_of(reply: object) -> str:
    if isinstance(reply, Sequence) and not isinstance(reply, str):
        return _text_of(reply[-1]) if reply else ""
    return content_of(reply) if isinstance(reply, Mapping) else str(reply)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new thread, so that the caller's thread may run an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
