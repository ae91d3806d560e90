"""The output folder of a run: its lock, what may lie there, and the result.

A result is written into a temporary folder and moved into place, `config.json` last. Checkpoints are in
`run.checkpoints`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from redraft.errors import OutputError, UsageError
from redraft.files import lock, sync, sync_folder
from redraft.train.run import checkpoints
from redraft.train.run.loop import Loop
from redraft.weights.card import CARD, is_ours

_RESULT = re.compile(r"((adapter|generation)_)?config\.json|(adapter_)?model.*\.safetensors(\.index\.json)?")
"""Files of a trained model or adapter."""


def check_output(output: Path, *refs: str) -> None:
    """Raise `UsageError` if the output would replace a model or adapter that the run starts from.

    Args:
        output: The output folder.
        refs: Folders, or references to models with adapters.
    """
    for part in (part for ref in refs for part in _parts(ref)):
        path, whole = part.expanduser().resolve(), output.resolve()
        inside = path.relative_to(whole).parts if path.is_relative_to(whole) else None
        if inside is not None and (not inside or checkpoints.is_name(inside[0])):
            raise UsageError(
                f"training starts from {part}, which the output {output} would replace.",
                hint="Name another --output_dir.",
            )


def _parts(ref: str) -> Iterator[Path]:
    """Yield the folders that a reference may name: of the model and of adapters. A name may have a plus.

    `default` is always the embedded model.
    """
    while "+" in ref and not Path(ref).expanduser().exists():
        ref, _, last = ref.rpartition("+")
        yield Path(last)
    if ref != "default":
        yield Path(ref)


def save(loop: Loop, checkpoint: Path | None = None) -> None:
    """Save the trained model or adapter into the output folder, `config.json` last.

    Args:
        loop: The loop that trained it.
        checkpoint: The folder to copy it from. By default, the loop's own model is saved.

    Raises:
        OutputError: It cannot be written.
    """
    output = loop.folder
    aside = output / ".saving-result"
    try:
        if loop.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)  # left by a run that died while saving
            aside.mkdir()  # fails on a planted link
        if checkpoint is None:
            loop.trained.save_model(aside)
        if not loop.args.should_save:
            return
        if checkpoint is not None:
            _take(loop, checkpoint, aside)
        for path in aside.iterdir():
            sync(path)
        remove_result(output)
        for path in sorted(aside.iterdir(), key=_decides):
            if path.name != CARD or not (output / CARD).exists():  # what is left there is the user's own
                path.replace(output / path.name)
        shutil.rmtree(aside)
        sync_folder(output)
    except (OSError, SafetensorError) as error:
        raise checkpoints.unwritable(output, error) from error


def _take(loop: Loop, checkpoint: Path, folder: Path) -> None:
    """Copy the model of a checkpoint, without the optimizer and other states."""
    for path in checkpoint.iterdir():
        if _RESULT.fullmatch(path.name):
            shutil.copyfile(path, folder / path.name)
    loop.trained.save_texts(folder)


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Lock an output. The lock ends with its process.

    Raises:
        OutputError: Another run holds the lock.
    """
    handle = os.open(output, os.O_RDONLY)
    try:
        if not lock(handle):
            raise OutputError(
                f"another run is writing to {output}.",
                hint="Wait for it to end, or name another --output_dir.",
            )
        yield
    finally:
        os.close(handle)


def holds_result(output: Path) -> bool:
    """Return whether a folder has any file of a trained model or adapter."""
    return any(_RESULT.fullmatch(each.name) for each in output.iterdir())


def _decides(path: Path) -> bool:
    """Return whether a file makes a folder a model or an adapter: it is moved last and deleted first."""
    return path.name in {"config.json", "adapter_config.json"}


def remove_result(output: Path) -> None:
    """Delete an earlier result, so that no adapter meets other weights.

    Raises:
        OutputError: It cannot be deleted.
    """
    try:
        for path in sorted(output.iterdir(), key=_decides, reverse=True):
            if path.is_file() and (_RESULT.fullmatch(path.name) or (path.name == CARD and is_ours(output))):
                path.unlink()
    except OSError as error:
        raise checkpoints.unwritable(output, error) from error
