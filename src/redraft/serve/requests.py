"""Convert chat requests, and the fields that all requests share, into the options of a chain."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from secrets import randbelow
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import AfterValidator, Field, PrivateAttr, WithJsonSchema

from redraft.chain import Chain, Prompt, is_system
from redraft.chain.thoughts import apart
from redraft.checks.base import Check, schema_of
from redraft.checks.parse import parse_check
from redraft.checks.schema import validator_of
from redraft.checks.structure import Json, JsonSchema
from redraft.checks.tools import fault_of_tools
from redraft.engines.base import OF_TEMPLATE, SAMPLING_FIELDS, Engine
from redraft.engines.messages import ROLES
from redraft.errors import UsageError, shown
from redraft.options import MAX_SEED, wrong_item
from redraft.options import TEXT as A_TEXT
from redraft.revision.api import prompt_of, settled
from redraft.revision.options import Budget, RevisionOptions, check_options
from redraft.serve.bodies import TEXT, Body, only, option, texts_schema
from redraft.serve.errors import invalid, told
from redraft.serve.logprobs import MOST_LIKELY, Noting, noting, only_answer
from redraft.serve.models import Model, Models
from redraft.serve.reader import ServerLimits

ANSWERS = 8  # most answers to one request (`n`)
REVISIONS = 16  # most revisions of a chain
DRAFTS = 8  # most drafts of a chain
HOTTEST = 2  # highest temperature, as at OpenAI
STOPS = 16  # most stop strings
CHECKS = 32  # most checks of one request
CHECK = 4096  # most characters of a check. Parsing a check takes quadratic time.
SCHEMA = 65_536  # most characters of a JSON schema
BIASES = 1024  # most tokens of `logit_bias`
_SEEDS_APART = 1000  # distance between the seeds of two answers: each call of a chain takes the next seed

_CHECKS = {"type": "array", "items": {**TEXT, "maxLength": CHECK}, "maxItems": CHECKS}
_BUDGET = {
    "type": "object",
    "properties": {
        name: {"anyOf": [{"type": kind, "exclusiveMinimum": 0}, {"type": "null"}]}
        for name, kind in (("tokens", "integer"), ("seconds", "number"), ("usd", "number"))
    },
    "additionalProperties": False,
}
_CHOICE = {"anyOf": [{"enum": ["none", "auto", "required", None]}, {"type": "object"}]}
_OF_MESSAGE = {"role": {"enum": list(ROLES)}, "content": {"type": ["string", "array", "null"]}}
_MESSAGE = {"type": "object", "required": ["role"], "properties": _OF_MESSAGE}
_MESSAGES = {"type": "array", "minItems": 1, "items": _MESSAGE}
_OF_FORMAT = {"type": {"enum": ["text", "json_object", "json_schema"]}}
FORMAT = {"type": ["object", "null"], "required": ["type"], "properties": _OF_FORMAT}
TOOLS = {"type": "array", "items": {"type": "object"}}
_BIAS = {"type": "number", "minimum": -100, "maximum": 100}
_BIASES = {"type": ["object", "null"], "additionalProperties": _BIAS, "maxProperties": BIASES}
_OF_BIASES = f"an object of up to {BIASES:,} token ids, each with a number from -100 to 100"
_NO_VARIABLES = {"chat_template", "tokenize", "tokenizer_kwargs", "conversation", "messages", "max_length"}
_NO_VARIABLES |= {"add_generation_prompt", "continue_final_message", "return_dict", "return_tensors", "tools"}
"""Arguments of transformers' `apply_chat_template` that a request must not set. Model servers pass on every
field, and `chat_template` is a program."""
_OF_TEMPLATE = "an object, in which enable_thinking is true or false, if given"

_LEAST_P = 1e-6  # replaces a `top_p` of 0: only the likeliest token is kept
_OF_TOP_P = "nucleus sampling: probability mass kept"
_TOP_P = {"type": "number", "minimum": 0, "maximum": 1, "description": _OF_TOP_P}
_SEED = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1, "description": "-1 for a random seed"}


def _seed(given: Any) -> Any:
    if type(given) is not int or not -(2**63) <= given < 2**63:
        raise ValueError(f" is {shown(given)}. It should be a whole number of 64 bits; -1 means random.")
    return randbelow(MAX_SEED + 1) if given == -1 else given % (MAX_SEED + 1)


def _biases(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given and len(given) > BIASES:
        raise ValueError(f" is {shown(given)}. It should be {_OF_BIASES}.")
    for token, bias in (given or {}).items():
        known = token.isascii() and token.isdecimal() and len(token) < 10
        if not (known and type(bias) in (int, float) and -100 <= bias <= 100):
            raise ValueError(f" has {shown(token)}: {shown(bias)}. It should be {_OF_BIASES}.")
    return given


def _of_template(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if wrong := sorted(_NO_VARIABLES & (given or {}).keys()):
        raise ValueError(f" has {wrong[0]!r}, which a request cannot set. Leave it out.")
    thinking = (given or {}).get("enable_thinking", True)
    if type(thinking) is not bool:
        raise ValueError(f" has 'enable_thinking': {shown(thinking)}. It should be {_OF_TEMPLATE}.")
    return given


_BEGINS = {"object": r'\{\s*["}]', "array": r'\[\s*[]\[{"\d.tfn-]'}  # other JSON may look like prose


@dataclass(frozen=True)
class Accepted:
    """A checked request."""

    model: str
    inputs: tuple[Any, ...]  # the prompt or text for each answer
    options: RevisionOptions  # the model's options, overridden by the request's. The engine is open.
    stream: bool = False
    with_usage: bool = False
    with_steps: bool = False
    with_chain: bool = False
    echo: bool = False  # begin each text with its prompt
    withheld: str = ""  # the text that replaces an answer that fails its checks
    think_tags: bool = False  # thoughts are part of the content, in `<think>` tags
    strict: str = ""  # the name of the schema check that the answer must pass
    strict_tools: bool = False  # whether a tool call that stays wrong is an error
    left_out: tuple[str, ...] = ()  # types of the tools that the model does not get; a header lists them
    repeated: Mapping[str, Any] = field(default_factory=dict)  # fields of the request to repeat in the reply
    # Counts a chain for the promise of the model's recipe. Returns a warning, if any.
    count: Callable[[Chain], str] = lambda _: ""
    noted: Noting | None = None  # records the log-probabilities of each answer, if they were requested

    @property
    def sure(self) -> bool:
        """Whether the first text is certain to be the final answer, unchanged."""
        # Without an enforced schema, JSON may come in a code fence, which is removed at the end.
        kept = engine_of(self.options).info.schemas and self.options.steer
        checks: Any = self.options.checks
        return only_answer(self.options) and (kept or not any(map(schema_of, checks)))

    @property
    def begins(self) -> re.Pattern[str] | None:
        """A pattern for the beginning of an allowed JSON object or list, or None without a JSON check."""
        found = (schema_of(cast("Check", check)) for check in self.options.checks)
        schemas = [schema for schema in found if schema is not None]
        if not schemas:
            return None
        kinds = [kind for kind in _BEGINS if all(kind in each.get("type", _BEGINS) for each in schemas)]
        return re.compile("|".join(map(_BEGINS.__getitem__, kinds)) or "(?!)")

    def options_at(self, index: int) -> RevisionOptions:
        """Return the options for answer `index`, with different seeds for each answer."""
        seed, engine = self.options.seed, cast("Engine", self.options.model)
        if seed is None and index and engine.info.roles:
            seed = 0  # without a seed, all answers would be the same
        if seed is None or not index:
            return self.options
        return self.options.model_copy(update={"seed": (seed + index * _SEEDS_APART) % (MAX_SEED + 1)})


def engine_of(options: RevisionOptions) -> Engine:
    """Return the engine in a chain's options."""
    return cast("Engine", options.model)


