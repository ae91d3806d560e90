"""The chain record: a prompt, and answers with feedback. All parts of redraft read and write chains.

A file of chains has one JSON object per line, in UTF-8. Unknown fields are kept. Records are immutable:
`model_copy` returns a changed chain. `chain.selfee` renders a chain as text for a model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import fsum
from operator import not_
from pathlib import Path
from typing import Any, Generic, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json
from typing_extensions import TypeVar

from redraft.chain.thoughts import apart, together
from redraft.errors import NEWER, OutputError, RecordError, UsageError, path_of, shown
from redraft.jobs.files import replacing

VERSION = 1

T_co = TypeVar("T_co", covariant=True, default=Any)  # the type of a chain's value

Verdict = Literal["accept", "revise", "unknown"]
"""The verdict of feedback, or `unknown` if the text of the feedback contains no verdict."""

Finish = Literal["stop", "max_tokens", "context", "filtered", "lost", "cancelled", "error"]
"""The reason why a model stopped writing. `lost`: no continuation of the text could pass the checks."""

_BrokenOff = Literal["max_tokens", "context", "malformed", "cancelled", "error"]
_Ended = Literal["accepted", "passed", "ended", "tool_calls", "max_revisions", "budget", "unchanged"]
Stop = Literal[_Ended, _BrokenOff]
"""The reason why a chain ended."""

Role = Literal["writer", "critic", "judge"]
"""The role of a model. A writer answers, a critic gives feedback, and a judge decides checks."""

Place = tuple[int, int] | str
"""A place in an answer: the start and end of a character range, or the JSON pointer of a value."""

MISSING = "missing_revisions"  # key in `meta`: see `Chain.missing_revisions`
UNCHANGED = "unchanged"  # key in `meta`: see `Chain.unchanged`


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def __copy__(self) -> Self:  # pydantic's takes three times as long
        copy = type(self).__new__(type(self))
        for name in BaseModel.__slots__:
            value = getattr(self, name)
            object.__setattr__(copy, name, None if value is None else value.copy())
        return copy


_rare = partial(Field, exclude_if=not_)  # a field that records leave out while it is empty or false

ESTIMATED = "estimated: the server reports no usage"
PARTLY = "partly estimated: unfinished replies report no usage"
"""Explains to users why tokens and costs are estimated (`Usage.estimated`)."""


class Usage(_Record):
    """The tokens, time and cost of generating a text, failed attempts included.

    Attributes:
        cached_tokens: Prompt tokens that were read from a cache.
        seconds: The wall-clock time. A step from a cache has the time of the original call.
        estimated: Some tokens are estimated, because a server reported no usage or a text was stopped early.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost_usd: float | None = None
    estimated: bool = _rare(default=False)

    def __add__(self, other: Usage) -> Usage:
        costs = [u.cost_usd for u in (self, other) if u.cost_usd is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            seconds=self.seconds + other.seconds,
            cost_usd=round(sum(costs), 12) if costs[1:] else next(iter(costs), None),
            estimated=self.estimated or other.estimated,
        )


class RoleUsage(Usage):
    """The usage of all calls in one role, and the name of the model."""

    model: str = ""


class CheckResult(_Record):
    """The result of one check on one answer.

    Attributes:
        score: 0 to 1.
        message: The fault with a location or, if the check passed, a finding such as `12 words`.
        places: Where the fault occurs, if the check reports locations.
    """

    name: str
    passed: bool
    score: float
    message: str
    places: tuple[Place, ...] = _rare(default=())


def score_of(results: Sequence[CheckResult]) -> float | None:
    """Return the mean score, or None if there are no results."""
    return fsum(result.score for result in results) / len(results) if results else None


class Feedback(_Record):
    """A criticism of an answer: a text and a verdict.

    Attributes:
        by: The author. `both`: a model and the checks. `person`: a person, whose wishes are in `checks`.
        reasoning: The model's thoughts before `text`.
    """

    text: str
    verdict: Verdict
    by: Literal["model", "checks", "both", "person"] = "model"
    checks: tuple[CheckResult, ...] = ()
    reasoning: str = _rare(default="")


