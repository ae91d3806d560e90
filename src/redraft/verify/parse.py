"""Parse the short form of checks, for the command line, Python and recipes.

    check     = [ weight "*" ] ( kind | kind op value | kind [ "[" option "]" ] ":" text | group )
    group     = ( "any" | "all" ) "(" check { ";" check } ")"

`kinds` lists the kinds, `grammar` escapes the parts of a group, and docs/checks.md explains all of it.
Parsing does everything that can fail without an answer: it reads files, compiles patterns and imports
modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from redraft.chain import whole
from redraft.engines.base import Engine
from redraft.errors import CheckSyntaxError, shown
from redraft.verify.base import Check, Weighted
from redraft.verify.checkset import AllOf, AnyOf
from redraft.verify.command import Command
from redraft.verify.function import FunctionCheck
from redraft.verify.grammar import closing, split_parts, unbalanced, unescape
from redraft.verify.ifeval import Constraint
from redraft.verify.judge import Judge
from redraft.verify.kinds import CHECK_KINDS
from redraft.verify.language import Language
from redraft.verify.numeric import Number
from redraft.verify.reward import Reward
from redraft.verify.structure import Json, JsonSchema
from redraft.verify.text import COUNTERS, Contains, Count, Ends, Lacks, Matches, Starts

MAX_DEPTH = 20
"""The deepest nesting of `any` and `all`."""

_WEIGHT = re.compile(r"(?P<weight>\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*\*\s*")
_HEAD = re.compile(r"(?P<kind>[^\W\d_][\w-]*)\s*(?:\[(?P<option>[^\]]*)\])?", re.ASCII)
_COUNT = re.compile(r"(?P<op><=|>=|==|=|<|>)\s*(?P<low>\d+)(?:\s*\.\.\s*(?P<high>\d+))?", re.ASCII)
_SECONDS = re.compile(r"(?P<seconds>\d+(?:\.\d+)?)\s*s", re.ASCII)
_SEE = "All checks: docs/checks.md"


@dataclass(frozen=True)
class _Written:
    """A check split into its parts: `command`, `10s`, `:pytest -q`."""

    kind: str
    option: str | None
    rest: str
    judge: Engine | None

    @property
    def found(self) -> str:
        """Describes the text after the kind."""
        return f"{self.kind} is followed by {self.rest[:30]!r}" if self.rest else f"{self.kind} stands alone"

    @property
    def text(self) -> str:
        """The text after the colon."""
        argument = self.rest[1:].strip()
        if not self.rest.startswith(":"):
            raise self.error(f"{self.found}, and needs a colon with a text")
        if not argument:
            raise self.error(f"{self.kind}: has no text after the colon")
        return argument

    def error(self, problem: str) -> CheckSyntaxError:
        """Return an error with the form of this kind of check."""
        return CheckSyntaxError(f"{problem}.", hint=f"Write {CHECK_KINDS[self.kind][0]}. {_SEE}")


def parse_check(
    text: str, *, judge: Engine | None = None, kinds: Container[str] = CHECK_KINDS.keys()
) -> Check:
    """Parse a check.

    Args:
        text: The short form, such as `words<=50` or `any(json; contains:no data)`.
        judge: The model of `judge:` checks.
        kinds: The kinds that may be used. Nothing is read or imported for another one.

    Raises:
        CheckSyntaxError: An unknown kind, one that is not allowed, or a wrong form of a kind.
        MissingExtra: A check needs a package that is not installed.
        CheckError: Importing a module of `python:` failed.
    """
    if not isinstance(text, str):
        raise CheckSyntaxError(f"a check is a text, not {shown(text)}.", hint=_SEE)
    if text != whole(text):
        raise CheckSyntaxError(f"the check {text!a:.80} holds half of a character.", hint=_SEE)
    return _parse(text.strip(), judge, kinds, depth=0)


def parse_checks(
    checks: Iterable[str | Check | Callable[..., Any]], *, judge: Engine | None = None
) -> tuple[Check, ...]:
    """Parse short forms, `Check` values and functions (see `function`). Raises as `parse_check` does."""
    return tuple(_as_check(check, judge) for check in checks)


def _as_check(check: str | Check | Callable[..., Any], judge: Engine | None) -> Check:
    if isinstance(check, str):
        return parse_check(check, judge=judge)
    if isinstance(check, Check) and not isinstance(check, type):
        return check
    if callable(check):
        return FunctionCheck.around(check)
    raise CheckSyntaxError(f"a check is a text, a Check or a function, not {check!r:.60}.", hint=_SEE)


def _parse(text: str, judge: Engine | None, kinds: Container[str], depth: int) -> Check:
    if weight := _WEIGHT.match(text):
        check, number = _parse_body(text[weight.end() :], judge, kinds, depth), float(weight["weight"])
        if not 0 < number < float("inf"):
            raise CheckSyntaxError(
                f"{text}: a weight must be more than 0.", hint=f"Write 2*words<=50. {_SEE}"
            )
        return Weighted(check, number)
    return _parse_body(text, judge, kinds, depth)


def _parse_body(text: str, judge: Engine | None, kinds: Container[str], depth: int) -> Check:
    head = _HEAD.match(text)
    if not head or head["kind"] not in CHECK_KINDS:
        raise _unknown(head["kind"] if head else text[:30], kinds)
    kind, rest = head["kind"], text[head.end() :]
    if kind not in kinds:
        raise _not_allowed(kind, kinds)
    if head["option"] is not None and kind not in {"command", "judge", "reward"}:
        raise _Written(kind, None, rest, None).error(f"{kind} has no option in brackets")
    if kind in {"any", "all"}:
        return _parse_group(kind, rest.strip(), judge, kinds, depth)
    if depth and kind != "matches":
        rest = unescape(rest)
    return _BUILDERS[kind](_Written(kind, head["option"], rest.strip(), judge))


def _unknown(kind: str, kinds: Container[str]) -> CheckSyntaxError:
    if not kind:
        return CheckSyntaxError("a check is empty.", hint=_SEE)
    usable = [name for name in CHECK_KINDS if name in kinds]
    near = get_close_matches(kind.lower(), usable, 1, 0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return CheckSyntaxError(
        f"no check is called {kind!r}.{guess}", hint=f"checks: {' '.join(usable)}   (docs/checks.md)"
    )


def _not_allowed(kind: str, kinds: Container[str]) -> CheckSyntaxError:
    usable = " ".join(name for name in CHECK_KINDS if name in kinds)
    return CheckSyntaxError(f"the check {kind!r} cannot be used here.", hint=f"checks: {usable}")


def _parse_group(kind: str, rest: str, judge: Engine | None, kinds: Container[str], depth: int) -> Check:
    written = _Written(kind, None, rest, judge)
    if not rest.startswith("("):
        raise written.error(f"{kind} needs its checks in parentheses")
    if depth == MAX_DEPTH:
        raise written.error(f"checks are nested more than {MAX_DEPTH} deep")
    end = closing(rest)
    if end is None:
        raise unbalanced(kind + rest)
    if rest[end + 1 :].strip():
        raise written.error(f"unexpected {rest[end + 1 :].strip()[:30]!r} after {kind}(…)")
    parts = split_parts(rest[1:end])
    if "" in parts:
        raise written.error(f"part {parts.index('') + 1} of {kind}(…) is empty")
    checks = tuple(_parse(part, judge, kinds, depth + 1) for part in parts)
    if kind == "any" and any(isinstance(check, Weighted) for check in checks):
        raise written.error("any(…) takes no weights, because its best part counts")
    return AllOf(checks) if kind == "all" else AnyOf(checks)


def _count(written: _Written) -> Check:
    found = _COUNT.match(written.rest)
    if not found:
        raise written.error(f"{written.found}, and needs a comparison with a whole number")
    if found.end() < len(written.rest):
        raise written.error(f"unexpected {written.rest[found.end() :][:30]!r} after {written.kind}{found[0]}")
    low, high = _bounds(found["op"], int(found["low"]), found["high"], written)
    if high is not None and high < (low or 0):
        raise written.error(f"no answer can pass {written.kind}{found[0]}")
    return Count(written.kind, low, high)


def _bounds(op: str, number: int, upper: str | None, written: _Written) -> tuple[int | None, int | None]:
    """Return the lowest and the highest count that a comparison allows."""
    if upper is not None:
        if op not in {"=", "=="}:
            raise written.error(f"a range needs =, not {op}")
        return number, int(upper)
    bounds = {"<=": (None, number), "<": (None, number - 1), ">=": (number, None), ">": (number + 1, None)}
    return bounds.get(op, (number, number))


def _number(written: _Written) -> Check:
    value = written.rest.removeprefix("=").removeprefix("=").strip()
    if not written.rest.startswith("=") or not value:
        raise written.error(f"{written.found}, and needs = with a number")
    return Number.of(value)


def _json(written: _Written) -> Check:
    if written.rest:
        guess = " (a schema is json-schema:FILE)" if written.rest.startswith(":") else ""
        raise written.error(f"json takes no argument, and is followed by {written.rest[:30]!r}{guess}")
    return Json()


def _command(written: _Written) -> Check:
    if written.option is None:
        return Command.of(written.text)
    limit = _SECONDS.fullmatch(written.option.strip())
    if not limit or float(limit["seconds"]) <= 0:
        raise written.error(f"command[{written.option}]: write a time limit like command[10s]:")
    return Command.of(written.text, float(limit["seconds"]))


def _judge(written: _Written) -> Check:
    if written.option is None:
        return Judge.of(written.text, written.judge)
    if not written.option.strip().isdecimal():
        raise written.error(f"judge[{written.option}]: write the score that passes like judge[8]:")
    return Judge.of(written.text, written.judge, int(written.option))


def _reward(written: _Written) -> Check:
    if written.option is None:
        return Reward.of(written.text)
    try:
        return Reward.of(written.text, float(written.option))
    except ValueError:
        raise written.error(
            f"reward[{written.option}]: write the score that passes like reward[0.7]:"
        ) from None


_BUILDERS: dict[str, Callable[[_Written], Check]] = {
    **dict.fromkeys(COUNTERS, _count),
    "contains": lambda written: Contains(written.text),
    "lacks": lambda written: Lacks(written.text),
    "matches": lambda written: Matches.of(written.text),
    "starts": lambda written: Starts(written.text),
    "ends": lambda written: Ends(written.text),
    "json": _json,
    "json-schema": lambda written: JsonSchema.of(written.text),
    "number": _number,
    "language": lambda written: Language.of(written.text),
    "ifeval": lambda written: Constraint.parse(written.text),
    "python": lambda written: FunctionCheck.of(written.text),
    "command": _command,
    "judge": _judge,
    "reward": _reward,
}
