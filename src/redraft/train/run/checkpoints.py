"""Checkpoints that are whole or not there, and finding the one to go on from.

A checkpoint is written into a folder aside, gets a list of its files with their sizes and sums as the last
one (`complete.json`), and then its name: a run that is killed while it saves loses nothing but that save.
The sums are compared when a run goes on. They are CRC-32, which finds any changed byte and takes a second for
3 GB, half of the time of SHA-256. They do not protect against somebody who changes files on purpose.
`train.sft` decides which states are saved, and `train.states` writes them.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from redraft.errors import ModelError, OutputError, UsageError
from redraft.files import sync, sync_folder
from redraft.train.model.folder import there

MARKER = "complete.json"
"""The list of a checkpoint's files, written when all of them are."""

_PART = 1 << 22
"""Bytes of a file that are summed at a time."""

_NAME = re.compile(r"checkpoint-(\d{1,12})")
_ASIDE = ".saving-"
_LOST = "Bring the file back, or start over with --overwrite_output_dir."
_MOST = 1 << 24
"""Bytes of a list of files. That of a model of a thousand shards has some hundred thousand."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a checkpoint's name.

    Attributes:
        step: The steps that were done.
        missing: Files that are not there, or not of the size that they were written with; None where the
            list of files itself is missing.
        changed: Files that have other bytes than were written, as far as they were read (`_verified`).
    """

    folder: Path
    step: int
    missing: tuple[str, ...] | None
    changed: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it can be gone on from."""
        return self.missing == () and not self.changed

    @property
    def fault(self) -> str:
        """What is wrong with it, in words."""
        if self.missing is None:
            return f"it has no {MARKER}, so it was not saved to its end ({there(self.folder)})"
        named = self.missing or self.changed
        files = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
        fault = "is missing or not whole" if self.missing else "is not as it was written"
        return f"{files} {fault} ({there(self.folder)})"


def is_name(name: str) -> bool:
    """Whether a folder of that name is taken for a checkpoint."""
    return _NAME.fullmatch(name) is not None


def checkpoints(output: Path) -> list[Checkpoint]:
    """The checkpoints of a run, the newest first."""
    if not output.is_dir():
        return []
    named = [(_NAME.fullmatch(each.name), each) for each in output.iterdir() if each.is_dir()]
    found = [_look_at(folder, int(name[1])) for name, folder in named if name]
    return sorted(found, key=lambda each: -each.step)


def _look_at(folder: Path, step: int) -> Checkpoint:
    try:
        missing = [name for name, size in _listed(folder)["files"].items() if _size(folder / name) != size]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Checkpoint(folder, step, None)
    return Checkpoint(folder, step, tuple(missing))


def _listed(folder: Path) -> Any:
    """The list of a checkpoint's files."""
    with (folder / MARKER).open("rb") as file:
        return json.loads(file.read(_MOST))


def _verified(checkpoint: Checkpoint) -> Checkpoint:
    """The same with what a look at every byte finds. Lists of older versions have no sums."""
    if not checkpoint.complete:
        return checkpoint
    folder = checkpoint.folder
    try:
        sums = _listed(folder).get("crc32", {})
        changed = tuple(name for name, wanted in sums.items() if _sum(folder / name) != wanted)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return replace(checkpoint, missing=None)
    return replace(checkpoint, changed=changed)


def _sum(path: Path) -> int:
    """The CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            found = zlib.crc32(part, found)
    return found


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def newest(output: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is whole in every byte, and what to say about newer ones.

    Raises:
        ModelError: None is complete, and one was.
    """
    found = checkpoints(output)
    whole = None
    for number, each in enumerate(found):
        found[number] = _verified(each)
        if found[number].complete:
            whole = found[number]
            break
    damaged = next((each for each in found if (each.folder / MARKER).is_file()), None)
    if damaged and not whole:
        raise ModelError(f"{damaged.folder} cannot be gone on from: {damaged.fault}.", hint=_LOST)
    newer = [each for each in found if not whole or each.step > whole.step]
    remarks = [f"{each.folder} is passed over: {each.fault}." for each in newer]
    if found and not whole:
        remarks.append("there is no other one: the run begins anew.")
    return whole, remarks


def named(folder: Path, output: Path) -> Checkpoint:
    """The checkpoint that `--resume_from_checkpoint` names.

    Its run goes on where it was begun: its log and record are there.

    Raises:
        ModelError: It is none, or not complete. The message says what is there.
        UsageError: It is of another output.
    """
    name = _NAME.fullmatch(folder.name)
    if not folder.is_dir() or not name:
        raise ModelError(f"{folder} is no folder of a checkpoint.", hint=_without(_whole(output)))
    if folder.parent.resolve() != output.resolve():  # a checkpoint may be a link to another disk
        raise UsageError(
            f"{folder} is of a run into {folder.parent}, and this one is into {output}.",
            hint=f"Go on there: --output_dir {folder.parent}   (or move the checkpoint into {output})",
        )
    found = _verified(_look_at(folder, int(name[1])))
    if not found.complete:
        whole = _whole(output)
        hint = _without(whole) if whole else _LOST
        raise ModelError(f"{folder} cannot be gone on from: {found.fault}.", hint=hint)
    return found


