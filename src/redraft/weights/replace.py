"""What an output may replace, and how it takes its place: in one step, and never that of anything of others.

Only what redraft made is replaced: a file with its manifest beside it, a folder of which the manifest names
all that is in it. One run at a time makes an output.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from typing import Any

from redraft.errors import ModelError, OutputError
from redraft.weights.checkpoint import read_json

MANIFEST = "redraft.json"
"""The manifest inside a folder; beside a file its name goes before."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIBC = ctypes.CDLL(None)


def named(path: Path) -> str:
    """The name of an output.

    Raises:
        OutputError: It has none: `.`, `..` or `/`.
    """
    if not path.name or path.name == "..":
        raise OutputError(f"{path} names no new file or folder.", hint="-o NAME")
    return path.name


def refuse_existing(path: Path, *, force: bool) -> None:
    """Sees that an output may be written there.

    Raises:
        OutputError: Something is there, and is not to be replaced, or is not redraft's.
    """
    if not os.path.lexists(path):
        return
    if not force:
        hint = "Write to another place with -o, or replace it with --force."
        raise OutputError(f"{path} exists.", hint=hint)
    if others := _of_others(path):
        raise OutputError(
            f"{path} is not replaced, even with --force: {others}.",
            hint="Move it away, or write to another place with -o.",
        )


def _of_others(path: Path) -> str:
    """What is there that redraft did not make, in words; nothing where it made all of it."""
    try:
        if not path.is_dir():
            beside = path.with_name(f"{path.name}.{MANIFEST}")
            ours = path.name in read_json(beside).get("files", ())
            return "" if ours else f"redraft did not make it (there is no {beside.name} that names it)"
        found = {each.name for each in path.iterdir()}
        if not found:
            return ""
        made = {MANIFEST, *read_json(path / MANIFEST).get("files", ())}
    except (ModelError, TypeError):
        return f"its {MANIFEST} cannot be read"
    if MANIFEST not in found:
        return f"redraft did not make it (it has no {MANIFEST})"
    more = sorted(found - made)
    return f"it holds {', '.join(more[:3])}, which redraft did not make" if more else ""


def insist_on_room(path: Path, size: int) -> None:
    """Sees that so many bytes go on the disk of an output, whose folder is there.

    Raises:
        OutputError: They do not.
    """
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise OutputError(
            f"{path} needs {size / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB free.",
            hint="Free some room, or write to another disk with -o.",
        )


def replace_folder(new: Path, old: Path) -> None:
    """Gives a folder its name. What had that name before is exchanged for it in one step, then removed."""
    if not os.path.lexists(old):
        new.rename(old)
    elif _exchange(new, old):
        _remove(new)
    else:
        spare = old.with_name(old.name + ".redraft-old")
        old.rename(spare)
        new.rename(old)
        _remove(spare)
    sync(old.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step, where the system can (Linux: renameat2 with RENAME_EXCHANGE, 2)."""
    renameat2 = getattr(_LIBC, "renameat2", None)
    if renameat2 is None:
        return False
    here = -100  # AT_FDCWD: paths are relative to the working folder
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), 2) == 0)


class Lock:
    """The right to make an output, held until it is released or the process ends."""

    def __init__(self, path: Path, file: BufferedWriter) -> None:
        self._path, self._file = path, file

    def release(self) -> None:
        """Lets others make it."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def locked(output: Path) -> Lock:
    """Takes the right to make an output.

    Raises:
        OutputError: Another run has it, or nothing can be written there.
    """
    path = output.with_name(output.name + ".redraft-lock")
    with output_errors(output, {}):
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the file that is open here.
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return Lock(path, file)
        except (BlockingIOError, FileNotFoundError):
            pass
        file.close()
    raise OutputError(f"another run is writing {output} at this moment.", hint="Wait for it to end.")


@contextmanager
def output_errors(path: Path, done: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """What the system says of an output's files, as errors that say what to do. `done`: what is finished."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutputError(f"{path}: there is no room left on the disk.", hint=_after(done)) from error
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _after(done: Mapping[str, Mapping[str, Any]]) -> str:
    kept = sum(each["size"] for each in done.values()) / 1e9
    on = f": it goes on after the {kept:.1f} GB that are done" if done else ""
    return f"Free some room, and run the same command again{on}."


def write_json(path: Path, value: Any) -> None:
    """Writes a small JSON file aside, and renames it."""
    aside = path.with_name(path.name + ".tmp")
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    aside.write_bytes(text.encode("utf-8", "replace"))  # a path may be no UTF-8
    aside.replace(path)


def sync(folder: Path) -> None:
    """Sees that the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
