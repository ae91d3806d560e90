"""The chain record: a prompt and every step that was made of it. The spine that everything reads and writes.

One JSON object a line, UTF-8, version 1. Fields that this version does not know are kept on a round trip.
Values here are frozen: a changed chain is a new chain. How a chain reads as a model's text is not known here
(`formats.selfee`), nor how it is made (`revise`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from redraft.errors import RecordError
from redraft.files import replacing

VERSION = 1

Verdict = Literal["accept", "revise", "unknown"]
"""What feedback decides; `unknown` where the text says neither."""

Finish = Literal["stop", "max_tokens", "context", "filtered", "cancelled", "error"]
"""Why the text of one step ended."""

Stop = Literal[
    "accepted",
    "passed",
    "ended",
    "max_revisions",
    "budget",
    "unchanged",
    "max_tokens",
    "context",
    "malformed",
    "cancelled",
    "error",
]
"""Why a chain ended."""

Role = Literal["writer", "critic", "judge"]
"""Which model of a chain was asked: the one that answers, a critic, or the judge of `judge:` checks."""


class _Record(BaseModel):
    """A frozen part of the record that keeps what it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Usage(_Record):
    """What something cost, over all attempts. Cached tokens are those of the prompt not computed again."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = [u.cost_usd for u in (self, other) if u.cost_usd is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            seconds=self.seconds + other.seconds,
            cost_usd=sum(costs) if costs else None,
        )


class RoleUsage(Usage):
    """What the calls of one role cost, and the name of the model that took them."""

    model: str = ""


class CheckResult(_Record):
    """What one check said of one answer.

    Attributes:
        score: 0 to 1.
        message: What is wrong and where, or what was found.
        weight: The check's share in the score of the answer.
    """

    name: str
    passed: bool
    score: float
    message: str
    weight: float = 1.0


class Feedback(_Record):
    """A criticism of an answer: a text, and the verdict that it comes to.

    Attributes:
        by: Who criticised: the model (or a critic model), the checks, or both.
    """

    text: str
    verdict: Verdict
    by: Literal["model", "checks", "both"] = "model"
    checks: tuple[CheckResult, ...] = ()


class Step(_Record):
    """An answer, with the feedback that it got.

    Attributes:
        finish: Why the step's text ended: the answer's, or that of the model's feedback if it was cut.
        echo: The answer repeats the feedback, or talks about the answer, instead of answering. It never
            becomes the best one, and never passes.
    """

    answer: str
    feedback: Feedback | None = None
    finish: Finish = "stop"
    usage: Usage = Usage()
    echo: bool = False

    @property
    def complete(self) -> bool:
        """Whether the answer was generated to its end. A model criticises complete answers only."""
        return self.finish == "stop" or (self.feedback is not None and self.feedback.by == "model")

    @property
    def criticism(self) -> str:
        """The feedback's words; empty where there is no feedback, or where it has none."""
        return self.feedback.text if self.feedback else ""

    @property
    def verdict(self) -> Verdict:
        """What the feedback decides; `unknown` where there is none."""
        return self.feedback.verdict if self.feedback else "unknown"

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """What each check found; empty where nothing was checked."""
        return self.feedback.checks if self.feedback else ()

    @property
    def score(self) -> float | None:
        """Weighted mean of the checks' scores, 0 to 1; None where nothing was checked."""
        weight = sum(c.weight for c in self.checks)
        return sum(c.score * c.weight for c in self.checks) / weight if weight else None

    @property
    def passed(self) -> bool | None:
        """Whether every check passed; None where nothing was checked. An echo never passes."""
        if self.echo:
            return False
        return all(c.passed for c in self.checks) if self.checks else None


class Prompt(_Record):
    """What is asked: an instruction with an optional input, or a list of chat messages."""

    instruction: str = ""
    input: str = ""
    messages: tuple[dict[str, Any], ...] | None = None

    @property
    def text(self) -> str:
        """The prompt in words: instruction and input, or the last user message."""
        if self.messages:
            said = [content_of(m) for m in self.messages if m.get("role") == "user"]
            return said[-1] if said else ""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    @property
    def blank(self) -> bool:
        """Whether nothing is asked: no text, and nothing else such as an image."""
        contents = (m.get("content") for m in self.messages or () if m.get("role") == "user")
        parts = (part for content in contents if isinstance(content, list) for part in content)
        others = (part for part in parts if isinstance(part, Mapping) and part.get("type", "text") != "text")
        return not self.text.strip() and next(others, None) is None

    @property
    def said(self) -> str:
        """Everything that the prompt says: all its messages, or its text."""
        return "\n\n".join(map(content_of, self.messages)) if self.messages else self.text


