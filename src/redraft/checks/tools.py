"""Checks of tool calls: the values of arguments, the number of calls, and the order of tools."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redraft.chain import Prompt, whole
from redraft.checks.base import Check, Outcome, demand_of, failed, outcome_of, passed
from redraft.checks.function import FunctionCheck
from redraft.checks.json_reading import pointer
from redraft.checks.kinds import Written
from redraft.checks.schema import fault_of
from redraft.errors import CheckSyntaxError, shown

_TARGET = r"[\w-](?:[\w.*-]*[\w*-])?"
_FORM = re.compile(rf"({_TARGET})(?:\s+|(?=[<>=]))(.+)", re.DOTALL)
_BOUND = re.compile(r"(<=|>=|<|>|==)\s*(-?\d+(?:\.\d+)?)", re.ASCII)
_SIGNS = {
    "<=": ("at most", operator.le, "maximum"),
    ">=": ("at least", operator.ge, "minimum"),
    "<": ("less than", operator.lt, "exclusiveMaximum"),
    ">": ("more than", operator.gt, "exclusiveMinimum"),
    "==": ("exactly", operator.eq, "const"),
}


@dataclass(frozen=True)
class Bound:
    """A check that an argument is a number within a bound."""

    name: str
    sign: str
    limit: float

    @property
    def demand(self) -> str:
        """The bound in words: `at most 100`."""
        return f"{_SIGNS[self.sign][0]} {self.limit:g}"

    def check(self, answer: Any, _: Prompt) -> Outcome:
        """Compare a number with the bound. The text "45" counts as a number."""
        value, text = answer, "the text " * isinstance(answer, str)
        with suppress(TypeError, ValueError, RecursionError):
            value = json.loads(answer)
        found = f"It is {text}{whole(json.dumps(answer, ensure_ascii=False))[:40]}, and must be "
        if type(value) not in (int, float):
            return failed(f"{found}a number.")
        found = f"{found}{self.demand}."
        return passed(found) if _SIGNS[self.sign][1](value, self.limit) else failed(found)


@dataclass(frozen=True)
class ToolCheck:
    """A check of the calls of one tool. A text without calls passes."""

    name: str
    target: str  # a tool (its name may have dots), or an argument: `pay.items.*.price`; `*` is any item
    inner: Check | None = None  # judges the argument, or all arguments, as text or JSON
    typed: bool = False  # `inner` takes the value itself, not its text
    after: str = ""  # the tool that must have answered before; without `after` and `inner`: one call at most

    @classmethod
    def of(cls, written: Written) -> ToolCheck:
        """Parse `tool:pay once`, `tool:pay after search`, or a check of an argument: `tool:pay.amount<=5`."""
        if not (found := _FORM.fullmatch(written.text)):
            raise written.error(f"{written.text[:60]!r} does not name a tool and a check")
        target, rest, name = found[1], found[2].strip(), f"{written.kind}:{written.text}"
        if rest == "once":
            return cls(name, target)
        if rest.startswith("after "):
            return cls(name, target, after=rest.removeprefix("after ").strip())
        bound = _BOUND.fullmatch(rest)
        inner = Bound(name, bound[1], float(bound[2])) if bound else written.nested(rest, escaped=False)
        return cls(name, target, inner, typed=bool(bound))

    @property
    def demand(self) -> str:
        """A sentence that tells the model how to call the tool; empty if `inner` has no demand."""
        if self.after:
            return f"Call {self.target} only after {self.after} has answered."
        if self.inner is None:
            return f"Call {self.target} once at most."
        said = demand_of(self.inner)
        return f"In calls of tools, {self.target}: {said}" if said else ""

    def check(self, answer: str, _: Prompt) -> Outcome:  # noqa: ARG002
        """Pass, because a text does not call a tool."""
        return passed("No tool is called.")

    def concerns(self, tool: str) -> bool:
        """Return whether the check applies to calls of a tool."""
        return self.target == tool or (self.inner is not None and self.target.startswith(f"{tool}."))

    async def of_call(
        self, tool: str, arguments: Any, before: Sequence[str], answered: Sequence[str], prompt: Prompt
    ) -> Outcome:
        """Judge a call. `before` are the tools called earlier, and `answered` the tools that have replied."""
        if self.after:
            early = f"Call {self.after} first, and {tool} when it has answered."
            return passed("") if self.after in answered else failed(early)
        if self.inner is None:
            again = f"{tool} was called before, and may be called only once."
            return failed(again) if tool in before else passed("")
        wrong, places = list[str](), list[str]()
        for path, value in _found(arguments, self.target[len(tool) :].split(".")[1:]):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            outcome = await outcome_of(self.inner, value if self.typed else whole(text), prompt)
            if not outcome.passed:
                wrong.append(f"{'.'.join((tool, *path))}: {outcome.message}")
                places += [pointer(path)] if path else []
        return failed(" ".join(wrong), places=places) if wrong else passed("")


_NAME = re.compile(r"[\w.:/@$#+*~|-]+")
_MOST = 65_536  # most characters of a schema to check


def fault_of_tools(tools: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the first fault in tools, and the faulty field (`tools[0].name`); None if there is no fault.

    A function needs a unique name, and `parameters` that are a JSON Schema.
    """
    known = dict[str, str]()
    for place, tool in tools.items():
        function = tool.get("function", tool)
        if tool.get("type", "function") != "function":
            continue
        if not isinstance(function, Mapping):
            return f"{place} is {shown(function)}. Send an object with a name.", place
        name, at = function.get("name"), f"{place}.name"
        if not isinstance(name, str) or not name.strip():
            found = "missing" if name is None else shown(name)
            return f'{at} is {found}. Send a text, such as "search".', at
        if not _NAME.fullmatch(name):
            return f'{at} is {shown(name)}. Send letters, digits, _ and -, such as "web_search".', at
        if name in known:
            return f"{at} is {name!r:.80}, and so is {known[name]}. Send tools with different names.", at
        known[name] = at
        text, at = json.dumps(function.get("parameters") or {}), f"{place}.parameters"
        if len(text) <= _MOST and (fault := fault_of(text)):
            example = '{"type": "object", "properties": {}}'
            return f"{at}{fault[0]}: {fault[1]:.200}. Send a JSON Schema: {example}", at
    return None


