"""Recipes of mixes: which files make a data set, how much of each, and where to get what is not there.

    about: GSM8K and a sample of Alpaca.
    seed: 42                      # 0 if there is none
    parts:
      - file: gsm8k.jsonl         # chains, or records of any known shape
        licence: MIT              # for records that do not say
      - file: alpaca.jsonl
        name: alpaca              # else the file's name
        count: 10000              # 'all' if there is none
        get: alpaca_data.json of tatsu-lab/stanford_alpaca
      - file: flan.jsonl
        count: 10                 # ten
        per: task                 # of each task, a field of the source
      - identity: {name: Pharos, maker: the harbour office}   # who the model is: made, and no file

With `total`, each part has a `weight` instead of a count: its share. Nothing is fetched, and no file is read
here but the recipe itself.
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
from redraft.formats.documents import yaml_of

IDENTITY = "identity"
"""What a part without a file is called."""

_OUR_LICENCE = "Apache-2.0"
"""Of what redraft writes itself."""

_MOST = 1 << 20
"""Bytes of a recipe. No list of parts comes near."""


@dataclass(frozen=True)
class MixPart:
    """One file of a mix, or what is made instead of one.

    Attributes:
        file: Its path, from the folder of the parts.
        name: What counts call it, and what its records are from if they do not say.
        count: How many records to take; None for all.
        per: A field of the source, the origin or `meta`: `count` records are taken of each of its values.
        weight: Its share of the recipe's total, instead of a count.
        licence: Of those records that do not say.
        get: Where to get it, in words.
        identity: Whose conversations (`collect.identity`) are the records; there is no file then.
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
        about: What it is, in words.
        seed: Decides which records are taken, and their order.
        total: How many records parts with weights make together.
        parts: With a count each, those with weights too.
    """

    parts: tuple[MixPart, ...]
    seed: int = 0
    total: int | None = None
    about: str = ""


def read_recipe(path: Path) -> MixRecipe:
    """Reads a recipe.

    Raises:
        UsageError: It cannot be read, is not YAML, has an unknown key or a wrong value, or two parts of a
            name. The message names the file and the key.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST + 1)
        if len(text) > _MOST:
            raise UsageError(f"{path} is larger than any recipe.")
    except OSError as error:
        raise UsageError(f"the recipe {path} cannot be read: {error.strerror}.") from None
    return _Reader(path).recipe(yaml_of(text, path))


@dataclass(frozen=True)
class _Reader:
    """Checks a recipe, and names file and key in every error."""

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
            self._fail(f"{at}per needs a count: so many records of each {per}.")
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
        told = Identity(*(self._text(values, name, f"{at}identity.").strip() for name in Identity._fields))
        if not all(told):
            self._fail(
                f"{at}identity needs a name and a maker.",
                "identity: {name: Pharos, maker: the harbour office}",
            )
        return told

    def _names(self, parts: Sequence[MixPart]) -> None:
        names = [part.name for part in parts]
        for i, name in enumerate(names):
            if name in names[:i]:
                self._fail(f"two parts are called {name!r}.", "Give one another name.")

    def _shared(self, recipe: MixRecipe) -> Sequence[MixPart]:
        """The parts, with counts for weights."""
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
                self._fail(f"nothing is called {at}{_shown(key)}.", _nearest(key, names))
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
    """Whole numbers in the ratio of the weights that add up to the total: the largest remainders round up."""
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
    """A value in a message. Lists may hold themselves many times over, so they are not shown."""
    return f"{value!r:.60}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
