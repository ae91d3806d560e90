"""Export the records of a file to another format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

from redraft.collect.output import Drop, chain_or_drop
from redraft.formats import ExportFormat
from redraft.formats.read.conversations import asks
from redraft.formats.read.files import to_line
from redraft.formats.read.records import Ids, RawRecord
from redraft.formats.write import MAKERS, NO_QUESTION, Loss, Unfit, losses
from redraft.licences import UNKNOWN, licence_in


class Exported(NamedTuple):
    """A record in another format, as JSON with a line feed.

    Attributes:
        own: The id in the record; None if the format has none.
        id: The chain's id.
        lost: Parts of the chain that the format cannot hold.
        licence: The chain's licence, which no format holds.
    """

    data: bytes
    own: str | int | None
    id: str
    lost: frozenset[Loss] = frozenset()
    licence: str = UNKNOWN


def export_line(raw: RawRecord, *, to: ExportFormat, strict: bool) -> list[Exported] | Drop:
    """Convert a record to those of another format, or say why it is left out.

    Raises:
        RecordError: With `strict`, the record cannot be read.
    """
    chain = chain_or_drop(raw, strict=strict)
    if isinstance(chain, Drop):
        return chain
    made = MAKERS[to](chain) if asks(chain.prompt) else NO_QUESTION
    if isinstance(made, Unfit):
        return Drop(made.rule, made.reason, raw.where, chain.id, chain.model_dump(mode="json"))
    lost = losses(chain, to)
    records = made if isinstance(made, list) else [made]
    licence = licence_in(chain.meta.get("origin"))
    return [Exported(to_line(record), record.get("id"), chain.id, lost, licence) for record in records]


def with_unique_ids(records: Iterable[Exported]) -> Iterator[bytes]:
    """Give the records' lines. A record whose own id is taken gets its chain's id."""
    ids = Ids()
    for record in records:
        own = str(record.own)
        name = own if record.own is None else ids.new(own)
        if name == own:
            yield record.data
        else:
            name = name if record.id == own else ids.new(record.id)
            yield to_line({**json.loads(record.data), "id": name})


def write_records(sink: IO[bytes], records: Iterable[bytes], *, array: bool) -> int:
    """Write records one a line, as JSON lines or as an array. Return how many there were."""
    count = 0
    for count, record in enumerate(records, start=1):
        if array:
            sink.write((b"[\n" if count == 1 else b",\n") + record.removesuffix(b"\n"))
        else:
            sink.write(record)
    if array:
        sink.write(b"\n]\n" if count else b"[]\n")
    return count
