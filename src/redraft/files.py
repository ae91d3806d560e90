"""Opens, locks and replaces files where others may have put something in the way.

A model's folder comes from a stranger, and its links may name any file of the reader's. An output may lie in
a folder that others write to, and a name that redraft makes up (a lock, a part) may be taken. So files of a
model are read only where they lie in its folder, made-up names are never followed if they are links, and a
file gets its name when all of it is on the disk. A folder that changes while it is read is not covered.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from redraft.errors import ModelError, OutputError

_MODEL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.safetensors", "*.bin", "LICENSE*")
_TEMPLATES = "additional_chat_templates"
"""A folder in which transformers looks for more chat templates."""


# Files of a model.


def inside(path: Path) -> Path:
    """Return the real path of a file of a model's folder.

    The cache of the hub has its files in `snapshots/REVISION` as links to `blobs`, beside `snapshots`: those
    are the folder's own.

    Raises:
        ModelError: The file is a link that leads out of its folder.
    """
    real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    if not real.is_relative_to(folder) and not _in_hub_cache(real, folder):
        raise ModelError(
            f"{path} is a link to {real}, outside of its folder.",
            hint="Put a copy in its place if you mean it: a folder of a stranger may name any file of yours.",
        )
    return real


def _in_hub_cache(real: Path, folder: Path) -> bool:
    revisions = [each for each in (folder, *folder.parents) if each.parent.name == "snapshots"]
    return any(real.is_relative_to(each.parent.parent / "blobs") for each in revisions)


def model_files(folder: Path) -> list[Path]:
    """Return the files of a folder that a model may be read from, sorted; chat templates of a name too."""
    patterns = (*_MODEL_FILES, _TEMPLATES, f"{_TEMPLATES}/*")
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def insist_on_own_files(folder: Path) -> None:
    """Check a model's folder before another library reads it by names of its own.

    Raises:
        ModelError: One of its files is a link that leads out of it.
    """
    for path in model_files(folder):
        inside(path)


def open_inside(path: Path) -> BinaryIO:
    """Open a file of a model's folder for reading.

    Raises:
        ModelError: It is a link that leads out of its folder, or a device, a pipe or a folder.
        OSError: It is not there, or cannot be read.
    """
    # Opening a pipe would wait for ever without O_NONBLOCK.
    handle = os.open(inside(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ModelError(f"{path} is no regular file.", hint="Get it again from a source you trust.")
    return os.fdopen(handle, "rb")


# Files of ours.


def open_own(path: Path, flags: int = 0) -> int:
    """Open a file by a name that redraft made up, to read and write; make it if it is not there.

    Args:
        path: The file. Nothing in it is changed.
        flags: Further flags of `os.open`.

    Returns:
        The file's descriptor.

    Raises:
        OutputError: What is there is a link, no plain file, another user's, or has a second name.
        OSError: It cannot be opened.
    """
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _in_the_way(path, "a link") from None
        raise
    if fault := _fault(os.fstat(handle), path):
        os.close(handle)
        raise _in_the_way(path, fault)
    return handle


def _fault(found: os.stat_result, path: Path) -> str | None:
    """Why a file cannot be redraft's, or None. What its folder's owner owns may be: some disks fix owners."""
    if not stat.S_ISREG(found.st_mode):
        return "no plain file"
    if found.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        return "another user's file"
    return "a file with a second name (a hard link)" if found.st_nlink > 1 else None


def _in_the_way(path: Path, what: str) -> OutputError:
    return OutputError(
        f"{path} is where redraft writes, and {what} is there.",
        hint="Remove it if it is yours, or write to another place.",
    )


def remove_own(path: Path) -> None:
    """Remove what an earlier run left under a name that redraft made up, if anything.

    Raises:
        OutputError: It is a link, no plain file, another user's, or has a second name.
    """
    with suppress(FileNotFoundError):
        found = path.lstat()
        if fault := "a link" if stat.S_ISLNK(found.st_mode) else _fault(found, path):
            raise _in_the_way(path, fault)
        path.unlink()


def create(path: Path) -> BinaryIO:
    """Make a new file for writing.

    Raises:
        FileExistsError: Something has that name, be it a link to nowhere.
        OSError: It cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "wb")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file aside, under a name that nobody can foretell; it takes its place when it is on the disk.

    A link that has the name is replaced, and not what it names.

    Raises:
        OSError: It cannot be written. What was there before stays.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with create(aside) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file, all of it or nothing: see `replacing`.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path) as file:
        file.write(data)


def is_part_of(name: str, whole: str) -> bool:
    """Whether a process that was killed may have left a file of this name while it replaced `whole`."""
    return name.startswith(f".{whole}.") and name.endswith(".part")


def sync(path: Path) -> None:
    """See that a file's content is on the disk.

    Raises:
        OSError: It cannot be put there.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk, where its file system can do that."""
    with suppress(OSError):
        sync(folder)
