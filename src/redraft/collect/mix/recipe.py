"""Read recipes of mixes: the files, how much to take of each, and where to get missing ones.

    about: GSM8K and a sample of Alpaca.
    seed: 42                      # default 0
    parts:
      - file: gsm8k.jsonl         # chains, or records of any known shape
        licence: MIT              # for records without one
      - file: alpaca.jsonl
        name: alpaca              # default: the file's name
        count: 10000              # default 'all'
        get: alpaca_data.json of tatsu-lab/stanford_alpaca
      - file: flan.jsonl
        count: 10                 # ten records
        per: task                 # for each task, a field of the source
      - identity: {name: Pharos, maker: the harbour office}   # generated, without a file

With `total`, each part has a `weight`, its share, instead of a count. Only the recipe itself is read here.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite
from pathlib import Path
from typing import Any, NoReturn

from redraft.collect.sources.identity import Identity
from redraft.collect.sources.licence import UNKNOWN
from redraft.errors import UsageError
from redraft.formats.documents import text_of_settings, yaml_of

IDENTITY = "identity"
"""Name of a part without a file."""

_OUR_LICENCE = "Apache-2.0"
"""Licence of texts that redraft writes."""


@dataclass(frozen=True)
class MixPart:
    """One file of a mix, or generated conversations.

    Attributes:
        file: Path from the folder of the parts.
        name: Name in counts, and the data set of records that name none.
        count: Records to take; None for all.
        per: A field of the source, the origin or `meta`: take `count` records for each of its values.
        weight: Share of the recipe's total, instead of a count.
        licence: Licence of records without one.
        get: Where to get the file, in words.
        identity: Generate conversations about this identity (`sources.identity`) instead of reading a file.
    """

    file: str
    name: str
    count: int | None = None
    per: str | None = None
    weight: float | None = None
    licence: str = UNKNOWN
    get: str = ""
    identity: Identity | None = None


@dataclass(frozen=True)
class MixRecipe:
    """A mix.

    Attributes:
        about: Description.
        seed: Decides which records are taken, and their order.
        total: Number of records from weighted parts.
        parts: The parts, each with a count; weights become counts.
    """

    parts: tuple[MixPart, ...]
    seed: int = 0
    total: int | None = None
    about: str = ""


def read_recipe(path: Path) -> MixRecipe:
    """Read a recipe.

    Raises:
        UsageError: The file cannot be read, is not YAML, has an unknown key or wrong value, or repeats a
        part's
            name. The message names file and key.
    """
    return _Reader(path).recipe(yaml_of(text_of_settings(path), path))


@dataclass(frozen=True)
class _Reader:
    """Checks a recipe; every error names file and key."""

    path: Path

    def recipe(self, document: Any) -> MixRecipe:
        values = self._known(document, "", MixRecipe)
        parts = values.get("parts")
        if not isinstance(parts, list) or not parts:
            self._fail("'parts' should be a list of files.", "parts:\n  - file: a.jsonl")
        recipe = MixRecipe(
            parts=tuple(self._part(part, f"parts.{i}.") for i, part in enumerate(parts)),
            seed=self._whole(values.get("seed", 0), "seed", least=0),
            total=self._whole(values["total"], "total") if "total" in values else None,
            about=self._text(values, "about"),
        )
        self._names(recipe.parts)
        return replace(recipe, parts=tuple(self._shared(recipe)))

    def _part(self, part: Any, at: str) -> MixPart:
        values = self._known(part, at, MixPart)
        identity = self._identity(values["identity"], at) if "identity" in values else None
        file = self._text(values, "file", at) or (IDENTITY if identity else "")
        if not file or (identity and "file" in values):
            self._fail(
                f"{at}file is missing: a part is a file."
                if not file
                else f"{at}file and identity are two parts."
            )
        count = values.get("count", "all")
        per = self._text(values, "per", at) or None
        if per and count == "all":
            self._fail(f"{at}per needs a count: the number of records for each {per}.")
        return MixPart(
            file=file,
            name=self._text(values, "name", at) or Path(file).name.partition(".")[0],
            count=None if count == "all" else self._whole(count, f"{at}count"),
            per=per,
            weight=self._weight(values["weight"], at) if "weight" in values else None,
            licence=self._text(values, "licence", at) or (_OUR_LICENCE if identity else UNKNOWN),
            get=self._text(values, "get", at).strip(),
            identity=identity,
        )

    def _identity(self, value: Any, at: str) -> Identity:
        values = self._known(value, f"{at}identity.", Identity)
        identity = Identity(
            *(self._text(values, name, f"{at}identity.").strip() for name in Identity._fields)
        )
        if not all(identity):
            self._fail(
                f"{at}identity needs a name and a maker.",
                "identity: {name: Pharos, maker: the harbour office}",
            )
        return identity

    def _names(self, parts: Sequence[MixPart]) -> None:
        names = [part.name for part in parts]
        for i, name in enumerate(names):
            if name in names[:i]:
                self._fail(f"two parts are called {name!r}.", "Give one another name.")

    def _shared(self, recipe: MixRecipe) -> Sequence[MixPart]:
        """Return the parts with counts for weights."""
        if recipe.total is None:
            if weighted := next((part.name for part in recipe.parts if part.weight), None):
                self._fail(f"{weighted} has a weight, and there is no total.", "total: 10000")
            return recipe.parts
        for part in recipe.parts:
            if part.weight is None or part.count is not None:
                self._fail(f"with a total, a part has a weight and no count: see {part.name}.")
        shares = _shares(recipe.total, [part.weight or 0.0 for part in recipe.parts])
        return [replace(part, count=n) for part, n in zip(recipe.parts, shares, strict=True)]

    def _known(self, value: Any, at: str, kind: type) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._fail(f"{at.rstrip('.') or 'a recipe'} should be keys and values.")
        names = list(kind.__annotations__)
        for key in value:
            if key not in names:
                self._fail(f"unknown key {at}{_shown(key)}.", _nearest(key, names))
        return value

    def _text(self, values: Mapping[str, Any], key: str, at: str = "") -> str:
        value = values.get(key, "")
        if not isinstance(value, str):
            self._fail(f"{at}{key} is {_shown(value)}, and should be a text.")
        return value

    def _whole(self, value: Any, key: str, least: int = 1) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            also = ", or 'all'" if key.endswith("count") else ""
            self._fail(f"{key} is {_shown(value)}, and should be a whole number from {least} on{also}.")
        return value

    def _weight(self, value: Any, at: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
            self._fail(f"{at}weight is {_shown(value)}, and should be a number over 0.")
        return float(value)

    def _fail(self, message: str, hint: str | None = None) -> NoReturn:
        raise UsageError(f"{self.path}: {message}", hint=hint)


def _shares(total: int, weights: Sequence[float]) -> list[int]:
    """Split a total into whole numbers in the ratio of the weights: the largest remainders round up."""
    exact = [total * weight / sum(weights) for weight in weights]
    shares = [floor(each) for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _nearest(key: object, names: Collection[str]) -> str:
    near = difflib.get_close_matches(str(key), names, n=1) if isinstance(key, str) else []
    return f"Did you mean {near[0]!r}?" if near else "Known: " + ", ".join(names)


def _shown(value: object) -> str:
    """Show a value in a message. A list may contain itself many times, so only its type is shown."""
    return f"{value!r:.60}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
