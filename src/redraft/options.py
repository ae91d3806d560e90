"""The options that flags, the config file, recipes, Python and JSON share, each defined once.

An option has its type, range, default and one sentence of help. `Fields` are those of `redraft.revise` that a
text or number can hold. `Flags` adds those of `ask` and `answer`, and `Defaults` what only the config file
has. `revise.options` adds those that only Python has.

A class here becomes a pydantic model on first use (`model_of`): this module does not import pydantic, because
`redraft --help` reads it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from redraft.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

MODEL, LOOP, SAMPLING, BUDGET = "Model", "Revising", "Sampling", "Budget of the whole chain"
SERVER = "Waiting for a server"

RETRIES = 4
"""Default number of retries of a request that a server failed."""


@dataclass(frozen=True)
class About:
    """What is to be known of an option besides its type.

    Attributes:
        text: One sentence of help, without a full stop.
        default: The value if it is left out; None for none, or for one that `text` names.
        group: The heading of its flag in help texts; empty for no flag.
        metavar: Stands for the value in help texts.
        short: A second, short form of the flag.
        ge, gt, le, lt: Its range.
        read: Returns the value from what was given, or raises ValueError or UsageError; then the type is not
            checked.
        what: What it takes, in words; empty for what type and range say.
    """

    text: str
    default: Any = None
    group: str = ""
    metavar: str | None = None
    short: str | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    read: Callable[[Any], Any] | None = None
    what: str = ""

    def of(self, read: Callable[[Any], Any], what: str) -> About:
        """Return this with a reader and what it takes."""
        return replace(self, read=read, what=what)


_UNPAIRED = re.compile("[\ud800-\udfff]")
"""Half of a character: UTF-8 cannot encode it."""

MOST_OF_A_SEED = 2**31 - 1
"""Engines take a seed of 31 bits."""

Prompts = str | Mapping[str, str]
"""How a model is asked to criticise and to revise: a name, a file, or two templates (docs/recipes.md)."""


class Fields(TypedDict, total=False):
    """The options of `redraft.revise` that a text or number can hold."""

    mode: Annotated[
        Literal["auto", "native", "prompted", "verified"],
        About("the way to revise: auto, native, prompted or verified", "auto", LOOP, "MODE"),
    ]
    prompts: Annotated[
        Prompts,
        About(
            "how to ask for criticism and revision: brief, task, editor or a file",
            "task",
            LOOP,
            "NAME|FILE",
            what="the name of a wording, a YAML file, or its templates",
        ),
    ]
    min_revisions: Annotated[int, About("fewest revisions", 0, LOOP, "N", ge=0)]
    max_revisions: Annotated[int, About("most revisions", 3, LOOP, "N", ge=0)]
    context: Annotated[
        Literal["last", "chain"],
        About("show critic and writer the last step, or the chain", "last", LOOP, "WHAT"),
    ]
    system: Annotated[str | None, About("a system message", None, LOOP, "TEXT")]
    temperature: Annotated[float, About("0 is greedy", 0.7, SAMPLING, "T", ge=0, lt=100)]
    top_p: Annotated[float, About("nucleus size", 1.0, SAMPLING, "P", gt=0, le=1)]
    max_tokens: Annotated[
        int, About("most new tokens of an answer or feedback; native: of a chain", 2048, SAMPLING, "N", gt=0)
    ]
    seed: Annotated[int | None, About("makes a run repeatable", None, SAMPLING, "N", ge=0, le=MOST_OF_A_SEED)]


class Models(TypedDict, total=False):
    """Which models are asked."""

    model: Annotated[
        str, About("default, a GGUF file, org/name, http://host/v1#name …", None, MODEL, "REF", "-m")
    ]
    critic: Annotated[str, About("another model that criticises", None, MODEL, "REF")]
    judge: Annotated[str, About("the model of judge: checks", None, MODEL, "REF")]


class Machine(TypedDict, total=False):
    """Where a model on this machine runs. Its engine knows the ranges of context and threads."""

    ctx: Annotated[int | None, About("context of a chain, in tokens", None, MODEL, "N")]
    threads: Annotated[int | None, About("processor threads", None, MODEL, "N")]
    gpu_layers: Annotated[int | None, About("layers to put on a GPU", None, MODEL, "N", ge=0)]


class Flags(Fields, Models, Machine, total=False):
    """The options of `ask` and `answer`, and of recipes."""

    check: Annotated[list[str], About("what the answer must meet; repeatable", None, LOOP, "CHECK", "-c")]
    budget_tokens: Annotated[int, About("generated tokens", None, BUDGET, "N", gt=0)]
    budget_seconds: Annotated[float, About("wall-clock time", None, BUDGET, "S", gt=0)]
    budget_usd: Annotated[float, About("money; needs a price", None, BUDGET, "USD", gt=0)]
    price: Annotated[
        str,
        About("USD per million tokens, unless the config file says", None, BUDGET, "IN,OUT[,CACHED]"),
    ]
    timeout: Annotated[
        float, About("longest silence [300 to the first token, then 60]", None, SERVER, "S", ge=0.001)
    ]
    retries: Annotated[
        int, About("repeat a failed request or a broken reply N times", RETRIES, SERVER, "N", ge=0)
    ]
    patience: Annotated[
        float,
        About(
            "repeat while it is down or busy, besides --retries [ask: 0, answer: 300]",
            None,
            SERVER,
            "S",
            ge=0,
        ),
    ]
    rpm: Annotated[int, About("most requests a minute", None, SERVER, "N", ge=1)]
    tpm: Annotated[int, About("most tokens a minute", None, SERVER, "N", ge=1)]


class Defaults(Flags, total=False):
    """The keys of `[defaults]` in the config file."""

    parallel: Annotated[int, About("chains at once", ge=1)]
    quiet: Annotated[bool, About("no progress, no summary")]


@cache
def abouts(kind: Any) -> Mapping[str, tuple[Any, About]]:
    """Return the type and description of every option of a class, by name."""
    return {name: get_args(hint)[:2] for name, hint in get_type_hints(kind, include_extras=True).items()}


def defaults_of(kind: Any) -> dict[str, Any]:
    """Return the defaults of a class; None where there is none."""
    return {name: about.default for name, (_, about) in abouts(kind).items()}


@cache
def model_of(kind: Any) -> type[BaseModel]:
    """Return the pydantic model of a class."""
    from pydantic import ConfigDict, Field, PlainValidator, create_model

    fields: dict[str, Any] = {}
    for name, (hint, about) in abouts(kind).items():
        limits = {key: getattr(about, key) for key in ("ge", "gt", "le", "lt")}
        typed = Annotated[Any, PlainValidator(about.read)] if about.read else hint
        fields[name] = (typed, Field(about.default, description=about.text, **limits))
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    model: type[BaseModel] = create_model(kind.__name__, __config__=config, **fields)
    return model


def checked(values: Mapping[str, Any], kind: Any, *, where: str = "", table: str = "") -> dict[str, Any]:
    """Return options with their types and ranges checked.

    Args:
        values: Name to value.
        kind: The class of options.
        where: Begins every message, such as `redraft.yaml: `.
        table: Stands before every name, such as `defaults.`.

    Raises:
        UsageError: An option is unknown or has a wrong value.
    """
    if not values:
        return {}
    from pydantic import ValidationError

    known = abouts(kind)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"Did you mean {table + near[0]!r}?" if near else "Options: " + ", ".join(known)
            raise UsageError(f"{where}there is no option {f'{table}{name}'!r:.80}.", hint=hint)
    for name, value in values.items():
        if isinstance(value, str) and not value.isascii() and _UNPAIRED.search(value):
            raise _wrong(name, value, kind, where + table)
    try:
        model = model_of(kind).model_validate(dict(values))
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
        raise _wrong(name, values[name], kind, where + table) from None
    return {name: getattr(model, name) for name in values}


def _wrong(name: str, value: Any, kind: Any, where: str) -> UsageError:
    return UsageError(
        f"{where}{name} is {value!a:.80}.", hint=f"It should be {allowed(*abouts(kind)[name])}."
    )


def allowed(hint: Any, about: About) -> str:
    """Return in words which values an option may have."""
    if about.what:
        return about.what
    if get_origin(hint) in (Union, UnionType):
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    if choices := get_args(hint) if get_origin(hint) is Literal else ():
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text without lone surrogates",
        list: "a list of texts",
    }
    limits = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    given = ((word, getattr(about, key)) for key, word in limits.items())
    found = [f"{word} {limit:,}" for word, limit in given if limit is not None]
    return ", ".join(filter(None, [names[get_origin(hint) or hint], " and ".join(found)]))
