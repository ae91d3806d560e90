"""Define the protocol of engines, which continue text or answer messages token by token.

`EngineInfo` lists an engine's capabilities. Closing a stream stops the generation. Engines batch concurrent
streams.
"""

# ruff: noqa: ARG002  (methods that raise by default)
from __future__ import annotations

import math
import sys
from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from redraft.chain import Finish, Usage
from redraft.chain.thoughts import ENDS, OPENING, Splitter, opened_before
from redraft.engines.steering.form import Form
from redraft.errors import EngineError, UsageError

Tokens = tuple[int, ...]

EngineRole = Literal["", "answer", "revise"]
"""What a model writes: an answer, a criticism or revision (`revise`), or any other text (empty)."""

OF_TOOLS = ("tool_choice", "parallel_tool_calls")  # fields of `Sampling.extra_body` about tools

OF_TEMPLATE = "chat_template_kwargs"
"""The field of `Sampling.extra_body` that contains arguments for the chat template."""

Likeliest = tuple[tuple[str | int, float], ...]
"""The most probable tokens at one position, in descending order, as pairs (text or id, log-probability)."""

PromptText = str | Tokens  # a prompt for `Engine.stream`: a text, or token ids if `EngineInfo.token_ids`


class Message(TypedDict):
    """One message of a conversation, as in the OpenAI protocol. With `tool_calls`, `content` may be None.

    Every engine accepts text with the roles `system`, `user` and `assistant`. Other messages need
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
"""Fields of `Sampling.extra_body` that control sampling, named as in llama.cpp's server."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters.

    Attributes:
        temperature: 0 is greedy. The default is SelFee's (reference/selfee.md).
        top_p: Nucleus size, in (0, 1].
        max_tokens: Maximum number of new tokens in one call. The default is SelFee's.
        max_thoughts: Maximum number of thought tokens; None for no limit but `max_tokens`. Needs
            `EngineInfo.thinks`.
        seed: Makes a run with one stream repeatable; None for a random seed.
        schema: A JSON Schema for an answer to messages. Engines with `EngineInfo.schemas` enforce most
            schemas, but not all, so check the answer.
        form: Demands on the text of an answer to messages. Engines with `EngineInfo.forms` enforce most
            demands, but not all, so check the answer. `schema` takes precedence.
        banned: Ids of tokens that local engines with `EngineInfo.forms` must not generate.
        unending: Whether the token that ends an answer is banned, too.
        likelier: Pairs of a token's id and an amount to add to its logit, for the same engines as `banned`.
        begun: The beginning of an answer to messages, which the engine continues. Needs `EngineInfo.resumes`.
            With `schema`, `begun` is the start of a JSON text, and the engine writes only the next value,
            which `schema` describes, and a comma or bracket.
        tools: Tools that an answer may call, as in the OpenAI protocol. Needs `EngineInfo.tools`.
        extra_body: Additional request fields, which override redraft's fields. Without
            `EngineInfo.any_request`, only `EngineInfo.fields` are allowed. Never logged or recorded.
        extra_headers: Additional request headers. Needs `EngineInfo.any_request`. Never logged or recorded.
        logprobs: Whether to report the log-probability of each token. Needs `EngineInfo.logprobs`.
        unset: The parameters among `temperature`, `top_p` and `max_tokens` that the user did not set. Engines
            with `EngineInfo.own_sampling` choose the values. A `top_p` other than 1 counts as set.
        top_logprobs: Number of most probable tokens to report at each position, with `logprobs`.
        role: What to write (see `EngineRole`). Engines with `EngineInfo.roles` have weights for each role.
        call_id: The call's id, which is the same in every run of a job. `JournaledEngine` sets the id.
        chain: The id of the call's chain. A router sends all calls of a chain to the same replica.
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
        """The sampling parameters that a request omits, so that the server chooses the values."""
        return self.unset - {"top_p"} if self.top_p != 1.0 else self.unset


