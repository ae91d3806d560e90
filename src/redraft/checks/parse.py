"""Parse the short form of checks, for the command line, Python and recipes.

    check     = kind | kind op value | kind [ "[" option "]" ] ":" text | group
    group     = ( "any" | "all" ) "(" check { ";" check } ")"

Parsing reads files, compiles patterns and imports modules, so faults are found before any answer is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from redraft.chain import Chain, whole
from redraft.checks.base import Check
from redraft.checks.function import FunctionCheck
from redraft.checks.groups import unescape
from redraft.checks.kinds import SEE, CheckKind, Writer, Written, check_kinds
from redraft.checks.schema import validator_of
from redraft.checks.structure import JsonSchema
from redraft.engines.base import Engine
from redraft.errors import CheckSyntaxError, nearest, shown
from redraft.jobs.plugins import plugins

MAX_DEPTH = 20  # the deepest nesting of `any` and `all`

_HEAD = re.compile(r"(?P<kind>[^\W\d_][\w-]*)\s*(?:\[(?P<option>[^\]]*)\])?", re.ASCII)


def parse_check(text: str, *, judge: Engine | None = None, writer: Writer = "user") -> Check:
    """Parse a check.

    Args:
        text: The short form, such as `words<=50` or `any(json; contains:no data)`.
        judge: The model of `judge:` checks.
        writer: The author of the check. Some kinds are only for some authors (`CheckKind.writer`).

    Raises:
        CheckSyntaxError: The kind is unknown or not allowed, or the form is wrong.
        PluginError: The package that provides the kind is broken.
        MissingExtra: A check needs a package that is not installed.
        CheckError: Importing a module of `python:` failed.
    """
    if not isinstance(text, str):
        raise CheckSyntaxError(f"a check is a text, not {shown(text)}.", hint=SEE)
    if text != whole(text):
        raise CheckSyntaxError(f"the check {text!a:.80} has a lone surrogate, half of a character.", hint=SEE)
    return _Parser(judge, writer).check(text.strip())


def parse_checks(
    checks: Iterable[str | Check | Mapping[str, Any] | Callable[..., Any]], *, judge: Engine | None = None
) -> tuple[Check, ...]:
    """Convert texts, JSON Schemas and functions to checks. Errors are as in `parse_check`."""
    found: list[Check] = []
    for check in checks:
        if isinstance(check, str):
            found.append(parse_check(check, judge=judge))
        elif isinstance(check, Check) and not isinstance(check, type):
            found.append(check)
        elif isinstance(check, Mapping):
            start = f"{json.dumps(check, default=str):.40}…"
            found.append(JsonSchema(start, validator_of(check, f"json-schema:{start}")))
        elif callable(check):
            found.append(FunctionCheck.around(check))
        else:
            raise CheckSyntaxError(
                f"a check is a text, a Check, a JSON Schema or a function, not {check!r:.60}.", hint=SEE
            )
    return tuple(found)


def checks_in(record: Chain) -> tuple[Check, ...]:
    """Parse the `checks` field of a record. Data may not start programs or ask a judge.

    Raises:
        CheckSyntaxError: The field is not a text or a list of texts, or a text is not an allowed check.
    """
    source = record.meta.get("source")
    found = source.get("checks") if isinstance(source, Mapping) else None
    found = [found] * bool(found.strip()) if isinstance(found, str) else found  # the cell of a table
    if found is not None and not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        hint = 'Write "checks": ["words<=50"], or give the field another name.'
        raise CheckSyntaxError(f"`checks` should be a list of texts, not {shown(found)}.", hint=hint)
    return tuple(parse_check(check, writer="data") for check in found or ())


@dataclass(frozen=True)
class _Parser:
    judge: Engine | None
    writer: Writer
    depth: int = 0
    escaped: bool = False  # whether the text is escaped, as in a group

    def check(self, text: str) -> Check:
        head = _HEAD.match(text)
        name = head["kind"] if head else text[:30]
        if not head or name not in (known := plugins("redraft.checks")):
            if not name:
                raise CheckSyntaxError("a check is empty.", hint=SEE)
            from redraft.checks.derive import checks_in

            usable = check_kinds(self.writer)
            meant = next(iter(checks_in(text)), "")  # in plain words: under 50 words
            guess = f"Did you mean {meant!r}?" if meant else nearest(name.lower(), usable)
            hint = SEE if guess else f"Checks: {', '.join(usable)} (docs/checks.md)"
            raise CheckSyntaxError(f"no check is called {name!r}. {guess}".rstrip(), hint=hint)
        if self.writer == "data":
            known[name].load(CheckKind)  # a broken user plugin raises here
        if self.writer != "user" and name not in check_kinds(self.writer):
            hint = f"Checks: {', '.join(check_kinds(self.writer))}"
            if self.writer == "data" and name != "judge":
                hint += f"\nTo score chains with it: redraft diagnose CHAINS --score '{name}:…'"
            where, reads = ("a data file", "") if self.writer == "data" else ("a request", ", read files")
            why = f"whose checks may not run programs{reads} or ask a model"
            raise CheckSyntaxError(f"the check {name!r} cannot be used in {where}, {why}.", hint=hint)
        kind = known[name].load(CheckKind)
        rest = text[head.end() :].strip()
        if self.escaped and name not in ("any", "all"):  # their parts are unescaped one by one
            rest = unescape(rest)
        written = Written(name, kind.form, head["option"], rest, self.judge, self.nested)
        if self.depth and name == "tool":
            raise written.error("tool:… cannot be used inside any(…) or all(…)")
        if written.option is not None and not kind.takes_option:
            raise written.error(f"{name!r} takes no option in brackets")
        return known[name].guarded(kind.make, Check)(written)

    def nested(self, text: str, *, escaped: bool = True) -> Check:
        if self.depth == MAX_DEPTH:
            raise CheckSyntaxError(f"checks are nested more than {MAX_DEPTH} levels deep.", hint=SEE)
        return replace(self, depth=self.depth + 1, escaped=escaped).check(text)
