"""A run's settings from a recipe and flags: names of transformers' `TrainingArguments`, and redraft's own.

    redraft train sft RECIPE --name value --switch --list a b

The recipe is the name of a shipped one or the path of a YAML file with the same names; flags override it.
Old names are translated (`train.names`), and a name that nobody knows is an error with the nearest right one.
What this machine cannot do is handled in `train.machine`.
"""

from __future__ import annotations

import difflib
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from redraft.errors import UsageError
from redraft.formats.documents import json_of, yaml_of
from redraft.train.settings import renamed
from redraft.train.settings.options import DEFAULTS, NAMES, Options

_MOST = 1 << 20
"""Bytes of a recipe. No list of settings comes near."""

_PARTS = 1000
"""Parts of a setting that is itself keys and values."""

_DATA = (".jsonl", ".json", ".txt", ".gz", ".zst", ".csv", ".parquet", ".arrow")
"""How names of data end, which may stand where a recipe belongs."""

_PATHS = {
    *("model_name_or_path", "data_path", "eval_data_path", "output_dir", "cache_dir", "gguf"),
    *("resume_from_checkpoint", "logging_dir"),
}
"""Settings that are paths, or may be."""


@dataclass(frozen=True)
class Settings:
    """All that a run is told.

    Attributes:
        own: redraft's settings.
        theirs: Arguments of `TrainingArguments`, converted; its defaults are left out.
        said: What to print about names that were translated.
    """

    own: Options
    theirs: Mapping[str, Any]
    said: tuple[str, ...] = ()


def parse(words: Sequence[str]) -> Settings:
    """The settings that a command line asks for: what follows `redraft train sft`.

    Raises:
        UsageError: A name that is none, a value of the wrong kind, or a recipe that cannot be read.
    """
    recipe, words = (words[0], words[1:]) if words and not words[0].startswith("--") else (None, words)
    layers = [read_recipe(recipe)] if recipe else []
    merged: dict[str, Any] = {}
    said: list[str] = []
    for values in [*layers, read_flags(words)]:
        translated, remarks = renamed.translate(values)
        said += remarks
        for name, value in translated.items():
            converted = _at_home(name, convert(name, value))
            before = merged.get(name)
            both = isinstance(converted, dict) and isinstance(before, dict)
            merged[name] = {**before, **converted} if both else converted  # type: ignore[dict-item]
    _refuse_unsupported(merged)
    _insist_on_ranges(merged)
    own = Options(**{name: value for name, value in merged.items() if name in NAMES})
    if own.price_per_hour is not None and not own.estimate:
        said.append("--price_per_hour changes nothing without --estimate.")
    theirs = {name: value for name, value in merged.items() if name not in NAMES}
    return Settings(own, {**DEFAULTS, **theirs}, tuple(said))


def _at_home(name: str, value: Any) -> Any:
    """A path with the home folder for `~`: in recipes no shell has put it there."""
    if name not in _PATHS or not value:
        return value
    if isinstance(value, str):
        return os.path.expanduser(value)  # noqa: PTH111 - a Path would change org/name+adapter
    return type(value)(map(os.path.expanduser, value))


def read_flags(words: Sequence[str]) -> dict[str, Any]:
    """Name to value of a command line. A flag takes the words that follow it; without any it is a switch.

    A flag that comes again adds to its values if it has several, and replaces its value if it has one.

    Raises:
        UsageError: A word belongs to no flag, or a name is not known.
    """
    values: dict[str, Any] = {}
    flag = ""
    for word in words:
        if word.startswith("--") and word != "--":
            flag, equals, value = word[2:].partition("=")
            flag, off = _known(flag.replace("-", "_"))
            given = [value] if equals else ["False"] if off else []
            before = values.get(flag, []) if _takes_several(flag) else []  # else the last one counts
            values[flag] = [*before, *given]
        elif not flag:
            raise UsageError(
                f"{word!r} belongs to no flag.", hint="redraft train sft [RECIPE] --name value …"
            )
        else:
            values[flag].append(word)
    for name, several in values.items():
        if len(several) > 1 and name in kinds() and not _takes_several(name):
            raise _too_many(name, several)
        if not several and not _is_switch(name):
            raise UsageError(f"--{name} has no value, and should be {_in_words(_wanted(name))}.")
    return {name: _one_or_all(words) for name, words in values.items()}


def _too_many(name: str, words: Sequence[str]) -> UsageError:
    last = words[-1]
    is_recipe = last in shipped() or Path(last).suffix in (".yaml", ".yml")
    return UsageError(
        f"--{name} takes one value, and has {len(words)}: {' '.join(words):.60}.",
        hint=f"The recipe comes first: redraft train sft {last} --{name} {words[0]}" if is_recipe else None,
    )


def _takes_several(name: str) -> bool:
    return any(_plain(each) in (tuple, list) for each in _wanted(name))