class Step(_Record):
    """An answer with feedback.

    Attributes:
        finish: Why the answer ended or, if a model's feedback was cut, why the feedback ended.
        echo: Whether the text is no answer. For example, it only repeats the prompt or feedback, or is text
            where a tool call was required. An echo never passes, and ranks last.
        reasoning: The model's thoughts before the answer. Thoughts in tags, such as `<think>`, are moved from
            `answer` to `reasoning`.
        tool_calls: Tool calls, as in an assistant message.
        fresh: Whether the answer is a new draft, not a revision.
        steered: Names of the checks that steered the model during generation.
        patch: The rewritten parts of the answer.
    """

    answer: str
    feedback: Feedback | None = None
    finish: Finish = "stop"
    usage: Usage = Usage()
    echo: bool = False
    tool_calls: tuple[dict[str, Any], ...] = _rare(default=())
    fresh: bool = _rare(default=False)
    steered: tuple[str, ...] = _rare(default=())
    reasoning: str = _rare(default="")
    patch: tuple[Place, ...] = _rare(default=())

    @model_validator(mode="after")
    def _split(self) -> Self:
        thoughts, answer = apart(self.answer)
        if answer is not self.answer:
            reasoning = "\n\n".join(filter(None, (self.reasoning, thoughts)))
            self.__dict__.update(answer=answer, reasoning=reasoning)
        return self

    @property
    def complete(self) -> bool:
        """Whether the model finished the answer."""
        # A model criticises only complete answers; `finish` may then be the feedback's.
        return self.finish == "stop" or (self.feedback is not None and self.feedback.by == "model")

    @property
    def written(self) -> str:
        """The reasoning in `<think>` tags, then the answer."""
        return together(self.reasoning, self.answer)

    @property
    def criticism(self) -> str:
        """The text of the feedback, or an empty text without feedback."""
        return self.feedback.text if self.feedback else ""

    @property
    def verdict(self) -> Verdict:
        """The verdict of the feedback, or `unknown` without feedback."""
        return self.feedback.verdict if self.feedback else "unknown"

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """The results of the checks, empty without checks."""
        return self.feedback.checks if self.feedback else ()

    @property
    def score(self) -> float | None:
        """The mean score of the checks, 0 to 1, or None without checks."""
        return score_of(self.checks)

    @property
    def passed(self) -> bool | None:
        """Whether every check passed, or None if nothing was checked. Echoes and cut answers never pass."""
        if self.echo:
            return False
        return self.complete and all(c.passed for c in self.checks) if self.checks else None


class Prompt(_Record):
    """A prompt: an instruction with an optional input, or a list of chat messages."""

    instruction: str = ""
    input: str = ""
    messages: tuple[dict[str, Any], ...] | None = None

    @property
    def text(self) -> str:
        """The text of the prompt: instruction and input, or the last user message."""
        if self.messages:
            contents = [content_of(m) for m in self.messages if m.get("role") == "user"]
            return contents[-1] if contents else ""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    @property
    def lack(self) -> str:
        """The reason why the prompt cannot be answered, or an empty text."""
        messages = self.messages or ()
        users = [message for message in messages if message.get("role") == "user"]
        if self.text.strip() or any(map(other_parts, users)):
            return ""
        if users or not messages:
            return "the user's message has no text" if users else "the prompt is empty"
        roles = sorted({str(message.get("role")) for message in messages})
        return f"the prompt has no user message: each message has the role {' or '.join(roles)}"

    @property
    def said(self) -> str:
        """The whole text of the prompt: all messages, or instruction and input."""
        return "\n\n".join(map(content_of, self.messages)) if self.messages else self.text


def is_system(message: Mapping[str, Any]) -> bool:
    """Return whether a message has the role `system` or `developer`."""
    return message.get("role") in ("system", "developer")


