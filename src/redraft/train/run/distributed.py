"""The processes of a run: how many there are, which one speaks for all, and how they begin and part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from redraft.errors import ModelError, UsageError
from redraft.train.counting import counted

Say = Callable[[str], None]
"""Tells people a line."""

_OF_OTHERS = "gloo/transport/"
"""In what torch says on a CPU when another process is gone. On a GPU it raises a DistError."""


def ranks() -> int:
    """How many processes run together, as torchrun says it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this is the first of them, or the only one: it speaks for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def parting() -> Iterator[None]:
    """Leaves the other processes of a run, if there are any, when the block ends.

    It waits until all have come there, but does not where this one failed: then the others find it gone, and
    fail too. Without this, threads of torch go on until a process or the interpreter is gone, and abort.

    Raises:
        ModelError: Another one is gone, or was never there.
    """
    from torch import distributed  # slow to import, and not needed to make tokens

    try:
        yield
        if distributed.is_initialized():
            with suppress(RuntimeError):  # one has failed, and says so itself
                distributed.barrier()
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or _OF_OTHERS in str(error):
            raise _unreached(error) from error
        raise
    finally:
        if distributed.is_initialized():
            with suppress(RuntimeError):
                distributed.destroy_process_group()


def _unreached(error: RuntimeError) -> ModelError:
    return ModelError(
        f"the processes of this run do not reach each other ({str(error).splitlines()[0]:.160}).",
        hint="Another one may say why. The same command, typed again, goes on from the last checkpoint.",
    )


def insist_on_the_same(found: Sequence[tuple[int, str, int]]) -> None:
    """Sees that all processes begin with one checkpoint and one data.

    Args:
        found: Of each process, the step that it goes on from, the sum of its tokens, and its rows.

    Raises:
        UsageError: They do not.
    """
    if len(set(found)) > 1:
        said = (
            f"process {rank} at step {one[0]:,}, {counted(one[2], 'row')} {one[1]}"
            for rank, one in enumerate(found)
        )
        raise UsageError(
            f"the processes begin with different things: {'; '.join(said)}.",
            hint="Every machine must see the same --output_dir and the same --data_path.",
        )
