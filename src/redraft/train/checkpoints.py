"""Save checkpoints atomically, and find the checkpoint to resume from.

A checkpoint is written into a temporary folder. The file `complete.json` is written last, and lists all other
files with size and CRC-32. Then the folder is renamed, so a run that is killed while saving loses only this
checkpoint. A state, such as the optimizer's, is a safetensors file whose header contains everything except
tensors. Without FSDP, nothing is pickled, so a stranger's checkpoint can at worst contain wrong numbers.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from redraft.errors import ModelError, OutputError
from redraft.jobs.files import replace_file, sync
from redraft.train.load import contents
from redraft.weights.replace import replace_folder

_HEAD = "state"


def save_state(path: Path, state: Any) -> None:
    """Write a state to a file. A state is a tree of dicts, lists, tuples, tensors and plain values."""
    tensors: dict[str, torch.Tensor] = {}
    save_file(tensors, path, metadata={_HEAD: json.dumps(_pack(state, tensors))})


def load_state(path: Path) -> Any:
    """Read a state written by `save_state`. Raise `ModelError` if the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return _unpack(json.loads(file.metadata()[_HEAD]), file)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> ModelError:
    """Return the error for a damaged checkpoint file."""
    hint = "Move that checkpoint away: the same command then resumes from the checkpoint before it."
    return ModelError(f"{path} cannot be read: {error!s:.200}.", hint=hint)


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A copy: safetensors accepts neither views nor tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[_pack(key, tensors), _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_pack(each, tensors) for each in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved in a checkpoint")


def _unpack(tree: Any, file: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return file.get_tensor(value)
    if kind == "items":
        return {_unpack(key, file): _unpack(each, file) for key, each in value}
    items = [_unpack(each, file) for each in value]
    return tuple(items) if kind == "tuple" else items


def random_state() -> dict[str, Any]:
    """Return the states of the random generators of Python, numpy and torch, on CPU and GPUs."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.random.get_rng_state(),
    } | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states that `random_state` returned."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.random.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


MARKER = "complete.json"  # the list of a checkpoint's files, written last
_PART = 1 << 22  # bytes of a file to read at a time

NAME = re.compile(r"checkpoint-(\d{1,12})")
_ASIDE = ".saving-"
_LOST = "Restore the file, or start over with --overwrite_output_dir."
_MOST = 1 << 24  # maximum bytes of `complete.json`. A thousand shards need about 100,000.


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint's folder, step, and missing or damaged files."""

    folder: Path
    step: int
    missing: tuple[str, ...] | None  # missing or truncated files; None without `complete.json`
    changed: tuple[str, ...] = ()  # files whose checksums have changed, if `_verified` has read them

    @property
    def complete(self) -> bool:
        """Whether a run can resume from this checkpoint."""
        return self.missing == () and not self.changed

    @property
    def fault(self) -> str:
        """A description of what is missing or damaged."""
        if self.missing is None:
            return f"{MARKER} is missing or damaged ({contents(self.folder)})"
        named = self.missing or self.changed
        shown = named if len(named) < 4 else (*named[:2], f"{len(named) - 2} more")
        files = " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
        verbs = ("is", "has", "it was") if len(named) == 1 else ("are", "have", "they were")
        fault = "{0} missing or truncated" if self.missing else "{1} changed since {2} saved"
        return f"{files} {fault.format(*verbs)} ({contents(self.folder)})"


def checkpoints(output: Path) -> list[SavedCheckpoint]:
    """Return the checkpoints of a run, newest first."""
    found = []
    for folder in output.iterdir() if output.is_dir() else ():
        if (named := NAME.fullmatch(folder.name)) and folder.is_dir():
            listed = _listed(folder)
            missing = [
                name
                for name, (size, _) in (listed or {}).items()
                if not ((path := folder / name).is_file() and path.stat().st_size == size)
            ]
            lost = None if listed is None else tuple(missing)
            found.append(SavedCheckpoint(folder, int(named[1]), lost))
    return sorted(found, key=lambda each: -each.step)


def _listed(folder: Path) -> dict[str, tuple[object, object]] | None:
    try:
        with (folder / MARKER).open("rb") as file:
            files = json.loads(file.read(_MOST))["files"]
        return {name: (size, crc) for name, (size, crc) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _verified(checkpoint: SavedCheckpoint) -> SavedCheckpoint:
    folder, changed = checkpoint.folder, []
    for name, (_, wanted) in (_listed(folder) or {}).items() if checkpoint.complete else ():
        with suppress(OSError):
            if wanted == _sum(folder / name):
                continue
        changed.append(name)
    return replace(checkpoint, changed=tuple(changed))


def _sum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            found = zlib.crc32(part, found)
    return found


def newest(output: Path) -> tuple[SavedCheckpoint | None, list[str]]:
    """Return the newest intact checkpoint or None, and a remark on each newer damaged checkpoint.

    Raise `ModelError` if no checkpoint is intact, but one has `complete.json`.
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
        raise ModelError(f"cannot resume from {damaged.folder}: {damaged.fault}.", hint=_LOST)
    newer = [each for each in found if not whole or each.step > whole.step]
    remarks = [f"{each.folder} is skipped: {each.fault}." for each in newer]
    if found and not whole:
        remarks.append("there is no other checkpoint: the run starts over.")
    return whole, remarks


@contextmanager
def saving(output: Path, step: int, *, leads: bool, wait: Any) -> Iterator[Path]:
    """Yield a temporary folder for a checkpoint, and rename the folder if the `with` block succeeds."""
    aside = output / f"{_ASIDE}{step}"
    try:
        if leads:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        wait()
        yield aside
        wait()
        if leads:
            files = sorted(each for each in aside.rglob("*") if each.is_file())
            for each in files:
                sync(each)
            listed = {str(each.relative_to(aside)): (each.stat().st_size, _sum(each)) for each in files}
            replace_file(aside / MARKER, json.dumps({"files": listed}, indent=1).encode())
            replace_folder(aside, output / f"checkpoint-{step}")
        wait()
    except (OSError, SafetensorError) as error:
        raise unwritable(output, error, aside) from error


def unwritable(output: Path, error: OSError | SafetensorError, part: Path | None = None) -> OutputError:
    """Return the error for an output that cannot be written."""
    why = (isinstance(error, OSError) and error.strerror) or f"{error!s:.200}"  # SafetensorError has none
    whole = any(each.complete for each in checkpoints(output))
    left = " The earlier checkpoints are intact." if whole else ""
    resumes = ", without --overwrite_output_dir: the run resumes from the newest checkpoint" if whole else ""
    hint = f"Make the folder writable, or free some space. Then type the same command again{resumes}."
    return OutputError(f"{part or output} cannot be written: {why}.{left}", hint=hint)


def prune(output: Path, limit: int | None) -> None:
    """Delete the folders `.saving-…` of unfinished saves. With `limit`, keep only that many checkpoints.

    Folders `checkpoint-N` without `complete.json` are always kept, because another trainer may own them.
    """
    for broken in output.glob(f"{_ASIDE}*"):
        shutil.rmtree(broken, ignore_errors=True)
    if not limit or limit < 1:
        return
    found = checkpoints(output)
    whole = [each for each in found if each.complete]
    kept = {each.folder for each in whole[:limit]}
    for each in found if whole else []:
        if (each.folder / MARKER).is_file() and each.folder not in kept and each.step < whole[0].step:
            _remove(each.folder)


def remove_all(output: Path) -> None:
    """Delete all checkpoints."""
    for each in checkpoints(output):
        _remove(each.folder)
    prune(output, None)
    if left := checkpoints(output):
        hint = "Delete it yourself, or name another --output_dir."
        raise OutputError(f"{left[0].folder} cannot be deleted.", hint=hint)


def _remove(folder: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(folder.rename(folder.with_name(f"{_ASIDE}{folder.name}")))
