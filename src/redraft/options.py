"""The options that flags, the config file, recipes, Python and JSON share, each defined once.

A class lists options: the type of each, and an `Option` with its range, default and help. The classes build
on each other: `PlainOptions` (for all), `Flags` (`ask`, `chat`, `answer`, recipes), `Defaults` (the config
file), and `revision.options.Options` (Python and JSON). `check_values` checks values against one of them.

pydantic does the checking. It is imported on first use, because `redraft --help` reads this module.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from redraft.errors import UsageError, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

MODEL, LOOP, SAMPLING, BUDGET = "Model", "Revising", "Sampling", "Budget of the whole chain"
SERVER = "Waiting for a server"
TEACHER = "Teacher"

RETRIES = 4
"""Default number of retries of a request that a server failed."""


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        text: One sentence of help, without a full stop.
        default: Its value if it is not given; None if there is none, or if `text` says what happens then.
        group: The heading of its flag in help texts; empty if it has no flag.
        metavar: Stands for the value in help texts.
        short: A short form of the flag.
        ge, gt, le, lt: Its range.
        read: Converts a value, or raises ValueError or UsageError. It replaces the check of the type.
        what: The allowed values in words, where type and range do not say it.
        item: Whether an item of a list is allowed, and in words what it should be.
        type: Its type, which `options_of` fills in.
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
    item: tuple[Callable[[Any], bool], str] | None = None
    type: Any = str


_UNPAIRED = re.compile("[\ud800-\udfff]")
"""Half of a character: UTF-8 cannot encode it."""

MAX_SEED = 2**31 - 1
"""Engines take a seed of 31 bits."""

Prompts = str | Mapping[str, str]
"""How a model is asked to criticise and to revise: a name, a file, or two templates (docs/recipes.md)."""


class PlainOptions(TypedDict, total=False):
    """The options of `redraft.revise` that a text or number can hold."""

    mode: Annotated[
        Literal["auto", "native", "prompted", "verified", "best-of"],
        Option("the way to revise: auto, native, prompted, verified or best-of", "auto", LOOP, "MODE"),
    ]
    drafts: Annotated[
        int,
        Option("most first answers; the best one is revised [1, best-of: 4]", None, LOOP, "N", "--n", ge=1),
    ]
    prompts: Annotated[
        Prompts,
        Option(
            "how to ask for criticism and revision: brief, task, editor, teacher or a file",
            "task",
            LOOP,
            "NAME|FILE",
            what="the name of a wording, a YAML file, or its templates",
        ),
    ]
    min_revisions: Annotated[int, Option("fewest revisions", 0, LOOP, "N", ge=0)]
    max_revisions: Annotated[int, Option("most revisions", 3, LOOP, "N", ge=0)]
    feedback_tokens: Annotated[
        int | None, Option("most new tokens of a feedback [--max-tokens]", None, LOOP, "N", gt=0)
    ]
    chain_tokens: Annotated[
        int | None, Option("most tokens of prompt, answers and feedback together", None, LOOP, "N", gt=0)
    ]
    accept_score: Annotated[
        float | None,
        Option("accept an answer whose criticism gives this score or more", None, LOOP, "0..10", ge=0, le=10),
    ]
    context: Annotated[
        Literal["last", "chain"],
        Option("show critic and writer the last step, or the chain", "last", LOOP, "WHAT"),
    ]
    tell_checks: Annotated[
        bool, Option("tell the writer beforehand what the checks demand", True, LOOP)  # noqa: FBT003
    ]
    system: Annotated[str | None, Option("a system message", None, LOOP, "TEXT")]
    temperature: Annotated[
        float, Option("0 is greedy [0.7; a server's own]", None, SAMPLING, "T", ge=0, lt=100)
    ]
    top_p: Annotated[float, Option("nucleus size [1; a server's own]", None, SAMPLING, "P", gt=0, le=1)]
    max_tokens: Annotated[
        int,
        Option(
            "most new tokens of an answer or feedback; native: of a chain [2048; a server's own]",
            None,
            SAMPLING,
            "N",
            gt=0,
        ),
    ]
    seed: Annotated[int | None, Option("makes a run repeatable", None, SAMPLING, "N", ge=0, le=MAX_SEED)]


class ModelOption(TypedDict, total=False):
    """Which model is asked."""

    model: Annotated[
        str,
        Option(
            "default, a GGUF file, org/name, http://host/v1#name …; several with commas",
            None,
            MODEL,
            "REF",
            "-m",
        ),
    ]


class ModelOptions(ModelOption, total=False):
    """Which models are asked."""

    critic: Annotated[str, Option("another model that criticises", None, MODEL, "REF")]
    judge: Annotated[str, Option("the model of judge: checks", None, MODEL, "REF")]


Dtype = Literal["float32", "bfloat16", "float16"]
"""The number format that a transformers folder computes in, as torch names it."""


Device = Literal["cpu", "cuda", "mps"]
"""Where a model on this machine computes, as torch names it: mps is the GPU of a Mac."""


class MachineOptions(TypedDict, total=False):
    """Where a model on this machine runs. Its engine knows the ranges of context and threads."""

    ctx: Annotated[int | None, Option("context of a chain, in tokens", None, MODEL, "N")]
    threads: Annotated[int | None, Option("processor threads", None, MODEL, "N")]
    gpu_layers: Annotated[int | None, Option("layers to put on a GPU", None, MODEL, "N", ge=0)]
    dtype: Annotated[
        Dtype | None,
        Option(
            "compute a folder in float32, bfloat16 or float16 [what suits weights and machine]",
            None,
            MODEL,
            "DTYPE",
            what="float32, bfloat16 or float16",
        ),
    ]
    device: Annotated[
        Device | None,
        Option("cpu, cuda or mps [a GPU if there is one]", None, MODEL, "DEVICE", what="cpu, cuda or mps"),
    ]
    load_8bit: Annotated[
        bool | None, Option("keep most weights of a folder in 8 bits: half the memory, slower", None, MODEL)
    ]
    chat_template: Annotated[
        Literal["vicuna", "stablevicuna", "selfee"] | None,
        Option(
            "the format of conversations: vicuna, stablevicuna or selfee [the model's own]",
            None,
            MODEL,
            "NAME",
            what="vicuna, stablevicuna or selfee",
        ),
    ]


class ServerOptions(TypedDict, total=False):
    """What the tokens of a model cost, and how to wait for its server."""

    price: Annotated[
        str,
        Option("USD per million tokens, unless the config file says", None, BUDGET, "IN,OUT[,CACHED]"),
    ]
    timeout: Annotated[
        float, Option("longest silence [300 to the first token, then 60]", None, SERVER, "S", ge=0.001)
    ]
    retries: Annotated[
        int, Option("repeat a failed request or a broken reply N times", RETRIES, SERVER, "N", ge=0)
    ]
    patience: Annotated[
        float,
        Option(
            "repeat while it is down or busy, besides --retries [ask: 0, else 300]",
            None,
            SERVER,
            "S",
            ge=0,
        ),
    ]
    rpm: Annotated[int, Option("most requests a minute", None, SERVER, "N", ge=1)]
    tpm: Annotated[int, Option("most tokens a minute", None, SERVER, "N", ge=1)]


class Flags(PlainOptions, ModelOptions, MachineOptions, ServerOptions, total=False):
    """The options of `ask`, `chat` and `answer`, and of recipes."""

    check: Annotated[list[str], Option("what the answer must meet; repeatable", None, LOOP, "CHECK", "-c")]
    budget_tokens: Annotated[int, Option("generated tokens", None, BUDGET, "N", gt=0)]
    budget_seconds: Annotated[float, Option("wall-clock time", None, BUDGET, "S", gt=0)]
    budget_usd: Annotated[float, Option("money; needs a price", None, BUDGET, "USD", gt=0)]


class ChainFlags(Flags, total=False):
    """The options of `generate chains` and its recipes."""

    gold: Annotated[
        bool, Option("show the critic the record's gold answer, which the writer never sees", None, TEACHER)
    ]
    first: Annotated[bool, Option("take the first answer from the record", None, TEACHER)]
    verify: Annotated[
        Literal["number", "code"],
        Option(
            "let the record's gold number, or the tests of its code, give the verdicts",
            None,
            TEACHER,
            "number|code",
            what="number or code",
        ),
    ]
    keep: Annotated[
        list[str],
        Option(
            "leave out a clean-up rule: apologies, remarks, verdicts, empty; repeatable",
            None,
            TEACHER,
            "RULE",
        ),
    ]
    drop_leaks: Annotated[
        bool, Option("drop chains that quote the gold answer, into FILE.leaks.jsonl", None, TEACHER)
    ]
    refusals: Annotated[
        Literal["keep", "drop"],
        Option(
            "keep, or drop into FILE.refusals.jsonl: chains whose best answer or criticism refuses",
            "keep",
            TEACHER,
            "keep|drop",
            what="keep or drop",
        ),
    ]


class EvalFlags(Flags, total=False):
    """The options of `eval`."""

    guided: Annotated[
        bool, Option("let the task's own checks guide revising too, as if the truth were known", None, LOOP)
    ]


class Defaults(Flags, total=False):
    """The keys of `[defaults]` in the config file."""

    parallel: Annotated[int, Option("chains at once", ge=1)]
    quiet: Annotated[bool, Option("no progress, no summary")]


@cache
def options_of(group: type) -> Mapping[str, Option]:
    """Return the options of a class by name."""
    hints = get_type_hints(group, include_extras=True)
    pairs = {name: get_args(hint) for name, hint in hints.items()}
    return {name: replace(option, type=kind) for name, (kind, option) in pairs.items()}


@cache
def _model_of(group: type) -> type[BaseModel]:
    """Return the pydantic model of a class."""
    from pydantic import ConfigDict, Field, PlainValidator, create_model

    fields: dict[str, Any] = {}
    for name, option in options_of(group).items():
        limits = {key: getattr(option, key) for key in _LIMITS}
        kind = Annotated[Any, PlainValidator(option.read)] if option.read else option.type
        fields[name] = (kind, Field(option.default, description=option.text, **limits))
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    model: type[BaseModel] = create_model(group.__name__, __config__=config, **fields)
    return model


def check_values(
    values: Mapping[str, Any], group: type, *, where: str = "", table: str = ""
) -> dict[str, Any]:
    """Check types and ranges. Return the values, as the options' readers convert them.

    Args:
        values: Name to value.
        group: The class of options.
        where: Begins every message, such as `redraft.yaml: `.
        table: Stands before every name, such as `defaults.`.

    Raises:
        UsageError: An option is unknown or has a wrong value.
    """
    if not values:
        return {}
    from pydantic import ValidationError

    known = options_of(group)
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {table + near[0]!r}?" if near else "Options: " + ", ".join(known)
            raise UsageError(f"{where}there is no option {f'{table}{name}'!r:.80}.", hint=hint)
        if isinstance(value, str) and not value.isascii() and _UNPAIRED.search(value):
            raise _wrong(where + table + name, value, known[name])
    try:
        model = _model_of(group).model_validate(dict(values))
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
        raise _wrong(where + table + name, values[name], known[name]) from None
    return {name: getattr(model, name) for name in values}


def json_schema_of(group: type) -> dict[str, Any]:
    """Return the JSON Schema of a class of options, for descriptions of an API."""
    return _model_of(group).model_json_schema()


def check_file(values: Mapping[Any, Any], group: type, *, where: str, table: str = "") -> dict[str, Any]:
    """Check the values of a file, which may write names with hyphens. Arguments as for `check_values`.

    Raises:
        UsageError: As for `check_values`, or a name is there in both spellings.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in found:
            raise UsageError(f"{where}{f'{table}{name}'!r:.80} is there twice.", hint="Keep one of them.")
        found[name] = value
    return check_values(found, group, where=where, table=table)


