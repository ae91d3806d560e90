"""The processes of a distributed run: their number, how they start and end, and what they say together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from redraft.counting import counted
from redraft.errors import ModelError, UsageError

T = TypeVar("T")
R = TypeVar("R")

Say = Callable[[str], None]
"""Prints a line for the user."""

_OF_OTHERS = "gloo/transport/"
"""Part of torch's message on a CPU when another process is gone. On a GPU it raises a DistError."""


def ranks() -> int:
    """Return the number of processes that torchrun started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Return whether this is the first or the only process, which prints for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def parting() -> Iterator[None]:
    """Leave the process group, if there is one, when the block ends.

    If the block succeeds, wait for all processes. If it fails, do not: the others notice and fail too.
    Without this, torch's threads run on until a process is gone, and abort.

    Raises:
        ModelError: Another process is gone, or was never there.
    """
    from torch import distributed  # slow to import, and not needed to make tokens

    try:
        yield
        if distributed.is_initialized():
            with suppress(RuntimeError):  # a failed process reports its own error
                distributed.barrier()
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or _OF_OTHERS in str(error):
            raise ModelError(
                f"the processes of this run do not reach each other ({str(error).splitlines()[0]:.160}).",
                hint="Another process may say why. To resume from the last checkpoint, type the same command "
                "again.",
            ) from error
        raise
    finally:
        if distributed.is_initialized():
            with suppress(RuntimeError):
                distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """Return the number of this process in its group, from 0, and how many there are; (0, 1) without one."""
    from torch import distributed

    grouped = distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if grouped else (0, 1)


def gathered(mine: T) -> list[T]:
    """Return what each process gives, in their order. All processes call it, and have the same result.

    Objects are pickled between the processes of a run, which trust each other.
    """
    from torch import distributed

    found = [mine] * place()[1]
    if len(found) > 1:
        distributed.all_gather_object(found, mine)
    return found


def shared_out(items: Sequence[T], compute: Callable[[T], R]) -> list[R]:
    """Compute each item in one of the processes, in turns, and return all results in all of them."""
    rank, count = place()
    parts = gathered([compute(each) for each in items[rank::count]])
    return [parts[number % count][number // count] for number in range(len(items))]


def check_same_start(found: Sequence[tuple[int, str, int]]) -> None:
    """Raise `UsageError` if processes have different checkpoints or data.

    Args:
        found: For each process, the step to resume from, the hash of its tokens, and its rows.
    """
    if len(set(found)) > 1:
        each = (
            f"process {rank} at step {one[0]:,}, {counted(one[2], 'row')} {one[1]}"
            for rank, one in enumerate(found)
        )
        raise UsageError(
            f"the processes start from different checkpoints or data: {'; '.join(each)}.",
            hint="Every machine must see the same --output_dir and the same --data_path.",
        )


class SharedMeans:
    """Numbers that are added up over steps and processes, until the log has a line for them.

    They stay on their device until they are read. The sum called `count` is what the others are means over.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Add to a sum."""
        value = torch.as_tensor(value)
        self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach()

    def take(self) -> dict[str, float]:
        """Return the means over all processes, and begin again."""
        parts, self._sums = self.parts(), {}
        whole = {name: sum(part.get(name, 0.0) for part in parts) for part in parts for name in part}
        count = whole.pop("count", 0.0)
        return {name: each / count for name, each in whole.items()} if count else {}

    def parts(self) -> list[dict[str, float]]:
        """Return what each process has added up since the last `take`."""
        return gathered({name: float(each) for name, each in self._sums.items()})

    def restore(self, parts: Sequence[Mapping[str, float]]) -> None:
        """Take over this process's share of what `parts` returned, perhaps in other processes."""
        rank, ranks = place()
        for name, each in chain.from_iterable(part.items() for part in parts[rank::ranks]):
            self.add(name, each)
