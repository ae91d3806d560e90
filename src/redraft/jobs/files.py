"""Open, lock and replace files safely in folders that other people can write to.

A model's folder is untrusted, because links in the folder may point to any file of the user. A folder for
outputs may be shared, so another user may have created a file or link with the name of redraft's lock.
Therefore links out of a model's folder are not followed, and redraft's lock files are never opened through
links. New files are synced before renaming. Changes to a folder during a read are not covered.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from redraft.errors import ModelError, OutputError, UsageError

if sys.platform == "win32":
    from redraft.jobs import windows
else:
    with suppress(ImportError):  # some systems have no locks
        import fcntl

_QUIETLY = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")  # without O_NONBLOCK, opening a pipe waits for a writer

_MODEL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.safetensors", "*.bin", "LICENSE*")
_TEMPLATES = "additional_chat_templates"  # the folder where transformers looks for more chat templates


def inside(path: Path) -> Path:
    """Return the real path of a file in a model's folder. Raise `ModelError` for a link out of the folder.

    Links to the same model's `blobs` in the cache of huggingface_hub are allowed.
    """
    real, folder = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    # That cache has links from `snapshots/REVISION` to `blobs`.
    blobs = [parent.with_name("blobs") for parent in folder.parents if parent.name == "snapshots"]
    if not any(map(real.is_relative_to, [folder, *blobs])):
        hint = "If you trust the target, replace the link with a copy. A link could expose any of your files."
        raise ModelError(f"{path} is a link to {real}, outside of its folder.", hint=hint)
    return real


def model_files(folder: Path) -> list[Path]:
    """Return a model's files in a folder, sorted, including additional chat templates."""
    patterns = (*_MODEL_FILES, _TEMPLATES, f"{_TEMPLATES}/*")
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def check_model_links(folder: Path) -> None:
    """Raise `ModelError` for a link out of a model's folder. Call this before a library reads the folder."""
    for path in model_files(folder):
        inside(path)


def open_inside(path: Path) -> BinaryIO:
    """Open a file in a model's folder for reading.

    Raises:
        ModelError: The file is a link that leads out of the folder, or a device, a pipe or a folder.
    """
    handle = open_plain(inside(path), os.O_RDONLY)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ModelError(f"{path} is not a regular file.", hint="Get it again from a source you trust.")
    return os.fdopen(handle, "rb")


def open_plain(path: Path, flags: int) -> int:
    """Open a file like `os.open`, but do not follow a link, and do not wait for the writer of a pipe."""
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if sys.platform == "win32":
        return windows.open_file(str(path), flags)
    return os.open(path, flags | sum(getattr(os, name, 0) for name in _QUIETLY), 0o666)


def open_own(path: Path, flags: int = 0) -> int:
    """Open or create one of redraft's own files, such as a lock, for reading and writing.

    Raises:
        OutputError: The path is a link or not a regular file, or has another owner or several hard links.
    """
    try:
        handle = open_plain(path, flags | os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _in_the_way(path, "a link") from None
        raise
    if fault := _fault(os.fstat(handle), path):
        os.close(handle)
        raise _in_the_way(path, fault)
    return handle


def _fault(found: os.stat_result, path: Path) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if is_foreign(found, path.parent):
        return "another user's file"
    return "a file with another hard link" if found.st_nlink > 1 else None


def is_foreign(found: os.stat_result, folder: Path) -> bool:
    """Return whether a file in a folder belongs to another user. On Windows, return False."""
    if not hasattr(os, "geteuid"):
        return False
    # Some file systems give every file the owner of the folder.
    return found.st_uid not in (os.geteuid(), folder.stat().st_uid)


def _in_the_way(path: Path, what: str) -> OutputError:
    hint = "Remove it if it is yours, or choose another output path."
    return OutputError(f"{path} cannot be written: it is {what}.", hint=hint)


def lock(handle: int, *, wait: bool = False, shared: bool = False) -> bool:
    """Lock an open file or folder. The lock ends when the file is closed or the process ends.

    A `shared` lock, for reading, excludes only exclusive locks.

    Returns:
        False if another process holds the lock, otherwise True, even if the file system has no locks.
    """
    with suppress(OSError):  # file systems without locks raise different errors
        try:
            if sys.platform == "win32":
                windows.lock(handle, wait=wait, shared=shared)
            elif "fcntl" in globals():
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(handle, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True


def open_locked(path: Path, *, wait: bool = False) -> int | None:
    """Open or create one of redraft's own files, and lock the file.

    Returns:
        The file descriptor, or None if another process has locked the file.

    Errors are as in `open_own`.
    """
    while True:
        handle = open_own(path)
        try:
            if not lock(handle, wait=wait):
                os.close(handle)
                return None
            # The last holder may have renamed or removed the file after it was opened here.
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock on one of redraft's own files in a `with` block. Call `on_wait` before waiting.

    Errors are as in `open_own`.
    """
    if (handle := open_locked(path)) is None:
        on_wait()
        handle = open_locked(path, wait=True)
    assert handle is not None  # noqa: S101  (the second call waits)
    try:
        yield
    finally:
        os.close(handle)


def remove_own(path: Path) -> None:
    """Remove one of redraft's own files. A missing file is no error."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if fault := "a link" if stat.S_ISLNK(found.st_mode) else _fault(found, path):
            raise _in_the_way(path, fault)
        path.unlink()


def create(path: Path) -> BinaryIO:
    """Create a file for writing. Raise `FileExistsError` if the path exists, even as a broken link."""
    return os.fdopen(open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file. After the `with` block, sync the file to the disk and rename it to `path`.

    A link is replaced, not the link's target.
    """
    aside = path.parent.joinpath(f".{path.name}.{os.urandom(4).hex()}.part")
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
    """Write a small file completely or not at all, replacing an earlier file."""
    with replacing(path) as file:
        file.write(data)


def write_file(path: Path, data: bytes, *, hint: str | None = None) -> None:
    """Call `replace_file`. Raise `OutputError` with `hint` if the file cannot be written."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.", hint=hint) from None


@contextmanager
def written_to(folder: Path, what: str, hint: str) -> Iterator[None]:
    """Create a folder for a `with` block. An `OSError` becomes an `OutputError` with `what` and `hint`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = f"{what} cannot be written to {folder}: {error.strerror or error}."
        raise OutputError(why, hint=hint) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's content to the disk."""
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)  # Windows needs it writable
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk. Do nothing if the file system cannot do that."""
    with suppress(OSError):
        sync(folder)


def not_an_input(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise if an output would replace an input. `outputs` maps flags, such as `--html`, to paths."""
    read = {path.resolve() for path in inputs if str(path) != "-"}
    for flag, path in outputs.items():
        if path is not None and path.resolve() in read:
            hint = f"Name another file: {flag.rpartition(' ')[2]} FILE"
            raise UsageError(f"{flag} would replace the input {path}.", hint=hint)
