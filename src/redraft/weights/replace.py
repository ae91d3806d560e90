"""Lock outputs, replace outputs in one step, and refuse to replace anything that redraft did not make.

Only files named in `FILE.redraft.json`, or in the file `redraft.json` of a folder, are replaced.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redraft.errors import ModelError, OutputError
from redraft.jobs.files import is_foreign, open_locked, remove_own, replace_file, sync_folder
from redraft.jobs.machine import libc
from redraft.weights.checkpoint import read_json

MANIFEST = "redraft.json"  # the manifest in a folder. Beside a file it is called `FILE.redraft.json`.

_HELD = b"redraft holds this lock\n"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIBC = libc()


@contextmanager
def begun(path: Path, ending: str, inputs: object, *, folder: bool, force: bool) -> Iterator[Path]:
    """Lock an output, and yield a temporary path. Afterwards, delete any file left there.

    Raise `OutputError` if output and input overlap.
    """
    if not path.name or path.name == "..":
        raise OutputError(f"{path} does not name a new file or folder.", hint="-o NAME")
    for described in inputs.values() if isinstance(inputs, Mapping) else ():
        source = Path(described["path"])
        if _within(source, path) or (folder and _within(path, source)):
            hint = "Choose another output with -o."
            raise OutputError(f"{path} overlaps {source}, which is an input of this command.", hint=hint)
    aside = path.with_name(path.name + ending)
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as was_killed:
            refuse_existing(path, force=force)
            if was_killed:
                # A folder or file of this user, not a link.
                if aside.is_dir() and not aside.is_symlink() and not is_foreign(aside.lstat(), aside.parent):
                    shutil.rmtree(aside)
                else:
                    remove_own(aside)
            if os.path.lexists(aside):
                message = f"{path} cannot be written: {aside} exists, and redraft did not make it."
                raise OutputError(message, hint="Move it away, or choose another output with -o.")
            try:
                yield aside
            finally:
                if os.path.lexists(aside):
                    _remove(aside)
            sync_folder(path.parent)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise if an output exists, unless `force` is set and redraft made the output."""
    if not os.path.lexists(path):
        return
    if not force:
        hint = "Choose another output with -o, or replace it with --force."
        raise OutputError(f"{path} exists.", hint=hint)
    if others := _of_others(path):
        hint = "Move it away, or choose another output with -o."
        raise OutputError(f"{path} is not replaced, even with --force: {others}.", hint=hint)


def _of_others(path: Path) -> str:
    try:
        if not path.is_dir():
            beside = path.with_name(f"{path.name}.{MANIFEST}")
            ours = path.name in read_json(beside).get("files", ())
            return "" if ours else f"redraft did not make it (there is no {beside.name} that names it)"
        if not (found := {file.name for file in path.iterdir()}):
            return ""
        made = {MANIFEST, *read_json(path / MANIFEST).get("files", ())}
    except (ModelError, TypeError):
        return f"its {MANIFEST} cannot be read"
    if MANIFEST not in found:
        return f"redraft did not make it (it has no {MANIFEST})"
    more = sorted(found - made)[:3]
    return f"it contains {', '.join(more)}, which redraft did not make" if more else ""


def _within(path: Path, folder: Path) -> bool:
    if not folder.exists():
        return False
    real = path.resolve()
    return any(parent.exists() and parent.samefile(folder) for parent in (real, *real.parents))


def check_room(path: Path, size: int) -> None:
    """Raise `OutputError` if the disk has less than `size` bytes free. The parent of `path` must exist."""
    free = shutil.disk_usage(path.parent).free
    if free < size:
        need, has = f"{size / 1e6:,.2f}", f"{free / 1e6:,.2f}"
        hint = "Free some space, or choose another disk with -o."
        raise OutputError(f"{path} needs {need} MB, and the disk has {has} MB free.", hint=hint)


def replace_folder(new: Path, old: Path) -> None:
    """Rename folder `new` to `old`, and remove an existing `old`. On Linux, the exchange is atomic."""
    if not os.path.lexists(old):
        new.rename(old)
    elif _exchange(new, old):
        _remove(new)
    else:
        spare = old.with_name(old.name + ".redraft-old")
        old.rename(spare)
        new.rename(old)
        _remove(spare)
    sync_folder(old.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _exchange(one: Path, other: Path) -> bool:
    if (renameat2 := getattr(_LIBC, "renameat2", None)) is None:
        return False
    here = -100  # AT_FDCWD: paths are relative to the working directory
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), 2) == 0)


@contextmanager
def _locked(output: Path) -> Iterator[bool]:
    path = output.with_name(output.name + ".redraft-lock")
    if (handle := open_locked(path)) is None:
        raise OutputError(f"another run is writing {output}.", hint="Wait until it has finished.")
    try:
        content = os.pread(handle, len(_HELD) + 1, 0)
        if not _HELD.startswith(content):
            message = f"{output} cannot be written: {path} exists, and redraft did not make it."
            raise OutputError(message, hint="Move it away, or choose another output with -o.")
        os.pwrite(handle, _HELD, 0)
        try:
            yield content == _HELD
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
        hint = "Free some space, and run the same command again."
        raise OutputError(f"{path} cannot be written: the disk has no space left.", hint=hint) from error


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    replace_file(path, text.encode("utf-8", "replace"))  # paths need not be UTF-8
