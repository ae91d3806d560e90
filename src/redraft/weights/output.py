"""Writes checkpoints so that nothing half done looks finished: aside, part by part, then renamed.

While it is made, a folder `OUT` is `OUT.partial`. Each finished file is noted there with its checksum, so
that the same command, run again, goes on after the last one. At the end come the index, the manifest
`redraft.json` (what was made from what, by which command and version), and the rename. A single file is
made as `FILE.partial`, and its manifest is `FILE.redraft.json`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redraft
from redraft.errors import OutputError
from redraft.weights.checkpoint import BIN, SAFETENSORS
from redraft.weights.header import TensorInfo, safetensors_header
from redraft.weights.pickled import pickled

if TYPE_CHECKING:
    import torch

MANIFEST = "redraft.json"
"""The manifest inside a folder; beside a file its name goes before."""

INDEX, BIN_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"
SHARD_SIZE = 5_000_000_000
"""Bytes of a file at most, unless the layout of an input is kept: the hub's own limit for a shard."""

_STATE, _LOCK = "redraft.partial.json", ".lock"
_WORTH_STARTING = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


Progress = Callable[[int], None]
"""Told of bytes as they are dealt with."""


def ignore(size: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Shard:
    """One file to be made, and the tensors in it, in order (their file and offset say nothing)."""

    file: str
    tensors: Sequence[TensorInfo]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.size for tensor in self.tensors)


