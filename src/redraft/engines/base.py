"""The engine protocol: continue text or answer messages, token by token.

`EngineInfo` says what an engine can do, and the loop chooses accordingly. Closing a stream cancels its work.
Engines do their own batching: callers open many streams at once.
"""

# ruff: noqa: ARG002  (methods that raise by default)
from __future__ import annotations

import math
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from redraft.chain import Finish, Usage
from redraft.chain.thoughts import Splitter
from redraft.engines.steering.form import Form
from redraft.errors import EngineError, UsageError

Tokens = tuple[int, ...]

EngineRole = Literal["", "answer", "revise"]
"""The part of a chain that a model writes: answers, or criticism and revisions. Empty for anything else."""

OF_TOOLS = ("tool_choice", "parallel_tool_calls")  # fields of `Sampling.extra_body` that belong to its tools

OF_TEMPLATE = "chat_template_kwargs"
"""The field of `Sampling.extra_body` with arguments of the chat template."""

Likeliest = tuple[tuple[str | int, float], ...]
"""The likeliest tokens at one place, best first: the text or id of each, and its log-probability."""

PromptText = str | Tokens  # a prompt for `Engine.stream`: a text, or token ids where `EngineInfo.token_ids`


class Message(TypedDict):
    """One message of a conversation, as in the OpenAI protocol. `content` may be None beside `tool_calls`.

    Every engine takes text from `system`, `user` and `assistant`. Anything else needs
    `EngineInfo.any_message`.
    """

    role: str
    content: str | list[dict[str, Any]] | None
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


