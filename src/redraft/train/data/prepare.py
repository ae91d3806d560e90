"""Makes training data of files of records: read, rendered and tokenised once, then mapped into memory.

What was made lies in a cache folder, under a name that is the sum of all that decides it: every byte of the
data, the tokenizer with the format, objective and length, and the code that makes text and tokens of a
record. Bytes and not times: a copied or touched file is the same data, an edited one is not, and summing
takes a hundredth of the time of tokenising. The code and not a number that somebody has to remember to raise.

Several processes may want the same at once, as the ranks of a run do: one makes it, the others wait. It is
written aside and gets its name when it is whole; what is half or damaged is made anew. Records go to
processes undecoded and come back as arrays, in their order, so that memory does not grow with the data, and
any number of processes makes the same bytes. How a record becomes tokens is in `train.tokens`, and rows are
in `train.pack`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from redraft.errors import OutputError, UsageError
from redraft.files import open_own, sync_folder
from redraft.formats.read.files import STDIO, name_of, reading
from redraft.train.data.encoding import Made, made_of
from redraft.train.data.store import Damaged, Prepared, Report, Writer, open_prepared
from redraft.train.data.tokens import NO_ROOM, Encoder
from redraft.train.run.distributed import Say, leads

SECONDS = 15.0
"""Between two lines that say how far it is."""

_PACKAGES = ("redraft", "tokenizers", "transformers")
_SOURCES = (
    *("chain.py", "formats/**/*.py"),
    *(f"train/data/{name}.py" for name in ("encoding", "store", "tokens", "vocabulary")),
)


def prepare(
    paths: Sequence[Path], encoder: Encoder, cache: Path, *, workers: int = 1, say: Say = lambda _: None
) -> Prepared:
    """The records of some files as tokens, from the cache if they are there.

    Args:
        paths: Files of any shape that `formats.records` reads, in order.
        encoder: Makes tokens of a chain.
        cache: The folder for prepared data; made if it is not there.
        workers: Processes at most; of little data, one.
        say: Told how far it is, now and then, by the process that makes it; and by the first one of a run
            that it waits.

    Raises:
        RecordError: A file cannot be read, or a record is none; the message names file and line.
        UsageError: There is no record, or nothing to train on in any; or a path cannot be prepared.
        OutputError: The cache cannot be written.
        RedraftError: A process that tokenised was killed, or could not begin.
    """
    _refuse_beginning()
    before = [_state(path) for path in paths]
    key = key_of(paths, encoder)
    folder = cache / key[:32]
    try:
        return open_prepared(folder, key)
    except Damaged:
        pass
    with _writing(cache), _alone(cache, folder.name, say):
        try:
            return open_prepared(folder, key)  # another process has made it meanwhile
        except Damaged:
            _remove_left(cache)
            made = _unchanged(paths, before, made_of(paths, encoder, workers))
            return _make(folder, key, made, say)


def _refuse_beginning() -> None:
    """Sees that no process that tokenises runs the script that wants the data once more: both would wait.

    Raises:
        UsageError: It does. multiprocessing asks in the same way before it starts a process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "this script prepares data where it is only imported, by a process that tokenises for it.",
            hint='Put what it does under: if __name__ == "__main__":',
        )


# What decides the result.


def key_of(paths: Sequence[Path], encoder: Encoder) -> str:
    """The sum of all that decides what is prepared, in hexadecimal.

    Raises:
        RecordError: A file cannot be read.
        UsageError: One of them is a stream or a folder.
    """
    parts = {
        "data": [(path.name, _sum(path)) for path in paths],
        "encoder": encoder.fingerprint,
        "code": _code(),
        "packages": [_version(name) for name in _PACKAGES],
    }
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    """Size and time of a file of records."""
    if str(path) == STDIO:
        raise UsageError(
            "standard input cannot be trained on: the data is read more than once.", hint="Save it to a file."
        )
    if path.is_dir():
        raise UsageError(
            f"{name_of(path)} is a folder, and not a file of records.",
            hint=f"redraft data import {name_of(path)} -o chains.jsonl",
        )
    with reading(path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns


def _unchanged(
    paths: Sequence[Path], before: Sequence[tuple[int, int]], all_made: Iterable[Made]
) -> Iterator[Made]:
    """What is made of the files, if they are in the end what they were when they were summed."""
    yield from all_made
    for path, state in zip(paths, before, strict=True):
        if _state(path) != state:
            raise UsageError(
                f"{name_of(path)} was changed while it was read.", hint="Run the same command again."
            )


def _sum(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code() -> str:
    """The sum of the source of all that makes text and tokens of a record."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in root.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
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


@contextmanager
def _alone(cache: Path, name: str, say: Say) -> Iterator[None]:
    """Waits until no other process makes this. The lock goes with the process that holds it."""
    with os.fdopen(open_own(cache / f"{name}.lock"), "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if leads():
                say("another process makes tokens of this data: this one waits for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_left(cache: Path) -> None:
    """Removes what processes that were killed left half written: that which none holds the lock of."""
    for left in cache.glob("*.partial"):
        with suppress(BlockingIOError), os.fdopen(open_own(left.with_suffix(".lock")), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _make(folder: Path, key: str, batches: Iterable[Made], say: Say) -> Prepared:
    aside = folder.with_name(f"{folder.name}.partial")
    for left in (aside, folder):  # half written, by one that still has it open; damaged
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir()
    writer = Writer(aside)
    try:
        report = _written(writer, batches, say)
        _insist_on_examples(report)
        writer.finish(key, report)
    except BaseException:
        writer.close()
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(aside)
    aside.rename(folder)
    sync_folder(folder.parent)
    return Prepared(folder, report)


def _written(writer: Writer, batches: Iterable[Made], say: Say) -> Report:
    report, due = Report(), time.monotonic() + SECONDS
    for made in batches:
        writer.add(made.names, made.lengths, made.tokens, made.cuts)
        _count(report, made)
        if time.monotonic() >= due:
            say(f"{report.records:,} records made into tokens so far.")
            due = time.monotonic() + SECONDS
    return report


def _count(report: Report, made: Made) -> None:
    report.records += len(made.names) + len(made.skipped)
    report.examples += len(made.names)
    report.tokens += len(made.tokens)
    report.trained += made.trained
    report.longest = max(report.longest, *made.lengths, 0)
    for name, cut in zip(made.names, made.cuts, strict=True):
        if cut.tokens:
            report.shorten(name, cut)
    for name in made.leaves:
        report.leaves.add(name)
    for name in made.later:
        report.later.add(name)
    for name, reason in made.skipped:
        report.skip(name, reason)


def _insist_on_examples(report: Report) -> None:
    if not report.records:
        raise UsageError("the data has no record at all.", hint="--data_path FILE, with a record a line")
    if not report.examples:
        reasons = "; ".join(report.lines()[1:])
        no_room = NO_ROOM in report.skipped
        raise UsageError(
            f"none of the {report.records:,} records has anything to train on: {reasons}.",
            hint="Raise --model_max_length: prompt and answer have to fit." if no_room else _FOR_WHAT,
        )


_FOR_WHAT = (
    "Name the --format and the --training_objective that the data is for. A record with an answer is "
    '{"instruction": "…", "output": "…"}.'
)
