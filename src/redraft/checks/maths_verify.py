"""The final answer of a text by math-verify, with which many papers score: an alternative to `maths`.

Of tricky pairs, math-verify judges more wrongly than `maths` does (benchmarks/RESULTS.md). So it is for
figures that are compared with those of others.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Self

from redraft.chain import Prompt
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.final import FinalMaths
from redraft.errors import CheckError, CheckSyntaxError, MissingExtra

try:
    from math_verify import parse, verify
except ModuleNotFoundError as error:
    raise MissingExtra(f"scoring by math-verify (here: {error.name})", "maths") from None

SECONDS = 5  # for an answer: a hostile one may be a power that never ends


@dataclass(frozen=True)
class MathVerify:
    """math-verify finds the gold answer at the end of the text."""

    reference: str
    demand = FinalMaths.demand

    @property
    def name(self) -> str:
        """The name in records. It holds the gold answer, so no model may see it."""
        return f"math-verify {self.reference}"

    @classmethod
    def of(cls, gold: str) -> Self:
        """Take a gold answer.

        Raises:
            CheckSyntaxError: math-verify finds nothing in it.
            CheckError: This is not the main thread.
        """
        if not _parsed(f"${gold}$"):
            raise CheckSyntaxError(f"math-verify finds nothing in the gold answer {gold!r:.40}.")
        return cls(gold)

    def said(self, answer: str) -> Hashable:
        """Return what an answer says, for a vote; None if it says nothing."""
        return FinalMaths(self.reference).said(answer)

    async def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the result is right. Async, since checks that are not run in other threads.

        Raises:
            CheckError: This is not the main thread.
        """
        if not (found := _parsed(answer)):
            return failed(FinalMaths.missing)
        told = f"The final answer is read as {found[-1]!s:.200}."
        if verify(_parsed(f"${self.reference}$"), found, timeout_seconds=SECONDS):
            return passed(told)
        return failed(f"{told} It is not right. Work it out again.")


def _parsed(text: str) -> list[Any]:
    """Return what math-verify reads. Its alarm, which ends what takes too long, needs the main thread."""
    if threading.current_thread() is not threading.main_thread():
        hint = "Use redraft eval or redraft.evaluate_file without --ray, or the task math."
        raise CheckError("math-verify works in a program's main thread alone.", hint=hint)
    found: list[Any] = parse(text, parsing_timeout=SECONDS)
    return found
