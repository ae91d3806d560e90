"""Records of a file on their way to the processes that work on them: cut by one, decoded by many.

An id is given to what has none, as `formats.records` does, but is not made unique in its file: that needs
memory of all records, and belongs to where data comes in.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from redraft.chain import Chain
from redraft.collect.clean.dropped import DAMAGED, UNREADABLE, Drop
from redraft.errors import RecordError
from redraft.formats.read.files import decode, name_of, read_lines, stem_of
from redraft.formats.read.records import chain_of, id_of

_DEEP = 150
"""Lists and objects within one another from which on it is tried whether a chain can be read again."""


class Damage(RecordError):
    """What ends the reading of a file, behind records that could be read."""


class Line(NamedTuple):
    """A record, undecoded.

    Attributes:
        where: What errors call it, such as `a.jsonl:12`.
        stem: Its file's name without endings, which ids begin with.
        number: Its place in the file, from 0.
        data: Its JSON.
        damage: What there is instead of a record, at the end of a damaged file.
    """

    where: str
    stem: str
    number: int
    data: bytes
    damage: Damage | None = None


def lines_of(path: Path, *, damaged: bool = False) -> Iterator[Line]:
    """The records of a file.

    Args:
        path: The file, or `-`.
        damaged: If it ends too early, or its array is damaged, give what came before, and a last line that
            says so, which `chain_in` counts or raises. Nothing came before: it is raised here.

    Raises:
        RecordError: The file cannot be read, or, without `damaged`, not to its end.
        MissingExtra: It is a `.zst`, and what reads those is not installed.
    """
    stem, number = stem_of(path), -1
    try:
        for number, (where, data) in enumerate(read_lines(path)):
            yield Line(where, stem, number, data)
    except RecordError as error:
        if not damaged or number < 0:
            raise
        yield Line(name_of(path), stem, number + 1, b"", Damage(error.message, hint=error.hint))


def chain_in(line: Line, *, strict: bool) -> Chain | Drop:
    """The chain that a record is, or how it is counted where it is none.

    Raises:
        RecordError: With `strict`, instead of a drop.
    """
    if line.damage:
        if strict:
            raise line.damage
        return Drop(DAMAGED, line.damage.message, line.where)
    if chain := _own_chain(line.data):
        return chain
    try:
        record = decode(line.data, line.where)
        chain = chain_of(record, line.where)
        if _depth(record) > _DEEP:
            _insist_on_writing(chain, line.where)
    except RecordError as error:
        if strict:
            raise
        return Drop(UNREADABLE, error.message, line.where, record=line.data)
    if chain.id:
        return chain
    return chain.model_copy(update={"id": id_of(record, line.stem, line.number)})


def _depth(value: Any) -> int:
    """How many lists and objects stand within one another."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _insist_on_writing(chain: Chain, where: str) -> None:
    """Refuses a chain that cannot be written, or not be read again: that would be seen by the next verb.

    Raises:
        RecordError: It is nested too deep.
    """
    try:
        Chain.from_json(chain.to_json())
    except (ValueError, RecordError):
        raise RecordError(f"{where}: is nested too deep to be written and read again.") from None


def _own_chain(data: bytes) -> Chain | None:
    """The chain that redraft wrote in this line, read at once; None if that is something else, or faulty."""
    if not data.startswith(b'{"version":'):
        return None
    try:
        chain = Chain.model_validate_json(data)
    except ValidationError:
        return None
    # A chain without steps, or with a field of its own called `error`, is for `chain_of` to judge.
    known = "steps" in chain.model_fields_set and "error" not in (chain.model_extra or {})
    return chain if known and chain.id else None
