"""Read files of records of any known shape as chains.

A chain's id is the same in every run. `vicuna_80/12` is the record of `vicuna_80.jsonl` with the id 12 or, if
the record has no id, the record at index 12 (from 0). Texts are not cleaned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

from redraft.chain import VERSION, Chain
from redraft.chain.read.conversations import TREE, ranked
from redraft.chain.read.fields import Fields
from redraft.chain.read.files import BROKEN, decode, name_of, read_lines, stem_of
from redraft.chain.read.logs import logged
from redraft.chain.read.shapes import is_chain, read_as, read_shape, shape_of
from redraft.errors import RecordError
from redraft.jobs.ids import IdSet, digest_of

_DEEP = 185  # maximum levels of nesting in a record: a chain with 200 cannot be read again

_FAILED = {"id", "error", "message", "chain"}  # fields of a line of OUT.errors.jsonl
_BEGUN = {"id", "settings", "work"}  # all fields of a line of OUT.unfinished.jsonl

ID_FIELDS = ("question_id", "id", "task_id", "key", "unique_id", "message_tree_id")


class Damage(RecordError):
    """The rest of a file cannot be read. Earlier records of the file are valid."""


class RawRecord(NamedTuple):
    """An undecoded record of a file."""

    where: str  # its location in error messages, such as `a.jsonl:12`
    stem: str  # the file's name without endings, which begins the ids
    number: int  # its index in the file, from 0
    data: bytes
    damage: Damage | None = None  # only in the last record of a damaged file, which has no data

    def chain(self) -> Chain:
        """Decode the record as a chain with an id. Other records of the file may have the same id.

        Raises:
            RecordError: The record is damaged, not a chain, or nested too deeply to be written again.
        """
        if self.damage:
            raise self.damage
        if self.data.startswith(b'{"version":'):  # written by redraft, so `chain_of` is not needed
            with suppress(ValueError):
                chain = Chain.model_validate_json(self.data)
                # Records without steps, or with a field `error`, may need `chain_of`.
                known = "steps" in chain.model_fields_set and "error" not in (chain.model_extra or {})
                if known and chain.id:
                    return chain
        try:
            record = decode(self.data, self.where)
            chain = chain_of(record, self.where)
            check_depth(record, self.data, self.where)
        except RecordError as error:
            error.hint = error.hint or BROKEN
            raise
        if not chain.id:  # nothing else has this chain yet, so it needs no copy
            chain.__dict__["id"] = id_of(record, self.stem, self.number)
        return chain

    def id(self) -> str:
        """Return the id of the record's chain, faster than `chain()` does."""
        if self.damage:
            raise self.damage
        record = decode(self.data, self.where)
        table = record if isinstance(record, dict) else {}
        is_own = table.keys() >= _FAILED or table.keys() == _BEGUN or is_chain(table)
        own = table.get("id") if is_own else None
        return own if own and isinstance(own, str) else id_of(record, self.stem, self.number)

    def pairs(self) -> Iterator[Chain]:
        """Yield possible preference pairs: several for an OASST1 tree, otherwise one."""
        record: Any = None if self.damage else decode(self.data, self.where)
        shape = shape_of(record) if isinstance(record, dict) and not is_chain(record) else None
        if shape and shape.name == TREE:
            for ids, chain in ranked(Fields(dict(record), self.where)):
                yield with_id(chain, f"{self.stem}/{ids}")
        elif shape and shape.refused:  # refused as a prompt or an answer, but not as a pair
            yield with_id(read_as(shape, record, self.where), id_of(record, self.stem, self.number))
        else:
            yield self.chain()


def raw_records(path: Path, *, damaged: bool = False) -> Iterator[RawRecord]:
    """Yield the undecoded records of a file.

    With `damaged`, an error after the first record is not raised, but is the `damage` of a final record.
    """
    stem, number = stem_of(path), -1
    try:
        for number, (where, data) in enumerate(read_lines(path)):
            yield RawRecord(where, stem, number, data)
    except RecordError as error:
        if not damaged or number < 0:
            raise
        yield RawRecord(name_of(path), stem, number + 1, b"", Damage(error.message, hint=error.hint))


