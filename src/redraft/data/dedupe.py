"""Keep one of several duplicates. The choice does not depend on the order of the input.

The duplicate that ranks first is kept. Answered records rank before unanswered records, then longer before
shorter records, then by a hash of the content. Records with equal contents rank by data set and licence, then
by id, then by the rest of the origin. Records of `against` rank before all other records. Records are
compared in the order of the ranks, because the result of the method `rouge` depends on the order.

There are two passes. The first pass copies each record to disk, and keeps id, rank and key in memory: about
150 bytes per record, plus 40 bytes per word with `rouge`, or 15 with `minhash`. The second pass writes kept
records.
"""

from __future__ import annotations

import json
import re
import struct
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from heapq import merge
from itertools import repeat
from math import nextafter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal, NamedTuple, Unpack

import numpy as np
from pydantic_core import to_json

from redraft.chain import Chain
from redraft.chain.read.files import decode
from redraft.chain.texts import gold_answers
from redraft.data.output import DataOptions, DataResult, DataRun, Drop, one_of, paths_beside, writing
from redraft.data.similarity import Pool, clusters, coded, equals, jaccard, sets_of
from redraft.data.texts import Part, text_of, texts_in
from redraft.data.words import digest, normalised
from redraft.errors import UsageError, shown
from redraft.jobs.stores import here

_sorted = json.JSONEncoder(sort_keys=True).encode
_SPACES = re.compile(r"  (?<=\S  ) *")  # not those at the start of a line
_SORTED = 1 << 18  # records to sort at once: a list of their ranks takes 25 MB
_TOLD = 64  # comparisons between two progress updates

By = Literal["exact", "query", "rouge", "minhash"]

_WAYS: dict[By, tuple[Part, float, str]] = {
    "exact": ("all", 1.0, "same texts as {kept}"),
    "query": ("query", 1.0, "same question as {kept}"),
    "rouge": ("instruction", 0.7, "ROUGE-L {similarity:.3f} with {kept}"),
    "minhash": ("all", 0.8, "Jaccard {similarity:.3f} with {kept}"),
}
"""For each method: the part to compare, the default threshold, and the reason for dropping a duplicate."""


def dedupe(
    source: str | Path,
    out: str | Path,
    *,
    by: By = "exact",
    threshold: float | None = None,
    against: str | Path | Sequence[str | Path] = (),
    **options: Unpack[DataOptions],
) -> DataResult:
    """Keep one of several duplicates. Same as `redraft data dedupe`.

    A temporary copy of the input is written into the folder of the output.

    Args:
        source: Records of any known shape.
        out: The file to write the chains to, which appears only when complete.
        by: What duplicates share: all texts (exact), the first question (query), the input and most of the
            instruction (rouge), or most 3-word shingles (minhash).
        threshold: Duplicates have at least this similarity (with rouge, more than this).
        against: Files to compare with. Duplicates of records in these files are dropped too.
        **options: See `DataOptions`.

    Raises:
        UsageError: An option is unknown, has a wrong value, or has no effect.
        RecordError: No record can be read, or a file is damaged. With `strict`, any unreadable record raises.
        OutputError: `out` exists and `force` is not set, or `out` cannot be written.
    """
    others, run = paths_beside(source, against), DataRun.of(out, options, dedupe)
    one_of("by", by, [*_WAYS])
    if threshold is not None and (not isinstance(threshold, int | float) or not 0.1 <= threshold <= 1):
        raise UsageError(f"threshold is {shown(threshold)}.", hint="It should be a number from 0.1 to 1.")
    if threshold is not None and by in ("exact", "query"):
        raise UsageError(f"--threshold does nothing with --by {by}.", hint="Use --by rouge or --by minhash.")
    part, usual, _ = _WAYS[by]
    like = Likeness(by, part, threshold or usual)
    pool, lines = run.lines(*others), run.lines(source)
    provenance = run.provenance("data dedupe", source, **asdict(like))
    writer = writing(provenance, run, reads=[*others, here(source)], against=others)
    with writer as output, TemporaryFile(dir=run.disk) as spool:
        known = output.spread(partial(examine, like=like), pool, strict=True)
        found = output.spread(partial(examine, like=like), lines)
        entries, fixed = output.gone.without(found), output.gone.without(known)
        results = sift(entries, like, spool, against=fixed, compared=output.progress.compare)
        output.sink.writelines(output.passing(results))
    output.tell_counts()
    return output.result()


@dataclass(frozen=True)
class Duplicate(Drop):
    """A record dropped as a duplicate."""

    kept: str = ""
    # At most 1. With `minhash`, it may be below the threshold if a third record links the two.
    similarity: float = 1.0


@dataclass(frozen=True)
class Likeness:
    """The definition of duplicates: the method, the part compared, and the threshold."""

    by: By
    of: Part
    threshold: float = 1.0  # `rouge` needs a higher F; `minhash` needs at least this similarity


class Entry(NamedTuple):
    """A record's line, and the data for comparing records."""

    id: str
    rank: bytes  # sorts records, the best first
    key: bytes  # the digest, text or coded words to compare; empty if there is nothing to compare
    where: str
    line: bytes


def examine(chain: Chain, where: str, like: Likeness) -> Entry:
    """Return the entry of a record."""
    texts, line = texts_in(chain), chain.to_json().encode()
    rank, key = rank_of(chain, texts, line), key_of(chain, texts, like)
    return Entry(chain.id, rank, key, where, line + b"\n")


