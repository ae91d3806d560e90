"""Define each option once, for flags, recipes, the config file, keyword arguments and JSON.

An option group is a subclass of `OptionModel`, a frozen pydantic model. Each field has a type, and `option`
sets the help text, default, range and flag:

    class Haste(OptionModel):
        rpm: int | None = option("send at most N requests per minute", SERVER, "N", ge=1)

- `Haste.read(mapping)` checks names, types and ranges, and returns the frozen model. The errors name
  the wrong value and the allowed values. `read_file` also accepts hyphens in names.
- Code then reads attributes: `haste.rpm`. `haste.explicit` contains the given values, without defaults.
  `haste.model_copy(update=...)` replaces values without validation.
- `options_of(Haste)` describes the options. `cli.options.takes("redraft.somewhere:Haste")` makes a command's
  flags. The argument is the group's name, so that `redraft --help` does not import pydantic.
- A group may inherit from other groups: `class More(B, A)` lists A's options, then B's, then new options.
- `Haste.model_json_schema()` is the group's JSON Schema.
- For keyword arguments, `revision.keywords` has TypedDicts: `def wait(**options: Unpack[HasteKeywords])`.

Types that pydantic does not know need a validator: `price: Annotated[Price, PlainValidator(price_of)]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from types import UnionType
from typing import Any, ClassVar, Literal, Self, TypedDict, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redraft.errors import UsageError, nearest, shown

OF_ANSWERS = "Model", "Revising", "Sampling", "Budget of the whole chain", "Waiting for a server"
MODEL, LOOP, SAMPLING, BUDGET, SERVER = OF_ANSWERS
OF_RUNS = RUN, LIMITS, BATCHES = "Options", "Limits of this run", "Batches of a server"

MAX_THREADS = 512  # llama.cpp's maximum (GGML_MAX_N_THREADS in ggml.h); more would end the process
RETRIES = 4  # default number of times that a failed request is repeated
MAX_SEED = 2**31 - 1  # engines take a seed of 31 bits
TOKENS: Mapping[str, Any] = {"gt": 0, "le": 2**31 - 1}  # limits of a token count: engines use 32 bits

Prompts = str | Mapping[str, str]
"""The name of the prompts for criticism and revision, or two templates (docs/recipes.md)."""

Item = tuple[Callable[[Any], bool], str]
"""A test that returns whether a list item is allowed, and a description of the allowed items."""


@dataclass(frozen=True)
class Option:
    """The description of an option.

    Attributes:
        group: The heading above the flag in help texts; empty if the option has no flag.
        default: The default value; None if there is none, or if only `text` describes the default.
        what: A description of the allowed values, if the type and range are not enough.
        type: The option's type, which `options_of` fills in.
    """

    text: str
    group: str = ""
    metavar: str | None = None
    short: str | None = None
    default: Any = None
    limits: Mapping[str, float] = field(default_factory=dict)
    what: str = ""
    item: Item | None = None
    type: Any = str

    def __call__(self, schema: dict[str, Any]) -> None:
        """Change nothing. pydantic calls the option as the `json_schema_extra` of a field."""


def option(
    text: str,
    group: str = "",
    metavar: str | None = None,
    short: str | None = None,
    *,
    default: Any = None,
    what: str = "",
    item: Item | None = None,
    **limits: Any,
) -> Any:
    """Return a field of an `OptionModel`. The arguments are the attributes of `Option`."""
    about = Option(text, group, metavar, short, default, limits, what, item)
    return Field(default, description=text, json_schema_extra=about, **limits)


class OptionModel(BaseModel):
    """A group of options with their values."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,
    )
    # Settings of the command or function that takes the options.
    OWN_DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    IN_RECIPES: ClassVar[type[OptionModel] | None] = None  # options that its recipes may set; None: all
    RECIPES: ClassVar[str] = ""  # the folder of its recipes in `redraft/recipes`
    NOT_OF_CONFIG: ClassVar[frozenset[str]] = frozenset()  # options that the config file cannot set
    HYPHEN: ClassVar[str] = "-"  # between the words of a flag

    @classmethod
    def read(cls, values: Mapping[str, Any], *, where: str = "", table: str = "") -> Self:
        """Check and convert a mapping, and return the options.

        Args:
            values: Maps names to values.
            where: The beginning of every message, such as `redraft.yaml: `.
            table: The prefix of every name in messages, such as `defaults.`, or `--` for flags.
        """
        known = options_of(cls)
        called = {n: where + table + (n.replace("_", cls.HYPHEN) if table == "--" else n) for n in known}
        for name, value in values.items():
            if name not in known:
                hint = nearest(str(name), known, table) or "Options: " + ", ".join(known)
                raise UsageError(f"{where}there is no option {f'{table}{name}'!r:.80}.", hint=hint)
            if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
                raise _wrong(called[name], value, known[name])
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            name = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
            if name not in values:
                hint = f"It should be {allowed(known[name])}."
                raise UsageError(f"{called[name]} is missing.", hint=hint) from None
            raise _wrong(called[name], values[name], known[name]) from None

    @classmethod
    def read_file(cls, values: Mapping[Any, Any], *, where: str, table: str = "") -> Self:
        """Check and convert a mapping as `read` does, but accept hyphens in names: `max-tokens`.

        Raises:
            UsageError: A name appears in both spellings, or `read` raises.
        """
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = str(key).replace("-", "_")
            if name in found:
                raise UsageError(f"{where}{f'{table}{name}'!r:.80} appears twice.", hint="Keep one of them.")
            found[name] = value
        return cls.read(found, where=where, table=table)

    @property
    def explicit(self) -> dict[str, Any]:
        """The given values by name, without defaults."""
        values = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: v for name, v in values if v is not None and name in self.model_fields_set}


