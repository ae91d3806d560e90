"""Records on their way to tokens: cut by one process, decoded and tokenised by many.

Records go to processes as they stand in their file and come back as arrays, in their order, so that memory
does not grow with the data, and any number of processes makes the same (`redraft.parallel`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redraft.formats.read.files import decode, read_lines, stem_of
from redraft.formats.read.records import chain_of, id_of
from redraft.parallel import spread
from redraft.train.data.store import pair
from redraft.train.data.tokens import Cut, Encoder, Skipped

BATCH = 256
"""Records that become arrays at a time…"""

BATCH_BYTES = 1 << 18
"""…or fewer, once they have so many bytes."""

WORTH_A_PROCESS = 1 << 22
"""Bytes of records that are worth another process: to start one takes as long as to tokenise these."""


class Line(NamedTuple):
    """A record, undecoded: what errors call it, its file's name without endings, its place, and its JSON."""

    where: str
    stem: str
    number: int
    data: bytes


@dataclass
class Made:
    """What became of a batch of records.

    Attributes:
        names: Ids of the examples.
        lengths: Their tokens.
        tokens: All of them, one example behind the other, as `train.store.pair` makes them.
        trained: How many of them carry loss.
        cuts: What each lost.
        leaves: Ids of the talks of which only the last answer is learnt, as the format has one turn.
        later: Ids of the records of which one answer is learnt that is not the first.
        skipped: Ids of the records that became no example, and why.
    """

    names: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    tokens: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    trained: int = 0
    cuts: list[Cut] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def made_of(paths: Sequence[Path], encoder: Encoder, workers: int) -> Iterator[Made]:
    """What becomes of all records, batch by batch, in their order."""
    worth = 1 + sum(path.stat().st_size for path in paths) // WORTH_A_PROCESS
    return spread(partial(_encoded, encoder), _batches(_lines(paths)), min(workers, worth))


def _lines(paths: Sequence[Path]) -> Iterator[Line]:
    for path in paths:
        stem = stem_of(path)
        for number, (where, data) in enumerate(read_lines(path)):
            yield Line(where, stem, number, data)


def _batches(lines: Iterable[Line]) -> Iterator[tuple[Line, ...]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.data)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)


def _encoded(encoder: Encoder, batch: Sequence[Line]) -> Made:
    made = Made()
    tokens = []
    for line in batch:
        record = decode(line.data, line.where)
        chain = chain_of(record, line.where)
        name = chain.id or id_of(record, line.stem, line.number)
        example = encoder.encode(chain.model_copy(update={"id": name}))
        if isinstance(example, Skipped):
            made.skipped.append((name, example.reason))
            continue
        made.names.append(name)
        made.lengths.append(len(example.ids))
        made.trained += int(np.count_nonzero(example.trained[1:]))  # nothing predicts the first token
        tokens.append(pair(example.ids, example.trained))
        made.cuts.append(example.cut)
        made.leaves += [name] * example.leaves
        made.later += [name] * example.later
    made.tokens = np.concatenate(tokens) if tokens else made.tokens
    return made
