"""Read a run's settings from a recipe and flags: redraft's own, and those of transformers' TrainingArguments.

    redraft train VERB RECIPE --name value --switch --list a b

The recipe has the same names as the flags, which override it. Old names are translated (`settings.renamed`),
and `settings.machine` fits the settings to the machine.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import PlainValidator

from redraft.errors import UsageError, nearest, shown
from redraft.formats.documents import json_of, recipe_of, shipped_recipes
from redraft.options import OptionModel, option, options_of
from redraft.train import renamed
from redraft.train.options import SFT, VERBS, RunOptions, TrainOptions, TrainVerb
from redraft.train.processes import Say, ranks

_PARTS = 1000  # the most parts of a setting that is a mapping

_DATA = (".jsonl", ".json", ".txt", ".gz", ".zst", ".csv", ".parquet", ".arrow")
"""Endings of data files, which users type in place of a recipe."""

_PATHS = {
    *("model_name_or_path", "data_path", "eval_data_path", "output_dir", "cache_dir", "gguf"),
    *("resume_from_checkpoint", "logging_dir", "deepspeed", "fsdp_config"),
}
"""Settings that may be paths."""


Own = TypeVar("Own", bound=RunOptions, covariant=True)


@dataclass(frozen=True)
class RunSettings(Generic[Own]):
    """All settings of a run."""

    own: Own  # redraft's settings
    theirs: Mapping[str, Any]  # arguments of `TrainingArguments`, converted, without its defaults
    remarks: tuple[str, ...] = ()  # what to print, such as names that were translated


TrainSettings = RunSettings[TrainOptions]


def parse(words: Sequence[str], verb: TrainVerb = SFT) -> RunSettings[Any]:
    """Parse the words after a verb of `redraft train`."""
    recipe, words = (words[0], words[1:]) if words and not words[0].startswith("--") else (None, words)
    return settings_of(verb, recipe, lambda: read_flags(words, verb))


def settings_of(
    verb: TrainVerb, recipe: str | None, given: Callable[[], Mapping[str, Any]]
) -> RunSettings[Any]:
    """Return a run's settings: those of the recipe, overridden by `given()`, called after it is read."""
    layers = [read_recipe(recipe, verb)] if recipe else []
    merged: dict[str, Any] = {}
    remarks: list[str] = []
    for values in [*layers, given()]:
        translated, more = renamed.translate(values)
        remarks += more
        for name, value in translated.items():
            if name not in kinds(verb):  # what an old name stands for
                raise _no_setting(name, verb)
            converted = _at_home(name, convert(name, value, verb))
            before = merged.get(name)
            both = isinstance(converted, dict) and isinstance(before, dict)
            merged[name] = {**before, **converted} if both else converted  # type: ignore[dict-item]
    _refuse_unsupported(merged)
    names, ranged = options_of(verb.options), options_of(_Ranges)
    _Ranges.read({name: value for name, value in merged.items() if name in ranged}, table="--")
    own = verb.options.read({name: value for name, value in merged.items() if name in names}, table="--")
    if own.price_per_hour is not None and not own.estimate:
        remarks.append("--price_per_hour has no effect without --estimate.")
    theirs = {**verb.defaults, **{name: value for name, value in merged.items() if name not in names}}
    if own.rows_a_step:
        theirs["gradient_accumulation_steps"] = _batches_a_step(own.rows_a_step, theirs, remarks.append)
    return RunSettings(own, theirs, tuple(remarks))


def _batches_a_step(rows: int, theirs: Mapping[str, Any], say: Say) -> int:
    """Return the batches in a step of so many rows, with the processes that run now."""
    size = int(theirs["per_device_train_batch_size"])
    batches, left = divmod(rows, size * ranks())
    if left:
        raise UsageError(
            f"--rows_a_step {rows} is no multiple of the rows that all processes have in a batch: "
            f"{ranks()} × {size} (--per_device_train_batch_size).",
            hint=f"--rows_a_step {(batches + 1) * size * ranks()}",
        )
    if theirs.get("gradient_accumulation_steps", batches) != batches:
        say(f"--gradient_accumulation_steps is {batches}, as --rows_a_step {rows} wants it.")
    return batches


def _at_home(name: str, value: Any) -> Any:
    """Expand `~` in a path: in a recipe, no shell does."""
    if name not in _PATHS or not value:
        return value
    if isinstance(value, str):
        return os.path.expanduser(value)  # noqa: PTH111 - a Path would change org/name+adapter
    return tuple(map(os.path.expanduser, value)) if isinstance(value, tuple) else value