@cache
def options_of(group: type[OptionModel]) -> Mapping[str, Option]:
    """Return the descriptions of a group's options by name."""
    found = {}
    for name, each in group.model_fields.items():
        about: Any = each.json_schema_extra
        if not isinstance(about, Option):
            raise TypeError("each field of an OptionModel must be made with option(...)")
        found[name] = replace(about, type=each.annotation)
    return found


def wrong_item(name: str, values: Any, item: Item) -> UsageError | None:
    """Return an error for the first value that `item` does not allow; None if all are allowed."""
    fits, what = item
    for number, value in enumerate(values, 1):
        if not fits(value):
            found = shown(value)
            if isinstance(value, dict) and value:
                parts = [f"{shown(key)}: {shown(part)}" for key, part in islice(value.items(), 3)]
                found = f"a mapping {{{', '.join(parts):.80}}}"
                key, part = next(iter(value.items()))
                if len(value) == 1 and isinstance(part, str) and what.startswith("a text"):
                    what = f"a text: {shown(f'{key}:{part}')}"  # YAML reads `- lacks: light` as a mapping
            return UsageError(f"{name}: item {number} is {found}.", hint=f"It should be {what}.")
    return None


def _wrong(name: str, value: Any, option: Option) -> UsageError:
    item = option.item or (TEXT if get_origin(option.type) is list else None)
    if item and isinstance(value, list | tuple) and (error := wrong_item(name, value, item)):
        return error
    return UsageError(f"{name} is {shown(value)}.", hint=f"It should be {allowed(option)}.")


TEXT = (lambda value: isinstance(value, str)), "a text"  # an item of a list of texts

_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
_KINDS |= {str: "a text without lone surrogates", list: "a list of texts", tuple: "a list of texts"}


def allowed(option: Option) -> str:
    """Describe the values that an option accepts."""
    if option.what:
        return option.what
    kind = option.type
    if get_origin(kind) in (UnionType, Union):  # an optional type
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        *choices, last = get_args(kind)
        return " or ".join(filter(None, (", ".join(choices), last)))
    found = " and ".join(f"{_LIMITS[key]} {limit:,}" for key, limit in option.limits.items())
    return ", ".join(filter(None, [_KINDS[get_origin(kind) or kind], found]))


