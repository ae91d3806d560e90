"""`redraft weights convert`, `gguf` and `from-gguf`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from redraft.cli.shell import flag
from redraft.cli.weights.common import (
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


def convert(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A folder, a file, or org/name.")],
    out: Out,
    dtype: Dtype = None,
    shard_size: Annotated[
        str | None, flag("SIZE", "The largest file, such as 5GB, or single.  [as it is]")
    ] = None,
    form: Annotated[
        Literal["safetensors", "bin"], typer.Option("--format", help="The file format.")
    ] = "safetensors",
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Convert a model's dtype or files.

    Values that become infinite or zero in the new dtype are counted. The exit status is 1 if any value is
    NaN or infinite.
    """
    from redraft.weights.checkpoint import BIN, SAFETENSORS
    from redraft.weights.convert import Form
    from redraft.weights.convert import convert as make

    source = model_of(src, allow_pickle)
    files: Form = BIN if form == "bin" else SAFETENSORS
    with running(source, force, allow_pickle, quiet) as run:
        size = _size(shard_size) if shard_size else None
        make(source, out, run, dtype=dtype_of(dtype), shard_size=size, form=files)


def gguf(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A folder, or org/name.")],
    out: Out,
    quant: Annotated[
        str, typer.Option(metavar="KIND", help="f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0.")
    ] = "f16",
    force: Force = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
) -> None:
    """Convert a model's folder to a GGUF file for llama.cpp.

    Supports Llama, Mistral, Qwen2 and Qwen3, with tokenizer and chat template. The exit status is 1 if any
    value is NaN or infinite.
    """
    from redraft.weights.gguf.from_folder import export_gguf

    source = model_of(src, allow_pickle)
    with running(source, force, allow_pickle, quiet, resumes=False) as run:
        export_gguf(source, out, run, quant=quant)


def from_gguf(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A GGUF file, or default.")],
    out: Out,
    dtype: Dtype = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Convert a GGUF file to a model's folder for transformers.

    Quantised weights are dequantised, so that the model can be trained.
    """
    from redraft.weights.gguf.to_folder import import_gguf

    source = local_path(file)
    with running(source, force, False, quiet) as run:
        import_gguf(source, out, run, dtype=dtype_of(dtype))


def _size(text: str) -> int:
    """Return a size in bytes: `5GB`, `500 MB`. `single` is larger than any file."""
    from redraft.errors import UsageError

    if text == "single":
        return 1 << 63
    units = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", text.strip().upper())
    if not found or found[2] not in units or not float(found[1]):
        raise UsageError(
            f"--shard-size is {text!r}, which is not a size.", hint="Such as 5GB, 500MB, or single."
        )
    return int(float(found[1]) * units[found[2]])
