"""Provide a folder with the model to train. If needed, convert it from GGUF, or merge an adapter into it.

Converted and merged folders are cached under a hash of the input files' paths, sizes and times.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from redraft.errors import ModelError, UsageError

_CARDS = 2  # increased when the model cards of cached folders change


def folder_for(ref: str, *, command: str = "") -> str:
    """Return the model's folder, or org/name on the hub, for a value of `--model_name_or_path`.

    The value is a folder, GGUF file, org/name or `default`, and maybe `+FOLDER`: an adapter to merge.
    """
    from redraft.jobs.files import locked
    from redraft.jobs.machine import cache_folder

    cache = cache_folder() / "train" / "models"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):  # processes of a run start together and want the same folder
        return _folder_for(ref, cache, command)


def _folder_for(ref: str, cache: Path, command: str) -> str:
    from redraft.engines.load import DEFAULTS, local_file, parse_reference

    base, _, last = ref.rpartition("+")
    if base and not Path(ref).expanduser().exists():  # otherwise, the plus belongs to a folder's name
        adapter = Path(last).expanduser()
        if not (adapter / "adapter_config.json").is_file():
            found = "is for llama.cpp" if last.lower().endswith(".gguf") else "is not an adapter folder"
            message = f"{ref} cannot be used: {last or 'the part after +'} {found}."
            hint = f"Name the folder that holds the trained adapter: {base}+FOLDER"
            raise UsageError(message, hint=hint)
        return str(_merged(Path(_folder_for(base, cache, command)).expanduser(), adapter, cache, command))
    file = str(local_file(parse_reference(ref))) if ref in DEFAULTS else ref
    if file.lower().endswith(".gguf"):
        return str(_converted(Path(file).expanduser(), cache, command))
    return file


def local_folder(ref: str) -> Path | None:
    """Return the local folder `ref`, or None for org/name on the hub. Raise `UsageError` otherwise."""
    path = Path(ref).expanduser()
    if path.is_dir():
        return path
    if path.is_file() or ref.lower().endswith(".gguf"):
        hint = f"redraft weights from-gguf {ref} -o FOLDER"
        raise UsageError(f"{ref} is a file, but training needs a folder in transformers' format.", hint=hint)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", ref) and not path.parent.is_dir():
        return None
    hint = "--model_name_or_path MODEL. MODEL is FOLDER, FILE.gguf, org/name or default."
    raise UsageError(f"there is no model {ref!r}: it is neither a folder nor org/name on the hub.", hint=hint)


def _merged(base: Path, adapter: Path, cache: Path, command: str) -> Path:
    from redraft.weights.lora.merge import merge_lora
    from redraft.weights.output import Run

    if not base.is_dir():
        hint = f"redraft weights merge-lora {base} {adapter} -o FOLDER   (then start from FOLDER)"
        raise UsageError(f"{base} is not on this machine, so {adapter} cannot be merged into it.", hint=hint)
    files = [path for folder in (base, adapter) for path in sorted(folder.resolve().iterdir())]
    target = _target(cache, adapter.resolve().name, [path for path in files if path.is_file()])
    if not target.exists():
        merge_lora(base, adapter, target, Run(command=command))
    return target


def _converted(file: Path, cache: Path, command: str) -> Path:
    # redraft converts the file, because transformers' reader loses the RoPE factors of long contexts.
    try:
        target = _target(cache, file.resolve().stem, [file.resolve()])
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from None
    if not target.exists():
        from redraft.weights.gguf.to_folder import import_gguf
        from redraft.weights.output import Run

        import_gguf(file.resolve(), target, Run(command=command))
    return target


def _target(cache: Path, name: str, files: Iterable[Path]) -> Path:
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = repr((_CARDS, states)).encode("utf-8", "replace")
    return cache / f"{name}-{hashlib.sha256(key).hexdigest()[:16]}"