def _whole(output: Path) -> Path | None:
    """The newest checkpoint that is whole in every byte."""
    verified = (_verified(each) for each in checkpoints(output))
    return next((each.folder for each in verified if each.complete), None)


def _without(whole: Path | None) -> str:
    """A hint at what a run goes on from that is not told it."""
    return "Leave --resume_from_checkpoint out" + (f": it goes on from {whole}." if whole else ".")


@contextmanager
def saving(output: Path, step: int, *, leads: bool, wait: Any) -> Iterator[Path]:
    """A folder to write a checkpoint into; it gets its name when the block ends well.

    Args:
        output: Where the run's checkpoints are.
        step: The steps that were done.
        leads: Whether this process makes and names the folder.
        wait: Called to wait for all processes.

    Raises:
        OutputError: It cannot be written. What was there before stays.
    """
    aside = output / f"{_ASIDE}{step}"
    try:
        if leads:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        wait()
        yield aside
        wait()
        if leads:
            _mark(aside)
            _name(aside, output / f"checkpoint-{step}")
        wait()
    except (OSError, SafetensorError) as error:
        raise unwritable(output, error, aside) from error


def unwritable(output: Path, error: OSError | SafetensorError, part: Path | None = None) -> OutputError:
    """What is raised where the output of a run, or a part of it, cannot be written: what is left of it."""
    why = (isinstance(error, OSError) and error.strerror) or f"{error!s:.200}"  # safetensors has its own
    whole = any(each.complete for each in checkpoints(output))
    left = " The checkpoints before it are whole." if whole else ""
    goes_on = ", without --overwrite_output_dir: it goes on from the newest" if whole else ""
    return OutputError(
        f"{part or output} cannot be written: {why}.{left}",
        hint=f"Make room, and type the same command again{goes_on}.",
    )


def _mark(folder: Path) -> None:
    """Write the list of a checkpoint's files, and see that all of them are on the disk."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    for each in files:
        sync(each)
    named = {str(each.relative_to(folder)): each for each in files}
    listed = {
        "files": {name: each.stat().st_size for name, each in named.items()},
        "crc32": {name: _sum(each) for name, each in named.items()},
    }
    with (folder / MARKER).open("w", encoding="utf-8") as file:
        json.dump(listed, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _name(aside: Path, folder: Path) -> None:
    """Gives a checkpoint its name. One that has it already is of the same step, and not complete or older."""
    if not folder.exists():
        aside.rename(folder)
    elif _exchange(aside, folder):
        shutil.rmtree(aside)
    else:
        old = folder.with_name(f"{_ASIDE}old-{folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old)
    sync_folder(folder.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step, where the system can (Linux: renameat2 with RENAME_EXCHANGE, 2)."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    here = -100  # AT_FDCWD: paths are relative to the working folder
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), 2) == 0)


def prune(output: Path, limit: int | None, keep: Path | None = None) -> None:
    """Removes what is left of broken saves, and all but the newest complete checkpoints.

    A folder without a list of its files is left: another trainer may have made it.

    Args:
        output: Where the run's checkpoints are.
        limit: How many to keep; None for all.
        keep: One that stays in any case: the best so far.
    """
    for broken in output.glob(f"{_ASIDE}*"):
        shutil.rmtree(broken, ignore_errors=True)
    if not limit or limit < 1:
        return
    found = checkpoints(output)
    whole = [each for each in found if each.complete]
    kept = {each.folder for each in whole[:limit]}
    for each in found if whole else []:
        ours = (each.folder / MARKER).is_file()
        if ours and each.folder not in kept and each.folder != keep and each.step < whole[0].step:
            _remove(each.folder)


def remove_all(output: Path) -> None:
    """Removes all checkpoints, for a run that begins anew.

    Raises:
        OutputError: One is still there.
    """
    for each in checkpoints(output):
        _remove(each.folder)
    prune(output, None)
    if left := checkpoints(output):
        raise OutputError(
            f"{left[0].folder} cannot be removed.", hint="Remove it, or name another --output_dir."
        )


def _remove(folder: Path) -> None:
    """Removes a checkpoint, or as much of it as can be: no run is to stop for what is left.

    Its list goes last: a checkpoint that is half removed lacks files of it, and is known as ours.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != MARKER:
                path.unlink()
        shutil.rmtree(folder)
