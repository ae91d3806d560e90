"""Of records that are alike one is kept, and which one does not depend on where it stood.

`exact` compares everything said but for case, white space and Unicode forms; `query` so the first user turn.
`rouge` is the filter of Alpaca (`collect.rouge`); `minhash` finds what is nearly the same
(`collect.minhash`).

Kept is the record that is best: one with an answer before one without, then the longest, then the one whose
content has the smallest hash. Of the same contents data set and licence decide, then the smallest id: file
and place of the origin tell the order of the input, and are no content. `rouge`, whose result depends on the
order in which the pool grows, takes the records in that order. With `first` it is the order of the input
instead. Records of another file, `against`, come before all.

Two passes: every record goes to a spool on disk and leaves in memory its id, its rank and a key: about 450
bytes for `exact` and `query`, and for `rouge` and `minhash` about 40 a word on top.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import nextafter
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from redraft.chain import Chain
from redraft.collect.clean.dropped import Drop
from redraft.collect.dedupe.minhash import clusters, jaccard, sets_of, shingles
from redraft.collect.dedupe.rouge import Pool
from redraft.collect.read.records import chain_or_drop
from redraft.collect.view.shingles import ascii_words, digest, normalised, words
from redraft.collect.view.text import Part, said_in, text_of
from redraft.formats.gold import gold_answers
from redraft.formats.read.files import decode, to_line
from redraft.formats.read.records import RawRecord

_SOURCE = ("dataset", "licence")
"""What of an origin does not depend on where in a file a record stood."""

_TOLD = 64
"""Comparisons from one word on how far they are to the next."""

By = Literal["exact", "query", "rouge", "minhash"]

_SAYS = {
    "exact": "says the same as {kept}",
    "query": "asks the same as {kept}",
    "rouge": "ROUGE-L {similarity:.3f} with {kept}",
    "minhash": "Jaccard {similarity:.3f} with {kept}",
}


@dataclass(frozen=True)
class Duplicate(Drop):
    """A record that was taken out because another is like it.

    Attributes:
        kept: Id of the record that is kept instead.
        similarity: How like they are, up to 1, in the measure of the rule. With `minhash` it may be below the
            threshold: what is like a third record, that is like the kept one, is out too.
    """

    kept: str = ""
    similarity: float = 1.0


@dataclass(frozen=True)
class Likeness:
    """When two records are alike.

    Attributes:
        threshold: For `rouge` F must be over it, for `minhash` the similarity must reach it.
        ascii: `rouge` sees what `rouge_score` sees: a-z and 0-9.
    """

    by: By
    of: Part
    threshold: float = 1.0
    ascii: bool = False


class Entry(NamedTuple):
    """What is kept in memory of a record, and the record for the spool.

    Attributes:
        rank: Orders records, the best first.
        key: What is compared: a digest, a text or a set of shingles; empty for what is like nothing.
        where: Where it stood.
        line: The chain as JSON.
    """

    id: str
    rank: bytes
    key: bytes
    where: str
    line: bytes


def examine(line: RawRecord, like: Likeness, *, strict: bool) -> Entry | Drop:
    """One record as an entry, or as a drop where it cannot be read.

    Raises:
        RecordError: With `strict`, instead of a drop.
    """
    chain = chain_or_drop(line, strict=strict)
    if isinstance(chain, Drop):
        return chain
    return Entry(chain.id, rank_of(chain), key_of(chain, like), line.where, chain.to_json().encode() + b"\n")


def rank_of(chain: Chain) -> bytes:
    """Bytes that order chains, the best first: answered, long, of a small hash, of a small id."""
    answered = bool(chain.steps or gold_answers(chain))
    length = sum(map(len, said_in(chain)))
    origin = chain.meta.get("origin")
    meta = {name: value for name, value in chain.meta.items() if name != "origin"}
    content = digest(chain.model_copy(update={"id": "", "meta": meta}).to_json())
    source = {name: origin.get(name) for name in _SOURCE} if isinstance(origin, dict) else None
    best = struct.pack(">?Q", not answered, 2**64 - 1 - length)
    return best + content + _hashed(source) + chain.id.encode() + b"\0" + _hashed(origin)


def _hashed(value: Any) -> bytes:
    return digest(json.dumps(value, sort_keys=True))


def key_of(chain: Chain, like: Likeness) -> bytes:
    """What is compared of a chain; empty where there is nothing to compare."""
    if like.by == "minhash":
        return shingles(text_of(chain, like.of)).tobytes()
    if like.by == "rouge":
        return text_of(chain, like.of).encode()
    parts = said_in(chain) if like.of == "all" else [text_of(chain, like.of)]
    text = "\0".join(normalised(part) for part in parts)
    return digest(text) if text else b""


def dedupe(
    entries: Iterable[Entry],
    like: Likeness,
    spool: IO[bytes],
    *,
    against: Iterable[Entry] = (),
    first: bool = False,
    compared: Callable[[int, int], None] | None = None,
) -> Iterator[bytes | Duplicate]:
    """For each record, in the order of the input, its line if it is kept, or why it is not.

    Args:
        entries: The records, all of which are read before the first result.
        like: When two are alike.
        spool: An empty file that can be read and written.
        against: Records that come before all, are kept whatever they are like, and are not given out.
        first: Keep of records that are alike the one that comes first, not the best.
        compared: Told now and then how many records are compared, and of how many.
    """
    index = _Index()
    index.take(against)
    fixed = len(index.ids)
    index.take(_spooled(entries, spool))
    kept = index.kept(like, fixed, first=first, compared=compared)
    spool.seek(0)
    for place in range(fixed, len(index.ids)):
        where, line = spool.readline(), spool.readline()
        other, similarity = kept[place]
        name, best = index.ids[place], index.ids[other]
        yield line if other == place else _duplicate(where, line, name, best, similarity, like.by)


class _Index:
    """What is in memory of each record, in three lists."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.ranks: list[bytes] = []
        self.keys: list[bytes] = []

    def take(self, entries: Iterable[Entry]) -> None:
        for each in entries:
            self.ids.append(each.id)
            self.ranks.append(each.rank)
            self.keys.append(each.key)

    def kept(
        self, like: Likeness, fixed: int, *, first: bool, compared: Callable[[int, int], None] | None
    ) -> list[tuple[int, float]]:
        """For each record which one is kept for it, itself or another, and how like they are."""
        order = list(range(len(self.ids)))
        if not first:
            best = self.ranks.__getitem__
            order = sorted(order[:fixed], key=best) + sorted(order[fixed:], key=best)
        kept = [(place, 1.0) for place in range(len(order))]
        alike = _alike([self.keys[place] for place in order], like, fixed)
        for done, (place, (other, similarity)) in enumerate(zip(order, alike, strict=True)):
            kept[place] = order[other], similarity
            if compared and done % _TOLD == 0:
                compared(done, len(order))
        return kept


