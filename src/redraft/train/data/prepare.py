"""Prepare training data: read, render and tokenise files of records once, then map the tokens into memory.

One process splits files into undecoded records; workers return arrays, in order (`redraft.parallel`). So
memory does not grow with the data, and any number of workers gives the same result.

Prepared data lies in a cache folder named by a hash of everything that decides it: the bytes of the data, the
tokenizer, format, objective and length, and the source code that turns a record into tokens. The key uses
bytes, not times: a copied or touched file is the same data, and hashing takes a hundredth of the time of
tokenising. It uses the code itself, because nobody remembers to raise a version number.

When several processes want the same data, as the ranks of a run do, one prepares it and the others wait. The
folder gets its name when it is complete; incomplete or damaged folders are replaced.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from redraft.chain import Chain
from redraft.errors import OutputError, UsageError
from redraft.files import locked, open_locked, sync_folder
from redraft.formats.read.files import STDIO, name_of, reading
from redraft.formats.read.records import RawRecord, raw_records
from redraft.formats.tokens.encoder import NO_ROOM, Cut, Example, Skipped
from redraft.licences import origin_of
from redraft.parallel import spread
from redraft.train.data.store import DamagedData, DataReport, Prepared, Writer, open_prepared, pair
from redraft.train.processes import Say, leads

BATCH = 256  # the most records of a batch…
BATCH_BYTES = 1 << 18  # …and the bytes after which it is full
WORTH_A_PROCESS = 1 << 22  # bytes of records per worker: tokenising them takes as long as starting a process


class Encodes(Protocol):
    """Turns records into examples. It can be pickled."""

    wanted: str  # what a record should be, for a hint

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the examples of a record, apart from the code."""

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return the chains of a record that become examples."""

    def encode(self, chain: Chain) -> Example | tuple[Example, ...] | Skipped:
        """Return the examples of a chain, or why there is none."""


@dataclass
class EncodedBatch:
    """The examples of a batch of records.

    Attributes:
        tokens: All tokens, example after example, packed by `store.pair`.
        margins: By how much the first of a pair should be better, for each example.
        places: Which of the chains of this batch each example was made from, from 0.
        shortened: Ids of records that were cut, with what their examples lost together.
        leaves: Ids of conversations that train on their last answer alone, because the format has one turn.
        later: Ids of records that train on one answer other than the first.
        skipped: Ids of records that gave no example, with the reason.
        origins: Records that gave examples, by data set (else file) and licence.
    """

    records: int = 0
    names: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # tokens of each example
    tokens: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    trained: int = 0  # number of tokens with loss
    cuts: list[Cut] = field(default_factory=list)  # what each example lost to the length limit
    margins: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
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
            made.places.append(made.records - 1)
        lost = Cut(*map(sum, zip(*(example.cut for example in examples), strict=True)))
        made.shortened += [(name, lost)] if lost.tokens else []
        made.leaves += [name] * examples[0].leaves
        made.later += [name] * examples[0].later
    made.tokens = np.concatenate(tokens) if tokens else made.tokens
    return made


SECONDS = 15.0  # seconds between two lines of progress

_PACKAGES = ("redraft", "tokenizers", "transformers")
_SOURCES = (
    *("chain.py", "licences.py", "formats/**/*.py"),
    *(f"train/data/{name}.py" for name in ("prepare", "store")),
)


def prepare(
    paths: Sequence[Path], encoder: Encodes, cache: Path, *, workers: int = 1, say: Say = lambda _: None
) -> Prepared:
    """Return the records of some files as tokens, from the cache if possible.

    Args:
        paths: Files of any shape that `formats.read` knows, in order.
        encoder: Turns a chain into tokens.
        workers: The most processes to tokenise with. Little data takes one.
        say: Called with lines of progress, and by the first rank when it waits for another process.
    """
    _refuse_beginning()
    before = [_state(path) for path in paths]
    key = key_of(paths, encoder)
    folder = cache / key[:32]
    try:
        return open_prepared(folder, key)
    except DamagedData:
        pass
    waiting = "waiting for another process, which tokenises the same data."
    lock = locked(cache / f"{folder.name}.lock", lambda: say(waiting) if leads() else None)
    with _writing(cache), lock:
        try:
            return open_prepared(folder, key)  # another process has just prepared it
        except DamagedData:
            _remove_left(cache)
            batches = _unchanged(paths, before, encode_files(paths, encoder, workers))
            return _make(folder, key, batches, encoder.wanted, say)


def _refuse_beginning() -> None:
    """Raise `UsageError` in a worker that imports a script which prepares data itself: both would wait.

    multiprocessing makes the same test before it starts a process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "this script prepares data at import, and a worker that tokenises imports it.",
            hint='Put its code under: if __name__ == "__main__":',
        )


