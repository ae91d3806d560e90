"""Mix files of chains by a recipe (docs/data.md), in an order that depends on a seed.

A part is a file or generated conversations. A hash of the seed, the part's name and the record's index gives
each record two numbers. From each part, the records with the smallest first numbers are taken. The output is
sorted by the second numbers. So recipe and files decide the result, and the draws from parts are independent.

The files are read once. Records that may be taken go to 128 scratch files by their second numbers. Each
scratch file is sorted separately. Memory: one scratch file, about 80 bytes per output id, and 44 bytes per
record taken from a part with a limited `count`. Disk: a copy of the output, and records that
later records displaced. A repeated id such as `train/0` becomes `train/0~2`.
"""

from __future__ import annotations

import marshal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappush, heapreplace
from itertools import product
from os.path import basename
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Any, NamedTuple, Unpack

from pydantic import PlainValidator

from redraft.chain import Chain, meta_of
from redraft.chain.documents import shipped_recipes, text_of_settings, yaml_of
from redraft.chain.read.files import to_line
from redraft.chain.read.records import Ids, RawRecord, raw_records
from redraft.data.output import DataOptions, DataOutput, DataRun, Drop, Dropped, unread, writing
from redraft.errors import RecordError, UsageError
from redraft.jobs.counting import counted, tell
from redraft.jobs.licences import MOST_ORIGINS, UNKNOWN, Source, clash, ids_of, licence_in, remark, rest_of
from redraft.jobs.parallel import spread
from redraft.jobs.provenance import Provenance, fingerprint
from redraft.options import OptionModel, option


class Identity(NamedTuple):
    """A model's name and maker, as used in a sentence."""

    name: str
    maker: str


def conversations_about(identity: Identity) -> Iterator[dict[str, Any]]:
    """Yield a record with `messages` for each pair of a question and an answer in `identity.yaml`."""
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

    file: str = option("the file's path, relative to the folder of the parts", default="")
    name: str = option("the part's name in counts; also the data set of records without one", default="")
    count: Annotated[int | None, PlainValidator(_count)] = option(
        "number of records to take", what="a whole number above 0, or all"
    )
    per: str | None = option("a field of source, origin or `meta`: take `count` records for each value")
    licence: str = option("licence of records that state none", default=UNKNOWN)
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
    """A recipe for a mix of files."""

    parts: Annotated[tuple[MixPart, ...], PlainValidator(_parts)] = option(
        "the files to mix", what="a list of parts, such as [{file: a.jsonl}]"
    )
    seed: int = option("seed that decides which records are taken, and their order", default=0, ge=0)
    about: str = option("a description of the mix", default="")


def recipe_path(recipe: str | Path) -> tuple[Path, bool]:
    """Return the path of a recipe, and whether the recipe is shipped with redraft."""
    shipped = shipped_recipes("data")
    if (path := Path(recipe) if Path(recipe).is_file() else shipped.get(str(recipe))) is None:
        hint = f"Give a YAML file, or one of: {', '.join(shipped)}"
        raise UsageError(f"there is no recipe {str(recipe)!r}.", hint=hint)
    return path, path in shipped.values()


def parts_folder(path: Path, folder: str | Path | None, *, shipped: bool) -> Path:
    """Return `folder`. For None, return the recipe's folder or, for a shipped recipe, the current folder."""
    return Path(folder) if folder is not None else Path() if shipped else path.parent


def part_files(recipe: str | Path, folder: str | Path | None) -> list[Path]:
    """Return the existing files of a recipe's parts."""
    path, shipped = recipe_path(recipe)
    parts = parts_folder(path, folder, shipped=shipped)
    return [file for part in read_recipe(path).parts if (file := parts / part.file).is_file()]


def read_recipe(path: Path) -> MixRecipe:
    """Read and check a recipe."""
    document = yaml_of(text_of_settings(path), path)
    try:
        recipe = MixRecipe.read({"parts": None, **_mapping(document, "a recipe")})
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None
    names = Counter(part.name for part in recipe.parts)
    if repeated := next((name for name, count in names.items() if count > 1), None):
        raise UsageError(f"{path}: two parts are called {repeated!r}.", hint="Give one part another name.")
    return recipe


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{what} should consist of keys and values.")
    return value


