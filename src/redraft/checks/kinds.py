"""Define the kinds of checks: the written form, the line in `--help`, and a function that makes a check.

A kind is a plugin of the group `redraft.checks`. redraft's own kinds are here. The module of a check is
imported when the check is made, so that `--help` stays fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, get_args

from redraft.errors import CheckSyntaxError, RedraftError
from redraft.jobs.plugins import Kind, load_all, plugins

if TYPE_CHECKING:
    from redraft.checks.base import Check
    from redraft.engines.base import Engine

Writer = Literal["anyone", "data", "user"]
"""The author of a check: anyone who sends a request to a server, a data file's author, or the user."""

SEE = "All checks: docs/checks.md"
_COUNT = re.compile(r"(?P<op><=|>=|==|=|<|>)\s*(?P<low>\d+)(?:\s*\.\.\s*(?P<high>\d+))?", re.ASCII)
_JUDGED = re.compile(r"(?=.)(\d*)(?:,?\s*\b(reasoning))?", re.ASCII)
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*s", re.ASCII)


@dataclass(frozen=True, eq=False)
class CheckKind(Kind):
    """A kind of check.

    Attributes:
        form: The written form, such as `contains:TEXT`.
        about: The condition that an answer must meet, for `--help`.
        make: Makes the check, and loads files and modules for it. Raises `Written.error` for a wrong text.
        writer: Who may write such a check. `anyone`: the check needs no file, program or model. `data`: the
            check may read files or load models. `user`: the check may run functions, programs or a judge.
        takes_option: Whether the check may have an option in brackets: `judge[8]:…`.
        asks_judge: Whether the check asks the model that `--judge` names (`Written.judge`).
    """

    form: str
    about: str
    make: Callable[[Written], Check]
    writer: Writer = "user"
    takes_option: bool = False
    asks_judge: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.writer not in get_args(Writer):
            known = ", ".join(get_args(Writer))
            raise ValueError(f"CheckKind.writer is {self.writer!r:.60}, not one of {known}")

    def allows(self, writer: Writer) -> bool:
        """Return whether a writer may use the kind. The user may use all kinds."""
        order = get_args(Writer)
        return order.index(self.writer) <= order.index(writer)


@dataclass(frozen=True)
class Written:
    """The parts of a check's short form: `command`, `10s` and `:pytest -q`, of `command[10s]:pytest -q`."""

    kind: str
    form: str  # the written form of its kind, for errors
    option: str | None  # the text in brackets
    rest: str  # the text that follows, stripped
    judge: Engine | None  # the model of `judge:` checks
    nested: Callable[..., Check]  # parses a check within this one

    @property
    def found(self) -> str:
        """A description of the text after the kind, for errors."""
        return f"{self.kind!r} " + (f"is followed by {self.rest[:30]!r}" if self.rest else "has no value")

    @property
    def text(self) -> str:
        """The text after the colon. Raise an error if there is none."""
        argument = self.rest[1:].strip()
        if not self.rest.startswith(":"):
            raise self.error(f"{self.found}, but needs a colon and a text")
        if not argument:
            raise self.error(f"'{self.kind}:' has no text after the colon")
        return argument

    def error(self, problem: str) -> CheckSyntaxError:
        """Return an error whose hint shows how to write such a check."""
        return CheckSyntaxError(f"{problem}.", hint=f"Write {self.form}. {SEE}")


@cache
def check_kinds(writer: Writer = "user") -> dict[str, CheckKind]:
    """Return the kinds of checks that `writer` may use, by name."""
    found = load_all("redraft.checks", CheckKind)
    places = {id(value): place for place, value in enumerate(globals().values())}
    # redraft's kinds in the order of this module, then those of plugins
    names = sorted(found, key=lambda name: places.get(id(found[name]), len(places)))
    return {name: found[name] for name in names if found[name].allows(writer)}