def read_flags(words: Sequence[str], verb: TrainVerb) -> dict[str, Any]:
    """Return name to value. A flag takes the words that follow it; without any it is a switch.

    A repeated flag adds to a list, or replaces a single value.
    """
    values: dict[str, Any] = {}
    flag = ""
    for word in words:
        if word.startswith("--") and word != "--":
            flag, equals, value = word[2:].partition("=")
            flag, off = _known(flag.replace("-", "_"), verb)
            given = [value] if equals else ["False"] if off else []
            before = values.get(flag, []) if _takes_several(flag, verb) else []  # else the last one counts
            values[flag] = [*before, *given]
        elif not flag:
            raise UsageError(
                f"{word!r} belongs to no flag.", hint=f"redraft train {verb.name} [RECIPE] --name value …"
            )
        else:
            values[flag].append(word)
    for name, several in values.items():
        wanted = _wanted(name, verb)
        if len(several) > 1 and name in kinds(verb) and not _takes_several(name, verb):
            raise _too_many(name, several, verb)
        is_switch = not wanted or bool in wanted or name == "resume_from_checkpoint"
        if not several and not is_switch:
            raise UsageError(f"--{name} has no value, and should be {_in_words(wanted)}.")
    # A switch stands alone.
    return {name: each[0] if len(each) == 1 else each or True for name, each in values.items()}


def _too_many(name: str, words: Sequence[str], verb: TrainVerb) -> UsageError:
    last = words[-1]
    hint = None
    if last in shipped_recipes("train") or Path(last).suffix in (".yaml", ".yml"):
        hint = f"The recipe comes first: redraft train {verb.name} {last} --{name} {words[0]}"
    return UsageError(f"--{name} takes one value, and has {len(words)}: {' '.join(words):.60}.", hint=hint)


def _takes_several(name: str, verb: TrainVerb) -> bool:
    return any(_plain(each) in (tuple, list) for each in _wanted(name, verb))


def _wanted(name: str, verb: TrainVerb) -> list[Any]:
    """Return the types of a setting by any of its names; none if its value is translated or ignored."""
    now = renamed.RENAMED.get(name, name)
    return _members(kinds(verb)[now]) if now in kinds(verb) else []


def _known(name: str, verb: TrainVerb) -> tuple[str, bool]:
    """Return a known name, and whether it is turned off (`--no_NAME`)."""
    if name in names_known(verb):
        return name, False
    if name.removeprefix("no_") in names_known(verb):
        return name.removeprefix("no_"), True
    raise _no_setting(name, verb)


def _no_setting(name: str, verb: TrainVerb) -> UsageError:
    return UsageError(f"there is no setting --{name:.60}.", hint=near_setting(name, verb, prefix="--"))


def read_recipe(ref: str, verb: TrainVerb) -> dict[str, Any]:
    """Return name to value of a recipe, by its name or path, without its `about`."""
    if ref.lower().endswith(_DATA):
        raise UsageError(f"{ref} is a data file by its name, not a recipe.", hint=f"--data_path {ref}")
    _, document = recipe_of(ref, "train")
    for name in document:
        if name not in names_known(verb):
            others = (each for each in VERBS.values() if each != verb and name in options_of(each.options))
            verbs = [f"redraft train {each.name} {ref}" for each in others]
            theirs = f"\nAnother verb has it: {' · '.join(verbs)}" if verbs else ""
            hint = f"{near_setting(str(name), verb)}{theirs}"
            raise UsageError(f"{ref}: there is no setting {name!r:.60}.", hint=hint)
    return document


def names_known(verb: TrainVerb) -> frozenset[str]:
    """Return all names that a flag or a recipe may use: current and old ones."""
    return frozenset({*kinds(verb), *renamed.RENAMED, *renamed.DROPPED, *renamed.SPECIAL})


def near_setting(name: str, verb: TrainVerb, prefix: str = "") -> str:
    """Return a hint at the nearest known name."""
    names = f"redraft train {verb.name} --help-all lists the names."
    return nearest(name, names_known(verb), prefix) or names


@cache
def kinds(verb: TrainVerb = SFT) -> Mapping[str, Any]:
    """Return name to type of every current setting: redraft's own, and the fields of `TrainingArguments`."""
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    theirs = {each.name: hints[each.name] for each in fields(TrainingArguments) if each.init}
    theirs.pop("parallelism_config")  # only Python code can make one
    braces = dict.fromkeys(("lr_scheduler_kwargs", "activation_checkpointing_kwargs"), dict | None)
    return {
        **theirs,
        **braces,
        "fsdp": bool,
        "logging_dir": str,
        **{name: each.type for name, each in options_of(verb.options).items()},
    }


