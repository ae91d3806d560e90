"""Prepare training data: read, render and tokenise files of records once, then map the tokens into memory.

Workers return arrays in order (`jobs/parallel.py`), so the number of workers does not affect the result. The
prepared data is cached in a folder named by a hash of everything that determines the data: the files' bytes,
tokenizer, format, objective, length, and the code that turns a record into tokens. The folder contains three
arrays, and `prepared.json` with the arrays' hashes, so that incomplete and damaged folders are replaced.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from redraft import __version__
from redraft.chain import Chain
from redraft.chain.encoder import NO_ROOM, Cut, Example, Skipped
from redraft.chain.read.files import check_records, name_of, reading
from redraft.chain.read.records import RawRecord, raw_records
from redraft.errors import UsageError
from redraft.jobs.counting import counted
from redraft.jobs.files import locked, open_locked, replace_file, sha256_of, sync_folder, written_to
from redraft.jobs.licences import MOST_ORIGINS, origin_of, rest_of
from redraft.jobs.parallel import batches, spread
from redraft.train.processes import Say, leads

TRAINED = np.uint32(1 << 31)  # the bit that marks a token with loss; all ids are smaller

_FILES = TOKENS, OFFSETS, NAMES = "tokens.bin", "offsets.bin", "names.bin"
ABOUT = "prepared.json"
FIRST = 5  # ids that a line of the report names

_NO_LOSS = "unused in this format or template (--format vicuna trains on all, but accepts no tool calls)"
_NESTED = "with feedback in the answer, so `redraft ask` shows the feedback (--format selfee separates it)"
_ALL_REVISED = "whose first answer is revised; none is accepted, so the model may reject all answers"
_REASONS = 20

Ints = NDArray[np.int64]


class Stored(NamedTuple):
    """The tokens of an example, and a mask of the tokens with loss."""

    ids: NDArray[Any]  # uint32 [tokens]
    trained: NDArray[np.bool_]  # bool [tokens]


@dataclass
class RecordTally:
    """A count of records, with the ids of the first `FIRST` records."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count a record."""
        self.count += 1
        self.first += [name] if len(self.first) < FIRST else []

    def __str__(self) -> str:
        return ", ".join(self.first) + (", …" if self.count > len(self.first) else "")


@dataclass
class DataReport:
    """Counts of prepared records and tokens, for the user."""

    records: int = 0
    examples: int = 0  # records to train on. Each is one example, or one pair
    tokens: int = 0
    trained: int = 0  # tokens with loss
    longest: int = 0  # tokens of the longest example
    cut: RecordTally = field(default_factory=RecordTally)  # records longer than `--model_max_length`
    cut_tokens: int = 0  # tokens that cut records lost
    cut_prompt: int = 0  # tokens cut from the middle of prompts, which `cut_tokens` includes
    # Cut records that lost whole answers: the last revisions, or the last turns of a conversation.
    lost: RecordTally = field(default_factory=RecordTally)
    broken: RecordTally = field(default_factory=RecordTally)  # cut records that end within an answer
    # Conversations that train on their last answer alone, because the format has one turn.
    leaves: RecordTally = field(default_factory=RecordTally)
    unanswered: RecordTally = field(default_factory=RecordTally)  # records that train on feedback alone
    nested: RecordTally = field(default_factory=RecordTally)  # records with feedback inside the answer's text
    plain: RecordTally = field(default_factory=RecordTally)  # records in SelFee's format without feedback
    revised: RecordTally = field(default_factory=RecordTally)  # records whose first answer is revised
    skipped: dict[str, RecordTally] = field(default_factory=dict)  # records that gave no example, by reason
    # The number of examples by data set (or, without one, by file), and then by licence.
    origins: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, origin: tuple[str, str], found: tuple[Example, ...] | Skipped) -> None:
        """Count a record. `name` is the record's id, and `origin` the pair (data set or file, licence)."""
        self.records += 1
        if isinstance(found, Skipped):
            known = found.reason in self.skipped or len(self.skipped) < _REASONS
            self.skipped.setdefault(found.reason if known else "other reasons", RecordTally()).add(name)
            return
        self.examples += 1
        for each in found:
            self.tokens += len(each.ids)
            self.trained += int(np.count_nonzero(each.trained[1:]))  # nothing predicts the first token
            self.longest = max(self.longest, len(each.ids))
        lost = Cut(*map(sum, zip(*(each.cut for each in found), strict=True)))
        self.cut_tokens += lost.tokens
        self.cut_prompt += lost.prompt
        counts = {"cut": lost.tokens, "lost": lost.lost, "broken": lost.broken}
        counts |= {"leaves": found[0].leaves, "unanswered": found[0].unanswered}
        counts |= {"nested": found[0].nested, "plain": found[0].plain, "revised": found[0].revised}
        for tally in (tally for tally, count in counts.items() if count):
            getattr(self, tally).add(name)
        data, licence = origin
        has_place = data in self.origins or len(self.origins) < MOST_ORIGINS
        of = self.origins.setdefault(data if has_place else "other data", {})
        one = licence if licence in of or len(of) < MOST_ORIGINS else rest_of(licence)
        of[one] = of.get(one, 0) + 1

    def lines(self, marked: str = "with loss") -> list[str]:
        """Return the report as lines. `marked` describes the trained tokens; "" leaves out their count."""
        share = self.trained / max(self.tokens, 1)
        of_them = f", {self.trained:,} of them {marked} ({share:.0%})" if marked else ""
        read = f"{counted(self.records, 'record')} read, {self.examples:,} to train on"
        loss = f"{self.tokens:,} tokens{of_them}"
        of_prompts = f" ({self.cut_prompt:,} from prompts)" if self.cut_prompt else ""
        all_revised = self.revised.count == self.examples - self.plain.count
        skipped = sorted(self.skipped.items(), key=lambda item: -item[1].count)
        tallies = [
            (f"cut, by {self.cut_tokens:,} tokens in all{of_prompts}", self.cut),
            ("of these without their last answers", self.lost),
            ("of these cut within an answer", self.broken),
            (f"with earlier answers, {_NO_LOSS}", self.leaves),
            ("with loss on feedback alone, because every answer was rejected or cut", self.unanswered),
            (_NESTED, self.nested),
            ("without feedback (for a model that only answers: --format chat)", self.plain),
            (_ALL_REVISED, self.revised if all_revised else RecordTally()),
            *((f"skipped, {reason}", tally) for reason, tally in skipped),
        ]
        counts = [f"{tally.count:,} {what}: {tally}" for what, tally in tallies if tally.count]
        return [f"{read}: {loss}; the longest example has {self.longest:,}", *counts]