def may_ask_judge(check: str) -> bool:
    """Return whether a check, given as text such as `judge:RUBRIC`, may ask a judge model."""
    known = plugins("redraft.checks")
    for name in known.keys() & set(re.findall(r"[\w-]+", check)):
        with suppress(RedraftError):  # a kind that does not load asks no judge
            if known[name].load(CheckKind).asks_judge:
                return True
    return False


def _made(take: Callable[[Written], Any], module: str, maker: str) -> Callable[[Written], Check]:
    def make(written: Written) -> Check:
        found: Check = attrgetter(maker)(import_module(f"redraft.checks.{module}"))(take(written))
        return found

    return make


_of_text, _written = partial(_made, attrgetter("text")), partial(_made, lambda written: written)


def _plain(module: str, maker: str, *given: str, guess: str = "") -> Callable[[Written], Check]:
    def make(written: Written) -> Check:
        if written.rest:
            guessed = f" ({guess})" if guess and written.rest.startswith(":") else ""
            problem = f"{written.kind!r} takes no argument, but is followed by {written.rest[:30]!r}{guessed}"
            raise written.error(problem)
        found: Check = attrgetter(maker)(import_module(f"redraft.checks.{module}"))(*given)
        return found

    return make


def _count(written: Written) -> Check:
    from redraft.checks.text import Count

    if not (found := _COUNT.match(written.rest)):
        raise written.error(f"{written.found}, but needs a comparison with a whole number")
    if found.end() < len(written.rest):
        meant = replace(written, form=f"{written.kind}{found[0]}")
        raise meant.error(f"{meant.form} is followed by {written.rest[found.end() :][:30]!r}")
    op, number, upper = found["op"], int(found["low"]), found["high"]
    if upper is not None and op not in {"=", "=="}:
        raise written.error(f"a range needs =, not {op}")
    low = None if op in {"<=", "<"} else number + (op == ">")
    high = int(upper) if upper else None if op in {">=", ">"} else number - (op == "<")
    if high is not None and high < (low or 0):
        turned = replace(written, form=f"{written.kind}={high}..{low}") if upper else written
        raise turned.error(f"no answer can pass {written.kind}{found[0]}")
    return Count(written.kind, low, high)


_phrase, _group = _written("text", "phrase_of"), _written("groups", "group_of")


def _number(written: Written) -> Check:
    from redraft.checks.final import Number

    value = written.rest.removeprefix("=").removeprefix("=").strip()
    if not written.rest.startswith("=") or not value:
        raise written.error(f"{written.found}, but needs = with a number")
    return Number.of(value)


def _command(written: Written) -> Check:
    from redraft.checks.command import Command

    if written.option is None:
        return Command.of(written.text)
    limit = _SECONDS.fullmatch(written.option.strip())
    if not limit or float(limit[1]) <= 0:
        raise written.error(f"command[{written.option}]: write a time limit, as in command[10s]")
    return Command.of(written.text, float(limit[1]))


def _judge(written: Written) -> Check:
    from redraft.checks.judge import JUDGE_BAR, Judge

    found = _JUDGED.fullmatch(str(JUDGE_BAR) if written.option is None else written.option.strip())
    if not found:
        raise written.error(f"judge[{written.option}]: write a score or reasoning, as in judge[8, reasoning]")
    return Judge.of(written.text, written.judge, int(found[1] or JUDGE_BAR), thoughts=bool(found[2]))


def _reward(written: Written) -> Check:
    from redraft.checks.judge import REWARD_BAR, Reward

    try:
        bar = REWARD_BAR if written.option is None else float(written.option)
    except ValueError:
        problem = f"reward[{written.option}]: write the lowest passing score, as in reward[0.7]"
        raise written.error(problem) from None
    return Reward.of(written.text, bar)


_for_anyone, _for_data = partial(CheckKind, writer="anyone"), partial(CheckKind, writer="data")