def _part(values: Any, at: str) -> MixPart:
    if isinstance(values, MixPart):
        return values
    part = MixPart.read(_mapping(values, at.rstrip(".")), table=at)
    generated = part.identity is not None
    if generated and "file" in values:
        raise UsageError(f"{at}file and {at}identity: a part may have only one of them.")
    if not (file := IDENTITY if generated else part.file):
        raise UsageError(f"{at}file is missing: each part needs `file` or `identity`.")
    if part.per and part.count is None:
        raise UsageError(f"{at}per needs a count: the number of records for each {part.per}.")
    licence = part.licence if values.get("licence") else _OUR_LICENCE if generated else UNKNOWN
    name = part.name or Path(file).name.partition(".")[0]
    return part.model_copy(update={"file": file, "name": name, "licence": licence})


_FILES = 128  # scratch files. Every system lets a process open more.


@dataclass
class Taken:
    """The records taken from one part."""

    part: MixPart
    found: int = 0  # records in its file, readable or not
    groups: int = 1  # distinct values of the field `per`; 1 if `per` is not set
    count: int = 0
    licences: Counter[str] = field(default_factory=Counter)
    missing: bool = False
    lacking: bool = False  # whether a record lacks the field `per`

    @property
    def short(self) -> int:
        """The number of records that the part lacks to reach the recipe's count."""
        return 0 if self.part.count is None else self.part.count * self.groups - self.count

    def written(self, folder: Path) -> dict[str, object]:
        """Return the part as JSON, for the run record."""
        part = self.part
        return {
            "name": part.name,
            "file": None if self.missing or part.identity else fingerprint([folder / part.file]),
            "identity": part.identity and part.identity._asdict(),
            "asked": {"count": "all" if part.count is None else part.count, "per": part.per},
            "found": self.found,
            "taken": self.count,
            "short": self.short,
            "licences": dict(sorted(self.licences.items())),
        }


def merge(
    recipe: str | Path,
    out: str | Path,
    *,
    folder: str | Path | None = None,
    seed: int | None = None,
    skip_missing: bool = False,
    **options: Unpack[DataOptions],
) -> list[Taken]:
    """Mix files of chains by a recipe. Same as `redraft data merge`. Return the result for each part.

    `recipe` is a YAML file, or the name of a recipe that redraft ships. `folder` contains the parts' files.
    By default, `folder` is the recipe's folder or, for a shipped recipe, the current folder.
    """
    path, shipped = recipe_path(recipe)
    run, plan = DataRun.of(out, options, merge), read_recipe(path)
    plan = plan if seed is None else plan.model_copy(update={"seed": seed})
    parts, files = parts_folder(path, folder, shipped=shipped), part_files(recipe, folder)
    taken: list[Taken] = []
    config = {"seed": plan.seed, "about": plan.about, "strict": run.strict}
    with writing(
        Provenance("data merge", config, path, path.name if shipped else None),
        run,
        reads=files,
        beside=[path, *files],
        about=lambda: {"parts": [each.written(parts) for each in taken]},
    ) as output:
        taken = mix(plan, parts, output, skip_missing=skip_missing)
        output.kept = sum(each.count for each in taken)
    _tell_parts(run, taken, output.gone.lines())
    return taken


def _tell_parts(run: DataRun, taken: Sequence[Taken], dropped: Sequence[str]) -> None:
    width = max(len(each.part.name) for each in taken)
    lines = [f"{each.part.name:{width}}  {each.count:>9,}  {_remark(each)}" for each in taken]
    run.tell(counted(sum(each.count for each in taken), "record"), "\n".join([*lines, *dropped]))
    sources = sources_in(taken)
    if not clash(sources) and (text := remark(sources)):
        run.tell(text)
    for part, licences in ((each.part, each.licences) for each in taken if each.part.licence != UNKNOWN):
        given = {*ids_of([Source("data", "", part.licence)])}
        if own := [each for each in sorted(licences) if {*ids_of([Source("data", "", each)])} != given]:
            tell(
                f"the records of {part.name} keep their own licence, {', '.join(own)}. The recipe's licence, "
                f"{part.licence}, applies only to records without a licence."
            )
    if clash(sources):
        tell(remark(sources))


def _remark(taken: Taken) -> str:
    licences = ", ".join(sorted(taken.licences)) or taken.part.licence
    if taken.missing:
        wanted = "all" if taken.part.count is None else f"{taken.part.count:,}"
        each = f" of each {taken.part.per}" if taken.part.per else ""
        return f"{taken.part.file} is missing; the recipe takes {wanted}{each} ({licences})"
    if not taken.found:
        return f"no record in {taken.part.file}"
    return f"{licences}; {taken.short:,} too few" if taken.short else licences