def read_records(
    path: Path, limit: int | None = None, *, wanted: Callable[[str], bool] | None = None
) -> Iterator[Chain]:
    """Read a file of any known shape as chains with unique ids.

    Args:
        path: The file.
        limit: Read only the first `limit` records.
        wanted: Returns whether to read the record with the given id.

    Raises:
        RecordError: The file or a record cannot be read. The message names the file, the line and the field.
    """
    ids = Ids()
    for raw in islice(raw_records(path), limit):
        if wanted is None:
            chain = raw.chain()
            yield with_id(chain, ids.new(chain.id))
        elif wanted(name := ids.new(raw.id())):
            yield with_id(raw.chain(), name)


def ids_of(path: Path) -> Iterator[str]:
    """Yield the ids that `read_records` gives to the chains of a file. Unreadable records are skipped."""
    ids = Ids()
    for raw in raw_records(path, damaged=True):
        with suppress(RecordError):
            yield ids.new(raw.id())


def place_of(path: Path, name: str) -> str:
    """Return the location of the record with the id `name`, such as `a.jsonl:12`, or `name` if not found."""
    ids = Ids()
    raws = raw_records(path) if path.is_file() else ()  # a pipe cannot be read again
    return next((raw.where for raw in raws if ids.new(raw.id()) == name), name)


def sample_id(record: str, number: int) -> str:
    """Return the id of an answer to a record: `a` for answer 1 to the record `a`, then `a#2`, `a#3`…"""
    return record if number == 1 else f"{record}#{number}"


def with_id(chain: Chain, name: str) -> Chain:
    """Return the chain with its id set to `name`."""
    named = chain if chain.id == name else copy(chain)  # half the time of `model_copy`
    named.__dict__["id"] = name
    return named


def check_depth(record: Any, data: bytes, where: str) -> None:
    """Raise if a record is nested too deeply to be written and read again."""
    if data.count(b"[") + data.count(b"{") <= _DEEP:
        return
    depth, level = 0, [record]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        depth += 1
        level = [item for inner in level for item in (inner.values() if isinstance(inner, dict) else inner)]
    if depth > _DEEP:
        raise RecordError(f"{where}: the record is nested too deeply to be written and read again.")


def chain_of(record: Any, where: str = "record") -> Chain:
    """Turn a decoded record into a chain. The chain has an id only if redraft wrote the record."""
    if isinstance(record, str):
        record = {"prompt": record}
    if not isinstance(record, dict):
        raise RecordError(f"{where}: the record should be an object or a text (found {record!r:.60}).")
    if record.keys() >= _FAILED:
        begun = record["chain"] or {"version": VERSION, "stop": "error"}
        if not isinstance(begun, dict):
            raise RecordError(f"{where}: chain should be an object (found {begun!r:.60}).")
        chain = Chain.from_json(_json(begun | {"id": record["id"]}, where), where=where)
        failure = {name: record.get(name) for name in ("error", "message", "hint")}
        return chain.model_copy(update={"meta": {**chain.meta, "failure": failure}})
    if record.keys() == _BEGUN and isinstance(record["work"], dict):
        record = record["work"] | {"id": record["id"]}
    if is_chain(record):
        return Chain.from_json(_json(record, where), where=where)
    return read_shape(record, where)


def _json(record: dict[str, Any], where: str) -> bytes:
    try:
        return to_json(record)
    except ValueError as error:
        raise RecordError(f"{where}: the record cannot be read: {error}.") from None


def id_of(record: Any, stem: str, index: int | str) -> str:
    """Return the id in a record's fields, otherwise `index`. A stem is put in front: `stem/id`."""
    table = record if isinstance(record, dict) else {}
    if name := logged(table):
        return name
    values = (v for v in map(table.get, ID_FIELDS) if isinstance(v, (str, int)))
    name = str(next((v for v in values if v != "" and not isinstance(v, bool)), index))
    return name if not stem or name.startswith(f"{stem}/") else f"{stem}/{name}"


class Ids:
    """The ids in use."""

    def __init__(self) -> None:
        self._used = IdSet()  # stores hashes, so a collision adds a needless `~2`
        self._repeats: dict[int, int] = {}

    def new(self, name: str) -> str:
        """Return the id `name`, or the first unused of `name~2`, `name~3`…"""
        if self._used.add(name):
            return name
        key = digest_of(name)
        number = self._repeats.get(key, 1) + 1
        while not self._used.add(f"{name}~{number}"):
            number += 1
        self._repeats[key] = number
        return f"{name}~{number}"