def _spooled(entries: Iterable[Entry], spool: IO[bytes]) -> Iterator[Entry]:
    for each in entries:
        spool.write(to_line(each.where) + each.line)
        yield each


def _duplicate(where: bytes, line: bytes, name: str, kept: str, similarity: float, by: By) -> Duplicate:
    place = decode(where, "spool")
    reason = _SAYS[by].format(kept=kept, similarity=similarity)
    return Duplicate(by, reason, place, name, decode(line, place), kept, round(similarity, 6))


def _alike(keys: Sequence[bytes], like: Likeness, fixed: int) -> Iterable[tuple[int, float]]:
    """For each key, best first, the place of the one that is kept for it, and the similarity."""
    if like.by == "rouge":
        return _by_rouge(keys, like, fixed)
    if like.by == "minhash":
        return _by_minhash(keys, like.threshold)
    return _by_equality(keys)


def _by_equality(keys: Sequence[bytes]) -> Iterator[tuple[int, float]]:
    found: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        yield (found.setdefault(key, place) if key else place), 1.0


def _by_rouge(keys: Sequence[bytes], like: Likeness, fixed: int) -> Iterator[tuple[int, float]]:
    """As the filter does. F is never over 1, and yet 1 is what equal texts have, which always go."""
    pool = Pool(min(like.threshold, nextafter(1.0, 0.0)), ascii_words if like.ascii else words)
    members: list[int] = []
    for place, key in enumerate(keys):
        near = pool.nearest(key.decode()) if place >= fixed else None
        if near is None:
            pool.add(key.decode())
            members.append(place)
        yield (members[near.place], near.score) if near else (place, 1.0)


def _by_minhash(keys: Sequence[bytes], threshold: float) -> Iterator[tuple[int, float]]:
    sets = sets_of(keys)
    labels = clusters(sets, threshold)
    similarity = jaccard(sets, np.arange(len(sets)), labels)
    yield from zip(labels.tolist(), similarity.tolist(), strict=True)