CHECKS = 'a list of texts: ["words<=50"]'
CHECK = TEXT[0], "a text such as 'words<=50', 'python:module.function' or 'json-schema:FILE'"


class PlainOptions(OptionModel):
    """The options of `redraft.revise` whose values JSON can express."""

    mode: Literal["auto", "native", "prompted", "verified", "best-of", "repair"] = option(
        "the way to revise: auto, native, prompted, verified, best-of or repair", LOOP, "MODE", default="auto"
    )
    drafts: int | None = option(
        "write up to N drafts, and revise the best one [1; best-of: 4]", LOOP, "N", "--n", ge=1
    )
    prompts: Prompts = option(
        "prompts of critic and writer: 'task' asks for new answers, 'teacher' for scores and corrections",
        LOOP,
        "NAME",
        default="task",
        what="the name of the prompts, or two templates",
    )
    min_revisions: int = option("revise at least N times", LOOP, "N", default=0, ge=0)
    max_revisions: int = option("revise at most N times", LOOP, "N", default=3, ge=0)
    feedback_tokens: int | None = option("maximum tokens in a criticism [--max-tokens]", LOOP, "N", **TOKENS)
    accept_score: float | None = option(
        "accept an answer whose criticism gives this score or more", LOOP, "0..10", ge=0, le=10
    )
    context: Literal["last", "chain"] = option(
        "what critic and writer see: the last step, or the whole chain", LOOP, "WHAT", default="last"
    )
    tell_checks: bool = option("tell the writer beforehand what the checks demand", LOOP, default=True)
    steer: bool = option("let checks steer the writer word by word, if its engine can", LOOP, default=True)
    system: str | None = option("add this system message to prompts that have none", LOOP, "TEXT")
    temperature: float | None = option(
        "sampling temperature; 0 is greedy [0.7, or the server default]", SAMPLING, "T", ge=0, lt=100
    )
    top_p: float | None = option(
        "nucleus sampling: probability mass kept [1, or the server default]", SAMPLING, "P", gt=0, le=1
    )
    max_tokens: int | None = option(
        "maximum new tokens in an answer or criticism; native mode: in a chain [2048, or the server default]",
        SAMPLING,
        "N",
        **TOKENS,
    )
    max_thoughts: int | None = option(
        "maximum tokens of a local model's thoughts before an answer", SAMPLING, "N", ge=0
    )
    seed: int | None = option("random seed, which makes a run repeatable", SAMPLING, "N", ge=0, le=MAX_SEED)


A_REFERENCE = "a model reference (docs/engines.md)"  # description of a value that selects a model


class ModelOption(OptionModel):
    """The option that selects the model."""

    model: str | None = option(
        "model: default, small, a GGUF file, openai:NAME, ollama:NAME, http://host/v1#NAME …; servers: A,B",
        MODEL,
        "REF",
        "-m",
        what=A_REFERENCE,
    )


class ModelOptions(ModelOption):
    """The options that select the model, the critic and the judge."""

    critic: str | None = option("let another model write the criticisms", MODEL, "REF", what=A_REFERENCE)
    judge: str | None = option(
        "let this model run `judge:` checks or, without checks, pick a draft", MODEL, "REF", what=A_REFERENCE
    )


def is_async(value: Any) -> bool:
    """Return whether a function or callable object must be awaited."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(is_kind(f) for is_kind in kinds for f in (value, getattr(value, "__call__", None)))  # noqa: B004


A_HOOK = "a plain function of one argument, not an async one: on_event=print"
"""A description of the values that `on_event` accepts."""

Dtype = Literal["float32", "bfloat16", "float16"]
"""The data type in which a transformers model computes, by torch's name."""