def mix(recipe: MixRecipe, folder: Path, output: DataOutput, *, skip_missing: bool = False) -> list[Taken]:
    """Write the mix of the files in a folder, and return the result for each part."""
    taken = [
        Taken(part, missing=part.identity is None and not (folder / part.file).is_file())
        for part in recipe.parts
    ]
    missing = [each.part for each in taken if each.missing]
    if missing and not skip_missing:
        raise _missing(recipe, missing, folder)
    with TemporaryDirectory(prefix=".redraft-", dir=output.run.disk) as waiting, ExitStack() as stack:
        draw = _Draw(recipe, taken, strict=output.run.strict)
        files = [stack.enter_context((Path(waiting) / str(i)).open("w+b")) for i in range(_FILES)]
        for found in spread(_read, draw.jobs(folder, output), output.run.processes):
            draw.take(found, files, output.gone)
        for each in taken:
            if each.lacking and not each.groups:
                lacks = f"has the field {each.part.per!r}, which the recipe sets as 'per'"
                hint = f"redraft show {folder / each.part.file}"
                raise UsageError(f"no record in {each.part.file} {lacks}.", hint=hint)
        for file in files:
            output.sink.writelines(draw.ordered(file))
    return taken


def _missing(recipe: MixRecipe, parts: Sequence[MixPart], folder: Path) -> UsageError:
    lines = []
    for part in parts:
        unsaid = "the recipe does not say where to get it"
        if (folder / part.file).is_dir():
            unsaid = "this is a folder, but a part needs a file: name a file in it"
        how = (part.get or unsaid).replace("\n", "\n  ")
        lines.append(f"{part.file} ({part.licence}): {how}")
    where = "here" if folder == Path() else f"in {folder if folder.name != '..' else folder.resolve()}"
    absent = f"{'is' if len(parts) == 1 else 'are'} not {where}"
    message = f"{len(parts)} of the recipe's {counted(len(recipe.parts), 'file')} {absent}."
    lines.append("To use another folder: --from DIR. To leave files out: --skip-missing")
    return UsageError(message, hint="\n".join(lines))


def sources_in(taken: Sequence[Taken]) -> list[Source]:
    """Return the sources and licences of a mix."""
    return [Source("data", each.part.name, licence) for each in taken for licence in sorted(each.licences)]


class Candidate(NamedTuple):
    """A record that may be drawn, for a worker process to decode."""

    at: int  # the index of the part
    part: MixPart
    line: RawRecord
    number: int  # decides whether it is drawn
    place: int  # the sort key in the output


class Drawn(NamedTuple):
    """A drawn record, with the data to write."""

    at: int
    number: int
    place: int
    group: str  # value of the part's field `per`; empty if `per` is not set
    licence: str
    id: str
    data: bytes


class Undrawable(NamedTuple):
    """An unusable record, reported only if drawn."""

    at: int
    number: int
    drop: Drop
    error: RecordError | None = None  # the reason if it cannot be read


def _read(job: Candidate) -> Drawn | Undrawable:
    try:
        chain = job.line.chain()
    except RecordError as error:
        return Undrawable(job.at, job.number, unread(error, job.line.where, job.line.data), error)
    origin, per = _origin(chain, job), job.part.per
    group = ""
    if per is not None:  # from the source, else the origin, else `meta`
        places = (meta_of(chain, "source"), origin, chain.meta)
        values = (place[per] for place in places if isinstance(place.get(per), str | int))
        if (value := next(values, None)) is None:
            reason = f"the record has no field {per!r}, which the part {job.part.name!r} sets as 'per'"
            drop = Drop("no-group", reason, job.line.where, chain.id, chain.model_dump(mode="json"))
            return Undrawable(job.at, job.number, drop)
        group = str(value)[:200]
    chain.__dict__["meta"] = {**chain.meta, "origin": origin}  # in place: nothing else uses the chain
    data = chain.to_json().encode() + b"\n"
    return Drawn(job.at, job.number, job.place, group, licence_in(origin), chain.id, data)


