"""Writes checkpoints to a temporary place and renames them when they are complete.

A folder `OUT` is written as `OUT.partial`. Each finished file is recorded there with its checksum in
`redraft.partial.json`, so that the same command resumes after the last one. At the end come the index, the
manifest `redraft.json` (inputs, command, version, checksums) and the rename. A single file is written as
`FILE.redraft-partial`, and its manifest is `FILE.redraft.json`.

Only redraft's own unfinished outputs are resumed or removed: a folder with that record, holding nothing but
the recorded files and a work folder; a single file if the lock of the killed run is still there. For the
rules of replacing finished outputs see `replace`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import torch

import redraft
from redraft.errors import ModelError, OutputError
from redraft.jobs.files import create, is_foreign, is_part_of, remove_own, sha256_of, sync, sync_folder
from redraft.jobs.machine import libc
from redraft.weights.checkpoint import SAFETENSORS, ahead, raw_bytes, read_json
from redraft.weights.header import TensorInfo, safetensors_header, torch_dtype
from redraft.weights.losses import Losses, Say
from redraft.weights.replace import (
    MANIFEST,
    STATE,
    check_room,
    locked,
    name_of,
    output_errors,
    refuse_existing,
    refuse_inputs,
    remove,
    replace_folder,
    write_json,
)

INDEX = "model.safetensors.index.json"
SHARD_SIZE = 5_000_000_000
"""The largest file in bytes, unless an input's layout is kept: the hub's own limit for a shard."""

_WORTH_STARTING = 1 << 20  # bytes
_QUEUED = 6  # three parts for each of the two threads
_LIBC = libc()
_WORK = "redraft.work"  # the folder for unfinished files inside `OUT.partial`
Progress = Callable[[int], None]  # called with a number of bytes when they are processed


@dataclass(frozen=True)
class Run:
    """What all jobs on weights share."""

    force: bool = False  # replace an output that redraft made
    allow_pickle: bool = False  # read `.bin` files
    command: str = ""  # the command line, for the manifest
    progress: Progress = lambda _: None  # called with the number of bytes processed
    tell: Say = lambda _: None  # called with each remark
    warn: Say = lambda _: None  # called with each warning: values that are NaN or infinite, or became so
    # Called with what a user should know before publishing the output: licences that clash.
    caution: Say = lambda _: None


BY_DEFAULT = Run()


@dataclass(frozen=True)
class Shard:
    """One output file and its tensors in order. Their `file` and `offset` are not used."""

    file: str
    tensors: Sequence[TensorInfo]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def layout(tensors: Iterable[TensorInfo], size: int = SHARD_SIZE) -> list[Shard]:
    """Distribute tensors in order over files of at most `size` bytes. A larger tensor gets its own file."""
    groups: list[list[TensorInfo]] = [[]]
    filled = 0
    for tensor in tensors:
        if groups[-1] and filled + tensor.size > size:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.size
    return [Shard(shard_name(i, len(groups)), group) for i, group in enumerate(groups, 1)]


def shard_name(number: int, of: int) -> str:
    """Return the name that transformers gives to a shard; `number` counts from 1."""
    return f"model{SAFETENSORS}" if of == 1 else f"model-{number:05}-of-{of:05}{SAFETENSORS}"


class OutputFolder:
    """A context that writes a folder of weights and renames it into place at its end.

    Attributes:
        aside: The work folder within `OUT.partial`. Small files may be written there directly.
        done: The finished files by name: size, sha256, and the caller's notes.
        manifest: More entries for the manifest.
    """

    def __init__(self, path: Path, run: Run = BY_DEFAULT, *, provenance: Mapping[str, Any]) -> None:
        """Prepare the output. Nothing is written yet.

        `provenance` is everything that determines the result, as JSON: inputs and options. A partial output
        that was made with other values, or by another version, is discarded.
        """
        self.path = path
        self._partial = path.with_name(name_of(path) + ".partial")
        self.aside = self._partial / _WORK
        self.provenance = json.loads(json.dumps({"redraft": redraft.__version__, **provenance}))
        self._run = run
        self.done: dict[str, dict[str, Any]] = {}
        self.manifest: dict[str, Any] = {}
        self._shards: Sequence[Shard] = ()

    def __enter__(self) -> OutputFolder:
        refuse_inputs(self.path, self.provenance.get("inputs"), folder=True)
        refuse_existing(self.path, force=self._run.force)
        with output_errors(self.path, self.done):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(locked(self.path))
            refuse_existing(self.path, force=self._run.force)  # the last holder of the lock may have made it
            with output_errors(self.path, self.done):
                self._resume()
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with self._held, output_errors(self.path, self.done):
            if isinstance(error, OSError):
                raise error  # from writing a small file
            if kind is None:
                self._complete()

    def todo(
        self, shards: Sequence[Shard], size: Callable[[TensorInfo], int] = lambda tensor: tensor.size
    ) -> Iterator[Shard]:
        """Yield the unfinished shards, and report the finished ones as progress.

        `size` returns how many bytes of progress a tensor counts as.
        """
        self._shards = shards
        left = [shard for shard in shards if shard.file not in self.done]
        check_room(self.path, sum(shard.size for shard in left))
        finished = [shard for shard in shards if shard.file in self.done]
        self._run.progress(sum(size(tensor) for shard in finished for tensor in shard.tensors))
        yield from left

    @contextmanager
    def shard(
        self,
        shard: Shard,
        metadata: Mapping[str, str] | None = None,
        *,
        notes: Mapping[str, Any] | None = None,
    ) -> Iterator[FileWriter]:
        """Open a writer for the tensors of a shard, in order. At the end the shard is recorded as done.

        `notes`, which the manifest records about the file, may be filled during the write.
        """
        aside = self.aside / (shard.file + ".tmp")
        head = safetensors_header(shard.tensors, metadata or {})
        with output_errors(self.path, self.done):
            with _written(aside) as writer:
                writer.write(head)
                yield writer
                if writer.size != len(head) + shard.size:
                    raise ValueError(f"{shard.file} has {writer.size} bytes, not {len(head) + shard.size}")
                checksum = writer.finish()
            self.done[shard.file] = {"size": aside.stat().st_size, "sha256": checksum, **(notes or {})}
            self._note()  # before the rename: files that are not recorded count as foreign
            aside.rename(self._partial / shard.file)
            sync_folder(self._partial)

    def write_rounded(
        self,
        shards: Sequence[Shard],
        parts: Callable[[TensorInfo], Iterator[torch.Tensor]],
        *,
        size: Callable[[TensorInfo], int],
        count: bool = True,
    ) -> None:
        """Write all shards, rounded to the dtypes of their tensors, and report the values that are lost.

        `parts` yields the values of a tensor before rounding. `size` returns its bytes in the source, for the
        progress.
        """
        for shard in self.todo(shards, size):
            losses = Losses()
            with self.shard(shard, notes=vars(losses)) as writer:
                for info, values in ahead((each, part) for each in shard.tensors for part in parts(each)):
                    rounded = values.to(torch_dtype(info.dtype))
                    if count:
                        losses.count(info.name, values, rounded)
                    writer.write(rounded)
                    self._run.progress(size(info) * values.numel() // max(info.count, 1))
        Losses.noted(self.done.values()).say(warn=self._run.warn, tell=self._run.tell, wider="--dtype bf16")

    def json(self, name: str, value: Any) -> None:
        """Write a small JSON file."""
        write_json(self.aside / name, value)

    def _resume(self) -> None:
        """Resume a partial output of the same command, or start again. Foreign files are never touched."""
        if os.path.lexists(self._partial):
            found = self._partial.lstat()
            if not stat.S_ISDIR(found.st_mode):
                raise _not_ours(self._partial, self.path, "redraft did not make it")
            if is_foreign(found, self._partial.parent):
                raise _not_ours(self._partial, self.path, "it is another user's")
            self._take_up()
        self._partial.mkdir(exist_ok=True)
        self._note()
        self.aside.mkdir()

    def _take_up(self) -> None:
        """Keep the recorded files of a partial output, and remove its others, if all are redraft's."""
        files = sorted(self._partial.iterdir())
        names = {path.name for path in files}
        try:
            state = read_json(self._partial / STATE)
        except ModelError:
            raise _not_ours(self._partial, self.path, f"its {STATE} cannot be read") from None
        done: dict[str, dict[str, Any]] = state.get("done", {})
        ours = {STATE, _WORK, MANIFEST, *done, *state.get("small", ())}
        with suppress(ModelError, TypeError):
            ours |= set(read_json(self._partial / MANIFEST).get("files", ()))
        if MANIFEST in names and STATE not in names:
            raise _not_ours(self._partial, self.path, "it is a finished output of another command")
        if others := sorted(name for name in names - ours if not is_part_of(name, STATE)):
            why = f"it holds {', '.join(others[:3])}, which redraft did not make"
            raise _not_ours(self._partial, self.path, why)
        if state.get("provenance") == self.provenance:
            self.done = {name: note for name, note in done.items() if _is_there(self._partial / name, note)}
        for path in files:
            if path.name not in self.done and path.name != STATE:
                remove(path)

    def _note(self, *more: str) -> None:
        """Record the finished files, and the names of small files about to be renamed into place."""
        write_json(self._partial / STATE, {"provenance": self.provenance, "done": self.done, "small": more})

    def _complete(self) -> None:
        if len(self._shards) > 1:
            total = sum(shard.size for shard in self._shards)
            weight_map = {each.name: shard.file for shard in self._shards for each in shard.tensors}
            self.json(INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        small = sorted(self.aside.iterdir())
        for path in small:
            sync(path)
            self.done[path.name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        facts = {**_stamp(self._run.command), **self.provenance, **self.manifest}
        self.json(MANIFEST, {**facts, "files": self.done})
        self._note(MANIFEST)
        for path in [*small, self.aside / MANIFEST]:
            path.rename(self._partial / path.name)
        self.aside.rmdir()
        sync_folder(self._partial)
        replace_folder(self._partial, self.path)
        (self.path / STATE).unlink()  # last: it marks the folder as unfinished
        sync_folder(self.path)


def _not_ours(partial: Path, output: Path, why: str) -> OutputError:
    hint = "Move it away, or choose another output with -o."
    return OutputError(f"{partial} is needed to write {output}, but {why}.", hint=hint)


def _is_there(path: Path, noted: Mapping[str, Any]) -> bool:
    """Return whether a file is not a link and has the recorded size."""
    with suppress(OSError, ValueError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == noted.get("size")
    return False


def _stamp(command: str) -> dict[str, Any]:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"redraft": redraft.__version__, "made": made, "command": command}


@contextmanager
def new_file(
    path: Path, run: Run = BY_DEFAULT, *, manifest: Mapping[str, Any], size: int = 0
) -> Iterator[FileWriter]:
    """Open a writer for a file of `size` bytes, and rename it into place at the end, beside its manifest."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder, but the output is a file.", hint=f"-o {path}/NAME")
    refuse_inputs(path, manifest.get("inputs"), folder=False)
    aside = path.with_name(name_of(path) + ".redraft-partial")
    beside = path.with_name(f"{path.name}.{MANIFEST}")
    with output_errors(path, {}):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path) as was_killed:
            refuse_existing(path, force=run.force)
            check_room(path, size)
            if was_killed:
                remove_own(aside)
            if os.path.lexists(aside):
                raise _not_ours(aside, path, "redraft did not make it")
            try:
                with _written(aside) as writer:
                    yield writer
                    files = {path.name: {"size": writer.size, "sha256": writer.finish()}}
                    # First the manifest: a file without one could not be replaced with --force.
                    write_json(beside, {**_stamp(run.command), **manifest, "files": files})
                    aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
            sync_folder(path.parent)


@contextmanager
def _written(path: Path) -> Iterator[FileWriter]:
    with create(path) as file:
        writer = FileWriter(file)
        try:
            yield writer
        finally:
            writer.stop()


class FileWriter:
    """Writes the parts of a file in order. `size` is the bytes written so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._threads = (self._put, ThreadPoolExecutor(1)), (self._hash.update, ThreadPoolExecutor(1))
        self._queued: deque[Future[None]] = deque()
        self.size = 0

    def write(self, part: bytes | memoryview | torch.Tensor) -> None:
        """Queue bytes or a tensor, which must not change afterwards."""
        view = memoryview(part if isinstance(part, bytes | memoryview) else raw_bytes(part)).cast("B")
        self.size += len(view)
        self._queued.extend(thread.submit(work, view) for work, thread in self._threads)
        self._wait(_QUEUED)

    def finish(self) -> str:
        """Wait until everything is on the disk, and return the SHA-256 of the file."""
        self._wait(0)
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def stop(self) -> None:
        """Stop the threads, and drop the parts that are still queued."""
        for _, thread in self._threads:
            thread.shutdown(cancel_futures=True)

    def _wait(self, most: int) -> None:
        while len(self._queued) > most:
            self._queued.popleft().result()

    def _put(self, part: memoryview) -> None:
        self._file.write(part)
        # By default Linux starts late to write cached pages to the disk, and `fsync` then waits for most of
        # the file. This starts it without waiting (SYNC_FILE_RANGE_WRITE, 2).
        if len(part) > _WORTH_STARTING and (start := getattr(_LIBC, "sync_file_range", None)):
            start(self._file.fileno(), ctypes.c_int64(0), ctypes.c_int64(self.size), 2)
