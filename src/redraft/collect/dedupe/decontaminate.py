"""Records that contain what models are evaluated on, found by runs of words that they share.

An evaluation item is found by any 13 of its words in a row (GPT-3: Brown and others 2020, appendix C), be it
in its questions, its gold answer, its rationale or another turn but a system message. A question of fewer
words is found as a whole, anywhere in a text. One of fewer than 8, GPT-3's least, says too little for that,
and is found only where it is the whole of a turn. Gold answers with fewer words, such as numbers, are not
looked for.

Words are those of `collect.words`: no case, no punctuation. GPT-3 cut out what it found; here the whole
record goes. Paraphrases and translations are not found. N-grams are numbers of 64 bits in arrays on disk,
which all processes map: 32 to 48 bytes each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from redraft.chain import Chain
from redraft.collect.clean.dropped import Drop
from redraft.collect.read.records import chain_or_drop
from redraft.collect.view.shingles import Hashes, window_hashes, word_hashes, words
from redraft.collect.view.text import asked_in, gold_of, said_in
from redraft.errors import UsageError
from redraft.formats.read.files import decode, name_of
from redraft.formats.read.records import RawRecord, raw_records
from redraft.formats.turns import turns_of

RUN = 13
"""Words of a run (GPT-3's most)."""
SHORTEST = 8
"""Words of a question that is looked for inside texts (GPT-3's least)."""

_WHOLE = np.uint64(0xD6E8FEB86659FD93)
"""Sets a run that must be a whole turn apart from one that may be anywhere."""
_SLOTS = 16  # of the sieve for each run, at least: one run in 16 of a clean text is looked up in vain
_SHOWN = 120  # characters of a run in a reason


class Match(NamedTuple):
    """What of an evaluation item is in a record.

    Attributes:
        item: The item's number.
        ngram: The first words that both have.
        total: How many n-grams of the record are the item's.
    """

    item: int
    ngram: str
    total: int


class CheckedRecord(NamedTuple):
    """A record as JSON, and what it has of the evaluation."""

    id: str
    where: str
    line: bytes
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class Contaminated(Drop):
    """A record that was taken out.

    Attributes:
        matches: `eval`, `file`, `ngram` and `count` of each item that it has something of.
    """

    matches: tuple[dict[str, Any], ...] = ()


class Items:
    """Evaluation items, and the runs of words that they are found by.

    Args:
        size: Words of a run.

    Attributes:
        names: Id of each item.
        files: File of each item.
    """

    def __init__(self, size: int = RUN) -> None:
        self.names: list[str] = []
        self.files: list[str] = []
        self._size = size
        self._sizes = {size}
        self._hashes: list[Hashes] = []

    def add(self, path: Path) -> None:
        """Takes the items of a file.

        Raises:
            RecordError: A record cannot be read: what is not looked for would not be found.
            UsageError: Nothing of the file can be looked for.
        """
        before = len(self.names)
        for line in raw_records(path):
            chain = chain_or_drop(line, strict=True)
            if isinstance(chain, Chain):
                self._hashes.append(self._runs(chain))
                self.names.append(chain.id)
                self.files.append(name_of(path))
        if not any(map(len, self._hashes[before:])):
            raise UsageError(
                f"{name_of(path)}: no question in it, so there is nothing to look for.",
                hint="--against takes files of evaluation items with their questions.",
            )

    def save(self, folder: Path) -> None:
        """Writes the arrays that `Runs` reads. A run of several items is of the first that has it."""
        owners = np.repeat(np.arange(len(self.names)), [len(each) for each in self._hashes])
        hashes, first = np.unique(np.concatenate(self._hashes), return_index=True)
        bits = (len(hashes) * _SLOTS).bit_length()
        sieve = np.zeros(1 << bits, np.bool_)
        sieve[hashes >> np.uint64(64 - bits)] = True
        arrays: dict[str, Any] = {
            "hashes": hashes,
            "owners": owners[first],
            "sieve": sieve,
            "sizes": sorted(self._sizes),
        }
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    def match(self, matches: Sequence[Match]) -> tuple[dict[str, Any], ...]:
        """Matches with the names of their items."""
        return tuple(
            {"eval": self.names[item], "file": self.files[item], "ngram": ngram, "count": total}
            for item, ngram, total in matches
        )

    def _runs(self, chain: Chain) -> Hashes:
        questions = _questions(chain)
        texts = {text for turn in turns_of(chain) if turn.role != "system" for text in [turn.text]}
        found = [self._question(word_hashes(words(text))) for text in questions]
        others = texts.union(gold_of(chain)).difference(questions)
        found += [window_hashes(word_hashes(words(text)), self._size) for text in sorted(others)]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    def _question(self, hashes: Hashes) -> Hashes:
        count = len(hashes)
        if count >= self._size or not count:
            return window_hashes(hashes, self._size)
        if count < SHORTEST:
            return window_hashes(hashes, count) ^ _WHOLE
        self._sizes.add(count)
        return window_hashes(hashes, count)


class Runs:
    """The runs of all items, mapped from a folder that `Items.save` wrote."""

    def __init__(self, folder: Path) -> None:
        self._hashes, self._owners, self._sieve, sizes = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("hashes", "owners", "sieve", "sizes")
        )
        self._sizes: list[int] = sizes.tolist()
        self._shift = np.uint64(65 - len(self._sieve).bit_length())

    def matches(self, chain: Chain) -> tuple[Match, ...]:
        """What of the items is in any text of a chain, in the order of items."""
        counts: defaultdict[int, int] = defaultdict(int)
        runs: dict[int, str] = {}
        turns = set(asked_in(chain))
        for text in said_in(chain):
            parts = words(text)
            for start, size, item in self._found(parts, whole=text in turns):
                counts[item] += 1
                runs.setdefault(item, " ".join(parts[start : start + size]))
        return tuple(Match(item, runs[item], counts[item]) for item in sorted(runs))

    def _found(self, parts: Sequence[str], *, whole: bool) -> Iterator[tuple[int, int, int]]:
        """First word, number of words and item of each run that is an item's."""
        hashes = word_hashes(parts)
        for size in self._sizes:
            for start, item in self._known(window_hashes(hashes, size)):
                yield start, size, item
        if whole and 0 < len(parts) < SHORTEST:
            for start, item in self._known(window_hashes(hashes, len(parts)) ^ _WHOLE):
                yield start, len(parts), item

    def _known(self, hashes: Hashes) -> Iterator[tuple[int, int]]:
        places = np.flatnonzero(self._sieve[hashes >> self._shift])
        at = np.minimum(np.searchsorted(self._hashes, hashes[places]), len(self._hashes) - 1)
        same = self._hashes[at] == hashes[places]
        yield from zip(places[same].tolist(), self._owners[at[same]].tolist(), strict=True)