@dataclass(frozen=True)
class Delta:
    """A piece of a stream. The last delta contains `finish` and the token counts.

    Before an error, a stream may yield a delta with counts but no `finish`.

    Attributes:
        tokens: Token ids of `text` and `thought`, if the engine has token ids. They may come in an earlier
            delta than their text.
        logprobs: The natural logarithm of each token's probability, before temperature and top-p, if
            `Sampling.logprobs` is set. Not always as many as `tokens`.
        likeliest: The most probable tokens at each position in `logprobs`, if `Sampling.top_logprobs` is set.
        stop_text: The stop string that ended the stream, which is not in `text`.
        prompt_tokens: Length of the prompt in tokens, including cached tokens; on the last delta.
        cached_tokens: Number of prompt tokens read from the cache.
        estimated: Whether the counts are estimated from the texts.
        unsteered: Whether `Sampling.form` is not enforced from this delta on.
        aside: Describes content other than text, such as "a call of the tool 'search'"; on the last delta.
        tool_calls: Calls of `Sampling.tools`, as in an assistant message; on the last delta.
        thought: The model's thoughts before the answer, which are not in `text`.
        others: Other texts that fit into `Sampling.form.gap`, most probable first; on the last delta.
        seconds: Seconds to generate this delta, if the engine has a journal.
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
    others: tuple[str, ...] = ()
    seconds: float | None = field(default=None, compare=False)


Replies = AsyncGenerator[Delta, None]


@dataclass(frozen=True)
class Price:
    """The price of a model's tokens, in USD per million. If `cached` is None, cached tokens cost `prompt`."""

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0) and (value is not None or name != "cached"):
                hint = "Give USD per million tokens, 0 or more."
                raise UsageError(f"the price of {name} tokens cannot be {value!r:.60}.", hint=hint)

    def cost(self, usage: Usage) -> float:
        """Return the cost of `usage` in USD."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = max(usage.prompt_tokens - usage.cached_tokens, 0)
        millions = fresh * self.prompt + usage.cached_tokens * cached
        return round((millions + usage.completion_tokens * self.completion) / 1e6, 12)


def price_of(value: Any) -> Price | None:
    """Make a `Price` from a mapping or a text `PROMPT,COMPLETION[,CACHED]`. Return None for None.

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
    """Return whether a value is a finite int or float (with `whole`, an int), but not a bool."""
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class EngineInfo:
    """An engine's model and its capabilities.

    Attributes:
        name: The model's name, for records and messages.
        engine: The kind of engine: llamacpp, openvino, remote, hf or scripted.
        context: Length of the context in tokens; None if unknown.
        continues: Continues raw text (`stream`), as the mode `native` requires.
        token_ids: Accepts token ids as a prompt, reports token ids, and supports `encode` and `decode`.
        chats: Answers messages (`chat`).
        any_message: Accepts every `Message` of the OpenAI protocol, not only text.
        any_request: Accepts any `Sampling.extra_body` and `extra_headers`.
        fields: Without `any_request`, the only fields of `Sampling.extra_body` that are accepted.
        own_sampling: Chooses the sampling parameters in `Sampling.left_out`.
        schemas: Enforces `Sampling.schema` during generation.
        forms: Enforces `Sampling.form` during generation (`steering`).
        resumes: Continues a given beginning of an answer (`Sampling.begun`), and enforces `Form.one`.
        thinks: Writes thoughts before answers, in the template's tags, and respects `Sampling.max_thoughts`.
        scores: Scores given texts (`score`).
        parameters: Number of weights of the model; None if unknown, as for servers.
        native: The model was trained to criticise and revise (metadata `redraft.format = selfee-1`).
        roles: Uses different weights for answers and for criticism and revisions (`Sampling.role`).
        certain: If a criticism contains a token less probable than this, the verdict is `unknown`. From the
            model's metadata (`redraft.certain`).
        shipped: Whether this is redraft's default model, which can judge only exercises (`engines.learnt`).
        dtype: The dtype that the user chose; empty for the default.
        template: The conversation format that the user chose; empty for the model's chat template.
        format: The number format of most weights in memory, such as Q8_0; empty if unknown.
        adapters: Names of the user's adapters.
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
    adapters: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, str]:
        """The description of this model in chain records."""
        form = {"format": self.format} if self.format else {}
        return {"name": "+".join((self.name, *self.adapters)), "engine": self.engine, **form}


class Engine(Protocol):
    """A model that generates text. A subclass needs only `info` and `chat`.

    Methods raise `EngineError` if the model or its server fails, and `UsageError` for a wrong call.
    """

    @property
    def info(self) -> EngineInfo:
        """The model and its capabilities."""
        ...

    def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Answer messages, using the model's chat template. Yield deltas, as `Engine.stream` does."""
        ...

    def stream(self, prompt: PromptText, sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
        """Continue raw text, and yield deltas. Closing the generator stops the generation."""
        raise EngineError(f"{self.info.name} supports chat, but not raw text.")

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. `special` prepends the beginning-of-text token, as for a prompt."""
        raise EngineError(f"{self.info.name} does not support token ids.")

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids."""
        raise EngineError(f"{self.info.name} does not support token ids.")

    async def score(self, texts: Sequence[PromptText]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token after the first, for each text.

        Log-probabilities are natural logarithms, before temperature and top-p.

        Raises:
            EngineError: The engine lacks `EngineInfo.scores`.
        """
        name, engine = self.info.name, self.info.engine
        hint = "Load the model as a transformers folder: load_engine('path/folder')."
        raise EngineError(f"{name} cannot score texts: its engine is {engine}.", hint=hint)

    async def aclose(self) -> None:
        """Release the engine's resources. May be called twice."""
        return


@dataclass(frozen=True)
class Health:
    """The health of an engine whose process or server may fail and recover."""

    restarts: int = 0
    trouble: str = ""  # a description of the current fault; empty if everything works
    down: bool = False  # whether calls fail
    resting: bool = False  # whether the failed part is in a pause before the next try


@runtime_checkable
class Watched(Engine, Protocol):
    """An engine that reports its health."""

    @property
    def health(self) -> Health:
        """The engine's current health."""
        ...


@runtime_checkable
class Resumer(Engine, Protocol):
    """An engine that can continue a reply whose beginning another engine wrote."""

    def resume(
        self, asked: PromptText | Sequence[Message], sampling: Sampling, stop: Sequence[str], said: Tokens
    ) -> Replies:
        """Continue the reply to `asked` after the tokens `said`, which count toward `max_tokens`.

        On the last delta, `prompt_tokens` includes `said`.
        """
        ...


async def opened_by_prompt(
    deltas: Replies, splitter: Splitter, known: MutableMapping[Any, str], extra: Mapping[str, Any]
) -> Replies:
    """Yield deltas, and detect whether the chat template ends the prompt with a thought's opening tag.

    If so, `splitter.until` becomes the closing tag, otherwise "". For later requests, `known` maps
    thinking (True if a request turns it on, False if it turns it off, otherwise None) to `splitter.until`.
    """
    effort, flags = extra.get("reasoning_effort"), extra.get(OF_TEMPLATE)
    asked = flags.get("enable_thinking", flags.get("thinking")) if isinstance(flags, Mapping) else None
    told = effort != "none" if effort else asked if isinstance(asked, bool) else None
    splitter.until = expected = known.get(told, "")
    said, held, waits = "", list[Delta](), told is True and told not in known
    async with aclosing(deltas):
        async for delta in deltas:
            said += delta.text
            held.append(delta)
            own = delta.thought or said[:80].lstrip().startswith(OPENING)
            if delta.thought and expected:  # the server now separates thoughts itself
                splitter.until = expected = ""
            if waits and not own and any(end in delta.text for end in ENDS):
                splitter.until = opened_before(said)
            waits = waits and not (own or splitter.until or delta.finish)
            if delta.finish == "stop" and said.strip():
                known[told] = expected if expected and expected in said else opened_before(said)
                if expected and not known[told]:  # the supposed thought is an answer
                    splitter.until, held = "", [replace(delta, text=said)]
            while held and not waits:
                yield held.pop(0)


async def thoughts_apart(deltas: Replies, splitter: Splitter) -> Replies:
    """Move thoughts in tags from `text` to `thought`, in the deltas of a chat."""
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
    """Return the position and text of the first stop string (the longest at that position), or None."""
    found = min(((text.find(each), -len(each), each) for each in stop if each and each in text), default=None)
    return (found[0], found[2]) if found else None


def held_back(text: str, stop: Sequence[str]) -> int:
    """Return the number of characters at a text's end that may be the beginning of a stop string."""
    tails = range(min(len(text), max(map(len, stop), default=1) - 1), 0, -1)
    return next((size for size in tails if any(each.startswith(text[-size:]) for each in stop)), 0)