def tool_check(target: str, function: Callable[..., Any]) -> Check:
    """Return a check of tool calls: `tool_check("pay.amount", lambda amount: amount <= 100)`.

    Args:
        target: A tool, or an argument of a tool.
        function: Gets the argument that `target` names or, for a tool, a dict of all arguments. Returns True
            or None to pass, False or a complaint to fail, a score from 0 to 1, or an `Outcome`.

    Raises:
        CheckSyntaxError: The target does not name a tool, or the function cannot be called with one value.
    """
    if not isinstance(target, str) or not re.fullmatch(_TARGET, target):
        hint = 'Name a tool, such as "pay", or an argument of a tool, such as "pay.amount".'
        raise CheckSyntaxError(f"tool_check was given {target!r:.60}, which does not name a tool.", hint=hint)
    inner = FunctionCheck.around(function)
    return ToolCheck(f"tool:{target} {inner.name}", target, inner, typed=True)


def bounds_of(checks: Iterable[Check]) -> dict[str, dict[str, float]]:
    """Return the bounds in checks as JSON Schema keywords by argument: `{"pay.amount": {"maximum": 100}}`."""
    found = dict[str, dict[str, float]]()
    for check in checks:
        if isinstance(check, ToolCheck) and isinstance(bound := check.inner, Bound):
            found[check.target] = stricter(found.get(check.target, {}), {_SIGNS[bound.sign][2]: bound.limit})
    return found


def stricter(schema: Mapping[str, Any], bounds: Mapping[str, float]) -> dict[str, Any]:
    """Return a schema with bounds added. Of two values of a keyword, the stricter value is kept."""
    holds = {keyword: holds for _, holds, keyword in _SIGNS.values()}
    new = {key: n for key, n in bounds.items() if key not in schema or holds[key](n, schema[key])}
    return {**schema, **new}


def _found(value: Any, way: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not way:
        yield (), value
        return
    keys = map(str, range(len(value))) if way[0] == "*" and isinstance(value, list) else way[:1]
    for key in keys:
        with suppress(LookupError, TypeError, ValueError):
            inner = value[int(key)] if isinstance(value, list) else value[key]
            yield from (((key, *path), each) for path, each in _found(inner, way[1:]))
