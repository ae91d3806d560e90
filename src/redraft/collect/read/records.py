"""Read a record as a chain, or as a drop that is counted."""

from __future__ import annotations

from redraft.chain import Chain
from redraft.collect.clean.dropped import DAMAGED, UNREADABLE, Drop
from redraft.errors import RecordError
from redraft.formats.read.records import Damage, RawRecord


def chain_or_drop(raw: RawRecord, *, strict: bool) -> Chain | Drop:
    """Return a record's chain, or the drop of a record that cannot be read.

    Raises:
        RecordError: With `strict`, instead of a drop.
    """
    try:
        return raw.chain()
    except RecordError as error:
        if strict:
            raise
        if isinstance(error, Damage):
            return Drop(DAMAGED, error.message, raw.where)
        return Drop(UNREADABLE, error.message, raw.where, record=raw.data)