class Prepared:
    """The prepared examples in a folder."""

    def __init__(self, folder: Path, report: DataReport) -> None:
        self.folder, self.report = folder, report
        self._tokens = np.memmap(folder / TOKENS, np.uint32, "r")
        self._offsets = np.memmap(folder / OFFSETS, np.int64, "r").reshape(-1, 2)
        self.lengths: Ints = np.diff(self._offsets[:, 0])  # int64 [examples]: tokens of each example

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Stored:
        start, end = self._offsets[number : number + 2, 0]
        raw = self._tokens[start:end]
        return Stored(raw & ~TRAINED, raw >= TRAINED)

    def name(self, number: int) -> str:
        """Return the id of an example's record."""
        start, end = map(int, self._offsets[number : number + 2, 1])
        with (self.folder / NAMES).open("rb") as names:
            names.seek(start)
            return names.read(end - start).decode()


def open_prepared(folder: Path, key: str) -> Prepared | None:
    """Return a folder's prepared data, or None if missing, damaged, or not prepared for `key` (`key_of`)."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        about = json.loads((folder / ABOUT).read_bytes())
        if about["key"] == key and all(about["files"][name] == sha256_of(folder / name) for name in _FILES):
            return Prepared(folder, TypeAdapter(DataReport).validate_python(about["report"]))
    return None


class Writer:
    """Writes prepared data into a folder, one example at a time. The data is valid only after `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: (folder / name).open("xb") for name in _FILES}
        self._ends = np.zeros(2, np.int64)  # end offsets of tokens and names so far
        self._files[OFFSETS].write(self._ends.tobytes())

    def add(self, name: str, ids: NDArray[Any], trained: NDArray[np.bool_]) -> None:
        """Add an example. `name` is the id of the example's record."""
        encoded = name.encode()
        self._ends += (len(ids), len(encoded))
        marked = ids.astype(np.uint32) | np.where(trained, TRAINED, np.uint32(0))
        parts = (marked.tobytes(), self._ends.tobytes(), encoded)
        for file, data in zip(self._files.values(), parts, strict=True):
            file.write(data)

    def finish(self, key: str, report: DataReport) -> None:
        """Sync all files to disk, then write `prepared.json`."""
        self.close(sync=True)
        sums = {name: sha256_of(self._folder / name) for name in _FILES}
        about = {"key": key, "files": sums, "report": asdict(report)}
        replace_file(self._folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False).encode())

    def close(self, *, sync: bool = False) -> None:
        """Close the files."""
        for file in self._files.values():
            if sync:
                file.flush()
                os.fsync(file.fileno())
            file.close()


BATCH = 256  # maximum records in a batch
BATCH_BYTES = 1 << 18  # a batch with this many bytes is full
WORTH_A_PROCESS = 1 << 22  # bytes of records per worker: tokenising them takes as long as starting a process


class Encodes(Protocol):
    """A picklable encoder that turns records into examples."""

    wanted: str  # a description of suitable records, for a hint

    @property
    def fingerprint(self) -> str:
        """A hash of all settings that determine a record's examples. The hash does not include the code."""

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return the chains in a record. A chain is a prompt and answers with feedback."""

    def encode(self, chain: Chain) -> Example | tuple[Example, ...] | Skipped:
        """Return the examples of a chain, or the reason why the chain has no example."""


Encoded = list[tuple[str, tuple[str, str], tuple[Example, ...] | Skipped]]
"""For each chain: id, (data set or file, licence), and the examples or the reason why there are none."""


def _encoded(encoder: Encodes, batch: Sequence[RawRecord]) -> Encoded:
    made: Encoded = []
    for stem, chain in ((record.stem, chain) for record in batch for chain in encoder.chains(record)):
        found = encoder.encode(chain)
        examples = (found,) if isinstance(found, Example) else found
        made.append((chain.id, origin_of(chain.meta, stem), examples))
    return made


SECONDS = 15.0  # seconds between two lines of progress

_SOURCES = ("chain/**/*.py", "jobs/licences.py", "train/prepare.py")  # code that makes tokens from records


def prepare(
    paths: Sequence[Path], encoder: Encodes, cache: Path, *, workers: int = 1, say: Say = lambda _: None
) -> Prepared:
    """Return the records of files as tokens, from the cache if possible.

    Up to `workers` processes tokenise. `say` is called with lines of progress.
    """
    # Workers import the main script. If it called this function then, script and workers would wait for each
    # other forever. multiprocessing makes the same test before it starts a process.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        message = "each worker process imports this script, which then prepares the data again."
        raise UsageError(message, hint='Put the code of the script under: if __name__ == "__main__":')
    before = [_state(path) for path in paths]
    key = key_of(paths, encoder)
    folder = cache / key[:32]
    if found := open_prepared(folder, key):
        return found
    waiting = "waiting for another process, which is tokenising the same data."
    lock = locked(cache / f"{folder.name}.lock", lambda: say(waiting) if leads() else None)
    with written_to(cache, "prepared data", "Make room there, or name another folder: --cache_dir DIR"), lock:
        if found := open_prepared(folder, key):  # another process has just prepared it
            return found
        for left in cache.glob("*.partial"):
            if (handle := open_locked(left.with_suffix(".lock"))) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(handle)
        worth = 1 + sum(path.stat().st_size for path in paths) // WORTH_A_PROCESS
        records = (record for path in paths for record in raw_records(path))
        sized = batches(records, lambda record: len(record.data), BATCH, BATCH_BYTES)
        texts = (tuple(batch) for batch, _ in sized)
        encoded = spread(partial(_encoded, encoder), texts, min(workers, worth))
        return _make(folder, key, _unchanged(paths, before, encoded), encoder.wanted, say)


def key_of(paths: Sequence[Path], encoder: Encodes) -> str:
    """Return a hash, in hexadecimal, of everything that determines the prepared data."""
    root, code = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in root.glob(pattern)):
        code.update(path.read_bytes())
    data = []
    for path in paths:
        with reading(path):
            data.append((path.name, sha256_of(path)))
    packages = [__version__, version("tokenizers"), version("transformers")]
    parts = {"data": data, "encoder": encoder.fingerprint, "code": code.hexdigest(), "packages": packages}
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    check_records(path)
    with reading(path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns


def _unchanged(
    paths: Sequence[Path], before: Sequence[tuple[int, int]], batches: Iterable[Encoded]
) -> Iterator[Encoded]:
    yield from batches
    for path, state in zip(paths, before, strict=True):
        if _state(path) != state:
            raise UsageError(f"{name_of(path)} changed while it was read.", hint="Run the command again.")


def _make(folder: Path, key: str, batches: Iterable[Encoded], wanted: str, say: Say) -> Prepared:
    aside = folder.with_name(f"{folder.name}.partial")
    for left in (aside, folder):  # an incomplete and a damaged folder
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir()
    writer = Writer(aside)
    report, due = DataReport(), time.monotonic() + SECONDS
    try:
        for batch in batches:
            for name, origin, found in batch:
                for each in () if isinstance(found, Skipped) else found:
                    writer.add(name, each.ids, each.trained)
                report.add(name, origin, found)
            if time.monotonic() >= due:
                say(f"{report.records:,} records tokenised so far.")
                due = time.monotonic() + SECONDS
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


def _check_examples(report: DataReport, wanted: str) -> None:
    if not report.examples:
        records, reasons = counted(report.records, "record"), "; ".join(report.lines()[1:])
        no_room = NO_ROOM in report.skipped
        hint = "Raise --model_max_length: prompt and answer must fit into it." if no_room else wanted
        raise UsageError(f"there is nothing to train on in {records}{reasons and ': '}{reasons}.", hint=hint)
