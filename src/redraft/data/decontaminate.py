"""Find records that contain evaluation items, by shared runs of words.

A record matches an item if both contain the same 13 consecutive words (GPT-3: Brown and others 2020, appendix
C). System messages of items are ignored. An item's question of 8 to 12 words matches if a text of the record
contains the whole question. Questions of fewer than 8 words (GPT-3's minimum) must equal a whole turn of the
record's prompt. Gold answers of fewer than 13 words, such as numbers, are ignored. Matching records are
dropped, whereas GPT-3 removed only matching text. N-grams are memory-mapped hashes, 32 to 48 bytes each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from redraft.chain import Chain, meta_of
from redraft.chain.read.files import decode, name_of
from redraft.chain.read.records import RawRecord, raw_records
from redraft.chain.texts import asked_turns, turns_of
from redraft.data.output import DataOptions, DataResult, DataRun, Drop, chain_or_drop, paths_beside, writing
from redraft.data.texts import gold_of, texts_in
from redraft.data.words import Hashes, span_hashes, window_hashes, word_hashes, words
from redraft.errors import UsageError
from redraft.jobs.parallel import BATCH, batches, spread

_RUN = 13  # words of an n-gram (GPT-3's maximum)
_SHORTEST = 8  # fewest words of a question to search inside texts (GPT-3's minimum)
_WHOLE = np.uint64(0xD6E8FEB86659FD93)  # XORed into the hash of a question that must equal a whole turn
_SLOTS = 16  # fewest sieve slots per n-gram, so that at most 1 in 16 n-grams of a clean text needs a search
_BYTES = 1 << 16  # bytes of records to check at once, unless one record has more
_SHOWN = 120  # characters of the n-gram that a reason quotes
_MANY = 0.2  # the share of dropped records above which the item with the most matches is reported


def decontaminate(
    source: str | Path,
    out: str | Path,
    *,
    against: str | Path | Sequence[str | Path],
    ngram: int = _RUN,
    **options: Unpack[DataOptions],
) -> DataResult:
    """Drop the records that contain evaluation items. Same as `redraft data decontaminate`.

    A record matches an item if it contains `ngram` consecutive words of the item, or the item's whole
    question. A question of fewer than 8 words must equal a turn of the record's prompt.
    """
    others, run = paths_beside(source, against), DataRun.of(out, options, decontaminate)
    items, seen = Items(ngram), Counter[int]()
    for path in others:
        items.add(path)
    writer = writing(run.provenance("data decontaminate", source, ngram=ngram), run, against=others)
    lines = run.lines(source)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redraft-")))
        items.save(folder)
        output = stack.enter_context(writer)
        blocks = (
            tuple(each) for each, _ in batches(output.watch(lines), lambda raw: len(raw.data), BATCH, _BYTES)
        )
        checked = spread(partial(check, folder=folder, strict=run.strict), blocks, run.processes)
        results = _judged(output.gone.without(each for block in checked for each in block), items, seen)
        output.sink.writelines(output.passing(results))
    output.tell_counts()
    by_file = Counter(items.files[item] for item in seen)
    counts = (f"{by_file[name]:,} of {count:,}  {name}" for name, count in Counter(items.files).items())
    run.tell("evaluation items found", "\n".join(counts))
    lost = output.gone.counts["contaminated"]
    if lost > _MANY * (output.kept + lost):
        [(item, times)] = seen.most_common(1)
        text = f"{lost:,} of {output.kept + lost:,} records were dropped, {times:,} of them because of"
        hint = "--dropped FILE lists the shared words. If they are only a common phrase, raise --ngram."
        run.tell(f"{text} {items.names[item]}.", hint)
    return output.result({"items found": len(seen)})


def _judged(checked: Iterable[CheckedRecord], items: Items, seen: Counter[int]) -> Iterator[bytes | Drop]:
    for each in checked:
        if not each.matches:
            yield each.line
        else:
            seen.update(match.item for match in each.matches)
            yield contaminated(each, items)


class Match(NamedTuple):
    """An item found in a record, with the first shared n-gram and the number of shared n-grams."""

    item: int
    ngram: str
    total: int


class CheckedRecord(NamedTuple):
    """A record as a line of JSON, and the items found in the record."""

    id: str
    where: str
    line: bytes
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class Contaminated(Drop):
    """A record dropped because of matches. Each match has the keys `eval`, `file`, `ngram` and `count`."""

    matches: tuple[dict[str, Any], ...] = ()


_ARRAYS = ("hashes", "owners", "sieve", "sizes")  # also the names of their files


class Items:
    """Evaluation items, and the hashes of all n-grams of `size` words."""

    def __init__(self, size: int = _RUN) -> None:
        self.names: list[str] = []
        self.files: list[str] = []
        self._size = size
        self._sizes = {size}
        self._hashes: list[Hashes] = []

    def add(self, path: Path) -> None:
        """Add the items of a file."""
        before = len(self.names)
        for line in raw_records(path):
            chain = line.chain()
            self._hashes.append(self._runs(chain))
            self.names.append(chain.id)
            self.files.append(name_of(path))
        if not any(map(len, self._hashes[before:])):
            hint = "Give a file of evaluation items with questions: --against FILE"
            raise UsageError(f"{name_of(path)} contains no question to search for.", hint=hint)

    def save(self, folder: Path) -> None:
        """Write the arrays for `Runs`. Of the items that share an n-gram, only the first is stored for it."""
        owners = np.repeat(np.arange(len(self.names)), [len(each) for each in self._hashes])
        hashes, first = np.unique(np.concatenate(self._hashes), return_index=True)
        bits = (len(hashes) * _SLOTS).bit_length()
        sieve = np.zeros(1 << bits, np.bool_)
        sieve[hashes >> np.uint64(64 - bits)] = True
        arrays: list[Any] = [hashes, owners[first], sieve, sorted(self._sizes)]
        for name, values in zip(_ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    def _runs(self, chain: Chain) -> Hashes:
        further = meta_of(chain, "source").get("turns")  # the turns of an MT-bench question
        turns = [turn for turn in turns_of(chain) if turn.role != "system"]
        questions = {turn.text for turn in turns if turn.role == "user"}
        if isinstance(further, list):
            questions.update(text for text in further if isinstance(text, str))
        found = [np.empty(0, np.uint64)]
        for hashes in (word_hashes(words(text)) for text in questions):
            size = min(len(hashes), self._size) or self._size
            if not (whole := len(hashes) < min(self._size, _SHORTEST)):
                self._sizes.add(size)
            found.append(window_hashes(hashes, size) ^ (_WHOLE if whole else np.uint64(0)))
        others = {turn.text for turn in turns}.union(gold_of(chain)).difference(questions)
        found += [window_hashes(word_hashes(words(text)), self._size) for text in sorted(others)]
        return np.unique(np.concatenate(found))


class Runs:
    """The n-grams of all items, memory-mapped from the folder that `Items.save` wrote."""

    def __init__(self, folder: Path) -> None:
        self._hashes, self._owners, self._sieve, sizes = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))  # faster to index
            for name in _ARRAYS
        )
        self._sizes: list[int] = sizes.tolist()
        self._shift = np.uint64(65 - len(self._sieve).bit_length())

    def matches(self, chains: Sequence[Chain]) -> list[tuple[Match, ...]]:
        """Return the matches of each chain, at most one per item."""
        owners, parts, whole = list[int](), list[list[str]](), list[bool]()
        for place, chain in enumerate(chains):
            turns = {turn.text for turn in asked_turns(chain.prompt)}
            for text in texts_in(chain):
                owners.append(place)
                parts.append(words(text))
                whole.append(text in turns)
        found: list[dict[int, Match]] = [{} for _ in chains]
        for at, start, size, item in self._found(parts, whole).tolist():
            run = " ".join(parts[at][start : start + size])
            _, first, total = found[owners[at]].get(item, Match(item, run, 0))
            found[owners[at]][item] = Match(item, first, total + 1)
        return [tuple(each[item] for item in sorted(each)) for each in found]

    def _found(self, parts: Sequence[list[str]], whole: Sequence[bool]) -> NDArray[np.int64]:
        # All texts are hashed at once, because calls of numpy take longer than their work on a short text.
        hashes = word_hashes([word for text in parts for word in text])
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        ends = np.cumsum(lengths)
        left = np.repeat(ends, lengths) - np.arange(len(hashes))  # from each word to its text's end
        short = np.flatnonzero(np.array(whole, np.bool_) & (lengths > 0) & (lengths < _SHORTEST))
        begins = [*(np.flatnonzero(left >= size) for size in self._sizes), (ends - lengths)[short]]
        sizes = np.repeat([*self._sizes, 0], [*map(len, begins)])
        sizes[len(sizes) - len(short) :] = lengths[short]
        first = np.concatenate(begins)
        runs = span_hashes(hashes, first, first + sizes)
        runs[len(runs) - len(short) :] ^= _WHOLE
        at = self._sieve[runs >> self._shift].nonzero()[0]
        known = np.minimum(np.searchsorted(self._hashes, runs[at]), len(self._hashes) - 1)
        same = self._hashes[known] == runs[at]
        at, items = at[same], self._owners[known[same]]
        texts = np.searchsorted(ends, first[at], "right")
        rows = np.stack([texts, first[at] - (ends - lengths)[texts], sizes[at], items], axis=1)
        return rows[np.argsort(texts, kind="stable")]


def check(lines: Sequence[RawRecord], folder: Path, *, strict: bool) -> list[CheckedRecord | Drop]:
    """Check records against the items saved in a folder. Return a `Drop` for each unreadable record."""
    read = [chain_or_drop(line, strict=strict) for line in lines]
    matches = iter(_runs_in(folder).matches([each for each in read if not isinstance(each, Drop)]))
    return [
        each
        if isinstance(each, Drop)
        else CheckedRecord(each.id, line.where, each.to_json().encode() + b"\n", next(matches))
        for line, each in zip(lines, read, strict=True)
    ]


_runs_in = lru_cache(maxsize=1)(Runs)


def contaminated(record: CheckedRecord, items: Items) -> Contaminated:
    """Make a `Contaminated` from a record that has matches."""
    matches: tuple[dict[str, Any], ...] = tuple(
        {"eval": items.names[item], "file": items.files[item], "ngram": ngram, "count": total}
        for item, ngram, total in record.matches
    )
    most = max(matches, key=lambda match: match["count"])
    reason = f"quotes {most['eval']}: {most['ngram'][:_SHOWN]}"
    value = decode(record.line, record.where)
    return Contaminated("contaminated", reason, record.where, record.id, value, matches)
