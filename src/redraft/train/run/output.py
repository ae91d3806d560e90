"""The output folder of a run: whose it is, what may lie there, and the result in it.

A result is written aside and moved into its place, `config.json` last. Checkpoints are in
`train.checkpoints`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from redraft.errors import OutputError, UsageError
from redraft.files import sync, sync_folder
from redraft.train.run import checkpoints
from redraft.train.run.sft import Sft

_RESULT = re.compile(r"((adapter|generation)_)?config\.json|(adapter_)?model.*\.safetensors(\.index\.json)?")
"""Files of a trained model or adapter."""


def insist_on_another(output: Path, *refs: str) -> None:
    """Sees that nothing that a run begins from is where its result, or a checkpoint, will take its place.

    Args:
        output: Where the run's output is.
        refs: Folders, or references to models with adapters.

    Raises:
        UsageError: Something is.
    """
    for part in (part for ref in refs for part in _parts(ref)):
        path, whole = part.expanduser().resolve(), output.resolve()
        inside = path.relative_to(whole).parts if path.is_relative_to(whole) else None
        if inside is not None and (not inside or checkpoints.is_name(inside[0])):
            raise UsageError(
                f"training begins from {part}, which it would replace: the output is {output}.",
                hint="Name another --output_dir.",
            )


def _parts(ref: str) -> Iterator[Path]:
    """The folders that a reference may name: the model's, and those of adapters. A name may have a plus.

    `default` is the embedded model, whatever else has that name.
    """
    while "+" in ref and not Path(ref).expanduser().exists():
        ref, _, last = ref.rpartition("+")
        yield Path(last)
    if ref != "default":
        yield Path(ref)


def make(output: Path) -> None:
    """Makes the folder for the result.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be made: {error.strerror}.", hint="--output_dir FOLDER") from None


def save(trainer: Sft, checkpoint: Path | None = None) -> None:
    """Saves the trained model or adapter into the output folder, with `config.json` as the last file.

    Args:
        trainer: Of the run.
        checkpoint: The folder to take it from. By default it is what the trainer holds.

    Raises:
        OutputError: It cannot be written.
    """
    output = trainer.folder
    aside = output / ".saving-result"
    try:
        if trainer.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)  # of a run that died while it saved
            aside.mkdir()  # fails on a link that is in its place
        if checkpoint is None:
            trainer.save_model(str(aside))
        if not trainer.args.should_save:
            return
        if checkpoint is not None:
            _take(trainer, checkpoint, aside)
        for path in aside.iterdir():
            sync(path)
        remove_result(output)
        for path in sorted(aside.iterdir(), key=_decides):
            path.replace(output / path.name)
        shutil.rmtree(aside)
        sync_folder(output)
    except (OSError, SafetensorError) as error:
        raise checkpoints.unwritable(output, error) from error


def _take(trainer: Sft, checkpoint: Path, folder: Path) -> None:
    """Copies the model of a checkpoint, without what a run goes on with."""
    for path in checkpoint.iterdir():
        if _RESULT.fullmatch(path.name):
            shutil.copyfile(path, folder / path.name)
    if trainer.processing_class is not None:
        trainer.processing_class.save_pretrained(folder)


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Holds the right to write an output. It goes with the process that has it.

    Raises:
        OutputError: Another run has it.
    """
    handle = os.open(output, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a disk that knows no locks
            _lock(handle, output)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, output: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"another run is writing {output} at this moment.",
            hint="Wait for it to end, or name another --output_dir.",
        ) from None


def holds_result(output: Path) -> bool:
    """Whether there is anything of a trained model or adapter."""
    return any(_RESULT.fullmatch(each.name) for each in output.iterdir())


def _decides(path: Path) -> bool:
    """Whether it makes a folder a model or an adapter: it comes as the last, and goes as the first."""
    return path.name in {"config.json", "adapter_config.json"}


def remove_result(output: Path) -> None:
    """Removes what an earlier run made of it: an adapter would be put onto other weights, or the reverse.

    Raises:
        OutputError: It cannot be removed.
    """
    try:
        for path in sorted(output.iterdir(), key=_decides, reverse=True):
            if path.is_file() and _RESULT.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise checkpoints.unwritable(output, error) from error