def layout(tensors: Iterable[TensorInfo], size: int = SHARD_SIZE, form: str = SAFETENSORS) -> list[Shard]:
    """Tensors in files of at most `size` bytes, in order; one that is larger has a file of its own.

    The files have the names that transformers gives them; `form` is `.safetensors` or `.bin`.
    """
    groups: list[list[TensorInfo]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + tensor.size > size:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.size
    return [Shard(shard_name(i, len(groups), form), group) for i, group in enumerate(groups, 1)]


def shard_name(number: int, of: int, form: str = SAFETENSORS) -> str:
    """What transformers calls a file of a checkpoint, counted from 1."""
    stem = "pytorch_model" if form == BIN else "model"
    return f"{stem}{form}" if of == 1 else f"{stem}-{number:05}-of-{of:05}{form}"


class FileWriter:
    """Writes and hashes a file, each in a thread, while the next part is made.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, file: BufferedWriter) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._workers = _Worker(self._put), _Worker(self._hash.update)
        self.size = 0

    def write(self, part: bytes | memoryview | torch.Tensor) -> None:
        """Takes bytes or a tensor. They must not change afterwards.

        Raises:
            OSError: An earlier part could not be written.
        """
        view = memoryview(part if isinstance(part, bytes | memoryview) else _bytes_of(part)).cast("B")
        self.size += len(view)
        for worker in self._workers:
            worker.take(view)

    def finish(self) -> str:
        """Waits until all is on the disk. Returns the SHA-256 of the file.

        Raises:
            OSError: A part could not be written.
        """
        self.stop()
        for worker in self._workers:
            worker.insist()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def stop(self) -> None:
        """Ends the threads."""
        for worker in self._workers:
            worker.stop()

    def _put(self, part: memoryview) -> None:
        self._file.write(part)
        if len(part) > _WORTH_STARTING:
            _start_writing(self._file.fileno(), self.size)


class _Worker:
    """Does one thing with each part, in a thread, in order. After an error it does nothing more."""

    def __init__(self, do: Callable[[memoryview], object]) -> None:
        self._do = do
        self._parts: queue.Queue[memoryview | None] = queue.Queue(maxsize=2)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, part: memoryview) -> None:
        self.insist()
        self._parts.put(part)

    def insist(self) -> None:
        if self._error:
            raise self._error

    def stop(self) -> None:
        if self._thread.is_alive():
            self._parts.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (part := self._parts.get()) is not None:
            try:
                if not self._error:
                    self._do(part)
            except OSError as error:
                self._error = error


def _start_writing(file: int, size: int) -> None:
    """Lets the disk begin with what is in memory, without waiting (Linux: SYNC_FILE_RANGE_WRITE, 2).

    Left to itself the system begins late, and a file's end then waits for most of the file.
    """
    if start := getattr(_LIBC, "sync_file_range", None):
        start(file, ctypes.c_int64(0), ctypes.c_int64(size), 2)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


class OutputFolder:
    """A folder of safetensors files in the making. Use as a context; at its end the folder has its name.

    Attributes:
        aside: Where files are made: `OUT.partial`. Small ones may be put there directly.
        done: The finished files by name: size, sha256, and what the maker noted of each.
        manifest: What else the manifest is to say at the end.
    """

    def __init__(self, path: Path, *, making: Mapping[str, Any], force: bool = False) -> None:
        """Makes nothing yet.

        Args:
            path: The folder that is to be.
            making: What decides the result, as JSON: command, inputs, options. A folder aside that was made
                in another way is begun anew.
            force: Replace a folder of that name, at the end and in one step, if redraft made it.
        """
        self.path = path
        self.aside = path.with_name(path.name + ".partial")
        self.making = json.loads(json.dumps(making))
        self.force = force
        self.done: dict[str, dict[str, Any]] = {}
        self.manifest: dict[str, Any] = {}
        self._shards: Sequence[Shard] = ()

    def __enter__(self) -> OutputFolder:
        refuse_existing(self.path, force=self.force)
        with _as_output_errors(self.path, self):
            self.aside.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.aside / _LOCK, self.path)
            self._take_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                with _as_output_errors(self.path, self):
                    self._complete()
        finally:
            self._lock.close()

    def todo(self, shards: Sequence[Shard], progress: Progress = ignore) -> Iterator[Shard]:
        """Those of all shards that are still to be made; `progress` is told of the others' bytes.

        Raises:
            OutputError: There is no room on the disk for them.
        """
        self._shards = shards
        left = [shard for shard in shards if shard.file not in self.done]
        need, free = sum(shard.size for shard in left), shutil.disk_usage(self.aside).free
        if free < need:
            raise OutputError(
                f"{self.path} needs {need / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB free.",
                hint="Free some room, or write to another disk with -o.",
            )
        progress(sum(shard.size for shard in shards) - need)
        yield from left

    @contextmanager
    def shard(
        self,
        shard: Shard,
        metadata: Mapping[str, str] | None = None,
        *,
        notes: Mapping[str, Any] | None = None,
    ) -> Iterator[FileWriter]:
        """A file to write the tensors of a shard to, in order. At the end it is noted as done.

        Args:
            shard: What it is to hold. The name says the form: a `.bin` is made from safetensors at the end.
            metadata: Texts for the header of a safetensors file.
            notes: What to remember of the file, for the manifest; it may be filled while the file is written.

        Raises:
            OutputError: It cannot be written.
            ValueError: The tensors written are not as long as they should be.
        """
        aside = self.aside / (shard.file + ".tmp")
        head = safetensors_header(shard.tensors, metadata or {})
        with _as_output_errors(self.path, self):
            with _written(aside) as writer:
                writer.write(head)
                yield writer
                if writer.size != len(head) + shard.size:
                    raise ValueError(f"{shard.file} has {writer.size} bytes, not {len(head) + shard.size}")
                checksum = writer.finish()
            if shard.file.endswith(BIN):
                aside = pickled(aside)
                checksum = _sha256(aside)
            self.done[shard.file] = {"size": aside.stat().st_size, "sha256": checksum, **(notes or {})}
            aside.rename(self.aside / shard.file)
            _write_json(self.aside / _STATE, {"making": self.making, "done": self.done})

    def json(self, name: str, value: Any) -> None:
        """Writes a small JSON file."""
        _write_json(self.aside / name, value)

    def _take_up(self) -> None:
        """Goes on where the same command stopped, or begins anew."""
        try:
            state = json.loads((self.aside / _STATE).read_bytes())
        except (OSError, ValueError):
            state = {}
        if state.get("making") == self.making:
            self.done = {name: each for name, each in state["done"].items() if self._is_there(name, each)}
        for each in self.aside.iterdir():
            if each.name not in (*self.done, _LOCK):
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    def _is_there(self, name: str, noted: Mapping[str, Any]) -> bool:
        path = self.aside / name
        return path.is_file() and path.stat().st_size == noted.get("size")

    def _complete(self) -> None:
        if len(self._shards) > 1:
            total = sum(shard.size for shard in self._shards)
            weight_map = {each.name: shard.file for shard in self._shards for each in shard.tensors}
            index = BIN_INDEX if self._shards[0].file.endswith(BIN) else INDEX
            self.json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})
        (self.aside / _STATE).unlink(missing_ok=True)
        for path in sorted(self.aside.iterdir()):
            if path.name not in (*self.done, _LOCK):
                self.done[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
        self.json(MANIFEST, {**stamp(), **self.making, **self.manifest, "files": self.done})
        (self.aside / _LOCK).unlink()
        _sync(self.aside)
        replace_folder(self.aside, self.path)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Sees that an output may be written there.

    Raises:
        OutputError: It exists, and may not be replaced; or it is a folder that redraft did not make.
    """
    if not os.path.lexists(path):
        return
    if not force:
        raise OutputError(
            f"{path} exists.", hint="Write to another place with -o, or replace it with --force."
        )
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise OutputError(
            f"{path} is a folder that redraft did not make: it has no {MANIFEST}.",
            hint="It is not replaced, even with --force. Move it away, or write to another place with -o.",
        )


def stamp() -> dict[str, Any]:
    """What every manifest begins with: version and time."""
    return {"redraft": redraft.__version__, "made": datetime.now(UTC).isoformat(timespec="seconds")}


@contextmanager
def new_file(path: Path, *, manifest: Mapping[str, Any], force: bool = False) -> Iterator[FileWriter]:
    """A single file, made aside and renamed at the end; its manifest is written beside it.

    Raises:
        OutputError: It exists and `force` is not given, or it cannot be written.
    """
    refuse_existing(path, force=force)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and the output is a file.", hint=f"-o {path}/NAME")
    aside = path.with_name(path.name + ".partial")
    with _as_output_errors(path, None):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(path.name + ".lock"), path) as lock:
            try:
                with _written(aside) as writer:
                    yield writer
                    checksum = writer.finish()
                files = {path.name: {"size": writer.size, "sha256": checksum}}
                beside = path.with_name(f"{path.name}.{MANIFEST}")
                _write_json(beside, {**stamp(), **manifest, "files": files})
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
                Path(lock.name).unlink(missing_ok=True)


