"""The model that training starts from: a folder, converted from GGUF or merged with an adapter if needed.

Converted and merged folders are cached under names made from their inputs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from redraft.cli.shell import command_line


def folder_for(ref: str) -> str:
    """Return the folder, or org/name on the hub, for a `--model_name_or_path`.

    Raises:
        ModelError: A file is missing or damaged.
        UsageError: An adapter has no adapter_config.json, or its base is not on this machine.
    """
    from redraft.engines.llamacpp.default_model import cache_folder
    from redraft.files import locked

    cache = cache_folder() / "train" / "models"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):  # processes of a run start together and want the same folder
        return _folder_for(ref, cache)


def _folder_for(ref: str, cache: Path) -> str:
    from redraft.engines.load import local_file, parse_reference
    from redraft.train.model.folder import folder_of

    base, adapter = _parted(ref)
    if adapter is not None:
        return str(_merged(Path(_folder_for(base, cache)).expanduser(), adapter, cache))
    file = str(local_file(parse_reference(ref))) if ref == "default" else ref
    return folder_of(file, cache=cache, convert=_to_folder)


def _parted(ref: str) -> tuple[str, Path | None]:
    """Split off the last adapter of a reference, unless the plus belongs to the name of a folder."""
    from redraft.errors import UsageError

    base, _, last = ref.rpartition("+")
    if not base or Path(ref).expanduser().exists():
        return ref, None
    adapter = Path(last).expanduser()
    if (adapter / "adapter_config.json").is_file():
        return base, adapter
    found = "is for llama.cpp" if last.lower().endswith(".gguf") else "is not the folder of an adapter"
    raise UsageError(
        f"training cannot start from {ref}: {last or 'the part after +'} {found}.",
        hint=f"Name the folder that the adapter was trained into: --model_name_or_path {base}+FOLDER",
    )


def _merged(base: Path, adapter: Path, cache: Path) -> Path:
    """Return the cached folder of a model merged with an adapter. It depends on the files of both."""
    from redraft.errors import UsageError
    from redraft.weights.lora.merge import merge_lora
    from redraft.weights.output import Run

    if not base.is_dir():
        raise UsageError(
            f"{base} is not here to put {adapter} into.",
            hint=f"redraft weights merge-lora {base} {adapter} -o FOLDER   (and start from that)",
        )
    key = hashlib.sha256(repr([*_files(base), *_files(adapter)]).encode("utf-8", "replace")).hexdigest()
    target = cache / f"{adapter.resolve().name}-{key[:16]}"
    if not target.exists():
        merge_lora(base, adapter, target, Run(command=command_line()))
    return target


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of a folder's files."""
    there = [(path, path.stat()) for path in sorted(folder.resolve().iterdir()) if path.is_file()]
    return [(str(path), found.st_size, found.st_mtime_ns) for path, found in there]


def _to_folder(file: Path, folder: Path) -> None:
    from redraft.weights.gguf.to_folder import import_gguf
    from redraft.weights.output import Run

    import_gguf(file, folder, Run(command=command_line()))