def wrong_item(name: str, values: Any, item: tuple[Callable[[Any], bool], str]) -> UsageError | None:
    """Return the error of the first item that a list may not have, or None; `item` is that of `Option`."""
    fits, what = item
    for number, value in enumerate(values, 1):
        if not fits(value):
            found, text = shown(value), ""
            if isinstance(value, dict) and value:
                parts = [f"{shown(key)}: {shown(part)}" for key, part in islice(value.items(), 3)]
                found = f"a mapping {{{', '.join(parts):.80}}}"
                key, part = next(iter(value.items()))
                if len(value) == 1 and isinstance(part, str) and what.startswith("a text"):
                    text = ": " + shown(f"{key}:{part}")  # YAML reads `- lacks: light` as a mapping
            return UsageError(f"{name}: item {number} is {found}.", hint=f"It should be {what}{text}.")
    return None


def _wrong(name: str, value: Any, option: Option) -> UsageError:
    item = option.item or (TEXT if get_origin(option.type) is list else None)
    if item and isinstance(value, list | tuple) and (error := wrong_item(name, value, item)):
        return error
    return UsageError(f"{name} is {shown(value)}.", hint=f"It should be {allowed(option)}.")


TEXT = (lambda value: isinstance(value, str)), "a text"
"""An item of a list of texts."""

_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text without lone surrogates",
    list: "a list of texts",
}


def allowed(option: Option) -> str:
    """Return in words which values an option may have."""
    if option.what:
        return option.what
    kind = option.type
    if get_origin(kind) is UnionType:  # with None
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        *choices, last = get_args(kind)
        return f"{', '.join(choices)} or {last}"
    limits = ((word, getattr(option, key)) for key, word in _LIMITS.items())
    found = " and ".join(f"{word} {limit:,}" for word, limit in limits if limit is not None)
    return ", ".join(filter(None, [_KINDS[get_origin(kind) or kind], found]))
