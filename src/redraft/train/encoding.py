"""Records on their way to tokens: cut by one process, decoded and tokenised by many.

Records go to processes as they stand in their file and come back as arrays, in their order, so that memory
does not grow with the data, and any number of processes makes the same. `collect.work` spreads work too; here
what is spread is heavy (a tokenizer that each process loads once), comes back as one array a batch, and ends
with the process that began it, as a rank of a run may be killed at any time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redraft.errors import RedraftError
from redraft.formats.files import decode, read_lines, stem_of
from redraft.formats.records import chain_of, id_of
from redraft.train.store import pair
from redraft.train.tokens import Encoder, Skipped

BATCH = 256
"""Records that go to a process at a time…"""

BATCH_BYTES = 1 << 18
"""…or fewer, once they have so many bytes."""

WAITING = 3
"""Batches a process that may be under way: what bounds the memory."""

WORTH_A_PROCESS = 1 << 22
"""Bytes of records that are worth another process: to start one takes as long as to tokenise these."""

NO_LOSS = "no token carries loss"


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
        cut: Ids of the examples that were cut, by how many tokens, and how many of these were the prompt's.
        skipped: Ids of the records that became no example, and why.
    """

    names: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    tokens: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    trained: int = 0
    cut: list[tuple[str, int, int]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def made_of(paths: Sequence[Path], encoder: Encoder, workers: int) -> Iterator[Made]:
    """What becomes of all records, batch by batch, in their order."""
    batches = _batches(_lines(paths))
    worth = 1 + sum(path.stat().st_size for path in paths) // WORTH_A_PROCESS
    if min(workers, worth) <= 1:
        yield from (_encoded(encoder, batch) for batch in batches)
    else:
        yield from _spread(encoder, batches, min(workers, worth))


def _lines(paths: Sequence[Path]) -> Iterator[Line]:
    for path in paths:
        stem = stem_of(path)
        for number, (where, data) in enumerate(read_lines(path)):
            yield Line(where, stem, number, data)


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.data)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _spread(encoder: Encoder, batches: Iterable[list[Line]], workers: int) -> Iterator[Made]:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, context, _start, (encoder,)) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(_encoded_there, batch))
                if len(waiting) >= WAITING * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise RedraftError(
                "a process that tokenised the data was killed, perhaps because memory ran out.",
                hint="--workers 1 takes less memory.",
            ) from None
        finally:
            for future in waiting:
                future.cancel()


_ENCODER: list[Encoder] = []
"""The one of this process, if it is one that `_spread` started."""


def _start(encoder: Encoder) -> None:
    """Begins a process. Ctrl-C is its parent's to handle, and it ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _ENCODER[:] = [encoder]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _encoded_there(batch: Sequence[Line]) -> Made:
    return _encoded(_ENCODER[0], batch)


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
        carrying = int(np.count_nonzero(example.trained[1:]))  # nothing predicts the first token
        if not carrying:
            made.skipped.append((name, NO_LOSS))
            continue
        made.names.append(name)
        made.lengths.append(len(example.ids))
        made.trained += carrying
        tokens.append(pair(example.ids, example.trained))
        if example.cut:
            made.cut.append((name, example.cut, example.cut_prompt))
    made.tokens = np.concatenate(tokens) if tokens else made.tokens
    return made
