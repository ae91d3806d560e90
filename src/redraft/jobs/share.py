"""A share of a job: those of its items whose ids have a certain hash.

Shares are numbered from 0, as ranks of Slurm, Kubernetes, torchrun and SkyPilot are. The hash does not
depend on the order of the items, so items that are added later move no other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import UsageError
from redraft.jobs.ids import digest_of

_MOST = 99_999  # five digits in the names of files, as in data sets on the Hugging Face hub

_RANKS = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate
    ("SLURM_PROCID", "SLURM_NTASKS"),  # srun
    ("JOB_COMPLETION_INDEX", ""),  # an Indexed Job of Kubernetes, which does not tell how many there are
    ("SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS"),  # jobs of a pool
    ("SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"),  # nodes of a task
)
"""Variables with a rank from 0, and with the number of ranks. The first that is set counts."""


@dataclass(frozen=True)
class Share:
    """Share `index` of `count`, from 0."""

    index: int
    count: int

    def holds(self, item_id: str) -> bool:
        """Whether an item is in this share."""
        return share_number(item_id, self.count) == self.index

    def path(self, whole: Path) -> Path:
        """Return the path of the share's own file or folder: `out-00000-of-00008.jsonl` of `out.jsonl`."""
        return whole.with_name(f"{whole.stem}-{self.index:05}-of-{self.count:05}{whole.suffix}")

    def __str__(self) -> str:
        """Return the share as a user writes it."""
        return f"{self.index}/{self.count}"


def share_number(item_id: str, count: int) -> int:
    """Return which of so many shares an item is in."""
    return (digest_of(item_id) >> 32) % count  # the upper half: an `IdSet` places ids by the lower bits


def share_of(text: str, environ: Mapping[str, str] = os.environ) -> Share:
    """Return the share that `I/N`, `auto` or `auto/N` means.

    Raises:
        UsageError: It is none, or nothing in the environment tells a rank.
    """
    given, _, of = text.partition("/")
    if given == "auto" and (of.isdecimal() or text == "auto"):
        return _of_environment(int(of) if of else None, environ)
    if not (given.isdecimal() and of.isdecimal()):
        raise UsageError(f"the share is {text!r:.40}.", hint="Write --shard 0/8, --shard auto or auto/8.")
    return _checked(int(given), int(of), text)


def _checked(index: int, count: int, text: str) -> Share:
    if not 1 <= count <= _MOST:
        raise UsageError(f"the share is {text}.", hint=f"There can be 1 to {_MOST:,} shares.")
    if index >= count:
        last = f"{count - 1}/{count}"
        raise UsageError(
            f"there is no share {text}.",
            hint=f"Shares are numbered from 0, as ranks are: 0/{count}{f' to {last}' if count > 1 else ''}.",
        )
    return Share(index, count)


def _of_environment(count: int | None, environ: Mapping[str, str]) -> Share:
    told: int | None
    if "SLURM_ARRAY_TASK_ID" in environ and "RANK" not in environ:
        index, told = _of_array(environ)
    else:
        rank, ranks = next((names for names in _RANKS if names[0] in environ), ("", ""))
        if not rank:
            names = ", ".join(["SLURM_ARRAY_TASK_ID", *(name for name, _ in _RANKS)])
            raise UsageError(
                "--shard auto was given, and nothing here tells the number of this process.",
                hint=f"It is read from {names}. Elsewhere write it: --shard 0/8",
            )
        index, told = _number(environ, rank), _number(environ, ranks) if ranks in environ else None
    if count is not None and told is not None and count != told:
        raise UsageError(f"--shard auto/{count} was given, and {told} processes run.", hint="Write auto.")
    if (count := count or told) is None:
        raise UsageError(
            f"--shard auto: this is number {index}, and nothing tells of how many.",
            hint="Say how many completions the job has: --shard auto/8",
        )
    return _checked(index, count, f"{index}/{count}")


def _of_array(environ: Mapping[str, str]) -> tuple[int, int]:
    """Return the place of this task in a Slurm array, and its length.

    A part of an array that is sent again (`--array=3`, `--array=0,5`) has other numbers than the whole had.
    """
    task, first, last, count = (
        _number(environ, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "MAX", "COUNT")
    )
    if count == 1 or last - first + 1 != count:
        raise UsageError(
            f"--shard auto: the Slurm array has {count} of the tasks {first} to {last}.",
            hint='It may be a part of an array. Say how long that is: --shard "$SLURM_ARRAY_TASK_ID/8"',
        )
    return task - first, count


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not text.isdecimal():
        raise UsageError(f"--shard auto: {name} is {text!r:.40}.", hint="Write the share: --shard 0/8")
    return int(text)
