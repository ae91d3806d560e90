r"""Combine checks as `any(A; B)` and `all(A; B)`, and parse and write such groups.

Outside parentheses, a check's argument is the rest of the text, unchanged. Inside, a backslash escapes `;`,
an unbalanced parenthesis, and a backslash.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import fsum
from typing import Any, ClassVar

from redraft.chain import Prompt
from redraft.checks import base
from redraft.checks.base import Check, Outcome, Prospect, demand_of, failed, form_of, outcome_of, passed
from redraft.checks.kinds import Written
from redraft.engines.steering.form import Form, joined
from redraft.errors import CheckSyntaxError, MissingExtra

_warn = lru_cache(256)(logging.getLogger(__name__).warning)  # once


@dataclass(frozen=True)
class _Group:
    parts: tuple[Check, ...]
    kind: ClassVar[str]

    @property
    def name(self) -> str:
        names = (each.name if isinstance(each, _Group) else escape(each.name) for each in self.parts)
        return f"{self.kind}({'; '.join(names)})"


class AllOf(_Group):
    """`all(A; B)`: every part passes."""

    kind = "all"

    @property
    def demand(self) -> str:
        """The joined demands of the parts."""
        return " ".join(filter(None, map(demand_of, self.parts)))

    @property
    def form(self) -> Form | None:
        """A `Form` that steers a model to pass all parts or, if they conflict, the earlier parts."""
        form, _ = joined((part.name, form) for part in self.parts if (form := form_of(part)))
        return form

    def prefix(self, text: str) -> Prospect:
        """Return `lost` if any part is lost."""
        return "lost" if any(base.prefix_of(part, text) == "lost" for part in self.parts) else "open"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Run all parts concurrently, and join the messages of the parts that fail."""
        outcomes = await base.together([outcome_of(part, answer, prompt) for part in self.parts])
        score = fsum(outcome.score for outcome in outcomes) / len(outcomes)
        if faults := [outcome for outcome in outcomes if not outcome.passed]:
            known = all(outcome.places for outcome in faults)
            places = [place for outcome in faults for place in outcome.places if known]
            return failed(" ".join(outcome.message for outcome in faults), score=score, places=places)
        return passed(" ".join(outcome.message for outcome in outcomes), score=score)


class AnyOf(_Group):
    """`any(A; B)`: at least one part passes."""

    kind = "any"

    @property
    def demand(self) -> str:
        """The demands of the parts; empty if a part has no demand."""
        demands = [demand_of(part) for part in self.parts]
        return f"Do one of these: {' Or: '.join(demands)}" if all(demands) else ""

    @property
    def form(self) -> Form | None:
        """A `Form` that steers a model to pass the first part that can steer."""
        return next(filter(None, map(form_of, self.parts)), None)

    def prefix(self, text: str) -> Prospect:
        """Return `lost` if every part is lost."""
        return "lost" if all(base.prefix_of(part, text) == "lost" for part in self.parts) else "open"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Run the parts in turn until one passes. If no part passes, join all messages."""
        outcomes: list[Outcome] = []
        for part in self.parts:
            outcomes.append(await outcome_of(part, answer, prompt))
            if outcomes[-1].passed:
                return outcomes[-1]
        faults = " Or: ".join(outcome.message for outcome in outcomes)
        return failed(f"One of these has to be fixed. {faults}", score=max(o.score for o in outcomes))


@dataclass(frozen=True)
class Auto:
    """`auto`: the answer meets the demands that rules find in the prompt."""

    name: str = "auto"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Pass if all derived checks pass."""
        from redraft.checks.derive import NOTHING

        if parts := derived(prompt):
            return await AllOf(parts).check(answer, prompt)
        return passed(f"Nothing is checked: {NOTHING}")


def derived(prompt: Prompt) -> tuple[Check, ...]:
    """Return the checks demanded by a prompt's instruction or, in a conversation, by the last user message.

    A check whose package is not installed is left out, with a warning.
    """
    from redraft.checks.derive import checks_in
    from redraft.checks.parse import parse_check

    found = []
    for text in checks_in(prompt.text if prompt.messages else prompt.instruction):
        try:
            found.append(parse_check(text))
        except MissingExtra as error:
            _warn("%s is left out: %s %s", text, error.message, error.hint)
    return tuple(found)


def without_auto(checks: Iterable[Any], prompt: Prompt) -> tuple[Any, ...]:
    """Return checks, parsed or not, with `auto` replaced by the checks that the prompt demands."""
    checks = tuple(checks)
    kept = tuple(check for check in checks if getattr(check, "name", check) != "auto")
    given = [getattr(check, "name", check) for check in kept]
    found = derived(prompt) if len(kept) < len(checks) else ()
    return (*kept, *(part for part in found if part.name not in given))


def group_of(written: Written) -> AllOf | AnyOf:
    """Parse `any(A; B)` or `all(A; B)`."""
    kind, rest = written.kind, written.rest
    if not rest.startswith("("):
        raise written.error(f"{kind!r} needs its checks in parentheses")
    end = closing(rest)
    if end is None:
        message = f"{kind}{rest}: the parenthesis at character {len(kind) + 1} is not closed."
        hint = r"Inside any(…) and all(…), write an unbalanced parenthesis as \( or \)."
        raise CheckSyntaxError(message, hint=hint)
    if rest[end + 1 :].strip():
        raise written.error(f"{kind}(…) is followed by {rest[end + 1 :].strip()[:30]!r}")
    inside = rest[1:end]
    cuts = [index for index, char, depth in _nested(inside) if char == ";" and depth == 0]
    parts = [inside[cut + 1 : to].strip() for cut, to in pairwise([-1, *cuts, len(inside)])]
    if "" in parts:
        raise written.error(f"part {parts.index('') + 1} of {kind}(…) is empty")
    checks = tuple(map(written.nested, parts))
    return AllOf(checks) if kind == "all" else AnyOf(checks)


def closing(text: str) -> int | None:
    """Return the position of the parenthesis that closes a text's first parenthesis, or None."""
    return next((index for index, _, depth in _nested(text) if depth == 0), None)


def _nested(text: str) -> Iterator[tuple[int, str, int]]:
    depth = index = 0
    while index < len(text):
        char = text[index]
        depth += {"(": 1, ")": -1}.get(char, 0)
        yield index, char, depth
        index += 2 if char == "\\" else 1


def unescape(text: str) -> str:
    r"""Remove the backslash of `\;`, `\(`, `\)` and `\\`."""
    return re.sub(r"\\([\\;()])", r"\1", text)


def escape(text: str) -> str:
    """Invert `unescape`."""
    text = re.sub(r"[\\;]", r"\\\g<0>", text)
    return text if closing(f"({text})") == len(text) + 1 else re.sub(r"[()]", r"\\\g<0>", text)
