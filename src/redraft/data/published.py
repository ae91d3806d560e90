"""Import published data as chains with origin and licence.

A record's fields, or the user's field map, decide how the record is read. The user names the source (`--as`),
or the source is recognised by fields that no other source has. A format that many data sets share, such as
Alpaca's, reveals no source, so the licence is `unknown`. Names, fields and licences come from the pages of
the sources. Records are not cleaned, and licences are not judged.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, Unpack

from redraft.chain import Chain, meta_of
from redraft.chain.read.conversations import TREE, asks
from redraft.chain.read.fields import Shape
from redraft.chain.read.files import decode, name_of
from redraft.chain.read.inputs import Input, inputs_of
from redraft.chain.read.records import ID_FIELDS, Damage, Ids, chain_of, check_depth, id_of
from redraft.chain.read.shapes import is_chain, known_shape, names, read_as, read_tree, shapes
from redraft.data.output import DataOptions, DataOutput, DataResult, DataRun, Drop, not_twice, unread, writing
from redraft.data.texts import is_answered
from redraft.errors import RecordError, UsageError, nearest
from redraft.jobs.counting import counted
from redraft.jobs.licences import UNKNOWN, licence_in
from redraft.jobs.parallel import spread
from redraft.jobs.provenance import Provenance, RunFile, fingerprint, licences_beside
from redraft.jobs.stores import here


@dataclass(frozen=True)
class FieldMap:
    """A map from the field names of a known shape to the field names of a record."""

    fields: Mapping[str, str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Parse maps written as `name=field,name=field`."""
        fields: dict[str, str] = {}
        for pair in (pair.strip() for text in texts for pair in text.split(",") if pair.strip()):
            name, _, own = (part.strip() for part in pair.partition("="))
            if not (name and own) or name in fields:
                fault = "names a field a second time" if name in fields else "is not NAME=FIELD"
                hint = f"Write NAME=FIELD, each NAME once: {_EXAMPLE}"
                raise UsageError(f"the field map contains {pair!r}, which {fault}.", hint=hint)
            fields[name] = own
        return cls(fields)

    def check(self, record: Any, where: str) -> None:
        """Raise if a mapped field is missing, or would replace another field."""
        found = list(record) if isinstance(record, dict) else []
        for known, name in self.fields.items():
            if name not in found:
                message = f"{where}: no field is called {name!r}. {nearest(name, found)}".rstrip()
                raise UsageError(message, hint=f"The fields of the record: {' '.join(found[:20]) or 'none'}")
            if known in found and known not in self.fields.values():
                hint = f"Remove that field first: jq -c 'del(.{known})'"
                raise UsageError(f"{where}: {name!r} would replace the field {known!r}.", hint=hint)

    def renamed(self, record: Any) -> Any:
        """Rename the fields of a record. Mapped numbers become texts, and mapped nulls are left out."""
        if not isinstance(record, dict):
            return record
        taken = self.fields.values()
        found = {name: record[own] for name, own in self.fields.items() if record.get(own) is not None}
        texts = {name: str(own) if isinstance(own, int | float) else own for name, own in found.items()}
        return {name: value for name, value in record.items() if name not in taken} | texts

    def in_own_names(self, said: str, record: Any) -> str:
        """Replace the field names in an error message by the names in the user's record."""
        about, *found = said.split(" (found ", 1)
        had = {name: own for name, own in self.fields.items() if own in record}
        known = re.compile(rf"(?:(?<=: )|(?<='))(?:{'|'.join(map(re.escape, had))})(?=[ .'])")
        return " (found ".join([known.sub(lambda name: had.get(name[0], ""), about), *found])


_EXAMPLE = "--map instruction=FIELD,output=FIELD, or prompt=…, messages=…, chosen=…,rejected=…"

_EMPTY = "empty"  # the rule that drops records with neither a question nor an answer
_NO_QUESTION = "no-question"  # the rule that drops answers without a known question

