"""Licences that stand beside a file, because its format has no place for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from redraft.chain import Chain
from redraft.formats.read.records import read_records
from redraft.jobs.provenance import licences_beside
from redraft.licences import UNKNOWN, licence_in


def licensed_records(file: Path) -> Iterator[Chain]:
    """Read records. One without a licence gets all those that `FILE.run.json` lists.

    Raises:
        RecordError: The file cannot be read.
    """
    licences = [name for name in licences_beside(file) if name != UNKNOWN]
    for chain in read_records(file):
        origin = chain.meta.get("origin")
        if not licences or licence_in(origin) != UNKNOWN:
            yield chain
            continue
        known = origin if isinstance(origin, dict) else {}
        yield chain.model_copy(update={"meta": {**chain.meta, "origin": {**known, "licence": licences}}})
