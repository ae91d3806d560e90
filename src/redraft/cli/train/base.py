"""What training begins from: a model's folder, made first of a GGUF file, or of a model and an adapter.

What is made is kept in the cache, under a name of what it was made of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def folder_for(ref: str) -> str:
    """The folder, or org/name of the hub, that a `--model_name_or_path` stands for.

    Raises:
        ModelError: A file is missing or damaged.
        UsageError: An adapter is none, or its base is not here.
    """
    from redraft.engines.llamacpp.default_model import cache_folder

    cache = cache_folder() / "train" / "models"
    with _one_at_a_time(cache):
        return _folder_for(ref, cache)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Processes of a run begin together, and want the same."""
    from redraft.files import open_own

    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_own(folder / "lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder_for(ref: str, cache: Path) -> str:
    from redraft.engines.load import local_file, parse_reference
    from redraft.train.model.folder import folder_of

    base, adapter = _parted(ref)
    if adapter is not None:
        return str(_merged(Path(_folder_for(base, cache)).expanduser(), adapter, cache))
    file = str(local_file(parse_reference(ref))) if ref == "default" else ref
    return folder_of(file, cache=cache, convert=_to_folder)


def _parted(ref: str) -> tuple[str, Path | None]:
    """A reference without its last adapter, and that one's folder. A plus in the name of a folder is none."""
    from redraft.errors import UsageError

    base, _, last = ref.rpartition("+")
    if not base or Path(ref).expanduser().exists():
        return ref, None
    adapter = Path(last).expanduser()
    if (adapter / "adapter_config.json").is_file():
        return base, adapter
    found = "is for llama.cpp" if last.lower().endswith(".gguf") else "is no folder of an adapter"
    raise UsageError(
        f"training cannot begin from {ref}: {last or 'what is added'} {found}.",
        hint=f"Name the folder that the adapter was trained into: --model_name_or_path {base}+FOLDER",
    )


def _merged(base: Path, adapter: Path, cache: Path) -> Path:
    """The folder of a model with an adapter in it; another one when either changes."""
    from redraft.errors import UsageError
    from redraft.weights.lora.merge import merge_lora

    if not base.is_dir():
        raise UsageError(
            f"{base} is not here to put {adapter} into.",
            hint=f"redraft weights merge-lora {base} {adapter} -o FOLDER   (and begin from that)",
        )
    key = hashlib.sha256(repr([*_files(base), *_files(adapter)]).encode("utf-8", "replace")).hexdigest()
    target = cache / f"{adapter.resolve().name}-{key[:16]}"
    if not target.exists():
        merge_lora(base, adapter, target, command=command())
    return target


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """What can be told of a folder's files without reading them."""
    there = [(path, path.stat()) for path in sorted(folder.resolve().iterdir()) if path.is_file()]
    return [(str(path), found.st_size, found.st_mtime_ns) for path, found in there]


def _to_folder(file: Path, folder: Path) -> None:
    from redraft.weights.gguf.to_folder import import_gguf

    import_gguf(file, folder, command=command())


def command() -> str:
    """What was typed, for the record of what is made."""
    return shlex.join(["redraft", *sys.argv[1:]])