# The key.


def key_of(paths: Sequence[Path], encoder: Encodes) -> str:
    """Return the hash of all that decides the prepared data, in hexadecimal."""
    parts = {
        "data": [(path.name, _sum(path)) for path in paths],
        "encoder": encoder.fingerprint,
        "code": _code(),
        "packages": [_version(name) for name in _PACKAGES],
    }
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of a file of records."""
    if str(path) == STDIO:
        raise UsageError(
            "standard input cannot be trained on: the data is read more than once.", hint="Save it to a file."
        )
    if path.is_dir():
        raise UsageError(
            f"{name_of(path)} is a folder, not a file of records.",
            hint=f"redraft data import {name_of(path)} -o chains.jsonl",
        )
    with reading(path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns


def _unchanged(
    paths: Sequence[Path], before: Sequence[tuple[int, int]], batches: Iterable[EncodedBatch]
) -> Iterator[EncodedBatch]:
    """Yield the batches, then raise if a file has changed since its bytes were hashed."""
    yield from batches
    for path, state in zip(paths, before, strict=True):
        if _state(path) != state:
            raise UsageError(
                f"{name_of(path)} changed while it was read.", hint="Run the same command again."
            )


def _sum(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code() -> str:
    """Return the hash of all source code that turns a record into tokens."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in root.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


# The folder.


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"prepared data cannot be written to {cache}: {error.strerror or error}.",
            hint="Make room there, or name another folder: --cache_dir DIR",
        ) from error


def _remove_left(cache: Path) -> None:
    """Delete the partial folders of dead processes: those that nobody has locked."""
    for left in cache.glob("*.partial"):
        handle = open_locked(left.with_suffix(".lock"))
        if handle is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(handle)


def _make(folder: Path, key: str, batches: Iterable[EncodedBatch], wanted: str, say: Say) -> Prepared:
    aside = folder.with_name(f"{folder.name}.partial")
    for left in (aside, folder):  # incomplete, damaged
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir()
    writer = Writer(aside)
    try:
        report = _written(writer, batches, say)
        _check_examples(report, wanted)
        writer.finish(key, report)
    except BaseException:
        writer.close()
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(aside)
    aside.rename(folder)
    sync_folder(folder.parent)
    return Prepared(folder, report)


def _written(writer: Writer, batches: Iterable[EncodedBatch], say: Say) -> DataReport:
    report, due = DataReport(), time.monotonic() + SECONDS
    for batch in batches:
        places = [report.records + place for place in batch.places]
        writer.add(batch.names, batch.lengths, batch.tokens, batch.cuts, batch.margins, places)
        _count(report, batch)
        if time.monotonic() >= due:
            say(f"{report.records:,} records tokenised so far.")
            due = time.monotonic() + SECONDS
    return report


def _count(report: DataReport, batch: EncodedBatch) -> None:
    report.records += batch.records
    report.examples += batch.records - len(batch.skipped)
    report.tokens += len(batch.tokens)
    report.trained += batch.trained
    report.longest = max(report.longest, *batch.lengths, 0)
    for name, cut in batch.shortened:
        report.shorten(name, cut)
    report.leaves.add(*batch.leaves)
    report.later.add(*batch.later)
    for (name, licence), count in batch.origins.items():
        report.count_origin(name, licence, count)
    for name, reason in batch.skipped:
        report.skip(name, reason)


def _check_examples(report: DataReport, wanted: str) -> None:
    if not report.records:
        raise UsageError("the data has no records.", hint="--data_path FILE, with a record a line")
    if not report.examples:
        reasons = "; ".join(report.lines()[1:])
        no_room = NO_ROOM in report.skipped
        raise UsageError(
            f"none of the {report.records:,} records has anything to train on: {reasons}.",
            hint="Raise --model_max_length: prompt and answer must fit." if no_room else wanted,
        )
