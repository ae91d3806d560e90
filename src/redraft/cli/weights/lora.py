"""`redraft weights merge-lora` and `lora-gguf`."""

from __future__ import annotations

from typing import Annotated

import typer

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
        str | None,
        typer.Option(
            metavar="BASE",
            help="The base: a folder, a GGUF file, or default.  [as the adapter says]",
            show_default=False,
        ),
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
