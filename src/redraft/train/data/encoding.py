"""Decode and tokenise records in parallel.

One process splits files into undecoded records; workers return arrays, in order (`redraft.parallel`). So
memory does not grow with the data, and any number of workers gives the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from redraft.chain import Chain
from redraft.formats.read.records import RawRecord, raw_records
from redraft.formats.tokens.encoder import Cut, Example, Skipped
from redraft.licences import origin_of
from redraft.parallel import spread
from redraft.train.data.store import pair

BATCH = 256
"""The most records of a batch…"""

BATCH_BYTES = 1 << 18
"""…and the bytes after which it is full."""

WORTH_A_PROCESS = 1 << 22
"""Bytes of records per worker: tokenising them takes as long as starting a process."""


class Encodes(Protocol):
    """Turns records into examples. It can be pickled.

    Attributes:
        wanted: What a record should be, for a hint.
    """

    wanted: str

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the examples of a record, apart from the code."""
        ...

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return the chains of a record that become examples."""
        ...

    def encode(self, chain: Chain) -> Example | tuple[Example, ...] | Skipped:
        """Return the examples of a chain, or why there is none."""
        ...


@dataclass
class EncodedBatch:
    """The examples of a batch of records.

    Attributes:
        records: Records that were read.
        names: Ids of the examples.
        lengths: Tokens of each example.
        tokens: All tokens, example after example, packed by `store.pair`.
        trained: Number of tokens with loss.
        cuts: What each example lost to the length limit.
        margins: By how much the first of a pair should be better, for each example.
        shortened: Ids of records that were cut, with what their examples lost together.
        leaves: Ids of conversations that train on their last answer alone, because the format has one turn.
        later: Ids of records that train on one answer other than the first.
        skipped: Ids of records that gave no example, with the reason.
        origins: Records that gave examples, by data set (else file) and licence.
    """

    records: int = 0
    names: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    tokens: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    trained: int = 0
    cuts: list[Cut] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    shortened: list[tuple[str, Cut]] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    origins: Counter[tuple[str, str]] = field(default_factory=Counter)


def encode_files(paths: Sequence[Path], encoder: Encodes, workers: int) -> Iterator[EncodedBatch]:
    """Encode the records of some files, in order, with at most `workers` processes."""
    worth = 1 + sum(path.stat().st_size for path in paths) // WORTH_A_PROCESS
    records = (record for path in paths for record in raw_records(path))
    return spread(partial(_encoded, encoder), _batches(records), min(workers, worth))


def _batches(records: Iterable[RawRecord]) -> Iterator[tuple[RawRecord, ...]]:
    batch: list[RawRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.data)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)


def _encoded(encoder: Encodes, batch: Sequence[RawRecord]) -> EncodedBatch:
    made = EncodedBatch()
    tokens = []
    for stem, chain in ((record.stem, chain) for record in batch for chain in encoder.chains(record)):
        name, found = chain.id, encoder.encode(chain)
        made.records += 1
        if isinstance(found, Skipped):
            made.skipped.append((name, found.reason))
            continue
        examples = found if isinstance(found, tuple) else (found,)
        made.origins[origin_of(chain.meta, stem)] += 1
        for example in examples:
            made.names.append(name)
            made.lengths.append(len(example.ids))
            made.trained += int(np.count_nonzero(example.trained[1:]))  # nothing predicts the first token
            tokens.append(pair(example.ids, example.trained))
            made.cuts.append(example.cut)
            made.margins.append(example.margin)
        lost = Cut(*map(sum, zip(*(example.cut for example in examples), strict=True)))
        made.shortened += [(name, lost)] if lost.tokens else []
        made.leaves += [name] * examples[0].leaves
        made.later += [name] * examples[0].later
    made.tokens = np.concatenate(tokens) if tokens else made.tokens
    return made