def convert(name: str, value: Any, verb: TrainVerb = SFT) -> Any:
    """Convert a setting's value to its type. Flags give texts, and so does `1e-5` in YAML."""
    if value is False and name.endswith("_strategy"):
        value = "no"  # YAML reads a plain no as False
    if isinstance(value, bool) and name == "resume_from_checkpoint":
        value = str(value)  # a switch, or the path of a checkpoint
    wanted = _members(kinds(verb)[name])
    if isinstance(value, str) and value.lstrip().startswith("{") and dict in map(_plain, wanted):
        wanted = [dict]  # not a file name
    for kind in wanted:
        with suppress(ValueError, OverflowError, RecursionError):
            return _read(kind, value)
    message = f"--{name} is {shown(value)}, and should be {_in_words(wanted)}."
    choices = [str(each) for kind in wanted for each in _choices(kind)]
    hint = (isinstance(value, str) and nearest(value, choices)) or None
    raise UsageError(message, hint="--max_grad_norm 0 clips nothing." if name == "max_grad_norm" else hint)


_KINDS = {
    type(None): "",
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    dict: "JSON in braces",
    Literal: "one of ",
    str: "a text",
    tuple: "one or more texts",
    list: "one or more texts",
}
"""The types of settings in words, in the order in which a union tries them: `1` is a number before a text."""


def _members(hint: Any) -> list[Any]:
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(_choices(kind) for kind in found):
        found = tuple(kind for kind in found if kind is not str)  # only the choices are valid
    return sorted(found, key=lambda kind: [*_KINDS].index(_plain(kind)))


def _plain(kind: Any) -> Any:
    origin = get_origin(kind) or kind
    return origin if origin in _KINDS else Literal


def _choices(kind: Any) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [each.value for each in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def _read(kind: Any, value: Any) -> Any:
    plain = _plain(kind)
    if plain in (int, float):
        return _number(plain, value)
    if plain is bool and isinstance(value, str) and value.lower() in renamed.YES | renamed.NO:
        return value.lower() in renamed.YES
    if plain is dict and isinstance(value, str):
        value = json_of(value, "a setting")
    if plain in (tuple, list):
        value = plain(value if isinstance(value, list | tuple) else [value])
        fits = all(isinstance(each, str) for each in value)
    elif plain is Literal:
        fits = isinstance(value, str | bool) and value in _choices(kind)
    else:
        fits = isinstance(value, plain)
    if not fits or (plain is dict and not _is_small(value)):
        raise ValueError
    return value


def _number(kind: type, value: Any) -> Any:
    known = isinstance(value, int | float | str) and not isinstance(value, bool)
    number = float(value) if known else nan
    if not isfinite(number) or (kind is int and number % 1):
        raise ValueError
    return kind(number)


def _is_small(value: Any) -> bool:
    """Whether a value has few parts. A few lines of YAML can expand to billions, or contain themselves."""
    waiting, seen = [value], 0
    while waiting and seen <= _PARTS:
        each, seen = waiting.pop(), seen + 1
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return seen <= _PARTS


def _in_words(kinds_: Iterable[Any]) -> str:
    words = []
    for kind in kinds_:
        choices = [str(each) for each in _choices(kind)]
        words.append(_KINDS[_plain(kind)] + ", ".join([*choices[:8], "…"] if len(choices) > 8 else choices))
    return " or ".join(dict.fromkeys(filter(None, words)))


_MOST_OF_A_SEED = 2**32 - 1  # NumPy's generator takes a seed of 32 bits


def _steps(value: int) -> int:
    if value < 1 and value != -1:  # the default: `num_train_epochs` decides
        raise ValueError
    return value


class _Ranges(OptionModel):
    """The ranges of settings of transformers that would otherwise fail late or have no effect."""

    logging_steps: float | None = option("", gt=0)
    eval_steps: float | None = option("", ge=0)
    per_device_train_batch_size: int | None = option("", ge=1)
    per_device_eval_batch_size: int | None = option("", ge=1)
    gradient_accumulation_steps: int | None = option("", ge=1)
    num_train_epochs: float | None = option("", gt=0)
    max_steps: Annotated[int | None, PlainValidator(_steps)] = option(
        "", what="at least 1; without it, --num_train_epochs decides"
    )
    save_steps: float | None = option("", gt=0)
    learning_rate: float | None = option("", ge=0)
    weight_decay: float | None = option("", ge=0)
    seed: int | None = option("", ge=0, le=_MOST_OF_A_SEED)
    data_seed: int | None = option("", ge=0)
    dataloader_num_workers: int | None = option("", ge=0)


def _refuse_unsupported(values: Mapping[str, Any]) -> None:
    if values.get("qlora") and values.get("lora") is False:
        raise UsageError(
            "--qlora and --lora False contradict each other.",
            hint="--lora True, or --qlora False to train all weights.",
        )
    if values.get("answer") == "first" and values.get("training_objective") != "answer":
        raise UsageError(
            "--answer first has no effect without --training_objective answer.",
            hint="--training_objective answer --answer first",
        )
    for name, (neutral, why) in renamed.UNSUPPORTED.items():
        if values.get(name) not in (None, *neutral):
            raise UsageError(f"--{name} {values[name]} is not supported.", hint=f"{why}.")
