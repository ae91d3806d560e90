"""Import published data as chains with their origin and licence.

A record's fields (`formats.read.shapes`), or the user's field map, decide how it is read. The source is named
by the user (`--as`) or recognised by fields that only one source has. A format that many data sets share,
such as Alpaca's, reveals no source, and the licence is `unknown`. Names, fields and licences come from the
sources' own pages; licences are recorded, not judged. Nothing is cleaned.

Memory grows only with the ids: about 17 bytes per record (`formats.read.records.Ids`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from redraft.chain import Chain, Prompt
from redraft.collect.output import DAMAGED, UNREADABLE, Drop
from redraft.collect.read.fieldmap import FieldMap, nearest
from redraft.collect.read.inputs import Input
from redraft.collect.texts import is_answered
from redraft.errors import RecordError, UsageError
from redraft.formats.read.conversations import TREE, asks
from redraft.formats.read.fields import Shape
from redraft.formats.read.files import decode, name_of, stem_of
from redraft.formats.read.records import ID_FIELDS, Damage, Ids, chain_of, check_depth, id_of, read_records
from redraft.formats.read.shapes import is_chain, known_shape, names, read_as, read_tree, shapes
from redraft.licences import UNKNOWN, licence_in
from redraft.parallel import spread

EMPTY = "empty"  # the rule that drops records without question and answer
NO_QUESTION = "no-question"  # the rule that drops answers without a known question

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """A published data set, or a family of them.

    Attributes:
        licence: The publisher's name for it.
        shapes: Names of its records' shapes.
        told_by: Whether a record can only come from here.
    """

    name: str
    licence: str
    shapes: tuple[str, ...]
    told_by: Callable[[Record], bool] = lambda _: False

    def shape(self, record: Record, where: str) -> Shape:
        """Return the shape for reading a record of this source.

        Raises:
            RecordError: The record lacks the fields.
        """
        own = [shape for shape in shapes() if shape.name in self.shapes]
        fitting = next((shape for shape in own if record.keys() >= shape.needs), None)
        if fitting is None:
            needed = " or ".join(" and ".join(sorted(shape.needs)) for shape in own)
            raise RecordError(
                f"{where}: {self.name} has the fields {needed}; this record has: {names(record)}."
            )
        return fitting


def _fields(*wanted: str) -> Callable[[Record], bool]:
    return lambda record: record.keys() >= set(wanted)


def _text(name: str, holds: Callable[[str], bool]) -> Callable[[Record], bool]:
    return lambda record: isinstance(record.get(name), str) and holds(record[name])


_SOURCES = (
    Published("alpaca", "CC BY-NC 4.0", ("Alpaca",)),
    Published("gsm8k", "MIT", ("GSM8K",), _text("answer", lambda text: "\n#### " in text[-80:])),
    Published("aqua-rat", "Apache-2.0", ("AQuA",), _fields("question", "options", "rationale", "correct")),
    Published("math", "MIT", ("MATH",), _fields("problem", "level", "solution")),
    Published("mbpp", "CC BY 4.0", ("MBPP",), _fields("task_id", "code", "test_list")),
    Published("conala", "CC BY-SA 4.0", ("CoNaLa",), _fields("intent", "rewritten_intent", "snippet")),
    Published(
        "code-contests",
        "CC BY 4.0",
        ("CodeContests",),
        _fields("description", "public_tests", "private_tests", "solutions"),
    ),
    Published("drrepair", "MIT", ("DrRepair",), _fields("code_lines", "gold_code_lines", "err_line")),
    Published("flan", "Apache-2.0", ("FLAN",), _fields("inputs", "targets", "task")),
    Published("sharegpt", "terms of the sharing site", ("ShareGPT conversation",)),
    Published("oasst1", "Apache-2.0", (TREE,), _fields("message_tree_id", "tree_state", "prompt")),
    Published("gpt4all", "terms of the teacher", ("GPT4All",)),
    Published(
        "hh-rlhf",
        "MIT",
        ("chosen and rejected",),
        _text("chosen", lambda text: text.startswith("\n\nHuman:")),
    ),
    Published("shp", "terms of the site", ("SHP",), _fields("history", "human_ref_A", "score_ratio")),
    Published(
        "selfee",
        "CC BY-NC 4.0",
        ("SelFee training chain", "SelFee answer"),
        _fields("outputs", "iteration", "iteration_truncated"),
    ),
    Published("self-instruct", "Apache-2.0", ("Self-Instruct task",)),
    Published("questions", "Apache-2.0", ("question", "MT-bench question")),
)

SOURCES = {source.name: source for source in _SOURCES}  # all sources by name


def source_named(name: str) -> Published:
    """Return the source of a name.

    Raises:
        UsageError: There is none; the message suggests the nearest.
    """
    if name not in SOURCES:
        raise UsageError(
            f"no source is called {name!r}.{nearest(name, SOURCES)}",
            hint=f"Sources: {' '.join(SOURCES)}; other data is read without --as, or with --map.",
        )
    return SOURCES[name]


@dataclass(frozen=True)
class Reader:
    """How to read records as chains.

    Attributes:
        source: Name of the source; None to recognise it.
        licence: Overrides the source's licence.
        fields: The user's field map.
        paths: Read the best path of a tree, or all of them.
        questions: Prompts by id for answers without questions (`questions_in`).
    """

    source: str | None = None
    licence: str | None = None
    fields: FieldMap | None = None
    paths: Literal["best", "all"] = "best"
    questions: Mapping[str, Prompt] = field(default_factory=dict)

    def chains(self, record: Any, item: ImportItem) -> Iterator[Chain]:
        """Read a record's chains, whose ids may not be unique.

        Raises:
            RecordError: The record cannot be read.
        """
        for name, chain in self._read(record, item):
            meta = {**chain.meta, "origin": self._origin(record, chain, item)}
            prompt = chain.prompt
            if not asks(prompt):
                prompt = self.questions.get(name.removeprefix(f"{item.file.stem}/"), prompt)
            yield chain.model_copy(update={"id": name, "prompt": prompt, "meta": meta})

    def _read(self, record: Any, item: ImportItem) -> Iterator[tuple[str, Chain]]:
        name = id_of(record, item.file.stem, item.number)
        if self.fields:
            own, chain = self.fields.read(record, item.where)
            yield id_of({"id": own}, item.file.stem, item.number), chain
        elif not isinstance(record, dict) or is_chain(record) or "chain" in record:
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
        """Return a chain's origin. An existing origin stays unless the user overrides it."""
        before = chain.meta.get("origin")
        named = SOURCES[self.source] if self.source else None
        # With a field map, the fields mean something else.
        tells = not self.fields and isinstance(record, dict)
        source = named or next((each for each in _SOURCES if tells and each.told_by(record)), None)
        licences = (self.licence, named and named.licence, item.file.licence, source and source.licence)
        made = {
            "dataset": source.name if source else item.file.dataset,
            "licence": next(filter(None, licences), UNKNOWN),
            "file": item.file.name,
            "record": item.number,
        }
        if not isinstance(before, dict):
            return made
        overruled = {"dataset": self.source is not None, "licence": self.source or self.licence}
        return {**made, **before, **{name: made[name] for name, wanted in overruled.items() if wanted}}


