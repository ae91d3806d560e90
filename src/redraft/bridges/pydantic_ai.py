"""Checks as an output validator of pydantic-ai: `agent.output_validator(validator("words<=50"))`.

An output that fails goes back to the model with what is wrong, as often as the agent's `retries` allow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic_core import to_json

from redraft.bridges.judged import Given, checks_of, judged, missing

try:
    from pydantic_ai import ModelRetry, RunContext
except ModuleNotFoundError:
    raise missing("pydantic-ai-slim") from None

T = TypeVar("T")


def validator(*checks: Given) -> Callable[[RunContext[Any], T], Awaitable[T]]:
    """Return an output validator. An output that is no text is judged as JSON."""
    parsed = checks_of(checks)

    async def validate(context: RunContext[Any], output: T) -> T:
        text = output if isinstance(output, str) else to_json(output).decode()
        prompt = context.prompt if isinstance(context.prompt, str) else ""
        found = await judged(parsed, text, prompt)
        # A stream's parts cannot be judged; its whole output is.
        if found.passed or getattr(context, "partial_output", False):
            return output
        raise ModelRetry(found.feedback)

    return validate
