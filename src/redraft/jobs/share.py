"""A share of a job: the items whose ids have a certain hash.

Shares are numbered from 0, as ranks of Slurm, Kubernetes, torchrun and SkyPilot are (docs/cluster.md). The
hash does not depend on the order of the items, so items added later move no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redraft.errors import UsageError
from redraft.jobs.ids import digest_of

_MOST = 99_999  # five digits in the names of files, as in data sets on the Hugging Face hub


@dataclass(frozen=True)
class Share:
    """Share number `index` of `count`, counted from 0."""

    index: int
    count: int

    def holds(self, item_id: str) -> bool:
        """Whether an item is in this share."""
        # The upper half: an `IdSet` places ids by the lower bits.
        return (digest_of(item_id) >> 32) % self.count == self.index

    def path(self, whole: Path) -> Path:
        """Return the path of the share's own file or folder: `out-00000-of-00008.jsonl` of `out.jsonl`."""
        return whole.with_name(f"{whole.stem}-{self.index:05}-of-{self.count:05}{whole.suffix}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def share_of(text: str) -> Share:
    """Return the share that `I/N` means, or raise `UsageError`."""
    given, _, of = text.partition("/")
    if not (given.isdecimal() and of.isdecimal()):
        raise UsageError(f"the share is {text!r:.40}.", hint="Write --shard 0/8, the number and how many.")
    index, count = int(given), int(of)
    if not 1 <= count <= _MOST:
        raise UsageError(f"the share is {text}.", hint=f"There can be 1 to {_MOST:,} shares.")
    if index >= count:
        last = f"{count - 1}/{count}"
        raise UsageError(
            f"there is no share {text}.",
            hint=f"Shares are numbered from 0, as ranks are: 0/{count}{f' to {last}' if count > 1 else ''}.",
        )
    return Share(index, count)