class ImportItem(NamedTuple):
    """A record before decoding.

    Attributes:
        where: The record's place in errors.
        number: Its place in the file, from 0.
        data: Its JSON, or the error of the record or of the rest of its file.
    """

    where: str
    file: Input
    number: int
    data: bytes | RecordError


class Imported(NamedTuple):
    """A chain as a line of JSON, without the line feed.

    Attributes:
        unanswered: It has neither an answer nor a gold one.
        unused: In this case, unread fields that may hold the answer.
        nulled: NaN or an infinity, which JSON does not have, became null.
    """

    id: str
    licence: str
    json: bytes
    unanswered: bool = False
    unused: tuple[str, ...] = ()
    nulled: bool = False


def questions_in(path: Path) -> dict[str, Prompt]:
    """Read prompts by their ids in the file, as answers name them in `question_id`.

    Raises:
        RecordError: The file cannot be read, or a record is none.
    """
    stem = f"{stem_of(path)}/"
    return {chain.id.removeprefix(stem): chain.prompt for chain in read_records(path) if asks(chain.prompt)}


def items_in(files: Iterable[Input]) -> Iterator[ImportItem]:
    """Read the records of files. A damaged file ends with its error.

    Raises:
        RecordError: No record of a file can be read.
    """
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
    """Import records in order, as chains with unique ids or as drops.

    Raises:
        UsageError: The first record lacks a field of the map.
        RecordError: With `strict`, instead of a drop.
    """
    ids = Ids()
    work = partial(_import, reader, strict=strict)
    for results in spread(work, _checked(items, reader), workers):
        for result in results:
            yield result if isinstance(result, Drop) else _with_id(result, ids.new(result.id))


