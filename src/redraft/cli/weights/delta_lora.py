"""`redraft weights diff`, `apply`, `merge-lora`, `lora-gguf` and `lora-rank`: what one model has more than
another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.shell import flag
from redraft.cli.weights.common import (
    Adapter,
    Base,
    Dtype,
    Force,
    Out,
    Pickle,
    Quiet,
    dtype_of,
    local_path,
    model_of,
    running,
)


def diff(
    base: Base,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The tuned model: a folder, a file, or org/name.")
    ],
    out: Out,
    exact: Annotated[
        bool, typer.Option("--exact", help="Make a delta that restores the target bit for bit.")
    ] = False,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Make a delta: target minus base.

    The delta has the target's configuration, tokenizer and files. A plain delta, like those of SelFee and
    Vicuna, restores the target except for rounding.
    """
    from redraft.weights.delta import diff as make

    ours, theirs = model_of(base, allow_pickle), model_of(target, allow_pickle)
    with running(theirs, force, allow_pickle, quiet) as run:
        make(ours, theirs, out, run, exact=exact)


def apply(
    base: Base,
    delta: Annotated[str, typer.Argument(metavar="DELTA", help="The delta: a folder, a file, or org/name.")],
    out: Out,
    vocab: Annotated[
        Literal["none", "zero", "mean"] | None,
        typer.Option(help="What rows that the base lacks count as.  [detected]", show_default=False),
    ] = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Apply a delta: base plus delta.

    A wrong base is refused before anything is written. The result has the delta's configuration and
    tokenizer.
    """
    from redraft.weights.delta import apply as make

    ours, theirs = model_of(base, allow_pickle), model_of(delta, allow_pickle)
    with running(theirs, force, allow_pickle, quiet) as run:
        make(ours, theirs, out, run, vocab=vocab)


def merge_lora(
    base: Base,
    adapter: Adapter,
    out: Out,
    dtype: Dtype = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Merge a peft LoRA adapter into its base."""
    from redraft.weights.lora.merge import merge_lora as make

    model, change = model_of(base, allow_pickle), model_of(adapter, allow_pickle)
    with running(model, force, allow_pickle, quiet) as run:
        make(model, change, out, run, dtype=dtype_of(dtype))


def lora_gguf(
    adapter: Adapter,
    out: Out,
    base: Annotated[
        str | None, flag("BASE", "The base: a folder, a GGUF file, or default.  [as the adapter says]")
    ] = None,
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Convert a LoRA adapter to a GGUF adapter for llama.cpp.

    Use it as MODEL.gguf+ADAPTER.gguf.
    """
    from redraft.engines.load import trained_on
    from redraft.weights.lora.to_gguf import lora_gguf as make

    change = model_of(adapter, allow_pickle)
    if base is None and trained_on(change).partition("+")[0] == "default":
        base = "default"  # its shapes are the same with other adapters added
    model = None if base is None else local_path(base)
    with running(change, force, allow_pickle, quiet, resumes=False) as run:
        make(change, out, run, base=model)


def lora_rank(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The adapter: a GGUF file.")],
    out: Out,
    rank: Annotated[int, flag("N", "The rank of the result.", "--rank", min=1)],
    mixed: Annotated[
        Path | None, flag("FILE", "Mix in this adapter: the mean of the changes of both.", "--with")
    ] = None,
    share: Annotated[float, flag("S", "The share of --with in the mean.", "--share", min=0, max=1)] = 0.5,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make a GGUF adapter smaller, by a lower rank, or mix two.

    Each change becomes the nearest one of that rank, in float16. Measure what it costs.
    """
    from redraft.weights.lora.rank import lower_rank

    with running(adapter, force, allow_pickle=False, quiet=quiet, resumes=False) as run:
        kept = lower_rank(adapter, out, rank, run, mixed=mixed, share=share)
        run.tell(f"{kept:.1%} of the squares of the changes are kept")
