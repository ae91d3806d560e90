"""Tokenised examples on disk: written once, read by any number of processes through the page cache.

A folder of four arrays and a description of them. Which tokens are trained on is the highest bit of each, so
that one array holds both. The description has the sum of each file: a folder that is half written or damaged
is none. Where a folder belongs and what its name means is in `train.prepare`.
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

from redraft.train.data.packing import Ints
from redraft.train.data.tokens import Cut
from redraft.train.words import counted

TRAINED = np.uint32(1 << 31)
"""The bit of a token that is trained on. No vocabulary comes near it."""

TOKENS, OFFSETS, CUTS, NAMES = "tokens.bin", "offsets.bin", "cuts.bin", "names.bin"
ABOUT = "prepared.json"
FIRST = 5
"""Ids that are named of those that something happened to."""

_REASONS = 20
_CHUNK = 1 << 20


class Stored(NamedTuple):
    """The tokens of an example.

    Attributes:
        ids: uint32 [tokens].
        trained: bool [tokens].
    """

    ids: NDArray[Any]
    trained: NDArray[np.bool_]


@dataclass
class Some:
    """How many records something happened to, and the ids of the first."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Counts one."""
        self.count += 1
        if len(self.first) < FIRST:
            self.first.append(name)

    def __str__(self) -> str:
        return ", ".join(self.first) + (", …" if self.count > len(self.first) else "")


@dataclass
class Report:
    """What became of the records.

    Attributes:
        records: How many were read.
        examples: How many of them are trained on.
        tokens: In all examples.
        trained: Of those, how many carry loss.
        longest: Tokens of the longest example.
        cut: Which were longer than a row.
        cut_tokens: How many tokens that cost in all.
        cut_prompt: How many of these were words of a prompt; the others were the end of the text.
        lost: Which of them lost whole answers: the last revisions, or the last turns of a talk.
        broken: Which of them end within an answer.
        leaves: Which are talks of which only the last answer is learnt, as the format has one turn.
        later: Of which one answer is learnt that is not the first.
        skipped: Why records became no example, and which.
    """

    records: int = 0
    examples: int = 0
    tokens: int = 0
    trained: int = 0
    longest: int = 0
    cut: Some = field(default_factory=Some)
    cut_tokens: int = 0
    cut_prompt: int = 0
    lost: Some = field(default_factory=Some)
    broken: Some = field(default_factory=Some)
    leaves: Some = field(default_factory=Some)
    later: Some = field(default_factory=Some)
    skipped: dict[str, Some] = field(default_factory=dict)

    def skip(self, name: str, reason: str) -> None:
        """Counts a record that became no example."""
        known = reason in self.skipped or len(self.skipped) < _REASONS
        self.skipped.setdefault(reason if known else "other reasons", Some()).add(name)

    def shorten(self, name: str, cut: Cut) -> None:
        """Counts an example that was cut."""
        self.cut.add(name)
        self.cut_tokens += cut.tokens
        self.cut_prompt += cut.prompt
        if cut.lost:
            self.lost.add(name)
        if cut.broken:
            self.broken.add(name)

    def lines(self) -> list[str]:
        """The report in words."""
        share = self.trained / max(self.tokens, 1)
        read = f"{counted(self.records, 'record')} read, {self.examples:,} to train on"
        loss = f"{self.tokens:,} tokens, {self.trained:,} of them with loss ({share:.0%})"
        lines = [f"{read}: {loss}; the longest has {self.longest:,}"]
        if self.cut.count:
            of_prompts = f" ({self.cut_prompt:,} of prompts)" if self.cut_prompt else ""
            lines.append(
                f"{self.cut.count:,} cut, by {self.cut_tokens:,} tokens in all{of_prompts}: {self.cut}"
            )
        if self.lost.count:
            lines.append(f"{self.lost.count:,} of these lost their last answers: {self.lost}")
        if self.broken.count:
            lines.append(f"{self.broken.count:,} of these end within an answer: {self.broken}")
        if self.leaves.count:
            lines.append(
                f"{self.leaves.count:,} with earlier answers, which carry no loss in this format "
                f"(--format vicuna trains on all): {self.leaves}"
            )
        if self.later.count:
            lines.append(
                f"{self.later.count:,} learn a later answer than the first "
                f"(--answer first: SelFee's own way): {self.later}"
            )
        ordered = sorted(self.skipped.items(), key=lambda item: -item[1].count)
        return lines + [f"{some.count:,} skipped, {reason}: {some}" for reason, some in ordered]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Report:
        """The report that `dataclasses.asdict` made these values of."""
        skipped = {reason: Some(**some) for reason, some in values["skipped"].items()}
        some = {name: Some(**values[name]) for name in ("cut", "lost", "broken", "leaves", "later")}
        return cls(**values | some | {"skipped": skipped})