_Record = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """A published data set, or a family of data sets: see `published.toml`."""

    name: str
    licence: str  # the publisher's name for the licence
    shapes: Sequence[str]
    fields: Sequence[str] = ()  # the fields by which a record is recognised
    holds: Mapping[str, str] = field(default_factory=dict)  # patterns that fields must contain

    def shape(self, record: _Record, where: str) -> Shape:
        """Return the shape for reading a record of this source."""
        own = [shape for shape in shapes() if shape.name in self.shapes]
        if (fitting := next((shape for shape in own if record.keys() >= shape.needs), None)) is None:
            needed = " or ".join(" and ".join(sorted(shape.needs)) for shape in own)
            raise RecordError(f"{where}: {self.name} needs the fields {needed}; found: {names(record)}.")
        return fitting

    def has_made(self, record: _Record) -> bool:
        """Return whether a record can only come from this source."""
        if not (needs := _NEEDS[self.name]) or not needs <= record.keys():
            return False
        texts = ((record[name], pattern) for name, pattern in self.holds.items())
        return all(isinstance(text, str) and re.search(pattern, text, re.DOTALL) for text, pattern in texts)


_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
SOURCES = {name: Published(name, **table) for name, table in _TABLES.items()}  # all sources by name
_NEEDS = {name: frozenset((*each.fields, *each.holds)) for name, each in SOURCES.items()}


def source_named(name: str) -> Published:
    """Return the source with the given name. Raise a UsageError for an unknown name."""
    if name not in SOURCES:
        hint = f"Sources: {' '.join(SOURCES)}. Read other data without --as, or with --map."
        raise UsageError(f"no source is called {name!r}. {nearest(name, SOURCES)}".rstrip(), hint=hint)
    return SOURCES[name]


@dataclass(frozen=True)
class Reader:
    """The settings for reading records as chains."""

    source: str | None = None  # name of the source; None to recognise it
    licence: str | None = None
    fields: FieldMap | None = None
    paths: Literal["best", "all"] = "best"  # the paths to read from a tree

    def chains(self, record: Any, item: ImportItem) -> Iterator[Chain]:
        """Yield the chains in a record. Several chains may have the same id."""
        given, record = record, self.fields.renamed(record) if self.fields else record
        try:
            read = list(self._read(record, item))
        except RecordError as error:
            if self.fields and isinstance(given, dict):
                error.message = self.fields.in_own_names(error.message, given)
            raise
        for name, chain in read:
            meta = {**chain.meta, "origin": self._origin(record, chain, item)}
            yield chain.model_copy(update={"id": name, "meta": meta})

    def _read(self, record: Any, item: ImportItem) -> Iterator[tuple[str, Chain]]:
        name = id_of(record, item.file.stem, item.number)
        if not isinstance(record, dict) or is_chain(record) or "chain" in record:
            chain = chain_of(record, item.where)
            yield chain.id or name, chain
        else:
            shape_of = SOURCES[self.source].shape if self.source else known_shape
            shape = shape_of(record, item.where)
            if shape.name == TREE and self.paths == "all":
                paths = read_tree(record, item.where)
                yield from ((f"{name}/{leaf}" if leaf else name, chain) for leaf, chain in paths)
            else:
                yield name, read_as(shape, record, item.where)

    def _origin(self, record: Any, chain: Chain, item: ImportItem) -> dict[str, Any]:
        before = chain.meta.get("origin")
        named = SOURCES[self.source] if self.source else None
        # With a field map, the names of fields do not reveal the source.
        tells = not self.fields and isinstance(record, dict)
        source = named or next((each for each in SOURCES.values() if tells and each.has_made(record)), None)
        # A recorded licence stays: the named source supplies only a missing one.
        licences = (self.licence, item.file.licence, source and source.licence)
        dataset = source.name if source else item.file.dataset
        licence = next((each for each in licences if each and each != UNKNOWN), UNKNOWN)
        made = {"dataset": dataset, "licence": licence, "file": item.file.name, "record": item.number}
        if not isinstance(before, dict):
            return made
        unknown = self.source and licence_in(before) == UNKNOWN
        overruled = {"dataset": self.source is not None, "licence": self.licence or unknown}
        return {**made, **before, **{name: made[name] for name, wanted in overruled.items() if wanted}}


class ImportItem(NamedTuple):
    """A record that is not yet decoded."""

    where: str
    file: Input
    number: int  # its index in the file, from 0
    data: bytes | RecordError


class Imported(NamedTuple):
    """A chain as a line of JSON, without the line feed."""

    id: str
    licence: str
    json: bytes
    unanswered: str = ""  # the record's location if it has no answer, not even a gold one
    unused: tuple[str, ...] = ()  # unused fields; of an answered record, only mapped ones