Effort = Annotated[str | None, Field(max_length=40, description="a text, such as 'low'")]
"""The reasoning effort, as a word that the model's server knows."""


class ModelRequest(Body):
    """The base of all requests to a model: the model's name, and fields that do not affect the answer."""

    model: Annotated[str, Field(description="the name of a model")]
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    _beside: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, given: Mapping[str, Any], models: Models) -> Self:
        """Return the checked body. Extra fields that the models' file allows are put into `beside`."""
        name = given.get("model")
        allowed = models.passes.get(name, frozenset()) if isinstance(name, str) else frozenset()
        beside = {field: given[field] for field in allowed - cls.model_fields.keys() if field in given}
        found = cls.of({field: value for field, value in given.items() if field not in beside})
        found.beside.update(beside)
        return found

    @property
    def beside(self) -> dict[str, Any]:
        """The fields to pass to the model's server unchanged, as the models' file allows."""
        return self._beside

    @abstractmethod
    def accept(self, models: Models, limits: ServerLimits) -> Accepted:
        """Return the checked request. Call this in a thread if a schema is large: that may take seconds.

        Raises:
            Refusal: A field is wrong, the model does not exist, or the model lacks a requested feature.
        """


class StreamOptions(Body):
    """The options for additional events of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Any = None


class SampledRequest(ModelRequest):
    """The fields that chats and completions share."""

    temperature: Annotated[Any, option("temperature", HOTTEST)] = None
    top_p: Annotated[Any, option("top_p", schema=_TOP_P, folds=lambda p: _LEAST_P if p == 0 else p)] = None
    max_tokens: Annotated[Any, option("max_tokens")] = None
    seed: Annotated[Any, option("seed", schema=_SEED, folds=_seed)] = None
    stop: Annotated[Any, option("stop", STOPS, single=True, schema=texts_schema(STOPS))] = None
    n: Annotated[int | None, Field(ge=1, le=ANSWERS)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    top_k: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repeat_penalty: Annotated[float | None, Field(ge=0.01, le=10)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    logit_bias: Annotated[
        dict[str, Any] | None, Field(description=_OF_BIASES), AfterValidator(_biases), WithJsonSchema(_BIASES)
    ] = None


class Revision(Body):
    """The fields that decide how an answer is revised."""

    min: Annotated[Any, option("min_revisions", REVISIONS)] = None
    max: Annotated[Any, option("max_revisions", REVISIONS)] = None
    mode: Annotated[Any, option("mode")] = None
    drafts: Annotated[Any, option("drafts", DRAFTS)] = None
    given: Annotated[Any, option("given", schema=TEXT)] = None
    places: Annotated[Any, option("places", schema={"type": "array"})] = None
    prefer_last: Annotated[Any, option("prefer_last", schema={"type": "boolean"})] = None
    critic: Annotated[str | None, Field(description="the name of a model")] = None
    checks: Annotated[Any, option("checks", CHECKS, schema=_CHECKS)] = None
    budget: Annotated[Any, option("budget", schema=_BUDGET)] = None


class ChatStreamOptions(StreamOptions):
    """The options for additional events of a chat's stream."""

    include_steps: bool | None = None


