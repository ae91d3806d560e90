"""Coordinate the processes of a distributed run, which share work and results, and end together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from redraft.errors import ModelError, UsageError
from redraft.jobs.counting import counted

T = TypeVar("T")
R = TypeVar("R")

Say = Callable[[str], None]  # prints a line for the user


def ranks() -> int:
    """Return the number of processes that torchrun started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Return whether this process is the first or only process, which prints for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def parting() -> Iterator[None]:
    """Leave torch's process group, if one exists, when the `with` block ends.

    If the block succeeds, wait for all processes first. If the block fails, all other processes fail too.
    """
    from torch import distributed  # slow to import, and not needed to tokenise

    try:
        yield
        if distributed.is_initialized():
            with suppress(RuntimeError):  # a failed process reports its own error
                distributed.barrier()
    except RuntimeError as error:
        # When another process is gone, torch raises a DistError on a GPU, and gloo's error on a CPU.
        if isinstance(error, distributed.DistError) or "gloo/transport/" in str(error):
            raise ModelError(
                f"the processes of this run cannot reach each other ({str(error).splitlines()[0]:.160}).",
                hint="The output of another process may name the cause. To resume from the last checkpoint, "
                "type the same command again.",
            ) from error
        raise
    finally:
        if distributed.is_initialized():
            with suppress(RuntimeError):
                distributed.destroy_process_group()  # otherwise, torch's threads abort the process at exit


def place() -> tuple[int, int]:
    """Return this process's rank in torch's process group, and the group's size; (0, 1) without a group."""
    from torch import distributed

    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def gathered(mine: T) -> list[T]:
    """Return the values of `mine` from all processes, by rank. Every process must call this function."""
    from torch import distributed

    found = [mine] * place()[1]
    if len(found) > 1:
        distributed.all_gather_object(found, mine)  # pickled: the processes of a run trust each other
    return found


def shared_out(items: Sequence[T], compute: Callable[[T], R]) -> list[R]:
    """Divide `items` among the processes, and return all results of `compute` in every process, in order."""
    rank, count = place()
    parts = gathered([compute(each) for each in items[rank::count]])
    return [parts[number % count][number // count] for number in range(len(items))]


def check_same_start(found: Sequence[tuple[int, str, int]]) -> None:
    """Raise `UsageError` if processes have different checkpoints or data.

    `found` has, for each process, the step to resume from, a hash of the tokens, and the number of rows.
    """
    if len(set(found)) > 1:
        starts = [f"step {step:,}, {counted(rows, 'row')}, hash {hashed}" for step, hashed, rows in found]
        each = (f"process {rank} at {start}" for rank, start in enumerate(starts))
        message = f"the processes start from different checkpoints or data: {'; '.join(each)}."
        hint = "Every machine must see the same --output_dir and the same --data_path."
        raise UsageError(message, hint=hint)
