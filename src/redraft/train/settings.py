"""Read the settings of a run from a recipe and flags.

    redraft train VERB RECIPE --name value --switch --list a b

The recipe has the same names as the flags, which override it. The commands of SelFee, Alpaca and Vicuna work
as they were typed: `OLD` has the names that have changed since. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_origin

from redraft.chain.documents import recipe_of, shipped_recipes
from redraft.errors import UsageError, nearest
from redraft.options import Option, options_of
from redraft.train.options import VERBS, RunOptions

Own = TypeVar("Own", bound=RunOptions)

_DATA = (".jsonl", ".json", ".txt", ".gz", ".zst", ".csv", ".parquet", ".arrow")
"""Endings of data files, which users type in place of a recipe."""

LAZY = "lazy_preprocess"
"""FastChat's switch. Its batches count records, however long each is, and so do ours then."""
OLD = {
    "evaluation_strategy": "eval_strategy",
    "gradient_checkpointing": "activation_checkpointing",
    LAZY: "packing",
}
"""Names in the commands of 2023, and what they are called now."""


def parse(words: Sequence[str], options: type[Own]) -> Own:
    """Parse the words after a verb of `redraft train`."""
    recipe, words = (words[0], words[1:]) if words and not words[0].startswith("--") else (None, words)
    return settings_of(options, recipe, lambda: read_flags(words, options))


def settings_of(options: type[Own], recipe: str | None, given: Callable[[], Mapping[str, Any]]) -> Own:
    """Return a run's settings: those of the recipe, overridden by `given()`, called after it is read."""
    merged = _by_current_names(read_recipe(recipe, options)) if recipe else {}
    merged |= _by_current_names(given())
    for name in merged.keys() - options_of(options).keys():
        raise no_setting(name, options, f"--{name:.60}", prefix="--")
    own = options.read({name: value for name, value in merged.items() if value is not None}, table="--")
    own.check()
    return own


def _by_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of one place by their current names."""
    found: dict[str, Any] = {}
    for old, value in values.items():
        name = OLD.get(old, old)
        if old != name and name in values:
            raise UsageError(
                f"--{old} and --{name} are two names of one setting.", hint=f"Give --{name} alone."
            )
        if old != LAZY:
            found[name] = value
        elif str(value).lower() == "true":
            found[name] = False
    return found


def read_flags(words: Sequence[str], options: type[RunOptions]) -> dict[str, Any]:
    """Return name to value. A flag takes the words that follow it; without any it is a switch.

    A repeated flag adds to a list, or replaces a single value.
    """
    values: dict[str, list[str]] = {}
    known, flag = _known(options), ""
    for word in words:
        if word.startswith("--") and word != "--":
            flag, equals, value = word[2:].partition("=")
            flag, off = flag.replace("-", "_"), False
            if flag not in known and flag.removeprefix("no_") in known:
                flag, off = flag.removeprefix("no_"), True
            if flag not in known:
                raise no_setting(flag, options, f"--{flag:.60}", prefix="--")
            given = [value] if equals else ["False"] if off else []
            before = values.get(flag, []) if _is_list(known[flag]) else []  # else the last one counts
            values[flag] = [*before, *given]
        elif not flag:
            hint = f"redraft train {options.verb} [RECIPE] --name value …"
            raise UsageError(f"{word!r} belongs to no flag.", hint=hint)
        else:
            values[flag].append(word)
    return {name: _value(name, several, known[name], options) for name, several in values.items()}


def _known(options: type[RunOptions]) -> dict[str, Option]:
    """Return all names that a flag or a recipe may use, current and old ones."""
    current = options_of(options)
    return {**current, **{old: current[name] for old, name in OLD.items() if name in current}}


def _is_list(option: Option) -> bool:
    return get_origin(option.type) is tuple


def _value(name: str, words: list[str], option: Option, options: type[RunOptions]) -> Any:
    """Return the value of a flag: one word, several, or True of a switch."""
    if _is_list(option) and words:
        return words
    if len(words) > 1:
        last, hint = words[-1], None
        if last in shipped_recipes("train") or Path(last).suffix in (".yaml", ".yml"):
            hint = f"The recipe comes first: redraft train {options.verb} {last} --{name} {words[0]}"
        raise UsageError(f"--{name} takes one value, and has {len(words)}: {' '.join(words):.60}.", hint=hint)
    is_switch = option.type in (bool, bool | None) or name in ("fsdp", "resume_from_checkpoint")
    if not words and not is_switch:
        raise UsageError(f"--{name} has no value.", hint=f"--{name} VALUE: {option.text}")
    return words[0] if words else True


def no_setting(name: str, options: type[RunOptions], shown: str, *, prefix: str = "") -> UsageError:
    """Return the error for a name that is no setting, with the nearest one."""
    near = nearest(name, _known(options), prefix)
    others = [each.verb for each in VERBS.values() if name in options_of(each)]
    elsewhere = [f"redraft train {verb} has it." for verb in others]
    leave = "Leave it out: redraft train takes some 40 settings of transformers by their names."
    lines = [
        *(elsewhere or [near or leave]),
        f"redraft train {options.verb} --help-all lists all settings.",
    ]
    return UsageError(f"there is no setting {shown}.", hint="\n".join(lines))


def read_recipe(ref: str, options: type[RunOptions]) -> dict[str, Any]:
    """Return name to value of a recipe, by its name or path, without its `about`."""
    if ref.lower().endswith(_DATA):
        raise UsageError(f"{ref} is a data file by its name, not a recipe.", hint=f"--data_path {ref}")
    _, document = recipe_of(ref, "train")
    for name in document:
        if name not in _known(options):
            error = no_setting(str(name), options, f"{name!r:.60}")
            raise UsageError(f"{ref}: {error.message}", hint=error.hint)
    return document