class RevisedRequest(ModelRequest):
    """The fields that chats and responses share."""

    revision: Revision | None = None
    redraft: bool | None = None
    stream: bool | None = None
    tool_choice: Annotated[Any, WithJsonSchema(_CHOICE)] = None
    parallel_tool_calls: bool | None = None

    def accepted(
        self, models: Models, limits: ServerLimits, prompt: Prompt, wanted: Any, places: tuple[str, str]
    ) -> Accepted:
        """Return the checked request, with the chain to make.

        `wanted` is the format of the answer, with `type`, `schema` and `strict`. `places` names the two
        fields of the request that contain the format and the schema.
        """
        model = models.named(self.model)
        tools = dict(zip(self.places_of_tools(), self.options.get("tools") or (), strict=True))
        if fault := fault_of_tools(tools):
            raise invalid(*fault)
        checks = format_checks(wanted.get("type"), wanted.get("schema"), *places)
        given = self._with_critic(models)
        options = chain_options(model, limits, given, self.revision, checks)
        options = self._with_tools(options, model)
        asked = self.revision.options if self.revision else {}
        once = bool(getattr(self, "logprobs", None)) or asked.get("max_revisions") == 0
        # A model with no revisions still revises tasks that its adapters have learnt.
        options = settled(prompt, options, engine_of(options).info, once=once)[0]
        options = with_passed(options, passed_in(self), model)
        strict = any(each.get("strict") is True for each in functions_of(options))
        given, own = {**given, **asked, **passed_in(self)}, {**_NEUTRAL, **vars(model.options)}
        free = {"seed"} if own.get("checks") else {"seed", "checks"}  # fields that leave the promise valid
        other = min({name for name in given if given[name] != own.get(name)} - free, default="")
        return Accepted(
            model.name,
            (prompt,),
            options,
            stream=bool(self.stream),
            with_chain=bool(self.redraft),
            withheld=model.withheld,
            think_tags=model.think_tags and not checks,
            strict=f"json-schema:{places[0]}" if wanted.get("strict") is True else "",
            strict_tools=strict or limits.strict_tools,
            count=lambda chain: model.watch.add(chain, other) if model.watch else "",
        )

    def _with_critic(self, models: Models) -> dict[str, Any]:
        name = self.revision and self.revision.critic
        if not name:
            return self.options
        critic = models.named(name, "revision.critic")
        if critic.withheld:
            message = f"the model {name!r} withholds failing answers, so it cannot be a critic."
            raise invalid(message, "revision.critic")
        return {**self.options, "critic": critic.options.model}

    def _with_tools(self, options: RevisionOptions, model: Model) -> RevisionOptions:
        choice, tools = _as_in_chats(self.tool_choice), self.options.get("tools") or ()
        named = isinstance(choice, dict) and isinstance(choice.get("type"), str)
        if not (named or choice in (None, "none", "auto", "required")):
            message = f"tool_choice is {shown(choice)}. It should be none, auto or required, or name a tool."
            raise invalid(message, "tool_choice")
        if not tools:
            if choice not in (None, "none", "auto"):
                raise invalid("tool_choice needs tools, but the request has none.", "tool_choice")
            return options
        info, names = engine_of(options).info, [each.get("name") for each in functions_of(options)]
        if not info.tools:
            message = f"the model {model.name!r} accepts no tools. Leave them out. For JSON: response_format."
            raise invalid(message, "tools", code="unsupported")
        wanted = [] if info.any_request and named and choice["type"] == "custom" else _wanted(choice)
        if wrong := [name for name in wanted if name not in names]:
            found = "no tool" if wrong[0] is None else shown(wrong[0])
            message = f"tool_choice names {found}. The request's tools are {', '.join(map(str, names)):.200}."
            raise invalid(message, "tool_choice")
        if named and choice["type"] == "allowed_tools" and not info.any_request:
            kept = [each for each in options.tools if _wanted(each)[0] in wanted]
            options, choice = options.model_copy(update={"tools": kept}), choice["allowed_tools"]["mode"]
        beside = {"tool_choice": choice, "parallel_tool_calls": self.parallel_tool_calls}
        return beside_of(options, {name: value for name, value in beside.items() if value is not None})

    def places_of_tools(self) -> list[str]:
        """Return the path of each function in the request, such as `tools[0].function`."""
        return [f"tools[{number}].function" for number in range(len(self.options.get("tools") or ()))]


