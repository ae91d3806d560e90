"""Keep sets of ids in little memory (17 MB for a million, not 130 MB), and divide jobs into shares by ids.

A table with open addressing contains a 64-bit hash of each id. Among a million ids, two have the same hash
with a probability of 3·10⁻⁸. The second id would then count as a repetition of the first.

The hash of an item's id decides the share to which the item belongs, so a new item moves no other item.
Shares are numbered from 0, like ranks of Slurm, Kubernetes, torchrun and SkyPilot (docs/cluster.md).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import UsageError

_SMALLEST = 64
_FULL = 0.6  # fraction of full slots at which the table doubles. A lookup probes about 3 slots (Knuth 6.4)


class IdSet:
    """A set of ids that can only grow, and whose members cannot be listed."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._table = array("q", [0]) * _SMALLEST
        self._count = 0
        self.update(ids)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item_id: object) -> bool:
        digest = digest_of(item_id)
        return self._table[self._slot(digest)] == digest

    def add(self, item_id: str) -> bool:
        """Add an id. Return whether the id is new."""
        digest = digest_of(item_id)
        slot = self._slot(digest)
        if self._table[slot] == digest:
            return False
        self._table[slot] = digest
        self._count += 1
        if self._count > _FULL * len(self._table):
            old = self._table
            self._table = array("q", [0]) * (2 * len(old))
            for each in filter(None, old):
                self._table[self._slot(each)] = each
        return True

    def update(self, ids: Iterable[str]) -> None:
        """Add several ids."""
        for item_id in ids:
            self.add(item_id)

    def _slot(self, digest: int) -> int:
        table, mask = self._table, len(self._table) - 1
        slot = digest & mask
        while table[slot] not in (0, digest):
            slot = (slot + 1) & mask
        return slot


def digest_of(item_id: object) -> int:
    """Return a text's 64-bit hash, which is equal in every process and never 0."""
    digest = hashlib.blake2b(str(item_id).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True) or 1  # 0 marks an empty slot


def derived_seed(seed: int, item_id: str) -> int:
    """Derive a 31-bit seed for an item from the job's seed and the item's id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{item_id}".encode(), digest_size=4).digest()) >> 1


_MOST = 99_999  # five digits in the names of files, as in data sets on the Hugging Face hub


@dataclass(frozen=True)
class Share:
    """One of `count` shares of a job's items; `index` counts from 0."""

    index: int
    count: int

    def holds(self, item_id: str) -> bool:
        """Return whether an item is in this share."""
        # Use the upper half, because an `IdSet` places ids by the lower bits.
        return (digest_of(item_id) >> 32) % self.count == self.index

    def path(self, whole: Path) -> Path:
        """Return the path of the share's file or folder: `out-00000-of-00008.jsonl` for `out.jsonl`."""
        return whole.with_name(f"{whole.stem}-{self.index:05}-of-{self.count:05}{whole.suffix}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def share_of(text: str) -> Share:
    """Parse a share written as `I/N`, or raise `UsageError`."""
    given, _, of = text.partition("/")
    if not (given.isdecimal() and of.isdecimal()):
        raise UsageError(f"{text!r:.40} is not a share.", hint="Write INDEX/COUNT, such as --shard 0/8.")
    index, count = int(given), int(of)
    if not 1 <= count <= _MOST:
        raise UsageError(f"the share {text} is not possible.", hint=f"There can be 1 to {_MOST:,} shares.")
    if index >= count:
        last = f"{count - 1}/{count}"
        hint = f"Shares are numbered from 0: 0/{count}{f' to {last}' if count > 1 else ''}."
        raise UsageError(f"there is no share {text}.", hint=hint)
    return Share(index, count)