SAMPLING_FIELDS = frozenset(
    {"top_k", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty", "logit_bias"}
)
"""Fields of `Sampling.extra_body` that are about sampling, by the names of llama.cpp's server."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters.

    Attributes:
        temperature: 0 is greedy. 0.7 is SelFee's released default (reference/selfee.md).
        top_p: Nucleus size, in (0, 1].
        max_tokens: Most new tokens of one call. 2,048 is SelFee's released default.
        max_thoughts: Most tokens of thoughts before an answer to messages; then they are closed. None for no
            limit of their own. Needs `EngineInfo.thinks`.
        seed: Makes a run repeatable on the same engine and batch; None for a random seed.
        schema: A JSON Schema that an answer to messages should fit. Engines with `EngineInfo.schemas` keep
            to it while they generate. An engine that cannot express it logs that once, and goes on without.
            So check the answer.
        form: The form that an answer to messages should have. Engines with `EngineInfo.forms` keep to it as
            far as they can. So check the answer. A schema takes precedence.
        banned: Tokens that must not come, in engines with `EngineInfo.forms` on this machine.
        unending: The token that ends an answer must not come either.
        likelier: Tokens made likelier in the same engines, with the amounts added to their logits.
        begun: The beginning of an answer to messages, which the engine continues. Needs `EngineInfo.resumes`.
            With a schema it is JSON; a value of that schema and the end follow.
        tools: Tools that an answer may call, as in the OpenAI protocol. Needs `EngineInfo.tools`.
        extra_body: More fields of a request, which override ours. Needs `EngineInfo.any_request`, or
            `EngineInfo.fields` that name them. Never logged or recorded.
        extra_headers: More headers of a request, on the same terms.
        logprobs: Report the log-probability of each token, from engines with `EngineInfo.logprobs`.
        unset: Which of `temperature`, `top_p` and `max_tokens` nobody set. A server uses its own values for
            them (`EngineInfo.own_sampling`). A `top_p` other than 1 counts as set.
        top_logprobs: How many of the likeliest tokens to report at each place, with `logprobs`.
        role: Which part of a chain is written. Engines with `EngineInfo.roles` have weights for each role.
        call_id: Names this call, with the same name in every run of a job. So a batch that was sent before a
            stop is recognised after it. `JournaledEngine` sets it.
        chain: Names the chain of this call. A router keeps a chain on the replica that read its beginning.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    form: Form | None = None
    banned: frozenset[int] = frozenset()
    unending: bool = False
    likelier: tuple[tuple[int, float], ...] = ()
    begun: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    extra_body: Mapping[str, Any] | None = field(default=None, repr=False)
    extra_headers: Mapping[str, str] | None = field(default=None, repr=False)
    logprobs: bool = False
    top_logprobs: int = 0
    unset: frozenset[str] = frozenset({"top_p"})
    role: EngineRole = ""
    call_id: str = field(default="", repr=False, compare=False)
    chain: str = field(default="", repr=False, compare=False)
    max_thoughts: int | None = None

    @property
    def left_out(self) -> frozenset[str]:
        """The parameters that a request leaves to a server."""
        return self.unset - {"top_p"} if self.top_p != 1.0 else self.unset


@dataclass(frozen=True)
class Delta:
    """A piece of a stream. The last one has `finish` and the token counts.

    If a stream breaks off, a delta with counts and without `finish` may come before the error: these tokens
    were paid for.

    Attributes:
        tokens: Ids of the tokens of `text` and `thought`, where the engine has them. Tokens of a stop string,
            of an incomplete character or of a tag may come ahead of their text.
        logprobs: The natural logarithm of the probability of each token, before temperature and top-p, if
            `Sampling.logprobs` asks for it and the engine has it. One for each of `tokens`, if there are ids;
            a server may send them without. llama.cpp has none for a character of several tokens.
        likeliest: The likeliest tokens at the place of each of `logprobs`, if `Sampling.top_logprobs` asks.
        stop_text: The stop string that ended the stream. It is not part of `text`.
        prompt_tokens: Length of the prompt in tokens, including cached ones; on the last delta.
        cached_tokens: Prompt tokens that were not computed again.
        estimated: The counts are estimated from the texts, because the server sent none.
        unsteered: `Sampling.form` was asked for, but does not hold from here on.
        aside: Describes content other than text, such as "a call of the tool 'search'"; on the last delta.
        tool_calls: Calls of `Sampling.tools`, as in a message of the assistant; on the last delta.
        thought: The model's thoughts before its answer: a server keeps them apart, or they stand in tags
            (`chain.thoughts`). Not part of `text`.
        seconds: Its share of the time that a replayed reply first took.
    """

    text: str = ""
    tokens: Tokens = ()
    finish: Finish | None = None
    stop_text: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    aside: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    thought: str = ""
    logprobs: tuple[float, ...] = ()
    likeliest: tuple[Likeliest, ...] = ()
    estimated: bool = False
    unsteered: bool = False
    seconds: float | None = field(default=None, compare=False)


Replies = AsyncGenerator[Delta, None]


@dataclass(frozen=True)
class Price:
    """The price of a model's tokens, in USD per million. Without `cached`, cached tokens cost the same."""

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0) and (value is not None or name != "cached"):
                raise UsageError(
                    f"the price of {name} tokens is {value!r:.60}.",
                    hint="Give USD per million tokens, 0 or more.",
                )

    def cost(self, usage: Usage) -> float:
        """Return the cost of a usage in USD."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = max(usage.prompt_tokens - usage.cached_tokens, 0)
        millions = fresh * self.prompt + usage.cached_tokens * cached
        return (millions + usage.completion_tokens * self.completion) / 1e6


def price_of(value: Any) -> Price | None:
    """Return the price in a `Price`, a mapping of its fields, or a text `PROMPT,COMPLETION[,CACHED]`.

    Raises:
        UsageError: The value is not a price.
    """
    if value is None or isinstance(value, Price):
        return value
    try:
        if isinstance(value, Mapping):
            return Price(**value)
        numbers = [float(part) for part in value.split(",")] if isinstance(value, str) else []
        if len(numbers) in (2, 3) and all(0 <= number < math.inf for number in numbers):
            return Price(*numbers)
    except (TypeError, ValueError):
        pass
    hint = "Write USD per million tokens as PROMPT,COMPLETION or PROMPT,COMPLETION,CACHED, such as 0.5,1.5"
    raise UsageError(f"the price {value!r:.60} cannot be read.", hint=hint)


def is_number(value: object, *, whole: bool = False) -> bool:
    """Return whether a value is a finite number. A bool is not."""
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class EngineInfo:
    """The model of an engine, and its capabilities.

    Attributes:
        name: The model's name, for records and messages.
        engine: The kind: llamacpp, openvino, remote, hf or scripted.
        context: Length of the context in tokens; None if unknown.
        continues: Continues raw text (`stream`), which native revision needs.
        token_ids: Takes token ids as a prompt, reports them in deltas, and has `encode` and `decode`.
        chats: Answers messages (`chat`).
        any_message: Takes every `Message` of the OpenAI protocol. Other engines take plain text from
            `system`, `user` and `assistant` (`engines.messages`).
        any_request: Takes any `Sampling.extra_body` and `extra_headers`.
        fields: Without `any_request`, the only fields of `Sampling.extra_body` that it takes.
        own_sampling: Uses its own values for the sampling parameters in `Sampling.left_out`.
        schemas: Generates JSON that fits `Sampling.schema`.
        forms: Generates text in the form of `Sampling.form` (`steering`).
        resumes: Continues a given beginning of an answer (`Sampling.begun`), and keeps to `Form.one`.
        thinks: Writes thoughts before answers, in tags of its template, and ends them (`max_thoughts`).
        scores: Scores given texts (`score`).
        parameters: How many weights the model has; None if unknown, as for servers.
        native: The model was trained on chains, according to its metadata (`redraft.format = selfee-1`).
        roles: Has other weights for answers than for criticism and revisions (`Sampling.role`).
        certain: The least probability that every token of its own criticism needs for the criticism to count,
            according to its metadata (`redraft.certain`); 0 if all criticism counts.
        shipped: It is redraft's own small model. With roles it has learnt the exercises of `engines.learnt`
            and nothing else; prompts cannot make it judge its own answers.
        dtype: The number format that it was told to compute in; empty for the usual one.
        template: The format of conversations that it was told to use; empty for the model's own.
        format: The number format of most weights that it computes with, such as Q8_0; empty if unknown.
        steady: A seed gives the same answer alone and among other streams. False if that is not certain.
    """

    name: str
    engine: str
    context: int | None = None
    continues: bool = True
    token_ids: bool = False
    chats: bool = True
    any_message: bool = False
    any_request: bool = False
    fields: frozenset[str] = frozenset()
    tools: bool = False
    own_sampling: bool = False
    schemas: bool = False
    forms: bool = False
    resumes: bool = False
    thinks: bool = False
    logprobs: bool = False
    scores: bool = False
    parameters: int | None = None
    native: bool = False
    roles: bool = False
    certain: float = 0.0
    shipped: bool = False
    price: Price | None = None
    dtype: str = ""
    template: str = ""
    format: str = ""
    steady: bool = False

    @property
    def record(self) -> dict[str, str]:
        """What a record says about the model that wrote it."""
        written = {"format": self.format} if self.format else {}
        return {"name": self.name, "engine": self.engine, **written}


class Engine(Protocol):
    """A model that generates text. A subclass needs only `info` and `chat`.

    Methods raise `EngineError` if the model or its server fails, and `UsageError` for what it cannot do.
    """

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities."""
        ...

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages with the model's chat template. Same deltas as `stream`."""
        ...

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text. The last delta has `finish`; closing the generator cancels the work."""
        raise EngineError(f"{self.info.name} answers chats, but does not continue raw text.")

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. `special` puts beginning-of-text in front, as for a prompt."""
        raise EngineError(f"{self.info.name} has no token ids.")

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        raise EngineError(f"{self.info.name} has no token ids.")

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token after the first, for each text.

        The numbers are natural logarithms, before temperature and top-p. If a text begins with the
        beginning-of-text token, as from `encode` with `special`, every other token has a number.

        Raises:
            EngineError: The engine has no `EngineInfo.scores`.
        """
        name, engine = self.info.name, self.info.engine
        raise EngineError(
            f"{name} cannot score texts: its engine, {engine}, cannot give the probabilities of a text.",
            hint="Load the model as a folder of transformers: load_engine('path/folder').",
        )

    async def aclose(self) -> None:
        """Release the engine's resources. May be called twice."""
        return


