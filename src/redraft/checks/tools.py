"""Checks of calls: what an argument of a tool must be, how often it may be called, and after what."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redraft.chain import Prompt, whole
from redraft.checks.base import Check, Outcome, demand_of, failed, outcome_of, passed
from redraft.checks.json_reading import pointer
from redraft.checks.kinds import Written

_FORM = re.compile(r"([\w-](?:[\w.-]*[\w-])?)(?:\s+|(?=[<>=]))(.+)", re.DOTALL)
_BOUND = re.compile(r"(<=|>=|<|>|==)\s*(-?\d+(?:\.\d+)?)", re.ASCII)
_WORDS = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than", "==": "exactly"}
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


@dataclass(frozen=True)
class Bound:
    """An argument is a number within a bound."""

    name: str
    sign: str
    limit: float

    @property
    def demand(self) -> str:
        """What the argument must be."""
        return f"{_WORDS[self.sign]} {self.limit:g}"

    def check(self, answer: str, _: Prompt) -> Outcome:
        """Compare a number. A text that is one counts."""
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            value = None
        if type(value) not in (int, float):
            return failed(f"It is {answer[:40]}, and must be a number.")
        found = f"It is {answer[:40]}, and must be {_WORDS[self.sign]} {self.limit:g}."
        return passed(found) if _HOLDS[self.sign](value, self.limit) else failed(found)


@dataclass(frozen=True)
class ToolCheck:
    """A check of the calls of one tool. A text without calls passes."""

    name: str
    target: str  # a tool, and behind dots the names to an argument. A tool's own name may have dots, too.
    inner: Check | None = None  # judges the argument, or all of them, as text or JSON
    after: str = ""  # the tool that must have answered before; without `inner` and this, one call is allowed

    @classmethod
    def of(cls, written: Written) -> ToolCheck:
        """Return the check that is written."""
        if not (found := _FORM.fullmatch(written.text)):
            raise written.error(f"{written.text[:60]!r} names no tool with a check")
        target, rest, name = found[1], found[2].strip(), f"{written.kind}:{written.text}"
        if rest == "once":
            return cls(name, target)
        if rest.startswith("after "):
            return cls(name, target, after=rest.removeprefix("after ").strip())
        bound = _BOUND.fullmatch(rest)
        inner = Bound(name, bound[1], float(bound[2])) if bound else written.nested(rest)
        return cls(name, target, inner)

    @property
    def demand(self) -> str:
        """What calls must do, for the writer."""
        if self.after:
            return f"Call {self.target} only after {self.after} has answered."
        if self.inner is None:
            return f"Call {self.target} once at most."
        said = demand_of(self.inner)
        return f"In calls of tools, {self.target}: {said}" if said else ""

    def check(self, answer: str, _: Prompt) -> Outcome:  # noqa: ARG002
        """Pass: a text calls nothing."""
        return passed("No tool is called.")

    def concerns(self, tool: str) -> bool:
        """Whether it is about calls of a tool."""
        return self.target == tool or (self.inner is not None and self.target.startswith(f"{tool}."))

    async def of_call(
        self, tool: str, arguments: Any, before: Sequence[str], answered: Sequence[str], prompt: Prompt
    ) -> Outcome:
        """Judge a call. `before` has the tools that were called before it, `answered` those that answered."""
        if self.after:
            early = f"Call {self.after} first, and {tool} when it has answered."
            return passed("") if self.after in answered else failed(early)
        if self.inner is None:
            again = f"{tool} was called before, and may be called once."
            return failed(again) if tool in before else passed("")
        value, path = arguments, self.target[len(tool) :].split(".")[1:]
        for key in path:
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (LookupError, TypeError, ValueError):
                return passed("")  # whether it must be there is its schema's matter
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        outcome = await outcome_of(self.inner, whole(text), prompt)
        if outcome.passed:
            return outcome
        return failed(f"{self.target}: {outcome.message}", places=[pointer(path)] if path else [])