def _checked(items: Iterable[ImportItem], reader: Reader) -> Iterator[ImportItem]:
    """Give the items. The first readable one must have the fields of the map."""
    unknown = reader.fields
    for item in items:
        if unknown and isinstance(item.data, bytes):
            try:
                record = decode(item.data, item.where)
            except RecordError:
                pass
            else:
                unknown.check(record, item.where)
                unknown = None
        yield item


def _with_id(line: Imported, name: str) -> Imported:
    if name == line.id:
        return line
    chain = Chain.from_json(line.json).model_copy(update={"id": name})
    return line._replace(id=name, json=chain.to_json().encode())


def _import(reader: Reader, item: ImportItem, *, strict: bool) -> list[Imported | Drop]:
    try:
        if isinstance(item.data, RecordError):
            raise item.data
        record = decode(item.data, item.where)
        chains = list(reader.chains(record, item))
        for chain in chains:
            check_depth(chain, record, item.data, item.where)
        return [_line(each, item.data) if asks(each.prompt) else _unasked(each, item) for each in chains]
    except RecordError as error:
        if strict:
            raise
        reason = error.message.removeprefix(f"{item.where}: ")
        rule = DAMAGED if isinstance(error, Damage) else UNREADABLE
        return [Drop(rule, reason, item.where, record=_line_of(item))]


def _unasked(chain: Chain, item: ImportItem) -> Drop:
    if is_answered(chain):
        rule, reason = NO_QUESTION, "it answers a question that is not in the record."
    else:
        rule, reason = EMPTY, "it asks nothing, and has no answer."
    return Drop(rule, reason, item.where, chain.id, _line_of(item))


def _line_of(item: ImportItem) -> bytes | None:
    """Return a record's line. Decoded, it may be nested too deep to be sent between processes."""
    return item.data if isinstance(item.data, bytes) else None


_NAME = 60  # characters to show of a field's name


def _line(chain: Chain, data: bytes) -> Imported:
    unanswered = not is_answered(chain)
    unused = _unused(chain.meta.get("source")) if unanswered else ()
    licence, line = licence_in(chain.meta["origin"]), chain.to_json().encode()
    return Imported(chain.id, licence, line, unanswered, unused, _has_constants(data))


def _has_constants(data: bytes) -> bool:
    """Whether a JSON text, already decoded once, has NaN or an infinity."""
    found: list[str] = []
    if b"NaN" in data or b"Infinity" in data:
        json.loads(data, parse_constant=found.append)
    return bool(found)


def _unused(source: Any) -> tuple[str, ...]:
    fields = source.items() if isinstance(source, dict) else ()
    held = (name for name, value in fields if value and isinstance(value, str | list | dict))
    return tuple(name[:_NAME] for name in held if name not in ID_FIELDS)
