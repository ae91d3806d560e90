"""What an output may replace, and how it takes its place: in one step, and never that of anything of others.

Only what redraft made is replaced: a file with its manifest beside it, a folder of which the manifest names
all that is in it. One run at a time makes an output.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redraft.errors import ModelError, OutputError
from redraft.files import is_part_of, open_own, replace_file, sync_folder
from redraft.weights.checkpoint import read_json

MANIFEST = "redraft.json"
"""The manifest inside a folder; beside a file its name goes before."""

STATE = "redraft.partial.json"
"""In a folder that is being made: what is done. It says that the folder is redraft's, and not finished."""

_HELD = b"redraft holds this lock\n"
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
        made = {MANIFEST, STATE, *read_json(path / MANIFEST).get("files", ())}
    except (ModelError, TypeError):
        return f"its {MANIFEST} cannot be read"
    if MANIFEST not in found:
        return f"redraft did not make it (it has no {MANIFEST})"
    more = sorted(name for name in found - made if not is_part_of(name, STATE))
    return f"it holds {', '.join(more[:3])}, which redraft did not make" if more else ""


def refuse_inputs(output: Path, inputs: object, *, folder: bool) -> None:
    """Raise where an output would replace what it is made from, by whatever names the two are called.

    Args:
        output: The file or folder to be made.
        inputs: What a manifest says of each input: an object with its `path`.
        folder: Whether the output is a folder. That may not lie in an input either.

    Raises:
        OutputError: The output is an input, holds one, or is a folder that lies in one.
    """
    for each in inputs.values() if isinstance(inputs, Mapping) else ():
        source = Path(each["path"])
        if _within(source, output) or (folder and _within(output, source)):
            raise OutputError(
                f"{output} is, holds or lies in {source}, which is an input of this command.",
                hint="Write to another place with -o.",
            )


def _within(path: Path, folder: Path) -> bool:
    """Whether a path is another or lies in it. Files are compared, not names: there are links, and cases."""
    if not folder.exists():
        return False
    real = path.resolve()
    return any(each.exists() and each.samefile(folder) for each in (real, *real.parents))


def insist_on_room(path: Path, size: int) -> None:
    """Sees that so many bytes go on the disk of an output, whose folder is there.

    Raises:
        OutputError: They do not.
    """
    free = shutil.disk_usage(path.parent).free
    if free < size:
        need, has = next(
            (one, other)
            for digits in range(1, 10)
            if (one := f"{size / 1e9:.{digits}f}") != (other := f"{free / 1e9:.{digits}f}")
        )
        raise OutputError(
            f"{path} needs {need} GB, and the disk has {has} GB free.",
            hint="Free some room, or write to another disk with -o.",
        )


def replace_folder(new: Path, old: Path) -> None:
    """Gives a folder its name. What had that name before is exchanged for it in one step, then removed.

    The old folder is marked before (`STATE`): if the process dies while it is removed, it is known as ours.
    """
    if not os.path.lexists(old):
        new.rename(old)
    else:
        if stat.S_ISDIR(old.lstat().st_mode):
            write_state(old, {"replaced": True})
        if _exchange(new, old):
            _remove_old(new)
        else:
            spare = old.with_name(old.name + ".redraft-old")
            old.rename(spare)
            new.rename(old)
            _remove_old(spare)
    sync_folder(old.parent)


def _remove_old(path: Path) -> None:
    """Removes what was replaced: last of all the files that say what is in it, and that it is ours."""
    if path.is_dir() and not path.is_symlink():
        for each in sorted(path.iterdir(), key=lambda each: (each.name == STATE, each.name == MANIFEST)):
            if each.name != STATE:
                remove(each)
    remove(path)


def remove(path: Path) -> None:
    """Removes a file, a folder, or a link."""
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
    """The right to make an output, held until it is released or the process ends.

    Attributes:
        cut_off: Whether an earlier run held it and was killed, so that its parts may lie there.
    """

    def __init__(self, path: Path, handle: int, *, cut_off: bool) -> None:
        self._path, self._handle, self.cut_off = path, handle, cut_off

    def release(self) -> None:
        """Lets others make it."""
        self._path.unlink(missing_ok=True)
        os.close(self._handle)


def locked(output: Path) -> Lock:
    """Takes the right to make an output.

    Raises:
        OutputError: Another run has it, something of others has its name, or nothing can be written there.
    """
    path = output.with_name(output.name + ".redraft-lock")
    with output_errors(output, {}):
        handle = open_own(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the file that is open here.
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return _marked(path, handle)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise OutputError(f"another run is writing {output} at this moment.", hint="Wait for it to end.")


def _marked(path: Path, handle: int) -> Lock:
    """Writes into a lock that it is redraft's, or sees that it says so."""
    said = os.pread(handle, len(_HELD) + 1, 0)
    if not _HELD.startswith(said):
        raise OutputError(
            f"{path} is not redraft's.", hint="Move it away, or write to another place with -o."
        )
    os.pwrite(handle, _HELD, 0)
    return Lock(path, handle, cut_off=said == _HELD)


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


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes down how far a folder is, with a checksum: what is gone on from must be what was written."""
    write_json(folder / STATE, {**state, "sha256": _sum(state)})


def read_state(folder: Path) -> dict[str, Any] | None:
    """How far a folder is; empty where nothing says so, None where it is damaged."""
    if not os.path.lexists(folder / STATE):
        return {}
    try:
        state = read_json(folder / STATE)
    except ModelError:
        return None
    return state if state.pop("sha256", None) == _sum(state) else None


def _sum(state: Mapping[str, Any]) -> str:
    text = json.dumps(state, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()  # as `write_json` writes it


def write_json(path: Path, value: Any) -> None:
    """Writes a small JSON file, all of it or nothing."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    replace_file(path, text.encode("utf-8", "replace"))  # a path may be no UTF-8
