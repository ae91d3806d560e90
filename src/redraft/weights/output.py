"""Writes checkpoints so that nothing half done looks finished: aside, part by part, then renamed.

While it is made, a folder `OUT` is `OUT.partial`. Each finished file is noted there with its checksum
(`redraft.partial.json`), so that the same command, run again, goes on after the last one. At the end come the
index, the manifest `redraft.json` (what was made from what, by which command and version), and the rename. A
single file is made as `FILE.redraft-partial`, and its manifest is `FILE.redraft.json`.

Only what is redraft's and not finished is taken up or removed: a folder with that note, and in it the files
that the note names and a work folder for all others; a single file if the lock of the run that was killed is
still there. What else is replaced, and what is not, is said in `replace`.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redraft
from redraft.errors import ModelError, OutputError
from redraft.files import create, is_part_of, remove_own, sync, sync_folder
from redraft.weights.checkpoint import BIN, SAFETENSORS, read_json
from redraft.weights.header import TensorInfo, safetensors_header
from redraft.weights.pickled import pickled
from redraft.weights.replace import (
    MANIFEST,
    STATE,
    insist_on_room,
    locked,
    named,
    output_errors,
    read_state,
    refuse_existing,
    refuse_inputs,
    remove,
    replace_folder,
    write_json,
    write_state,
)
from redraft.weights.writer import FileWriter

INDEX, BIN_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"
SHARD_SIZE = 5_000_000_000
"""Bytes of a file at most, unless the layout of an input is kept: the hub's own limit for a shard."""

_WORK = "redraft.parallel"
"""In a folder that is being made: the files that are not finished."""

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


