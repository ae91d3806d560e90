"""Write a checkpoint under a temporary name, and rename the complete checkpoint.

A folder `OUT` is written as `OUT.partial`, a single file as `FILE.redraft-partial`. Then the index and the
manifest are written (`redraft.json`, or `FILE.redraft.json`, with inputs, command, version, checksums), and
the output is renamed. A failed output is removed. A killed run leaves a lock file, so the next run removes
the unfinished output. For the rules of replacing finished outputs, see `replace`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import torch

import redraft
from redraft.errors import OutputError
from redraft.jobs.files import create, sha256_of, sync, sync_folder
from redraft.jobs.machine import libc
from redraft.weights.checkpoint import SAFETENSORS, ahead, raw_bytes
from redraft.weights.header import TensorInfo, safetensors_header, torch_dtype
from redraft.weights.losses import Losses, Say
from redraft.weights.replace import MANIFEST, begun, check_room, replace_folder, write_json

INDEX = "model.safetensors.index.json"
SHARD_SIZE = 5_000_000_000
"""The most bytes of a file: the hub's limit for a shard. Shards made by `same_layout` may be larger."""

_LIBC = libc()
Progress = Callable[[int], None]  # called with a number of bytes when they are processed


@dataclass(frozen=True)
class Run:
    """Settings shared by all functions that write weights."""

    force: bool = False  # replace an output that redraft made
    allow_pickle: bool = False  # read `.bin` files
    command: str = ""  # the command line, for the manifest
    progress: Progress = lambda _: None  # called with the number of bytes processed
    tell: Say = lambda _: None  # called with each remark
    warn: Say = lambda _: None  # called with each warning about NaN or infinite values


BY_DEFAULT = Run()


@dataclass(frozen=True)
class Shard:
    """An output file and its tensors, in order. `TensorInfo.file` and `TensorInfo.offset` are not used."""

    file: str
    tensors: Sequence[TensorInfo]

    @property
    def size(self) -> int:
        """The size of all tensors in bytes."""
        return sum(tensor.size for tensor in self.tensors)


def layout(tensors: Iterable[TensorInfo], size: int = SHARD_SIZE) -> list[Shard]:
    """Distribute tensors in order over files of at most `size` bytes. A larger tensor is alone in a file."""
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
    """Return transformers' name for a shard, such as `model-00001-of-00002.safetensors`."""
    return f"model{SAFETENSORS}" if of == 1 else f"model-{number:05}-of-{of:05}{SAFETENSORS}"


