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

from collections.abc import Iterator, Sequence
from itertools import product
from math import floor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import PlainValidator

from redraft.chain.documents import shipped_recipes, text_of_settings, yaml_of
from redraft.errors import UsageError
from redraft.jobs.licences import UNKNOWN
from redraft.options import OptionModel, option


class Identity(NamedTuple):
    """A model's name and maker, as used in a sentence."""

    name: str
    maker: str


def conversations_about(identity: Identity) -> Iterator[dict[str, Any]]:
    """Give records with `messages`, each of one question and one answer of `identity.yaml`."""
    maker = identity.maker
    names = {"name": identity.name, "maker": maker, "maker_first": maker[:1].upper() + maker[1:]}
    path = Path(__file__).with_name("identity.yaml")
    for each in yaml_of(path.read_text("utf-8"), path):
        for question, answer in product(each["questions"], each["answers"]):
            turns = (("user", question), ("assistant", answer))
            yield {"messages": [{"role": role, "content": text.format(**names)} for role, text in turns]}


IDENTITY = "identity"  # name of a part without a file
_OUR_LICENCE = "Apache-2.0"  # licence of texts that redraft writes


def _count(value: Any) -> int | None:
    if value == "all":
        return None
    if type(value) is not int or value < 1:
        raise ValueError
    return value


def _identity(value: Any) -> Identity:
    known = isinstance(value, dict) and value.keys() == set(Identity._fields)
    if not known or not all(isinstance(text, str) and text.strip() for text in value.values()):
        raise ValueError
    return Identity(value["name"].strip(), value["maker"].strip())


class MixPart(OptionModel):
    """One file of a mix, or generated conversations."""

    file: str = option("path from the folder of the parts", default="")
    name: str = option("name in counts, and the data set of records that name none", default="")
    count: Annotated[int | None, PlainValidator(_count)] = option(
        "records to take", what="a whole number from 1 on, or all"
    )
    per: str | None = option("a field of the source, the origin or `meta`: take `count` for each value")
    weight: float | None = option("share of the total, instead of a count", gt=0)
    licence: str = option("licence of records without one", default=UNKNOWN)
    get: str = option("where to get the file, in words", default="")
    identity: Annotated[Identity | None, PlainValidator(_identity)] = option(
        "generate conversations about this identity (`conversations_about`) instead of reading a file",
        what="a name and a maker, such as {name: Pharos, maker: the harbour office}",
    )


def _parts(value: Any) -> tuple[MixPart, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError
    return tuple(_part(part, f"parts.{i}.") for i, part in enumerate(value))


class MixRecipe(OptionModel):
    """A mix. Every part has a count or takes all records: weights become counts."""

    parts: Annotated[tuple[MixPart, ...], PlainValidator(_parts)] = option(
        "the parts", what="a list of parts, such as [{file: a.jsonl}]"
    )
    seed: int = option("decides which records are taken, and their order", default=0, ge=0)
    total: int | None = option("number of records from weighted parts", ge=1)
    about: str = option("description", default="")


def recipe_path(recipe: str | Path) -> tuple[Path, bool]:
    """Return the path of a recipe, and whether redraft ships it."""
    shipped = shipped_recipes("data")
    path = Path(recipe) if Path(recipe).is_file() else shipped.get(str(recipe))
    if path is None:
        hint = f"Give a YAML file, or one of: {', '.join(shipped)}"
        raise UsageError(f"there is no recipe {str(recipe)!r}.", hint=hint)
    return path, path in shipped.values()


def parts_folder(path: Path, folder: str | Path | None, *, shipped: bool) -> Path:
    """Return the folder of a recipe's parts: by default the recipe's own, for a shipped one this one."""
    return Path(folder) if folder is not None else Path() if shipped else path.parent


def part_files(recipe: str | Path, folder: str | Path | None) -> list[Path]:
    """Return the files of a recipe's parts that are there."""
    path, shipped = recipe_path(recipe)
    parts = parts_folder(path, folder, shipped=shipped)
    return [file for part in read_recipe(path).parts if (file := parts / part.file).is_file()]


def read_recipe(path: Path) -> MixRecipe:
    """Read a recipe."""
    document = yaml_of(text_of_settings(path), path)
    try:
        return _shared(MixRecipe.read({"parts": None, **_mapping(document, "a recipe")}))
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{what} should be keys and values.")
    return value


def _part(values: Any, at: str) -> MixPart:
    if isinstance(values, MixPart):
        return values
    part = MixPart.read(_mapping(values, at.rstrip(".")), table=at)
    generated = part.identity is not None
    if generated and "file" in values:
        raise UsageError(f"{at}file and identity are two parts.")
    if not (file := IDENTITY if generated else part.file):
        raise UsageError(f"{at}file is missing: a part is a file.")
    if part.per and part.count is None:
        raise UsageError(f"{at}per needs a count: the number of records for each {part.per}.")
    ours = _OUR_LICENCE if generated else UNKNOWN
    licence = part.licence if values.get("licence") else ours
    return part.model_copy(
        update={"file": file, "name": part.name or Path(file).name.partition(".")[0], "licence": licence}
    )


def _shared(recipe: MixRecipe) -> MixRecipe:
    """Return the recipe with counts for weights. Its parts must have different names."""
    parts, total = recipe.parts, recipe.total
    names = [part.name for part in parts]
    if repeated := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise UsageError(f"two parts are called {repeated!r}.", hint="Give one another name.")
    if total is None:
        if weighted := next((part.name for part in parts if part.weight), None):
            raise UsageError(f"{weighted} has a weight, and there is no total.", hint="total: 10000")
        return recipe
    for part in parts:
        if part.weight is None or part.count is not None:
            raise UsageError(f"with a total, a part has a weight and no count: see {part.name}.")
    shares = _shares(total, [part.weight or 0.0 for part in parts])
    counted = (part.model_copy(update={"count": n}) for part, n in zip(parts, shares, strict=True))
    return recipe.model_copy(update={"parts": tuple(counted)})


def _shares(total: int, weights: Sequence[float]) -> list[int]:
    """Split a total into whole numbers in the ratio of the weights: the largest remainders round up."""
    exact = [total * weight / sum(weights) for weight in weights]
    shares = [floor(each) for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares
