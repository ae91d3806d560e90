"""Tokenised examples on disk: written once, read by any number of processes through the page cache.

A folder holds six arrays and `prepared.json`, which has a hash of each, so that incomplete and damaged
folders are recognised. The highest bit of a token says whether it carries loss. `data.prepare` names the
folders.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from redraft.counting import counted
from redraft.formats.tokens.encoder import Cut
from redraft.licences import MOST_ORIGINS, rest_of

TRAINED = np.uint32(1 << 31)  # the bit of a token with loss. No vocabulary is that large.

TOKENS, OFFSETS, CUTS, NAMES = "tokens.bin", "offsets.bin", "cuts.bin", "names.bin"
MARGINS, PLACES = "margins.bin", "places.bin"
_FILES = (TOKENS, OFFSETS, CUTS, NAMES, MARGINS, PLACES)
ABOUT = "prepared.json"
FIRST = 5  # ids that a line of the report names

_NO_LOSS = "which carry no loss in this format (--format vicuna trains on all)"
_FIRST_ANSWER = "(--answer first learns the first, as SelFee did)"
_REASONS = 20
_CHUNK = 1 << 20


Ints = NDArray[np.int64]


class Stored(NamedTuple):
    """The tokens of an example."""

    ids: NDArray[Any]  # uint32 [tokens]
    trained: NDArray[np.bool_]  # bool [tokens]
    margin: float = 0.0  # by how much the first of a pair should be better


@dataclass
class RecordTally:
    """A number of records, and the ids of the first."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, *names: str) -> None:
        """Count records."""
        self.count += len(names)
        self.first += names[: FIRST - len(self.first)]

    def __str__(self) -> str:
        return ", ".join(self.first) + (", …" if self.count > len(self.first) else "")


@dataclass
class DataReport:
    """Counts of prepared records.

    Attributes:
        cut: Records that were longer than `--model_max_length`.
        lost: Cut records that lost whole answers: the last revisions, or the last turns of a conversation.
        leaves: Conversations that train on their last answer alone, because the format has one turn.
        later: Records that train on one answer other than the first.
        origins: Examples by data set (else file), and by licence.
    """

    records: int = 0
    examples: int = 0  # records to train on. Each is one example, or one pair
    tokens: int = 0
    trained: int = 0  # tokens with loss
    longest: int = 0  # tokens of the longest example
    cut: RecordTally = field(default_factory=RecordTally)
    cut_tokens: int = 0  # tokens that they lost
    cut_prompt: int = 0  # tokens that they lost from the middle of prompts, not from the end
    lost: RecordTally = field(default_factory=RecordTally)
    broken: RecordTally = field(default_factory=RecordTally)  # cut records that end within an answer
    leaves: RecordTally = field(default_factory=RecordTally)
    later: RecordTally = field(default_factory=RecordTally)
    skipped: dict[str, RecordTally] = field(default_factory=dict)  # records that gave no example, by reason
    origins: dict[str, dict[str, int]] = field(default_factory=dict)

    def skip(self, name: str, reason: str) -> None:
        """Count a record that gave no example."""
        known = reason in self.skipped or len(self.skipped) < _REASONS
        self.skipped.setdefault(reason if known else "other reasons", RecordTally()).add(name)

    def count_origin(self, name: str, licence: str, count: int) -> None:
        """Count examples of a data set under a licence."""
        known = name in self.origins or len(self.origins) < MOST_ORIGINS
        of = self.origins.setdefault(name if known else "other data", {})
        one = licence if licence in of or len(of) < MOST_ORIGINS else rest_of(licence)
        of[one] = of.get(one, 0) + count

    def shorten(self, name: str, cut: Cut) -> None:
        """Count a record that was cut."""
        self.cut.add(name)
        self.cut_tokens += cut.tokens
        self.cut_prompt += cut.prompt
        if cut.lost:
            self.lost.add(name)
        if cut.broken:
            self.broken.add(name)

    def lines(self, marked: str = "with loss") -> list[str]:
        """Return the report as lines of text. `marked` says what the marked tokens are, if any are."""
        share = self.trained / max(self.tokens, 1)
        of_them = f", {self.trained:,} of them {marked} ({share:.0%})" if marked else ""
        read = f"{counted(self.records, 'record')} read, {self.examples:,} to train on"
        loss = f"{self.tokens:,} tokens{of_them}"
        of_prompts = f" ({self.cut_prompt:,} of prompts)" if self.cut_prompt else ""
        skipped = sorted(self.skipped.items(), key=lambda item: -item[1].count)
        tallies = [
            (f"cut, by {self.cut_tokens:,} tokens in all{of_prompts}", self.cut),
            ("of these lost their last answers", self.lost),
            ("of these end within an answer", self.broken),
            (f"with earlier answers, {_NO_LOSS}", self.leaves),
            (f"learn an answer other than the first {_FIRST_ANSWER}", self.later),
            *((f"skipped, {reason}", tally) for reason, tally in skipped),
        ]
        counts = [f"{tally.count:,} {what}: {tally}" for what, tally in tallies if tally.count]
        return [f"{read}: {loss}; the longest has {self.longest:,}", *counts]


class Prepared:
    """Examples in a folder, by number.

    Attributes:
        cuts: int64 [examples, 4]: a `Cut` for each example.
        places: int64 [examples]: which of all chains of the data each was made from, from 0.
    """

    def __init__(self, folder: Path, report: DataReport) -> None:
        self.folder, self.report = folder, report
        self._tokens = np.memmap(folder / TOKENS, np.uint32, "r")
        self._offsets = np.memmap(folder / OFFSETS, np.int64, "r").reshape(-1, 2)
        self.lengths: Ints = np.diff(self._offsets[:, 0])  # int64 [examples]: tokens of each example
        self.cuts: Ints = np.memmap(folder / CUTS, np.int64, "r").reshape(-1, len(Cut._fields))
        self._margins = np.memmap(folder / MARGINS, np.float64, "r")
        self.places: Ints = np.memmap(folder / PLACES, np.int64, "r")

    def __reduce__(self) -> tuple[type[Prepared], tuple[Path, DataReport]]:
        """Pickle the path alone: another process maps the files itself."""
        return Prepared, (self.folder, self.report)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Stored:
        start, end = self._offsets[number : number + 2, 0]
        raw = self._tokens[start:end]
        return Stored(raw & ~TRAINED, raw >= TRAINED, float(self._margins[number]))

    def name(self, number: int) -> str:
        """Return the id of an example's record."""
        start, end = map(int, self._offsets[number : number + 2, 1])
        with (self.folder / NAMES).open("rb") as names:
            names.seek(start)
            return names.read(end - start).decode()


class DamagedData(Exception):
    """A folder is incomplete or damaged. It is prepared again; no user sees this."""


def open_prepared(folder: Path, key: str) -> Prepared:
    """Open a folder after comparing the hash of every file.

    Raises:
        DamagedData: It is missing, incomplete or damaged, or has another key.
    """
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if about["key"] != key:
            raise DamagedData(f"{folder} has another key")
        for name in _FILES:
            if about["files"][name] != _sum(folder / name):
                raise DamagedData(f"{folder / name} has changed")
        return Prepared(folder, TypeAdapter(DataReport).validate_python(about["report"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedData(f"{folder}: {error}") from error


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pair(ids: NDArray[Any], trained: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return ids with the bit `TRAINED` where they carry loss."""
    return ids.astype(np.uint32) | np.where(trained, TRAINED, np.uint32(0))


class Writer:
    """Write a folder example by example. It is valid only after `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: (folder / name).open("xb") for name in _FILES}
        self._sums = {name: hashlib.sha256() for name in self._files}
        self._ends = np.zeros((1, 2), np.int64)
        self._put(OFFSETS, self._ends.tobytes())

    def add(
        self,
        names: Sequence[str],
        lengths: Sequence[int],
        tokens: NDArray[np.uint32],
        cuts: Sequence[Cut] = (),
        margins: Sequence[float] = (),
        places: Sequence[int] = (),
    ) -> None:
        """Add examples.

        Args:
            tokens: All tokens from `pair`, example after example.
            cuts: What each lost. By default, nothing.
            margins: Of each. By default, 0.
            places: Of the chain of each, as in `Prepared`. By default, 0.
        """
        encoded = [name.encode() for name in names]
        sizes = np.array([lengths, [len(name) for name in encoded]], np.int64).T
        offsets = self._ends + np.cumsum(sizes, axis=0)
        self._put(TOKENS, tokens.tobytes())
        self._put(OFFSETS, offsets.tobytes())
        self._put(CUTS, np.array(cuts or [Cut()] * len(names), np.int64).tobytes())
        self._put(MARGINS, np.array(margins or [0.0] * len(names), np.float64).tobytes())
        self._put(PLACES, np.array(places or [0] * len(names), np.int64).tobytes())
        self._put(NAMES, b"".join(encoded))
        self._ends = offsets[-1:] if len(offsets) else self._ends

    def finish(self, key: str, report: DataReport) -> None:
        """Sync all files to disk, then write the description."""
        self.close(sync=True)
        sums = {name: digest.hexdigest() for name, digest in self._sums.items()}
        about = {"key": key, "files": sums, "report": asdict(report)}
        with (self._folder / ABOUT).open("xb") as file:
            file.write(json.dumps(about, indent=2, ensure_ascii=False).encode())
            file.flush()
            os.fsync(file.fileno())

    def close(self, *, sync: bool = False) -> None:
        """Close the files."""
        for file in self._files.values():
            if sync:
                file.flush()
                os.fsync(file.fileno())
            file.close()

    def _put(self, name: str, data: bytes) -> None:
        self._files[name].write(data)
        self._sums[name].update(data)
