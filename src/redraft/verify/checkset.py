"""Checks that combine others: `any` and `all`.

`all(A; B)` scores the weighted mean of its parts. `any(A; B)` runs its parts in turn until one passes, so put
the cheap one first; if none passes, the best score counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redraft.chain import Prompt
from redraft.verify.base import (
    Check,
    Outcome,
    Weighted,
    demand_of,
    failed,
    outcome_of,
    passed,
    together,
    weight_of,
)
from redraft.verify.grammar import escape, escape_pattern
from redraft.verify.text import Matches


@dataclass(frozen=True)
class AllOf:
    """`all(A; B)`: every part passes."""

    parts: tuple[Check, ...]

    @property
    def name(self) -> str:
        """The short form."""
        return f"all({_names(self.parts)})"

    @property
    def demand(self) -> str:
        """The demands of all parts that have one."""
        return " ".join(filter(None, map(demand_of, self.parts)))

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Run all parts concurrently. The message joins those of the failed parts."""
        outcomes = await together([outcome_of(part, answer, prompt) for part in self.parts])
        weights = [weight_of(part) for part in self.parts]
        score = sum(o.score * w for o, w in zip(outcomes, weights, strict=True)) / sum(weights)
        faults = [outcome.message for outcome in outcomes if not outcome.passed]
        if faults:
            return failed(" ".join(faults), score=score)
        return passed(" ".join(outcome.message for outcome in outcomes), score=score)


@dataclass(frozen=True)
class AnyOf:
    """`any(A; B)`: at least one part passes."""

    parts: tuple[Check, ...]

    @property
    def name(self) -> str:
        """The short form."""
        return f"any({_names(self.parts)})"

    @property
    def demand(self) -> str:
        """The demands of the parts; empty if one of them has none, because that one may suffice."""
        demands = [demand_of(part) for part in self.parts]
        return f"Do one of these: {' Or: '.join(demands)}" if all(demands) else ""

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Run the parts in turn until one passes. If none does, the message joins all of theirs."""
        outcomes: list[Outcome] = []
        for part in self.parts:
            outcomes.append(await outcome_of(part, answer, prompt))
            if outcomes[-1].passed:
                return outcomes[-1]
        faults = " Or: ".join(outcome.message for outcome in outcomes)
        return failed(f"One of these has to be fixed. {faults}", score=max(o.score for o in outcomes))


def _names(parts: Iterable[Check]) -> str:
    return "; ".join(map(_nested_name, parts))


def _nested_name(check: Check) -> str:
    """Return the short form of a check inside parentheses. Deeper parts are escaped already."""
    match check:
        case AllOf() | AnyOf():
            return check.name
        case Weighted():
            return check.name.removesuffix(check.part.name) + _nested_name(check.part)
        case Matches():
            return escape_pattern(check.name)
    return escape(check.name)