WORDS = _for_anyone("words<=50", "count of words: <= >= < > ==, or a range words=10..20", _count)
SENTENCES = _for_anyone("sentences<=3", "count of sentences, compared the same way", _count)
CHARACTERS = _for_anyone("characters<=280", "count of characters as a reader sees them", _count)
PARAGRAPHS = _for_anyone("paragraphs==2", "count of paragraphs, separated by blank lines", _count)
LINES = _for_anyone("lines<=5", "count of lines that are not empty", _count)
BULLETS = _for_anyone("bullets==3", "count of lines that begin with a bullet", _count)
ITEMS = _for_anyone("items==3", "count of bullets and of numbered lines", _count)
HEADINGS = _for_anyone("headings>=2", "count of lines that begin with # or ##", _count)
UNIQUE = _for_anyone("unique", "contains no repeated line", _plain("text", "Unique"))
UPPERCASE = _for_anyone("uppercase", "contains no lowercase letter", _plain("text", "Case", "uppercase"))
LOWERCASE = _for_anyone("lowercase", "contains no uppercase letter", _plain("text", "Case", "lowercase"))
CONTAINS = _for_anyone(
    "contains:TEXT",
    "contains this word or phrase, ignoring case; contains[part]: also within a word",
    _phrase,
    takes_option=True,
)
LACKS = _for_anyone(
    "lacks:TEXT",
    "does not contain this word or phrase, ignoring case; lacks[part]: nor within a word; "
    "lacks[regex]: no part of it matches a regular expression",
    _phrase,
    takes_option=True,
)
MATCHES = _for_anyone("matches:REGEX", "contains a match of this pattern", _of_text("text", "Matches.of"))
GROUNDED = _for_anyone(
    "grounded", "its numbers, names, dates and quotations are in the prompt", _plain("grounded", "Grounded")
)
STARTS = _for_anyone("starts:TEXT", "begins with this text, ignoring case", _phrase)
ENDS = _for_anyone("ends:TEXT", "ends with this text, ignoring case", _phrase)
JSON = _for_anyone(
    "json",
    "is JSON, or contains one fenced JSON block",
    _plain("structure", "Json", guess="for a schema, write json-schema:FILE"),
)
KEYS = _for_anyone(
    "keys:name,born", "is a JSON object with these keys and no others", _of_text("structure", "Keys.of")
)
JSON_SCHEMA = _for_data(
    "json-schema:FILE", "is JSON that fits the JSON Schema in FILE", _of_text("structure", "JsonSchema.of")
)
NUMBER = _for_anyone("number=3.14~0.01", "its final answer is this number, within a tolerance", _number)
LANGUAGE = _for_data(
    "language:en", "is written in this language (needs the extra 'data')", _of_text("language", "Language.of")
)
IFEVAL = _for_data(
    "ifeval:TYPE VALUES",
    "meets a constraint of IFEval (docs/evaluate.md)",
    _of_text("ifeval", "Constraint.parse"),
)
PYTHON = CheckKind(
    "python:module.function", "your Python function accepts it", _of_text("function", "FunctionCheck.of")
)
COMMAND = CheckKind(
    "command:PROGRAM ARGS",
    "a program that reads it exits with 0; command[10s]: sets the time limit",
    _command,
    takes_option=True,
)
JUDGE = CheckKind(
    "judge:RUBRIC",
    "a judge model gives it at least 7 of 10; judge[8]: at least 8; judge[reasoning]: judges reasoning, too",
    _judge,
    takes_option=True,
    asks_judge=True,
)
REWARD = CheckKind(
    "reward:MODEL",
    "a reward model (docs/rlhf.md) scores it at least 0.5; reward[0.7]: at least 0.7",
    _reward,
    writer="data",
    takes_option=True,
)
TOOL = _for_anyone(
    "tool:pay.amount<=100",
    "an argument of a tool call is in bounds, or passes a check as in tool:mail.subject words<=8; "
    "a tool is called at most once, or after another: tool:pay once; tool:pay after search",
    _written("tools", "ToolCheck.of"),
)
ANY = _for_anyone("any(A; B)", "at least one of these checks passes", _group)
ALL = _for_anyone("all(A; B)", "every one of these checks passes", _group)
AUTO = _for_anyone(
    "auto", "does what the prompt demands in plain words (redraft checks PROMPT)", _plain("groups", "Auto")
)