class OutputFolder:
    """A folder of safetensors files in the making. Use as a context; at its end the folder has its name.

    Attributes:
        aside: Where files are made, within `OUT.partial`. Small ones may be put there directly.
        done: The finished files by name: size, sha256, and what the maker noted of each.
        manifest: What else the manifest is to say at the end.
    """

    def __init__(
        self,
        path: Path,
        *,
        making: Mapping[str, Any],
        command: str = "",
        force: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Makes nothing yet.

        Args:
            path: The folder that is to be.
            making: What decides the result, as JSON: inputs and options. What lies aside and was made in
                another way, or by another version, is begun afresh.
            command: What the manifest calls the command.
            force: Replace a folder of that name, at the end and in one step, if redraft made it.
            tell: Told why what lies aside is begun afresh.
        """
        self.path = path
        self._partial = path.with_name(named(path) + ".partial")
        self.aside = self._partial / _WORK
        self._tell = tell
        self.making = json.loads(json.dumps({"redraft": redraft.__version__, **making}))
        self.command = command
        self.force = force
        self.done: dict[str, dict[str, Any]] = {}
        self.manifest: dict[str, Any] = {}
        self._shards: Sequence[Shard] = ()

    def __enter__(self) -> OutputFolder:
        refuse_inputs(self.path, self.making.get("inputs"), folder=True)
        refuse_existing(self.path, force=self.force)
        with output_errors(self.path, self.done):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.path)
        try:
            refuse_existing(self.path, force=self.force)  # whoever held the lock may have made it
            with output_errors(self.path, self.done):
                self._take_up()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            with output_errors(self.path, self.done):
                if isinstance(error, OSError):
                    raise error  # of a small file
                if kind is None:
                    self._complete()
        finally:
            self._lock.release()

    def todo(self, shards: Sequence[Shard], progress: Progress = ignore) -> Iterator[Shard]:
        """Those of all shards that are still to be made; `progress` is told of the others' bytes.

        Raises:
            OutputError: There is no room on the disk for them.
        """
        self._shards = shards
        left = [shard for shard in shards if shard.file not in self.done]
        need = sum(shard.size for shard in left)
        insist_on_room(self.path, need)
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
        with output_errors(self.path, self.done):
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
            self._note()  # before it is there: what is there and was not noted is not ours
            aside.rename(self._partial / shard.file)
            sync_folder(self._partial)

    def json(self, name: str, value: Any) -> None:
        """Writes a small JSON file."""
        write_json(self.aside / name, value)

    def _take_up(self) -> None:
        """Goes on where the same command stopped, or begins afresh. What is not ours is left alone."""
        if os.path.lexists(self._partial):
            self._insist_on_folder()
            self._take_up_files()
        self._partial.mkdir(exist_ok=True)
        self._note()
        self.aside.mkdir()

    def _insist_on_folder(self) -> None:
        found = self._partial.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise self._not_ours("redraft did not make what is there")
        if found.st_uid not in (os.geteuid(), self._partial.parent.stat().st_uid):
            raise self._not_ours("it is another user's")

    def _take_up_files(self) -> None:
        left = _Left(self._partial)
        if left.finished:
            raise self._not_ours("that is a finished output of another command")
        if left.others:
            some = ", ".join(left.others[:3])
            raise self._not_ours(f"it holds {some}: redraft did not make what is there")
        if left.unreadable:
            self._tell(f"{self._partial / STATE} cannot be read: {self.path} is begun afresh.")
        if left.making == self.making:
            self.done = left.done
        for path in left.files:
            if path.name not in self.done and path.name != STATE:
                remove(path)

    def _not_ours(self, why: str) -> OutputError:
        return OutputError(
            f"{self._partial} is where {self.path} is made, and {why}.",
            hint="Move it away, or write to another place with -o.",
        )

    def _note(self, *more: str) -> None:
        """Writes down what is done, and the names of small files that are about to be there."""
        write_state(self._partial, {"making": self.making, "done": self.done, "small": more})

    def _complete(self) -> None:
        if len(self._shards) > 1:
            total = sum(shard.size for shard in self._shards)
            weight_map = {each.name: shard.file for shard in self._shards for each in shard.tensors}
            index = BIN_INDEX if self._shards[0].file.endswith(BIN) else INDEX
            self.json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})
        small = sorted(self.aside.iterdir())
        for path in small:
            sync(path)
            self.done[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
        facts = {**stamp(self.command), **self.making, **self.manifest}
        self.json(MANIFEST, {**facts, "files": self.done})
        self._note(MANIFEST)
        for path in [*small, self.aside / MANIFEST]:
            path.rename(self._partial / path.name)
        self.aside.rmdir()
        sync_folder(self._partial)
        replace_folder(self._partial, self.path)
        (self.path / STATE).unlink()  # last: without it a folder is finished
        sync_folder(self.path)


class _Left:
    """What an earlier run left of a folder that it was making, and what of it is ours.

    Attributes:
        files: All that is there.
        others: Names of what redraft did not make.
        finished: Whether it is an output that has its name, and was never to be another.
        unreadable: Whether the note of what is done is damaged.
        making: What decided the result, by that note.
        done: The finished files that are there, by that note.
    """

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.iterdir())
        names = {path.name for path in self.files}
        found = read_state(folder)
        self.unreadable, state = found is None, found or {}
        noted, self.making = state.get("done", {}), state.get("making")
        self.done = {name: each for name, each in noted.items() if _is_there(folder / name, each)}
        ours = {STATE, _WORK, MANIFEST, *noted, *state.get("small", ()), *_named_by_manifest(folder)}
        if self.unreadable:
            ours |= {name for name in names if name.endswith((SAFETENSORS, BIN, ".index.json"))}
        self.finished = MANIFEST in names and STATE not in names
        self.others = sorted(name for name in names - ours if not is_part_of(name, STATE))


def _named_by_manifest(folder: Path) -> set[str]:
    try:
        return set(read_json(folder / MANIFEST).get("files", ()))
    except (ModelError, TypeError):
        return set()


def _is_there(path: Path, noted: Mapping[str, Any]) -> bool:
    """Whether a file is as long as it was noted. A link is no file of ours."""
    with suppress(OSError, ValueError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == noted.get("size")
    return False


def stamp(command: str) -> dict[str, Any]:
    """What every manifest begins with."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"redraft": redraft.__version__, "made": made, "command": command}


@contextmanager
def new_file(
    path: Path, *, manifest: Mapping[str, Any], command: str = "", force: bool = False, size: int = 0
) -> Iterator[FileWriter]:
    """A single file, made aside and renamed at the end; its manifest is written beside it.

    Args:
        path: The file that is to be.
        manifest: What it was made from, as JSON.
        command: What the manifest calls the command.
        force: Replace a file of that name, if redraft made it.
        size: The bytes that it will have, if they are known: to see before whether there is room.

    Raises:
        OutputError: It exists and may not be replaced, or it cannot be written.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and the output is a file.", hint=f"-o {path}/NAME")
    refuse_inputs(path, manifest.get("inputs"), folder=False)
    aside = path.with_name(named(path) + ".redraft-partial")
    beside = path.with_name(f"{path.name}.{MANIFEST}")
    with output_errors(path, {}):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = locked(path)
        try:
            refuse_existing(path, force=force)
            insist_on_room(path, size)
            if lock.cut_off:
                remove_own(aside)
            with _made(aside, path), _written(aside) as writer:
                yield writer
                checksum = writer.finish()
                beside.unlink(missing_ok=True)  # what it says is not true of the new file
                aside.replace(path)
            sync_folder(path.parent)
            files = {path.name: {"size": writer.size, "sha256": checksum}}
            write_json(beside, {**stamp(command), **manifest, "files": files})
        finally:
            lock.release()


@contextmanager
def _made(aside: Path, path: Path) -> Iterator[None]:
    """Removes a file that was made, unless it was renamed. What is there already is another's."""
    if os.path.lexists(aside):
        raise OutputError(
            f"{aside} is where {path} is made, and redraft did not make what is there.",
            hint="Move it away, or write to another place with -o.",
        )
    try:
        yield
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _written(path: Path) -> Iterator[FileWriter]:
    with create(path) as file:
        writer = FileWriter(file)
        try:
            yield writer
        finally:
            writer.stop()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