def _as_in_chats(choice: Any) -> Any:
    match choice:
        case {"type": kind, "name": name}:
            return {"type": kind, "function": {"name": name}}
        case {"type": "allowed_tools" as kind, "tools": [*tools], **others}:
            functions = [_as_in_chats(tool) for tool in tools if isinstance(tool, Mapping) and "name" in tool]
            return {"type": kind, kind: {**others, "tools": functions}}
    return choice


def _wanted(choice: Any) -> list[Any]:
    match choice:
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required", "tools": [_, *_] as tools},
        }:
            named = [each for each in tools if not (isinstance(each, Mapping) and "custom" in each)]
            return [_wanted(tool)[0] if isinstance(tool, Mapping) else tool for tool in named]
        case {"type": "allowed_tools"}:
            form = '{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{…}]}}'
            message = f"allowed_tools in tool_choice needs tools and a mode (auto or required). Send {form}"
            raise invalid(message, "tool_choice")
        case {"function": {"name": name}}:
            return [name]
    return [None] if isinstance(choice, Mapping) else []


class ChatRequest(SampledRequest, RevisedRequest):
    """A request for a chat completion."""

    whole: ClassVar[str] = "a chat request"
    never: ClassVar[tuple[str, ...]] = ("audio", "prediction", "verbosity", "web_search_options")
    stream_options: ChatStreamOptions | None = None
    messages: Annotated[
        list[Any],
        Field(description='a list of messages: [{"role": "user", "content": "…"}]'),
        WithJsonSchema(_MESSAGES),
    ]
    max_completion_tokens: Annotated[Any, option("max_tokens")] = None
    tools: Annotated[Any, option("tools", schema=TOOLS)] = None
    response_format: Annotated[dict[str, Any] | None, WithJsonSchema(FORMAT)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MOST_LIKELY)] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, Field(description=_OF_TEMPLATE), AfterValidator(_of_template)
    ] = None
    reasoning_effort: Effort = None
    modalities: Annotated[Any, only(["text"])] = None
    functions: Annotated[Any, only([], hint="Use tools.")] = None
    function_call: Annotated[Any, only("none", hint="Use tool_choice.")] = None

    def accept(self, models: Models, limits: ServerLimits) -> Accepted:
        """Return the checked request, with one chain to make for each of the `n` answers."""
        model, count = models.named(self.model), self.n or 1
        earlier = map(_untagged, self.messages) if model.think_tags else self.messages
        prompt = prompt_in([*earlier], "messages")
        if self.redraft and count > 1:
            raise invalid("the field `redraft` needs n to be 1: a reply has only one chain.", "redraft")
        wanted = {"type": "text"} if self.response_format is None else self.response_format
        named = wanted.get("json_schema")
        inner = named if isinstance(named, dict) else {}
        wanted = {"type": wanted.get("type"), "schema": inner.get("schema"), "strict": inner.get("strict")}
        places = ("response_format", "response_format.json_schema.schema")
        made = self.accepted(models, limits, prompt, wanted, places)
        options, noted = made.options, None
        if self.logprobs or options.stop or options.tools or self.chat_template_kwargs is not None:
            options = by_messages(options)
        if self.logprobs:
            options, noted = noting(options, model.name, self.top_logprobs or 0)
        elif self.top_logprobs:
            raise invalid("top_logprobs needs logprobs to be true.", "top_logprobs")
        return replace(
            made,
            inputs=(prompt,) * count,
            options=options,
            with_usage=bool(self.stream_options and self.stream_options.include_usage),
            with_steps=bool(self.stream_options and self.stream_options.include_steps),
            noted=None if model.withheld else noted,
        )