@contextmanager
def _written(path: Path) -> Iterator[FileWriter]:
    with path.open("wb") as file:
        writer = FileWriter(file)
        try:
            yield writer
        finally:
            writer.stop()


def replace_folder(new: Path, old: Path) -> None:
    """Gives a folder its name. What had that name before is exchanged for it in one step, then removed."""
    if not os.path.lexists(old):
        new.rename(old)
    elif _exchange(new, old):
        shutil.rmtree(new) if new.is_dir() and not new.is_symlink() else new.unlink()
    else:
        spare = old.with_name(old.name + ".old")
        old.rename(spare)
        new.rename(old)
        shutil.rmtree(spare) if spare.is_dir() and not spare.is_symlink() else spare.unlink()
    _sync(old.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step, where the system can (Linux: renameat2 with RENAME_EXCHANGE, 2)."""
    renameat2 = getattr(_LIBC, "renameat2", None)
    if renameat2 is None:
        return False
    here = -100  # AT_FDCWD: paths are relative to the working folder
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), 2) == 0)


def _locked(path: Path, output: Path) -> BufferedWriter:
    lock = path.open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OutputError(
            f"another run is writing {output} at this moment.", hint="Wait for it to end."
        ) from None
    return lock


def _write_json(path: Path, value: Any) -> None:
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_output_errors(path: Path, folder: OutputFolder | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutputError(f"{path}: there is no room left on the disk.", hint=_after(folder)) from error
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _after(folder: OutputFolder | None) -> str:
    if folder is None or not folder.done:
        return "Free some room, and run the same command again."
    kept = sum(each["size"] for each in folder.done.values()) / 1e9
    return (
        f"Free some room, and run the same command again: it goes on after the {kept:.1f} GB that are done."
    )