class Prepared:
    """Examples in a folder, by number.

    Attributes:
        folder: Where they are.
        report: What became of the records.
        lengths: int64 [examples]: the tokens of each.
        cuts: int64 [examples, 4]: what each lost, as `Cut`.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder, self.report = folder, report
        self._tokens = np.memmap(folder / TOKENS, np.uint32, "r")
        self._offsets = np.memmap(folder / OFFSETS, np.int64, "r").reshape(-1, 2)
        self.lengths: Ints = np.diff(self._offsets[:, 0])
        self.cuts: Ints = np.memmap(folder / CUTS, np.int64, "r").reshape(-1, len(Cut._fields))

    def __reduce__(self) -> tuple[type[Prepared], tuple[Path, Report]]:
        """Another process maps the files itself, and is not sent what is in them."""
        return Prepared, (self.folder, self.report)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Stored:
        start, end = self._offsets[number : number + 2, 0]
        raw = self._tokens[start:end]
        return Stored(raw & ~TRAINED, raw >= TRAINED)

    def name(self, number: int) -> str:
        """The id of the record that an example was made of."""
        start, end = map(int, self._offsets[number : number + 2, 1])
        with (self.folder / NAMES).open("rb") as names:
            names.seek(start)
            return names.read(end - start).decode()


class Damaged(Exception):
    """A folder is not whole. It is made anew; no user sees this."""


def open_prepared(folder: Path, key: str) -> Prepared:
    """Opens a folder, after a look at every byte of it.

    Raises:
        Damaged: It is missing, half or damaged, or holds something else.
    """
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if about["key"] != key:
            raise Damaged(f"{folder} was made of something else")
        for name in (TOKENS, OFFSETS, CUTS, NAMES):
            if about["files"][name] != _sum(folder / name):
                raise Damaged(f"{folder / name} is not as it was written")
        return Prepared(folder, Report.of(about["report"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder}: {error}") from error


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pair(ids: NDArray[Any], trained: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Ids and whether they are trained on, in one array."""
    return ids.astype(np.uint32) | np.where(trained, TRAINED, np.uint32(0))


class Writer:
    """Writes a folder, example after example. It counts nothing if `finish` is not reached."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: (folder / name).open("xb") for name in (TOKENS, OFFSETS, CUTS, NAMES)}
        self._sums = {name: hashlib.sha256() for name in self._files}
        self._ends = np.zeros((1, 2), np.int64)
        self._put(OFFSETS, self._ends.tobytes())

    def add(
        self,
        names: Sequence[str],
        lengths: Sequence[int],
        tokens: NDArray[np.uint32],
        cuts: Sequence[Cut] = (),
    ) -> None:
        """Adds some examples.

        Args:
            names: Their ids.
            lengths: Their tokens.
            tokens: All of them (`pair`), one example behind the other.
            cuts: What each lost; nothing, if there are none.
        """
        encoded = [name.encode() for name in names]
        sizes = np.array([lengths, [len(name) for name in encoded]], np.int64).T
        offsets = self._ends + np.cumsum(sizes, axis=0)
        self._put(TOKENS, tokens.tobytes())
        self._put(OFFSETS, offsets.tobytes())
        self._put(CUTS, np.array(cuts or [Cut()] * len(names), np.int64).tobytes())
        self._put(NAMES, b"".join(encoded))
        self._ends = offsets[-1:] if len(offsets) else self._ends

    def finish(self, key: str, report: Report) -> None:
        """Sees that all is on the disk, and then says so."""
        self.close(sync=True)
        sums = {name: digest.hexdigest() for name, digest in self._sums.items()}
        about = {"key": key, "files": sums, "report": asdict(report)}
        with (self._folder / ABOUT).open("xb") as file:
            file.write(json.dumps(about, indent=2, ensure_ascii=False).encode())
            file.flush()
            os.fsync(file.fileno())

    def close(self, *, sync: bool = False) -> None:
        """Closes the files."""
        for file in self._files.values():
            if sync:
                file.flush()
                os.fsync(file.fileno())
            file.close()

    def _put(self, name: str, data: bytes) -> None:
        self._files[name].write(data)
        self._sums[name].update(data)