def rank_of(chain: Chain, texts: Sequence[str], line: bytes) -> bytes:
    """Return a chain's sort key: answered before unanswered, long before short, then by content."""
    origin = chain.meta.get("origin")
    if "origin" in chain.meta:
        begin, _, rest = line.rpartition(b'"origin":' + to_json(origin, inf_nan_mode="null"))
        line = begin + rest[1:] if rest.startswith(b",") else begin.removesuffix(b",") + rest
    content = blake2b(line.replace(b'"id":' + to_json(chain.id), b'"id":""', 1), digest_size=16).digest()
    # The parts of an origin that do not depend on the record's location.
    source = {name: origin.get(name) for name in ("dataset", "licence")} if isinstance(origin, dict) else None
    # Repeated spaces inside a line do not count. Line breaks and indents do, because code needs them.
    length = sum(len(_SPACES.sub(" ", text.strip())) for text in texts)
    unanswered = not (chain.steps or gold_answers(chain))
    best = struct.pack(">?II", unanswered, 2**32 - 1 - length, sum(map(len, texts)))
    marks = [digest(_sorted(each))[:8] if each else bytes(8) for each in (source, origin)]
    return best + content[:8] + marks[0] + chain.id.encode() + b"\0" + marks[1]


def key_of(chain: Chain, texts: Sequence[str], like: Likeness) -> bytes:
    """Return the key to compare a chain by. A chain without the compared part matches no other chain."""
    parts = texts if like.of == "all" else [text_of(chain, like.of)]
    if like.by == "minhash":
        return coded("\n".join(parts))
    if like.by == "rouge":
        return digest(normalised(chain.prompt.input)) + parts[0].encode()
    text = "\0".join(map(normalised, parts))
    return digest(text) if text else b""


def sift(
    entries: Iterable[Entry],
    like: Likeness,
    spool: IO[bytes],
    *,
    against: Iterable[Entry] = (),
    compared: Callable[[int, int], None] | None = None,
) -> Iterator[bytes | Duplicate]:
    """Yield kept records as lines, and duplicates as `Duplicate`, in the order of the input.

    All `entries` are written to `spool` before the first result. The best of several duplicates is kept.
    Records of `against` are never yielded, and an entry similar to such a record is a `Duplicate`. The
    function `compared` is called at intervals, with the number of compared records and the total.
    """
    ids, ranks, keys = _Column(), _Column(), _Column()
    for spooled, given in ((False, against), (True, entries)):
        fixed = len(ids)  # after the loop, the number of records of `against`
        for entry in given:
            if spooled:
                spool.write(to_json(entry.where) + b"\n" + entry.line)
            ids.append(entry.id.encode())
            ranks.append(entry.rank)
            keys.append(entry.key)
    order = array("i", _ordered(ranks, 0, fixed))
    order.extend(_ordered(ranks, fixed, len(ids)))
    del ranks
    kept, scores = array("i", order), array("f", [1.0]) * len(order)
    alike = _alike(_Column(keys[place] for place in order), like, fixed)
    del keys
    for done, (place, (other, similarity)) in enumerate(zip(order, alike, strict=True)):
        kept[place], scores[place] = order[other], similarity
        if compared and done % _TOLD == 0:
            compared(done, len(order))
    spool.seek(0)
    for number in range(fixed, len(ids)):
        named, line = spool.readline(), spool.readline()
        best, similarity = kept[number], scores[number]
        if best == number:
            yield line
            continue
        name, other = ids[number].decode(), ids[best].decode()
        reason = _WAYS[like.by][2].format(kept=other, similarity=similarity)
        where, rounded = decode(named, "spool"), round(similarity, 6)
        yield Duplicate(like.by, reason, where, name, decode(line, where), other, rounded)


def _ordered(ranks: Sequence[bytes], start: int, stop: int) -> Iterator[int]:
    parts = (range(first, min(first + _SORTED, stop)) for first in range(start, stop, _SORTED))
    return merge(*(array("i", sorted(part, key=ranks.__getitem__)) for part in parts), key=ranks.__getitem__)


class _Column(Sequence[bytes]):
    """A sequence of byte strings in one buffer. The overhead per string is 8 bytes, not 41 as in a list."""

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        self.data, self._ends = bytearray(), array("q", [0])
        for value in values:
            self.append(value)

    def append(self, value: bytes) -> None:
        self.data += value
        self._ends.append(len(self.data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: Any) -> Any:
        return bytes(self.data[self._ends[place] : self._ends[place + 1]])


def _alike(keys: _Column, like: Likeness, fixed: int) -> Iterator[tuple[int, float]]:
    if like.by == "minhash":
        sets = sets_of(keys)
        del keys
        labels, scores = clusters(sets, like.threshold), np.ones(len(sets))
        gone = np.flatnonzero(labels != np.arange(len(sets)))
        scores[gone] = jaccard(sets, gone, labels[gone])
        del sets
        yield from zip(labels.data, scores.data, strict=True)
        return
    if like.by != "rouge":
        full = np.fromiter(map(bool, keys), bool, len(keys))
        halves = np.frombuffer(keys.data, np.uint64).reshape(-1, 2).T
        yield from zip(equals(full, *halves).tolist(), repeat(1.0))
        return
    # Alpaca's filter for each input. The threshold is below 1, so equal texts, whose F is 1, are dropped.
    pools = defaultdict[bytes, Pool](partial(Pool, min(like.threshold, nextafter(1.0, 0.0))))
    places = defaultdict[bytes, list[int]](list)
    often = Counter(key[:16] for key in keys)
    for place, key in enumerate(keys):
        if often[key[:16]] == 1:  # a single record needs no pool, which would take memory
            yield place, 1.0
            continue
        pool, members, text = pools[key[:16]], places[key[:16]], key[16:].decode()
        if (near := pool.nearest(text) if place >= fixed else None) is None:
            pool.add(text)
            members.append(place)
        yield (members[near.place], near.score) if near else (place, 1.0)