Device = Literal["cpu", "cuda", "mps"]
"""The device on which a local model computes, as torch names the device; mps is the GPU of a Mac."""


EngineName = Literal["llamacpp", "openvino", "hf"]
"""The engine that runs a local model: llama.cpp, OpenVINO or transformers."""


class MachineOptions(OptionModel):
    """The options for running a local model."""

    engine: EngineName | None = option(
        "run local models with llamacpp, openvino or hf [chosen to suit the run]", MODEL, "NAME"
    )
    ctx: int | None = option("set the context length of a chain, in tokens", MODEL, "N", ge=2)
    threads: int | None = option("compute with N processor threads", MODEL, "N", ge=1, le=MAX_THREADS)
    gpu_layers: int | None = option("put N layers of the model on a GPU", MODEL, "N", ge=0)
    dtype: Dtype | None = option(
        "run a model folder in float32, bfloat16 or float16 [chosen to suit weights and machine]",
        MODEL,
        "DTYPE",
    )
    device: Device | None = option("compute on cpu, cuda or mps [a GPU if there is one]", MODEL, "DEVICE")
    speculate: bool | None = option("guess a revision's tokens from its draft [where that is faster]", MODEL)
    chat_template: Literal["vicuna", "stablevicuna", "selfee"] | None = option(
        "format conversations as for vicuna, stablevicuna or selfee [as the model was trained]", MODEL, "NAME"
    )


class MachineKeywords(TypedDict, total=False):
    """`MachineOptions` as keyword arguments."""

    engine: EngineName | None
    ctx: int | None
    threads: int | None
    gpu_layers: int | None
    dtype: Dtype | None
    device: Device | None
    speculate: bool | None
    chat_template: Literal["vicuna", "stablevicuna", "selfee"] | None


class WaitOptions(OptionModel):
    """The options for waiting for a model's server."""

    timeout: float | None = option(
        "give up after S seconds without a first or next token [first 300, next 60]", SERVER, "S", ge=0.001
    )
    retries: int = option(
        "repeat a request up to N times if the server is down or fails; for files, also if replies end early",
        SERVER,
        "N",
        default=RETRIES,
        ge=0,
    )
    patience: float | None = option(
        "keep trying for S seconds, even after the retries, while a server is down or busy "
        "[300 in runs over a file, otherwise 0]",
        SERVER,
        "S",
        ge=0,
    )


class ServerOptions(WaitOptions):
    """The options for the prices and limits of a model's server, and for waiting."""

    price: str | None = option(
        "price in USD per million tokens, instead of that in the config file", BUDGET, "IN,OUT[,CACHED]"
    )
    rpm: int | None = option("send at most N requests per minute", SERVER, "N", ge=1)
    tpm: int | None = option("use at most N tokens per minute", SERVER, "N", ge=1)


class Flags(ServerOptions, MachineOptions, ModelOptions, PlainOptions):
    """The options of `ask`, `chat` and `answer`, and of recipes."""

    check: list[str] = option(
        "a check that answers must pass; repeatable", LOOP, "CHECK", "-c", default=[], what=CHECKS, item=CHECK
    )
    budget_tokens: int | None = option("maximum tokens that a chain generates", BUDGET, "N", gt=0)
    budget_seconds: float | None = option("maximum wall-clock time of a chain", BUDGET, "S", gt=0)
    budget_usd: float | None = option("maximum cost of a chain; needs a price", BUDGET, "USD", gt=0)


class EvalFlags(Flags):
    """The options of `eval`."""

    guided: bool = option("let the task's scoring checks guide revisions, too", LOOP, default=False)
    samples: int = option(
        "answer each record N times, for pass@k (one of k is right)", SAMPLING, "N", default=1, ge=1, le=1000
    )


class Defaults(Flags):
    """The keys of `[defaults]` in the config file."""

    parallel: int | None = option("number of chains to make at once", ge=1)
    quiet: bool = option("print no progress and no summary", default=False)