def items_in(files: Iterable[Input]) -> Iterator[ImportItem]:
    """Yield the records of files. After the records of a damaged file, yield an item with the error."""
    for file in files:
        number = -1
        try:
            for number, (where, data) in enumerate(file.rows()):
                yield ImportItem(where, file, number, data)
        except RecordError as error:
            if number < 0:
                raise
            yield ImportItem(name_of(file.path), file, number + 1, Damage(error.message, hint=error.hint))


def import_all(
    items: Iterable[ImportItem], reader: Reader, *, workers: int = 1, strict: bool = False
) -> Iterator[Imported | Drop]:
    """Yield each record's chains with unique ids, or a `Drop`. With `strict`, unreadable records raise."""
    ids, work = Ids(), partial(_import, reader, strict=strict)
    for results in spread(work, _checked(items, reader.fields), workers):
        for each in results:
            if isinstance(each, Imported) and (name := ids.new(each.id)) != each.id:
                renamed = Chain.from_json(each.json).model_copy(update={"id": name})
                yield each._replace(id=name, json=renamed.to_json().encode())
            else:
                yield each


def _checked(items: Iterable[ImportItem], unknown: FieldMap | None) -> Iterator[ImportItem]:
    for item in items:
        if unknown and isinstance(item.data, bytes):
            with suppress(RecordError):
                unknown.check(decode(item.data, item.where), item.where)
                unknown = None
        yield item


def _import(reader: Reader, item: ImportItem, *, strict: bool) -> list[Imported | Drop]:
    line = item.data if isinstance(item.data, bytes) else None  # once decoded, it may be too deep to pickle
    try:
        if isinstance(item.data, RecordError):
            raise item.data
        record = decode(item.data, item.where)
        check_depth(record, item.data, item.where)
        chains = list(reader.chains(record, item))
    except RecordError as error:
        if strict:
            raise
        error.message = error.message.removeprefix(f"{item.where}: ")
        return [unread(error, item.where, line)]
    found: list[Imported | Drop] = []
    for chain in chains:
        if asks(chain.prompt):
            found.append(_line(chain, item.where, reader.fields.fields if reader.fields else {}))
        elif is_answered(chain):
            reason = "the record answers a question that it does not contain."
            found.append(Drop(_NO_QUESTION, reason, item.where, chain.id, line))
        else:
            found.append(Drop(_EMPTY, "the record has no question or answer.", item.where, chain.id, line))
    return found


def _line(chain: Chain, where: str, mapped: Mapping[str, str]) -> Imported:
    unanswered = "" if is_answered(chain) else where
    source = meta_of(chain, "source") if unanswered or mapped else {}
    held = (name for name, value in source.items() if value and isinstance(value, str | list | dict))
    unused = tuple(name[:60] for name in held if name not in (*ID_FIELDS, "checks"))
    unused = unused if unanswered else tuple(name for name in unused if name in mapped)
    licence, line = licence_in(chain.meta["origin"]), chain.to_json().encode()
    return Imported(chain.id, licence, line, unanswered, unused)


_KINDS, _FIELDS, _PLACES = 1000, 8, 3  # sets of unused fields to count separately; fields and records to name


def import_files(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    fields: Sequence[str] | None = None,
    licence: str | None = None,
    which: Literal["best", "all"] = "best",
    **options: Unpack[DataOptions],
) -> DataResult:
    """Import files, folders or hub datasets as chains. Same as `redraft data import`.

    `name` is the source, if fields do not reveal it. `fields` are maps such as
    `instruction=question`. `which` selects the conversations to read from an OASST1 message tree.
    """
    given, run = [*map(here, paths)], DataRun.of(out, options, import_files)
    places = [place for place in given if not place.name.endswith(".run.json")] or given
    if skipped := len(given) - len(places):
        run.tell(f"skipped {counted(skipped, 'run record')} (*.run.json)")
    not_twice(places[0], places[1:])
    source = source_named(name).name if name else None
    reader = Reader(source, licence, FieldMap.of(fields) if fields else None, which)
    for place in places:
        if str(place) in SOURCES and not place.exists():
            hint = f"redraft data import FILE --as {place}"
            raise UsageError(f"{place} is not a file, but a name for --as.", hint=hint)
    # A file without a licence takes the licences in the .run.json file beside it.
    found = {
        str(place): [
            file._replace(licence=file.licence or ", ".join(licences_beside(file.path)) or None)
            for file in inputs_of(place)
        ]
        for place in places
    }
    files = [file for each in found.values() for file in each]
    made = [file.name for file in files if "dropped" in (RunFile(file.path).read() or {})]
    if 0 < len(made) < len(files):
        run.tell(f"redraft data made {', '.join(made)}, perhaps from the other files here.")
    for dataset in dict.fromkeys(file.dataset for file in files if file.offline):
        run.tell(f"{dataset}: the hub cannot be reached; reading the cached copy.")
    listed = None if fields is None else list(fields)
    config = {"as": name, "licence": licence, "map": listed, "paths": which, "strict": run.strict}
    counts = _Counts(name)

    def about() -> dict[str, Any]:
        inputs = []
        for path, inside in found.items():
            read = [file.path for file in inside]
            several = {} if [*map(str, read)] == [path] else {"files": len(inside)}
            revision = {"revision": inside[0].revision} if several and inside[0].revision else {}
            inputs.append({**fingerprint(read, path if several else None), **several, **revision})
        return {"inputs": inputs}

    provenance, sizes = Provenance("data import", config), [file.path for file in files]
    with writing(provenance, run, reads=sizes, about=about) as output:
        results = import_all(output.watch(items_in(files)), reader, workers=run.processes, strict=run.strict)
        for each in output.passing(counts.noted(results)):
            output.sink.write(each.json + b"\n")
        counts.check(output)
    output.tell_counts()
    counts.tell(output)
    more = {"unknown licence": counts.licences[UNKNOWN], "unanswered": counts.unanswered.total()}
    return output.result(more)