@dataclass(frozen=True)
class Health:
    """The health of an engine that can lose its process or a server, and recover."""

    restarts: int = 0
    trouble: str = ""  # what does not work now, in words; empty if everything works
    down: bool = False  # nothing works, and for some seconds after each failure no call tries


@runtime_checkable
class Watched(Engine, Protocol):
    """An engine that reports its health."""

    @property
    def health(self) -> Health:
        """Its health now."""
        ...


@runtime_checkable
class Resumer(Engine, Protocol):
    """An engine that can continue a reply whose beginning another engine wrote."""

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Continue after the tokens `said`, which count toward `max_tokens`.

        The last delta counts the tokens of this engine alone; its prompt includes `said`.
        """
        ...


async def thoughts_apart(deltas: Replies, splitter: Splitter) -> Replies:
    """Move thoughts in tags from the text of a chat's deltas to `thought`."""
    answered = thought = False
    async with aclosing(deltas):
        async for delta in deltas:
            own, text = splitter.add(delta.text, last=bool(delta.finish))
            answered, thought = answered or bool(text.strip()), thought or bool(own)
            if own or text != delta.text:
                delta = replace(delta, text=text, thought=delta.thought + own)
            if delta.finish and thought and not (answered or delta.aside):
                delta = replace(delta, aside="thoughts alone")
            if delta.text or delta != Delta():
                yield delta


def first_stop(text: str, stop: Sequence[str]) -> tuple[int, str] | None:
    """Return where the first stop string in a text begins, and the longest one there, or None."""
    found = min(((text.find(each), -len(each), each) for each in stop if each and each in text), default=None)
    return (found[0], found[2]) if found else None


def held_back(text: str, stop: Sequence[str]) -> int:
    """Return how many of the last characters of a text may begin a stop string."""
    longest = min(len(text), max(map(len, stop), default=1) - 1)
    tails = range(longest, 0, -1)
    return next((size for size in tails if any(each.startswith(text[-size:]) for each in stop)), 0)