def by_messages(options: RevisionOptions) -> RevisionOptions:
    """Set the mode `prompted` instead of `auto` if nothing is checked or revised and the model can chat."""
    # `auto` may choose `native`, which does not support stop strings, tools and log-probabilities.
    plain = only_answer(options) and options.mode == "auto" and engine_of(options).info.chats
    return options.model_copy(update={"mode": "prompted"}) if plain and not options.checks else options


def _untagged(message: Any) -> Any:
    match message:
        case {"role": "assistant", "content": str(said)}:
            return {**message, "content": apart(said)[1]}
    return message


def prompt_in(messages: list[Any], param: str) -> Prompt:
    """Return messages as a prompt. Errors name the field `param`.

    If all are system messages, the last becomes a user message.
    """
    if messages and all(isinstance(each, dict) and is_system(each) for each in messages):
        messages = [*messages[:-1], {**messages[-1], "role": "user"}]
    try:
        return prompt_of(messages)
    except UsageError as error:
        raise invalid(error.message, param) from None


def chain_options(
    model: Model,
    limits: ServerLimits,
    given: Mapping[str, Any],
    revision: Revision | None,
    wanted: Sequence[Check] = (),
) -> RevisionOptions:
    """Return the options of a chain. The request's options override the model's options."""
    asked = {**given, **(revision.options if revision else {})}
    own = {**model.options.explicit, **(model.watch.instead if model.watch else {})}
    free = revision and not model.watch  # a promise fixes the revisions, even when it is broken
    if free and own.get("max_revisions") == 0 and "max_revisions" not in asked:
        own = {name: value for name, value in own.items() if name not in ("max_revisions", "min_revisions")}
    found: dict[str, Any] = {**own, **asked}
    if checks := [*own.get("checks", ()), *read_checks(asked.get("checks", ())), *wanted]:
        found["checks"] = checks
    if wanted:  # a client's program needs the format, whether or not checks steer
        found["steer"] = True
    budget = _budget(Budget(seconds=limits.seconds), model.options.budget, asked.get("budget"))
    found["budget"] = budget
    if budget.usd is not None and (lacks := RevisionOptions.read(found).unpriced):
        of = "" if lacks[0] == "model" else f"the {lacks[0]} of "
        message = f"revision.budget.usd needs a price, but {of}the model {model.name!r} has none here."
        raise invalid(f"{message} Use revision.budget.tokens.", "revision.budget.usd")
    if model.withheld and (wrong := [name for name in ("tools", "stop") if asked.get(name)]):
        message = f"the model {model.name!r} withholds failing answers, so it does not accept {wrong[0]}."
        raise invalid(message, wrong[0], code="unsupported")
    try:
        return check_options(found)
    except UsageError as error:
        raise invalid(told(error), "revision" if revision else None) from None


