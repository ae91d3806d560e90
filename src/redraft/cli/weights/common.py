"""What the commands of `redraft weights` share: their arguments, models by reference, and progress."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redraft.cli.shell import command_line, tell
from redraft.machine import give_back_large

if TYPE_CHECKING:
    from redraft.weights.output import Run

Out = Annotated[Path, typer.Option("--out", "-o", metavar="PATH", help="The output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that redraft made.")]
Pickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read .bin files, with torch's restricted loader.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress and remarks.")]
Dtype = Annotated[
    Literal["fp16", "bf16", "fp32"] | None,
    typer.Option(help="The dtype of the result.  [as it is]", show_default=False),
]
Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter: a peft folder, or org/name.")]
Base = Annotated[str, typer.Argument(metavar="BASE", help="The base: a folder, a file, or org/name.")]


@contextmanager
def running(
    source: Path, force: bool, allow_pickle: bool, quiet: bool, *, resumes: bool = True
) -> Iterator[Run]:
    """Prepare a job: its progress over the weights of a file or folder, its remarks and its warnings.

    On an interrupt, say how to resume. Warnings about NaN and infinite values are printed even with --quiet,
    and make the exit status 1.
    """
    from redraft.weights.output import Run

    warnings: list[str] = []

    def warn(line: str) -> None:
        warnings.append(line)
        tell(f"warning: {line}")

    remark: Callable[[str], None] = (lambda _: None) if quiet else tell
    with progress_over(source, quiet, resumes=resumes) as progress:
        yield Run(force, allow_pickle, command_line(), progress, remark, warn, caution=tell)
    if warnings:
        raise typer.Exit(1)


@contextmanager
def progress_over(source: Path, quiet: bool, *, resumes: bool) -> Iterator[Callable[[int], None]]:
    """Show progress over the weights of a file or folder. On an interrupt, say how to resume."""
    import torch

    from redraft.jobs.progress import ByteProgress

    torch.set_num_threads(1)  # the work waits for the disk, and more threads would only spin
    give_back_large(1 << 20)
    try:
        with ByteProgress(_weight_bytes(source), quiet=quiet) as progress:
            yield progress.advance
            progress.done = progress.total or 0  # headers and padding are not reported
    except KeyboardInterrupt:
        after = "resumes after the finished files" if resumes else "starts from the beginning"
        tell(f"interrupted. The same command, run again, {after}.")
        raise


def _weight_bytes(path: Path) -> int:
    kinds = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
    for files in ([path], *(list(path.glob(kind)) for kind in kinds)):
        if size := sum(file.stat().st_size for file in files if file.is_file()):
            return size
    return 0


def model_of(ref: str, allow_pickle: bool = False) -> Path:
    """Return the folder or file for a reference. Download a model on the hub."""
    path = local_path(ref)
    if path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", ref):
        return path
    from redraft.hub import fetch_folder

    return fetch_folder(ref, pickle=allow_pickle)


def local_path(ref: str) -> Path:
    """Return a local path; for `default` and `default-base`, the path of the default model's file."""
    from redraft.engines.load import DEFAULTS, local_file, parse_reference

    if ref not in DEFAULTS or Path(ref).exists():
        return Path(ref).expanduser()

    return local_file(parse_reference(ref))


def dtype_of(flag: str | None) -> str | None:
    """Return the name that a value of `--dtype` has in safetensors files."""
    from redraft.weights.header import FLAGS

    return FLAGS[flag] if flag else None