def content_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, whose content may be a list of parts (OpenAI's protocol)."""
    content = message.get("content") or ""
    if not isinstance(content, list):
        return str(content)
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def other_parts(message: Mapping[str, Any]) -> list[str]:
    """Return the types of a message's parts that are not text, such as `image_url`."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    kinds = [str(part.get("type", "text") if isinstance(part, Mapping) else part) for part in parts]
    return [kind for kind in kinds if kind != "text"]


def calls_of(message: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return a message's tool calls, or the single call in OpenAI's older `function_call`."""
    calls, older = message.get("tool_calls"), message.get("function_call")
    if not calls and isinstance(older, Mapping):
        calls = [{"type": "function", "function": dict(older)}]
    return tuple(call for call in calls or () if isinstance(call, dict)) if isinstance(calls, list) else ()


THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Message fields with thoughts, as written by DeepSeek and Qwen, by vLLM and OpenRouter, and by gpt-oss."""


def thoughts_of(message: Mapping[str, Any]) -> str:
    """Return a message's thoughts: the first text in the fields `THOUGHTS`, or an empty text."""
    found = (message.get(name) for name in THOUGHTS)
    return next((text for text in found if isinstance(text, str) and not is_blank(text)), "")


def visible(text: str) -> str:
    """Return a text without invisible characters, such as soft hyphens and direction marks."""
    return text if text.isascii() else "".join(char for char in text if unicodedata.category(char) != "Cf")


def is_blank(text: str) -> bool:
    """Return whether a text contains only spaces, invisible characters and code fence lines."""
    first = text.lstrip()[:1]  # a letter, digit or symbol here decides at once
    return not (first and unicodedata.category(first)[0] in "LNP" and first not in _FILLERS) and all(
        char.isspace() or unicodedata.category(char) in ("Cf", "Cc") or char in _FILLERS
        for char in _FENCE_LINE.sub("", text)
    )


_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[\w+.#-]*[ \t]*$", re.MULTILINE)
_FILLERS = "\u034f\u115f\u1160\u2800\u3164\uffa0\ufe0e\ufe0f"
"""Invisible characters outside the Unicode categories Cf and Cc, such as the empty Braille cell."""


def whole(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, with U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # joins surrogate pairs


class Chain(_Record, Generic[T_co]):
    """A prompt, the answers with feedback, the best answer, and the reason why the chain ended.

    `Chain[Person]` is a chain whose `value` is a Person.

    Attributes:
        steps: The answers. Each answer revises the previous answer, unless `fresh` is set.
        drafts: Rejected drafts of the first answer.
        best: Index into `steps` of the best answer, or None if there is no answer.
        stop: The reason why the chain ended, or None if unknown.
        model: `name`, `engine` and `revision_mode` of the writer.
        sampling: The sampling options.
        usage: The total usage of all models, unused drafts included.
        usage_by_role: The usage by role, empty if only the writer was called.
        value: The parsed object, if JSON was requested. A chain read from a file has plain JSON instead.
    """

    version: int = VERSION
    id: str = ""
    prompt: Prompt = Prompt()
    steps: tuple[Step, ...] = ()
    drafts: tuple[Step, ...] = ()
    best: int | None = None
    stop: Stop | None = None
    model: dict[str, Any] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)
    usage: Usage = Usage()
    usage_by_role: dict[Role, RoleUsage] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.version != VERSION:
            raise ValueError(f"version is {self.version}, but this redraft reads version {VERSION}")
        if self.best is not None and not 0 <= self.best < len(self.steps):
            raise ValueError(f"best is {self.best}, but the number of steps is {len(self.steps)}")
        if written := self.model_extra:
            self._keep(written.get("value"))
            for name in _DERIVED:
                written.pop(name, None)
        return self

    def __str__(self) -> str:  # `repr` writes all steps
        return f"Chain(answer={self.answer!r}, passed={self.passed}, stop={self.stop!r})"

    @property
    def answer(self) -> str:
        """The best answer, or an empty text."""
        return "" if self.best is None else self.steps[self.best].answer

    @property
    def passed(self) -> bool | None:
        """Whether the best answer passed all checks; False if `unchanged` is not empty; None if unchecked."""
        return None if self.best is None else not self.unchanged and self.steps[self.best].passed

    @property
    def revisions(self) -> int:
        """The number of answers after the first, including new drafts."""
        return max(len(self.steps) - 1, 0)

    @property
    def missing_revisions(self) -> int:
        """The number of revisions still missing to reach `min_revisions`."""
        missing = self.meta.get(MISSING)
        return missing if isinstance(missing, int) else 0

    @property
    def unchanged(self) -> list[dict[str, Any]]:
        """A person's unmet wishes, each as a dict with `place`, `passage`, `wish` and `why` (the reason)."""
        found = self.meta.get(UNCHANGED)
        return found if isinstance(found, list) else []

    @property
    def echoes(self) -> int:
        """The number of answers that are echoes (see `Step.echo`)."""
        return sum(step.echo for step in self.steps)

    @property
    def value(self) -> T_co | None:
        """The object in the best answer, if JSON was requested and the answer is complete and valid."""
        return cast("T_co | None", (self.__pydantic_private__ or {}).get("_value"))

    def with_value(self, value: Any) -> Chain:
        """Return a copy of the chain with the parsed object `value`."""
        return self.model_copy()._keep(value)  # noqa: SLF001  (its own, on a fresh copy)

    def _keep(self, value: Any) -> Self:  # a field of pydantic's would make each chain a fifth slower
        object.__setattr__(self, "__pydantic_private__", None if value is None else {"_value": value})
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy. Updating `steps` or `best` removes the copy's `value`."""
        copy = super().model_copy(update=update, deep=deep)
        other = update and not update.keys().isdisjoint(("steps", "best"))
        return copy._keep(None) if other else copy  # noqa: SLF001  (its own)

    def to_json(self) -> str:
        """Return the chain as JSON, without a line break.

        `from_json` ignores the fields `answer` and `passed`.
        """
        empty = {name for name in ("drafts", "usage_by_role") if not getattr(self, name)}
        own = self.__pydantic_serializer__.to_json(self, exclude=empty)  # faster than `model_dump_json`
        if self.best is None and self.value is None:
            return own[:-1].decode() + ',"answer":"","passed":null,"value":null}'
        derived = {"answer": self.answer, "passed": self.passed, "value": self.value}
        return (own[:-1] + b"," + to_json(derived, inf_nan_mode="null", fallback=repr)[1:]).decode()

    @classmethod
    def from_json(cls, line: str | bytes, *, where: str = "chain") -> Chain:
        """Parse one line of JSON.

        Args:
            line: The JSON text.
            where: The location of the line for error messages, such as `out.jsonl:12`.

        Raises:
            RecordError: The line is not JSON, or a field, such as the version, is wrong.
        """
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            said = describe(error)
            newer = f"A newer redraft made this file: {NEWER}" if said.startswith("version is") else None
            raise RecordError(f"{where}: {said}", hint=newer) from None


_LOOP = re.compile(r"\b([^\W\d_][^\n]{4,60}?)(?:\W+\1){2}\W*\Z")
_JSON = re.compile(r"\s*(?:```\w*\s*)?[\[{].*[\]}][`\s]*\Z", re.DOTALL)


def loop(text: str) -> int | None:
    """Return the index after the first of three equal phrases at the end of a text, or None.

    In JSON, the end of each string is tested, not the end of the text.
    """
    piece = r'"(?:[^"\\]|\\.)*"?' if _JSON.match(text) else ".+"
    for each in re.finditer(piece, text, re.DOTALL):
        if found := _LOOP.search(text, max(each.start(), each.end() - 200), each.end()):
            return found.end(1)
    return None


def meta_of(chain: Chain, name: str) -> dict[str, Any]:
    """Return the object `name` in a chain's `meta`, or an empty dict if there is no such object."""
    value = chain.meta.get(name)
    return value if isinstance(value, dict) else {}


def has_answer(steps: Sequence[Step]) -> bool:
    """Return whether any step contains visible text or a tool call."""
    return any(step.tool_calls or not is_blank(step.answer) for step in steps)


def best_step(steps: Sequence[Step], *, prefer_last: bool = False) -> int | None:
    """Return the index of the best answer, or None if no step has an answer (`has_answer`).

    Checked answers are compared by these criteria, in turn: all checks passed, no loop at the end, `finish`
    is not `lost`, complete, higher score, lower index. With `prefer_last`, the last answer wins a tie.
    Without checks, the last complete answer is best. An answer before a fresh draft is complete only with a
    verdict. Echoes rank last. Answers before a person's last request rank just above echoes.
    """
    if not has_answer(steps):
        return None
    by = [step.feedback.by if step.feedback else "" for step in steps]
    wanted = max((index for index, name in enumerate(by) if name == "person"), default=-1)
    checked = any(step.score is not None for step in steps[wanted + 1 :])
    afresh = max((index for index, step in enumerate(steps) if step.fresh), default=0)

    def rank(index: int) -> tuple[bool, bool, bool, bool, bool, bool, float, int]:
        step, after = steps[index], index > wanted
        real = has_answer([step]) and not step.echo
        if not checked:
            unjudged = index < afresh and step.verdict == "unknown"
            return (real, after, False, False, True, step.complete and not unjudged, 0.0, index)
        score = -1.0 if step.score is None else step.score
        ends, lost = loop(step.answer) is None, step.finish == "lost"
        place = 1 if prefer_last and index == len(steps) - 1 else -index
        return (real, after, bool(step.passed), ends, not lost, step.complete, score, place)

    return max(range(len(steps)), key=rank)


_DERIVED = ("answer", "passed", "value")  # written to JSON, but not fields of `Chain`


def describe(error: ValidationError) -> str:
    """Return a validation error as one line: each wrong field (at most three), the problem and the value."""
    parts = []
    for item in error.errors(include_url=False)[:3]:
        field = ".".join(str(part) for part in item["loc"])
        message, value = item["msg"].removeprefix("Value error, ").removesuffix("."), repr(item["input"])
        found = f" (found {value[:60]}{'…' * (len(value) > 60)})"
        found = "" if item["type"] in {"json_invalid", "missing", "value_error"} else found
        parts.append(f"{field}: {message}{found}" if field else message + found)
    return "; ".join(parts)


def write_jsonl(path: str | Path, chains: Iterable[Chain]) -> None:
    """Write chains to a file, one per line. `path` is replaced only when all chains are written.

    Raises:
        OutputError: The file cannot be written.
        UsageError: An item is not a chain.
    """
    try:
        with replacing(path_of(path)) as file:
            for chain in chains:
                if not isinstance(chain, Chain):
                    raise UsageError(f"{shown(chain)} is not a chain.", hint="Pass a list of chains.")
                file.write(chain.to_json().encode() + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.", hint="Name another file.") from None


def read_jsonl(path: str | Path) -> Iterator[Chain]:
    """Read chains, one per line, skipping empty lines.

    Raises:
        RecordError: A line is not a chain of this version. The message names the file and the line.
        UsageError: The file cannot be read.
    """
    try:
        with path_of(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield Chain.from_json(line, where=f"{path}:{number}")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.", hint="Name a file of chains.") from None


def chain_named(chain_id: str, chains: Iterable[Chain], where: str) -> Chain:
    """Return the chain with the id `chain_id` or, if none has it, the only one whose id ends in `/chain_id`.

    Raises:
        UsageError: No chain or more than one chain matches. The message names the file, `where`.
    """
    ids, ending = [], []
    for chain in chains:
        if chain.id == chain_id:
            return chain
        ids.append(chain.id)
        if chain.id.endswith(f"/{chain_id}"):
            ending.append(chain)
    if len(ending) == 1:
        return ending[0]
    near = [chain.id for chain in ending] or ids
    known = f"Known ids: {', '.join(near[:5])}{' …' if len(near) > 5 else ''}"
    many = f"{len(ending)} chains in {where} have ids that end in"
    fault = many if ending else f"no chain in {where} has the id"
    raise UsageError(f"{fault} {chain_id!r}.", hint=known if near else None)