@dataclass
class _Counts:
    name: str | None  # the source that was named
    licences: Counter[str] = field(default_factory=Counter)
    # Records without an answer, by the fields that were not used.
    unanswered: Counter[tuple[str, ...]] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)  # locations of the first of these records
    unused: dict[str, None] = field(default_factory=dict)  # mapped fields that other records do not use

    def noted(self, results: Iterable[Imported | Drop]) -> Iterator[Imported | Drop]:
        for each in results:
            if not isinstance(each, Drop):
                self.licences[each.licence] += 1
                self.unused |= dict.fromkeys(() if each.unanswered else each.unused)
                if each.unanswered:
                    self.places += [each.unanswered] * (len(self.places) < _PLACES)
                    # A hostile file may have new names in every record.
                    self.unanswered[each.unused if len(self.unanswered) < _KINDS else ()] += 1
            yield each

    def check(self, output: DataOutput) -> None:
        if output.kept or not output.gone.counts:
            return
        known = f"Without --as {self.name}, redraft recognises records by their fields. "
        hint = output.gone.advice(f"{known * bool(self.name)}Name the fields: {_EXAMPLE}")
        if output.gone.damage:
            raise RecordError("\n  ".join([*output.gone.damage, "no other record could be read."]), hint=hint)
        if output.gone.counts[_NO_QUESTION]:
            raise UsageError(f"{_unasked(output)}.", hint=_JOIN)
        raise UsageError("no record could be read.", hint=hint)

    def tell(self, output: DataOutput) -> None:
        tell = output.run.tell
        if output.gone.counts[_NO_QUESTION]:
            tell(_unasked(output), _JOIN if output.gone.counts[_NO_QUESTION] >= output.kept else None)
        if self.licences[UNKNOWN]:
            hint = "Repeat the command with --force, and add --as SOURCE or --licence TEXT."
            tell(f"the licence of {counted(self.licences[UNKNOWN], 'record')} is unknown.", hint)
        if self.unanswered:
            # The fields that may contain the answer, the most frequent first.
            often = dict.fromkeys(name for unused, _ in self.unanswered.most_common() for name in unused)
            if "turns" in often:  # of MT-bench
                del often["turns"]
                tell("The prompt is the first turn; meta.source.turns contains all turns.")
            fields = ", ".join(list(often)[:_FIELDS])
            total = self.unanswered.total()
            places = ", ".join(self.places) + ", …" * (total > _PLACES)
            text = f"no answer was found in {counted(total, 'record')} ({places})"
            hint = "If one of these fields contains the answer: --map instruction=FIELD,output=FIELD"
            tell(f"{text}; fields not used: {fields}" if fields else text, hint if fields else None)
        if self.unused:
            tell(f"--map: fields not used, but kept in meta.source: {', '.join(self.unused)}")


_JOIN = "Put each question into the record of its answer, as `instruction`. The answer is `output`."


def _unasked(output: DataOutput) -> str:
    return f"no question was found for {counted(output.gone.counts[_NO_QUESTION], 'answer')}"