def check(line: RawRecord, folder: Path, *, strict: bool) -> CheckedRecord | Drop:
    """One record against the items whose runs are in a folder; a drop where it cannot be read.

    Raises:
        RecordError: With `strict`, instead of a drop.
    """
    chain = chain_or_drop(line, strict=strict)
    if isinstance(chain, Drop):
        return chain
    return CheckedRecord(
        chain.id, line.where, chain.to_json().encode() + b"\n", _runs_in(folder).matches(chain)
    )


def contaminated(record: CheckedRecord, items: Items) -> Contaminated:
    """Why a record with matches is dropped."""
    matches = items.match(record.matches)
    most = max(matches, key=lambda each: each["count"])
    reason = f"shares with {most['eval']}: {most['ngram'][:_SHOWN]}"
    value = decode(record.line, record.where)
    return Contaminated("contaminated", reason, record.where, record.id, value, matches)


def _questions(chain: Chain) -> set[str]:
    """What is asked in an item: the user turns, and the further turns of an MT-bench question."""
    source = chain.meta.get("source")
    further = source.get("turns") if isinstance(source, dict) else None
    asked = {turn.text for turn in turns_of(chain) if turn.role == "user"}
    return (
        asked.union(text for text in further if isinstance(text, str)) if isinstance(further, list) else asked
    )


@lru_cache(maxsize=1)
def _runs_in(folder: Path) -> Runs:
    return Runs(folder)
