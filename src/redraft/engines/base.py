"""The engine protocol: continue text or answer messages, token by token.

`EngineInfo` says what an engine can do, and the loop chooses accordingly. Closing a stream cancels its work.
Engines do their own batching: callers open many streams at once.
"""

# ruff: noqa: ARG002  (methods that raise by default)
from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

from redraft.chain import Finish
from redraft.engines.price import Price
from redraft.errors import EngineError
from redraft.steering.form import Form

Tokens = tuple[int, ...]

EngineRole = Literal["", "answer", "revise"]
"""What a model writes of its own chains: answers, or criticism and revisions. Empty for anything else."""

OF_TOOLS = ("tool_choice", "parallel_tool_calls")  # fields of `Sampling.extra_body` that belong to its tools

OF_TEMPLATE = "chat_template_kwargs"
"""The field of `Sampling.extra_body` with what the chat template is told by name."""

Likeliest = tuple[tuple[str | int, float], ...]
"""Tokens at one place, each its text or its id, with the logarithms of their probabilities, best first."""

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
        seed: Makes a run repeatable on the same engine and batch; None for a random seed.
        schema: A JSON Schema that an answer to messages should fit. Engines with `EngineInfo.schemas` keep
            to it while they generate. One that cannot express it says so once in the log, and goes on
            without: check the answer.
        form: The form that an answer to messages should have. Engines with `EngineInfo.forms` keep to it as
            far as they can: check the answer. A schema goes before it.
        prediction: A text that much of the answer may repeat, as a revision repeats its draft. An engine may
            guess tokens from it, which changes the speed and not the answer.
        tools: Tools that an answer may call, as in the OpenAI protocol. Needs `EngineInfo.tools`.
        extra_body: More fields of a request, over ours. Needs `any_request`, or `fields` that
            name them. Never logged or recorded.
        extra_headers: More headers of a request. As for `extra_body`.
        logprobs: Report the log-probability of each token, from engines with `EngineInfo.logprobs`.
        unset: Which of `temperature`, `top_p` and `max_tokens` nobody asked for: a server's own hold in
            their place (`EngineInfo.own_sampling`). A `top_p` other than 1 was asked for.
        top_logprobs: How many of the likeliest tokens to report at each place, with `logprobs`.
        role: What is written of a chain. Engines with `EngineInfo.roles` have weights for each role.
        call_id: Names this call in every run of a job, so that a batch that was sent before a stop is
            recognised after it. `JournaledEngine` sets it.
        chain: Names the chain of this call. Whoever chooses among replicas keeps a chain where its beginning
            was read.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    form: Form | None = None
    prediction: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    extra_body: Mapping[str, Any] | None = field(default=None, repr=False)
    extra_headers: Mapping[str, str] | None = field(default=None, repr=False)
    logprobs: bool = False
    top_logprobs: int = 0
    unset: frozenset[str] = frozenset({"top_p"})
    role: EngineRole = ""
    call_id: str = field(default="", repr=False, compare=False)
    chain: str = field(default="", repr=False, compare=False)

    @property
    def left_out(self) -> frozenset[str]:
        """The parameters that a request leaves to a server."""
        return self.unset - {"top_p"} if self.top_p != 1.0 else self.unset