def content_of(message: Mapping[str, Any]) -> str:
    """A message's text. OpenAI's clients may also send it as a list of parts."""
    content = message.get("content") or ""
    if not isinstance(content, list):
        return str(content)
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def whole(text: str) -> str:
    """Return the text with U+FFFD for each half of a character, which no file or request could hold.

    Two halves that belong together become their character.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Chain(_Record):
    """A prompt and all its steps, with why it stopped and which answer is best.

    Attributes:
        best: Index into `steps`, or None if there is no answer at all.
        stop: Why the chain ended; None for a record that does not say.
        model: `name`, `engine`, `revision_mode`.
        sampling: As it was asked for.
        usage: Over everything that was generated, by all models.
        usage_by_role: The same by `writer`, `critic` and `judge`; empty if only the writer was asked.
        value: The parsed object, where one was asked for with `output=`. Not part of the record.
    """

    version: int = VERSION
    id: str = ""
    prompt: Prompt = Prompt()
    steps: tuple[Step, ...] = ()
    best: int | None = None
    stop: Stop | None = None
    model: dict[str, Any] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)
    usage: Usage = Usage()
    usage_by_role: dict[Role, RoleUsage] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)
    _value: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.version != VERSION:
            raise ValueError(f"version is {self.version}, and this redraft reads version {VERSION}")
        if self.best is not None and not 0 <= self.best < len(self.steps):
            raise ValueError(f"best is {self.best}, and there are {len(self.steps)} steps")
        return self

    @property
    def answer(self) -> str:
        """The best answer, or an empty text if there is none."""
        return "" if self.best is None else self.steps[self.best].answer

    @property
    def passed(self) -> bool | None:
        """Whether the best answer passed every check; None where nothing was checked."""
        return None if self.best is None else self.steps[self.best].passed

    @property
    def revisions(self) -> int:
        """How many answers came after the first."""
        return max(len(self.steps) - 1, 0)

    @property
    def echoes(self) -> int:
        """How many answers are echoes."""
        return sum(step.echo for step in self.steps)

    @property
    def value(self) -> Any:
        """The parsed object of the best answer, where `output=` asked for one and it could be parsed."""
        return self._value

    def with_value(self, value: Any) -> Chain:
        """The same chain with a parsed object."""
        chain = self.model_copy()
        chain._value = value  # noqa: SLF001  (its own private attribute, on a fresh copy)
        return chain

    def to_json(self) -> str:
        """Return one line of JSON, without the line break."""
        return self.model_dump_json(exclude=None if self.usage_by_role else {"usage_by_role"})

    @classmethod
    def from_json(cls, line: str | bytes, *, where: str = "chain") -> Chain:
        """Reads one line of JSON.

        Args:
            line: The JSON text.
            where: What to call the line in an error, such as `out.jsonl:12`.

        Raises:
            RecordError: Not JSON, another version, or a wrong field; the message names it.
        """
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise RecordError(f"{where}: {describe(error)}", hint=_version_hint(line)) from None


def describe(error: ValidationError) -> str:
    """A validation error as one line: field, what is wrong, what was found."""
    parts = []
    for item in error.errors(include_url=False)[:3]:
        field = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        found = "" if item["type"] in {"json_invalid", "missing", "value_error"} else _found(item["input"])
        parts.append(f"{field}: {message}{found}" if field else message + found)
    return "; ".join(parts)


def _found(value: Any) -> str:
    text = repr(value)
    return f" (found {text[:60]}…)" if len(text) > 60 else f" (found {text})"


def _version_hint(line: str | bytes) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    version = record.get("version") if isinstance(record, dict) else None
    newer = isinstance(version, int) and version > VERSION
    return "A newer redraft made this file: pip install -U redraft" if newer else None


def write_jsonl(path: str | Path, chains: Iterable[Chain]) -> None:
    """Writes chains, one a line. Writes aside, then renames, so that `path` is never half written."""
    with replacing(Path(path)) as file:
        file.writelines(chain.to_json().encode() + b"\n" for chain in chains)


def read_jsonl(path: str | Path) -> Iterator[Chain]:
    """Reads chains, one a line; empty lines are passed over.

    Raises:
        RecordError: A line is not a chain of this version. The message names file and line.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield Chain.from_json(line, where=f"{path}:{number}")