def read_checks(texts: Sequence[Any]) -> list[Check]:
    """Read the checks of a request. Kinds that could run programs or read files are refused."""
    if wrong := wrong_item("revision.checks", texts, A_TEXT):
        raise invalid(told(wrong), "revision.checks")
    if (size := max(map(len, texts), default=0)) > CHECK:
        message = f"a check has {size:,} characters, but this server allows {CHECK:,} at most."
        raise invalid(message, "revision.checks")
    try:
        return [parse_check(text, writer="anyone") for text in texts]
    except UsageError as error:
        said = told(error).replace("write json-schema:FILE", "send response_format")
        raise invalid(said.replace("docs/checks.md", "GET /v1/checks"), "revision.checks") from None


def _budget(first: Budget, *others: Budget | None) -> Budget:
    for other in filter(None, others):
        pairs = {name: (getattr(first, name), getattr(other, name)) for name in vars(first)}
        least = {name: min((n for n in pair if n is not None), default=None) for name, pair in pairs.items()}
        first = replace(first, **cast("Any", least))
    return first


def format_checks(kind: Any, schema: Any, param: str, place: str) -> list[Check]:
    """Return checks for the format that an answer must have."""
    if kind == "text":
        return []
    if kind == "json_object":
        return [Json()]
    if kind != "json_schema":
        found = f"{param}.type is {shown(kind)}"
        raise invalid(f"{found}. It should be text, json_object or json_schema.", f"{param}.type")
    if not isinstance(schema, dict):
        found = "missing" if schema is None else shown(schema)
        raise invalid(f"{place} is {found}. It should be an object: a JSON Schema.", place)
    size = accumulate(map(len, json.JSONEncoder(ensure_ascii=False).iterencode(schema)))
    if any(each > SCHEMA for each in size):  # the rest is not counted: it may be long
        raise invalid(f"the schema is too long: this server allows {SCHEMA:,} characters.", place)
    try:
        return [JsonSchema(param, validator_of(schema, param))]
    except UsageError as error:
        raise invalid(error.message, place) from None


def functions_of(options: RevisionOptions) -> list[Mapping[str, Any]]:
    """Return the functions among the tools."""
    return [each for tool in options.tools if isinstance(each := tool.get("function"), Mapping)]


def passed_in(request: ModelRequest) -> dict[str, Any]:
    """Return the fields that are passed to the model's engine unchanged."""
    names = (*sorted(SAMPLING_FIELDS), OF_TEMPLATE, "reasoning_effort")
    values = {name: getattr(request, name, None) for name in names}
    return {**{name: value for name, value in values.items() if value is not None}, **request.beside}


_NEUTRAL: Mapping[str, Any] = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}
"""Values without effect, which some clients send to every server."""


def with_passed(
    options: RevisionOptions, given: Mapping[str, Any], model: Model, place: str = ""
) -> RevisionOptions:
    """Return options that send `given` to the engine. Raise `Refusal` if the engine rejects a field."""
    asked = {name: value for name, value in given.items() if name not in _NEUTRAL or value != _NEUTRAL[name]}
    info = engine_of(options).info
    for name in asked:
        if not (info.any_request or name in info.fields):
            takes = f"accepts {', '.join(sorted(info.fields))}, but not" if info.fields else "does not accept"
            lacks = f"which {takes} {place or name}. Leave it out."
            message = f"the model {model.name!r} runs on {info.engine}, {lacks}"
            raise invalid(message, place or name, code="unsupported")
    return beside_of(options, asked)


def beside_of(options: RevisionOptions, more: Mapping[str, Any]) -> RevisionOptions:
    """Return options that also send the fields `more` to the model's server."""
    if not more:
        return options
    return options.model_copy(update={"extra_body": {**(options.extra_body or {}), **more}})