def _origin(chain: Chain, job: Candidate) -> dict[str, Any]:
    file = basename(job.part.file)  # noqa: PTH119  (a `Path` for each record takes long)
    ours = {"dataset": job.part.name, "licence": job.part.licence, "file": file, "record": job.line.number}
    theirs = chain.meta.get("origin")
    if not isinstance(theirs, Mapping) or "dataset" not in theirs:
        return ours
    return {**theirs, "licence": job.part.licence if licence_in(theirs) == UNKNOWN else theirs["licence"]}


class _Draw:
    def __init__(self, recipe: MixRecipe, taken: Sequence[Taken], *, strict: bool) -> None:
        self._seed, self._taken, self._strict = recipe.seed, taken, strict
        self._ids = Ids()
        self._lots: dict[tuple[int, str], int] = {}
        self._sizes: list[_Lot] = []
        self._licences: dict[str, int] = {}

    def jobs(self, folder: Path, output: DataOutput) -> Iterator[Candidate]:
        for index, taken in enumerate(self._taken):
            part = taken.part
            if taken.missing:
                continue
            taken.groups = 0 if part.per else 1
            if part.identity:
                told = enumerate(map(to_line, conversations_about(part.identity)))
                lines = iter([RawRecord(f"{part.name}:{i}", part.name, i, line) for i, line in told])
            else:
                lines = raw_records(folder / part.file)
            for line in lines:
                taken.found += 1
                output.progress.advance(len(line.data) + 1)
                # Draw number and position: pseudo-random, below 2 ** 64.
                own = blake2b(f"{self._seed}/{part.name}/{line.number}".encode(), digest_size=16).digest()
                number, place = int.from_bytes(own[:8]), int.from_bytes(own[8:])
                if self._may_be_taken(index, number):
                    yield Candidate(index, part, line, number, place)

    def _may_be_taken(self, index: int, number: int) -> bool:
        lot = None if self._taken[index].part.per else self._lots.get((index, ""))
        return lot is None or number <= self._sizes[lot].limit

    def take(self, found: Drawn | Undrawable, files: Sequence[IO[bytes]], dropped: Dropped) -> None:
        taken = self._taken[found.at]
        if isinstance(found, Undrawable):
            # Counted only if it could still be drawn: the number of processes must not affect the count.
            if self._may_be_taken(found.at, found.number):
                if self._strict and found.error:
                    raise found.error
                taken.lacking |= found.error is None
                dropped.add(found.drop)
            return
        lot = self._lots.setdefault((found.at, found.group), len(self._lots))
        if lot == len(self._sizes):
            self._sizes.append(_Lot(taken.part.count))
            taken.groups += taken.part.per is not None
        if not self._sizes[lot].offer(found.number):
            return
        licence = found.licence
        if licence not in self._licences and len(self._licences) >= MOST_ORIGINS:
            licence = rest_of(licence)
        number = self._licences.setdefault(licence, len(self._licences))
        waiting = marshal.dumps((found.place, lot, found.number, number, found.id, found.data))
        files[found.place * _FILES >> 64].write(len(waiting).to_bytes(8) + waiting)

    def ordered(self, file: IO[bytes]) -> Iterator[bytes]:
        file.seek(0)
        kept = []
        while size := file.read(8):
            # `marshal.load` would read byte by byte. The bytes are safe, because this run wrote them.
            place, lot, number, *record = marshal.loads(file.read(int.from_bytes(size)))  # noqa: S302
            if number <= self._sizes[lot].limit:
                kept.append((place, lot, number, *record))
        parts = {lot: self._taken[index] for (index, _), lot in self._lots.items()}
        names = list(self._licences)
        for _, lot, _, licence, name, line in sorted(kept):
            parts[lot].count += 1
            parts[lot].licences[names[licence]] += 1
            if (new := self._ids.new(name)) != name:
                line = Chain.from_json(line).model_copy(update={"id": new}).to_json().encode() + b"\n"
            yield line


class _Lot:
    def __init__(self, size: int | None) -> None:
        self._size = size
        self.limit = -1 if size == 0 else 1 << 64  # the largest kept number; while there is room, 2 ** 64
        self._largest_first: list[int] = []

    def offer(self, number: int) -> bool:
        if self._size is None:
            return True
        if len(self._largest_first) < self._size:
            heappush(self._largest_first, -number)
        elif number < self.limit:
            heapreplace(self._largest_first, -number)
        else:
            return False
        if len(self._largest_first) == self._size:
            self.limit = -self._largest_first[0]
        return True