def _is_switch(name: str) -> bool:
    """Whether a name says something without a value."""
    wanted = _wanted(name)
    takes_true = any(_as(kind, value=True)[0] for kind in wanted)
    return takes_true or not wanted or name == "resume_from_checkpoint"


def _wanted(name: str) -> list[Any]:
    """The kinds of a setting, also by its old name; none where its value is translated, or passed over."""
    now = renamed.RENAMED.get(name, name)
    return _members(kinds()[now]) if now in kinds() else []


def _one_or_all(words: list[str]) -> Any:
    """A switch, a value, or several values."""
    return words[0] if len(words) == 1 else words or True


def _known(name: str) -> tuple[str, bool]:
    """The name, if it is one, and whether it is turned off: `--no_NAME`."""
    if name in names_known():
        return name, False
    if name.removeprefix("no_") in names_known():
        return name.removeprefix("no_"), True
    raise UsageError(f"nothing is called --{name:.60}.", hint=nearest(name, prefix="--"))


def read_recipe(ref: str) -> dict[str, Any]:
    """Name to value of a recipe, without its `about`.

    Args:
        ref: The name of a shipped recipe, or the path of a YAML file.

    Raises:
        UsageError: There is none, it is no YAML of names and values, or a name in it is not known.
    """
    path = Path(ref).expanduser()
    if ref in shipped():
        text = (resources.files("redraft") / "recipes" / "train" / f"{ref}.yaml").read_text("utf-8")
    elif ref.lower().endswith(_DATA):
        raise UsageError(f"{ref} is data by its name, and no recipe.", hint=f"--data_path {ref}")
    else:
        text = _text_of(path)
    document = yaml_of(text, ref)
    if not isinstance(document, dict):
        raise UsageError(f"{ref}: a recipe is names and values.", hint="A line reads: name: value")
    document.pop("about", None)
    for name in document:
        if name not in names_known():
            raise UsageError(f"{ref}: nothing is called {name!r:.60}.", hint=nearest(str(name)))
    return document


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST:
            raise UsageError(f"{path} has {path.stat().st_size:,} bytes, and is no recipe.")
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"there is no recipe {path}.",
            hint=f"The path of a YAML file, or one that is shipped: {', '.join(shipped())}.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None


def shipped() -> list[str]:
    """Names of the recipes that come with redraft."""
    folder = resources.files("redraft") / "recipes" / "train"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def names_known() -> frozenset[str]:
    """All names that a flag or a recipe may use: today's, and those that are translated."""
    return frozenset({*kinds(), *renamed.RENAMED, *renamed.DROPPED, *renamed.SPECIAL})


def nearest(name: str, prefix: str = "") -> str:
    """A hint at the name that was meant."""
    near = difflib.get_close_matches(name, names_known(), n=1)
    return f"Did you mean {prefix}{near[0]}?" if near else "redraft train sft --help lists the names."


@cache
def kinds() -> Mapping[str, Any]:
    """Name to type of every setting of today: redraft's own, and the fields of `TrainingArguments`."""
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    theirs = {each.name: hints[each.name] for each in fields(TrainingArguments) if each.init}
    theirs.pop("parallelism_config")  # it can only be made in Python
    braces = dict.fromkeys(("lr_scheduler_kwargs", "activation_checkpointing_kwargs"), dict | None)
    return {**theirs, **braces, "fsdp": bool, "logging_dir": str, **get_type_hints(Options)}


def convert(name: str, value: Any) -> Any:
    """A setting's value as its type has it. Texts come from flags, and from recipes such as `1e-5`.

    Raises:
        UsageError: It is of another kind.
    """
    if value is False and name.endswith("_strategy"):
        value = "no"  # as YAML reads a plain no
    if isinstance(value, bool) and name == "resume_from_checkpoint":
        value = str(value)  # a switch, or the path of a checkpoint
    wanted = _members(kinds()[name])
    if isinstance(value, str) and value.lstrip().startswith("{") and dict in map(_plain, wanted):
        wanted = [dict]  # and not the name of a file
    for kind in wanted:
        fits, converted = _as(kind, value)
        if fits:
            return converted
    said = f"--{name} is {_shown(value)}, and should be {_in_words(wanted)}."
    clips = "--max_grad_norm 0 clips nothing." if name == "max_grad_norm" else None
    raise UsageError(said, hint=clips or _meant(value, wanted))


_ORDER = (type(None), bool, int, float, dict, Literal, str, tuple, list)
"""In which order the kinds of a union are tried: `1` is a number before it is a text."""


def _members(hint: Any) -> list[Any]:
    """The kinds of a type, as they are to be tried."""
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(_choices(kind) for kind in found):
        found = tuple(kind for kind in found if kind is not str)  # a text that is none of the choices
    return sorted(found, key=lambda kind: _ORDER.index(_plain(kind)))


def _plain(kind: Any) -> Any:
    origin = get_origin(kind) or kind
    return origin if origin in _ORDER else Literal