@dataclass(frozen=True)
class Delta:
    """A piece of a stream. The last one has `finish` and the token counts.

    Before the error of a stream that breaks off, one may have the counts without `finish`: they are paid for.

    Attributes:
        tokens: Ids of the tokens of `text`, where the engine has them. Tokens of a stop string or of an
            incomplete character may come ahead of their text.
        logprobs: The natural logarithm of the probability of each token, before temperature and top-p, if
            `Sampling.logprobs` asks for it and the engine has it. One for each of `tokens`, where there are
            ids. A server may send them without ids. llama.cpp has none for a character of several tokens.
        likeliest: For each of `logprobs` the likeliest tokens at its place, if `Sampling.top_logprobs` asks.
        stop_text: The stop string that ended the stream. It is not part of `text`.
        prompt_tokens: Length of the prompt in tokens, including cached ones; on the last delta.
        cached_tokens: Prompt tokens that were not computed again.
        estimated: The counts are estimated from the texts, because the server sent none.
        unsteered: `Sampling.form` was asked for, and does not hold from here on.
        aside: Describes content other than text, such as "a call of the tool 'search'"; on the last delta.
        tool_calls: Calls of `Sampling.tools`, as in a message of the assistant; on the last delta.
        thought: What the model thinks before it answers, where a server keeps it apart. No part of `text`.
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


Replies = AsyncGenerator[Delta, None]


@dataclass(frozen=True)
class EngineInfo:
    """The model of an engine, and its capabilities.

    Attributes:
        name: The model's name, for records and messages.
        engine: The kind: llamacpp, openvino, remote, hf or scripted.
        context: Length of the context in tokens; None if unknown.
        continues: Continues raw text (`stream`), which native revision needs.
        token_ids: Takes token ids as a prompt and reports them in deltas; has `encode` and `decode`.
        aligned: The tokens of each delta spell its text. False for servers that send ids early and hold text
            back; cut text is encoded again there.
        chats: Answers messages (`chat`).
        any_message: Takes every `Message` of the OpenAI protocol. Other engines take plain text from
            `system`, `user` and `assistant` (`engines.messages`).
        any_request: Takes any `Sampling.extra_body` and `extra_headers`.
        fields: What it takes of `Sampling.extra_body`, if not anything.
        own_sampling: Has sampling parameters of its own, which hold for those in `Sampling.left_out`.
        schemas: Generates JSON that fits `Sampling.schema`.
        forms: Generates text in the form of `Sampling.form`, by a grammar of this kind (`steering`); empty if
            it does not. `gbnf` says less.
        scores: Scores given texts (`score`).
        embeds: Has vectors of texts (`Embedder`), as far as is known before a server was asked.
        parameters: How many weights the model has; None if unknown, as for servers.
        native: The model was trained on chains, according to its metadata (`redraft.format = selfee-1`).
        roles: Has other weights for answers than for criticism and revisions (`Sampling.role`).
        certain: Its own criticism counts if no token of it is less likely, according to its metadata
            (`redraft.certain`); 0 if all do.
        dtype: What it computes in, if that was asked for; empty for the usual.
        template: The format of its conversations, if one was asked for; empty for the model's own.
        format: The number format of most weights that it computes with, such as Q8_0; empty if unknown.
        steady: A seed gives the same answer alone and among other streams. False where that is not certain.
    """

    name: str
    engine: str
    context: int | None = None
    continues: bool = True
    token_ids: bool = False
    aligned: bool = True
    chats: bool = True
    any_message: bool = False
    any_request: bool = False
    fields: frozenset[str] = frozenset()
    tools: bool = False
    own_sampling: bool = False
    schemas: bool = False
    forms: Literal["", "lark", "gbnf"] = ""
    logprobs: bool = False
    scores: bool = False
    embeds: bool = False
    parameters: int | None = None
    native: bool = False
    roles: bool = False
    certain: float = 0.0
    price: Price | None = None
    dtype: str = ""
    template: str = ""
    format: str = ""
    steady: bool = False

    @property
    def record(self) -> dict[str, str]:
        """What a record says of the model that wrote it."""
        written = {"format": self.format} if self.format else {}
        return {"name": self.name, "engine": self.engine, **written}


class Engine(Protocol):
    """A model that generates text. An engine that inherits from this needs `info` and `chat` alone.

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
        """Return the token ids of a text. `special`: it starts a prompt, with the beginning-of-text token."""
        raise EngineError(f"{self.info.name} has no token ids.")

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        raise EngineError(f"{self.info.name} has no token ids.")

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token after the first, for each text.

        The numbers are natural logarithms, before temperature and top-p. A text that begins with the
        beginning-of-text token, as `encode` with `special` does, has one for each token of its own.

        Raises:
            EngineError: The engine has no `EngineInfo.scores`.
        """
        name, engine = self.info.name, self.info.engine
        raise EngineError(
            f"{name} cannot score texts: its engine, {engine}, has no probabilities of given tokens.",
            hint="Load the model as a folder of transformers: load_engine('path/folder').",
        )

    async def aclose(self) -> None:
        """Release the engine's resources. May be called twice."""
        return


@dataclass(frozen=True)
class ReplicaUse:
    """What one of several replicas does: the replies under way, and the tokens it has written so far."""

    name: str
    streams: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Health:
    """How an engine is that can lose its process or a server, and go on.

    Attributes:
        trouble: What does not work now, in words; empty if everything does.
        down: Nothing works now, and no call tries to: for some seconds after each failure.
        stalled: Nothing is written until a process is started again, or a server works again.
        queue: Replies that wait for their first piece.
        replicas: What its replicas do, of an engine that has some.
    """

    restarts: int = 0
    trouble: str = ""
    down: bool = False
    stalled: bool = False
    queue: int = 0
    replicas: tuple[ReplicaUse, ...] = ()


@runtime_checkable
class Watched(Engine, Protocol):
    """An engine that says how it is."""

    @property
    def health(self) -> Health:
        """How it is now."""
        ...


@runtime_checkable
class Resumer(Engine, Protocol):
    """An engine that goes on with a reply whose beginning another one wrote."""

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Go on behind tokens that were written, of which `max_tokens` counts each.

        The counts of the last delta are of this engine alone: `said` is part of its prompt.
        """
        ...


class Vectors(NamedTuple):
    """The vectors of some texts, and the tokens that were read for them."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: int


@runtime_checkable
class Embedder(Engine, Protocol):
    """An engine that may have vectors of texts: `EngineInfo.embeds` says whether this one has."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vector of each text, all of one length."""
        ...


def first_stop(text: str, stop: Sequence[str]) -> tuple[int, str] | None:
    """Return the place of the first stop string in a text, and the longest one there; None without any."""
    found = min(((text.find(each), -len(each), each) for each in stop if each and each in text), default=None)
    return (found[0], found[2]) if found else None