@dataclass
class OutputFolder:
    """A folder of weights that is being written (`new_folder`)."""

    path: Path  # its final path
    aside: Path  # its temporary path, for small files that callers write themselves
    run: Run
    _shards: Sequence[Shard] = ()
    _sums: dict[str, str] = field(default_factory=dict)  # SHA-256 of the finished shards

    def planned(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        """Remember and return the shards to write. Raise `OutputError` if the disk has too little space."""
        self._shards = shards
        check_room(self.path, sum(shard.size for shard in shards))
        return shards

    @contextmanager
    def shard(self, shard: Shard, metadata: Mapping[str, str] | None = None) -> Iterator[FileWriter]:
        """Open a writer for a shard. The caller writes the shard's tensors in order."""
        head = safetensors_header(shard.tensors, metadata or {})
        with _written(self.aside / shard.file) as writer:
            writer.write(head)
            yield writer
            if writer.size != len(head) + shard.size:
                raise ValueError(f"{shard.file} has {writer.size} bytes, not {len(head) + shard.size}")
            self._sums[shard.file] = writer.finish()

    def write_rounded(
        self,
        shards: Sequence[Shard],
        parts: Callable[[TensorInfo], Iterator[torch.Tensor]],
        *,
        size: Callable[[TensorInfo], int],
        count: bool = True,
    ) -> None:
        """Write all shards, rounded to the dtypes in `shards`. Report values that rounding loses.

        `parts` yields the values of a tensor before rounding. `size` returns the number of input bytes for a
        tensor, to show progress.
        """
        losses = Losses()
        for shard in self.planned(shards):
            with self.shard(shard) as writer:
                for info, values in ahead((each, part) for each in shard.tensors for part in parts(each)):
                    rounded = values.to(torch_dtype(info.dtype))
                    if count:
                        losses.count(info.name, values, rounded)
                    writer.write(rounded)
                    self.run.progress(size(info) * values.numel() // max(info.count, 1))
        losses.say(warn=self.run.warn, tell=self.run.tell, wider="--dtype bf16")

    def complete(self, facts: Mapping[str, Any]) -> None:
        """Write the index and the manifest."""
        if len(self._shards) > 1:
            total = sum(shard.size for shard in self._shards)
            weight_map = {each.name: shard.file for shard in self._shards for each in shard.tensors}
            write_json(self.aside / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        files = {}
        for path in sorted(self.aside.iterdir()):
            if path.name not in self._sums:
                sync(path)
            checksum = self._sums.get(path.name) or sha256_of(path)
            files[path.name] = {"size": path.stat().st_size, "sha256": checksum}
        write_json(self.aside / MANIFEST, {**_stamp(self.run.command), **facts, "files": files})
        sync_folder(self.aside)


@contextmanager
def new_folder(path: Path, run: Run = BY_DEFAULT, *, manifest: Mapping[str, Any]) -> Iterator[OutputFolder]:
    """Open a temporary folder. When the `with` block ends, write the manifest and rename the folder."""
    with begun(path, ".partial", manifest.get("inputs"), folder=True, force=run.force) as aside:
        aside.mkdir()
        out = OutputFolder(path, aside, run)
        yield out
        out.complete(manifest)
        replace_folder(aside, path)


def _stamp(command: str) -> dict[str, Any]:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"redraft": redraft.__version__, "made": made, "command": command}


@contextmanager
def new_file(
    path: Path, run: Run = BY_DEFAULT, *, manifest: Mapping[str, Any], size: int = 0
) -> Iterator[FileWriter]:
    """Open a writer for a file of `size` bytes. At the end, write the manifest, and rename the file."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder, but the output must be a file.", hint=f"-o {path}/NAME")
    with begun(path, ".redraft-partial", manifest.get("inputs"), folder=False, force=run.force) as aside:
        check_room(path, size)
        with _written(aside) as writer:
            yield writer
            files = {path.name: {"size": writer.size, "sha256": writer.finish()}}
        # The manifest comes first, because a file without manifest cannot be replaced with --force.
        beside = path.with_name(f"{path.name}.{MANIFEST}")
        write_json(beside, {**_stamp(run.command), **manifest, "files": files})
        aside.replace(path)


@contextmanager
def _written(path: Path) -> Iterator[FileWriter]:
    with create(path) as file:
        writer = FileWriter(file)
        try:
            yield writer
        finally:
            writer.stop()


class FileWriter:
    """Write and hash a file in threads, part by part. `size` is the number of bytes queued so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._threads = (self._put, ThreadPoolExecutor(1)), (self._hash.update, ThreadPoolExecutor(1))
        self._queued: deque[Future[None]] = deque()
        self.size = 0

    def write(self, part: bytes | memoryview | torch.Tensor) -> None:
        """Queue bytes or a tensor to be written. `part` must not change afterwards."""
        view = memoryview(part if isinstance(part, bytes | memoryview) else raw_bytes(part)).cast("B")
        self.size += len(view)
        self._queued.extend(thread.submit(work, view) for work, thread in self._threads)
        self._wait(6)  # three parts for each of the two threads

    def finish(self) -> str:
        """Wait until the whole file is on the disk, and return the file's SHA-256."""
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
        # By default, Linux writes cached pages late, and `fsync` then waits for most of the file. This call
        # starts writing them without waiting (SYNC_FILE_RANGE_WRITE, 2).
        if len(part) > 1 << 20 and (start := getattr(_LIBC, "sync_file_range", None)):
            start(self._file.fileno(), ctypes.c_int64(0), ctypes.c_int64(self.size), 2)