def _choices(kind: Any) -> list[Any]:
    """The values of a literal or an enumeration."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [each.value for each in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def _as(kind: Any, value: Any) -> tuple[bool, Any]:
    """Whether a value is of a kind or says such a one, and it."""
    plain = _plain(kind)
    if plain is type(None):
        return value is None, None
    if plain is bool:
        return _as_bool(value)
    if plain in (int, float):
        return _as_number(plain, value)
    if plain is dict:
        return _as_dict(value)
    if plain in (tuple, list):
        items = value if isinstance(value, list | tuple) else [value]
        return all(isinstance(each, str) for each in items), plain(items)
    if plain is Literal:
        return isinstance(value, str | bool) and value in _choices(kind), value
    return isinstance(value, str), value


def _as_bool(value: Any) -> tuple[bool, Any]:
    if isinstance(value, str) and value.lower() in renamed.YES | renamed.NO:
        return True, value.lower() in renamed.YES
    return isinstance(value, bool), value


def _as_number(kind: type, value: Any) -> tuple[bool, Any]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False, value
    try:
        number = float(value)
        if kind is float:
            return isfinite(number), number
        return number == int(number), int(number)
    except (ValueError, OverflowError):
        return False, value


def _as_dict(value: Any) -> tuple[bool, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json_of(value, "a setting")
        except (ValueError, RecursionError):
            return False, value
    return isinstance(value, dict) and _is_small(value), value


def _is_small(value: Any) -> bool:
    """Whether a value has few parts. In YAML, a few lines can hold themselves, or a billion others."""
    waiting, seen = [value], 0
    while waiting and seen <= _PARTS:
        each, seen = waiting.pop(), seen + 1
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return seen <= _PARTS


def _in_words(kinds_: Iterable[Any]) -> str:
    words = {
        bool: "True or False",
        int: "a whole number",
        float: "a finite number",
        dict: "JSON in braces",
        tuple: "one or more texts",
        list: "one or more texts",
        str: "a text",
    }
    said = []
    for kind in kinds_:
        plain = _plain(kind)
        if plain is Literal:
            choices = [str(each) for each in _choices(kind)]
            said.append("one of " + ", ".join(choices[:8]) + (", …" if len(choices) > 8 else ""))
        elif plain is not type(None):
            said.append(words[plain])
    return " or ".join(dict.fromkeys(said))


def _meant(value: Any, kinds_: Iterable[Any]) -> str | None:
    """A hint at the choice that was meant."""
    choices = [str(each) for kind in kinds_ for each in _choices(kind)]
    near = difflib.get_close_matches(str(value)[:60], choices, n=1) if isinstance(value, str) else []
    return f"Did you mean {near[0]}?" if near else None


def _shown(value: object) -> str:
    """A value in a message. Of lists and the like, which may be endless, only what they are."""
    return f"{value!r:.60}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


_LEAST = {
    "logging_steps": 0.000001,
    "eval_steps": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 0.001,
    "save_steps": 0.000001,
    "workers": 1,
    "divergence_steps": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "seed": 0,
    "data_seed": 0,
    "price_per_hour": 0,
    "dataloader_num_workers": 0,
}
"""The least that settings may be, where a smaller number would fail late or do nothing."""

_NO_STEPS = -1
"""The default of `max_steps`: epochs decide."""

_MOST_OF_A_SEED = 2**32 - 1
"""NumPy's generator, which is seeded as well, takes 32 bits."""


def _insist_on_ranges(values: Mapping[str, Any]) -> None:
    for name, least in _LEAST.items():
        value = values.get(name)
        if value is not None and value < least:
            over = f"at least {least}" if isinstance(least, int) else "over 0"
            raise UsageError(f"--{name} is {value:g}, and should be {over}.")
    if (steps := values.get("max_steps", _NO_STEPS)) < 1 and steps != _NO_STEPS:
        said = f"--max_steps is {steps}, and should be at least 1."
        raise UsageError(said, hint="--max_steps 1, or leave it out: --num_train_epochs decides then.")
    if (seed := values.get("seed") or 0) > _MOST_OF_A_SEED:
        raise UsageError(f"--seed is {seed}, and should be at most {_MOST_OF_A_SEED}.")


def _refuse_unsupported(values: Mapping[str, Any]) -> None:
    if values.get("qlora") and values.get("lora") is False:
        raise UsageError(
            "--qlora and --lora False do not go together.",
            hint="--lora True, or --qlora False for all weights.",
        )
    if values.get("answer") == "first" and values.get("training_objective") != "answer":
        raise UsageError(
            "--answer first changes nothing without --training_objective answer.",
            hint="--training_objective answer --answer first",
        )
    for name, (neutral, why) in renamed.UNSUPPORTED.items():
        if values.get(name) not in {None, *neutral}:
            raise UsageError(f"--{name} {values[name]} is not supported.", hint=f"{why}.")
