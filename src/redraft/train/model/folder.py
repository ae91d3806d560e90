"""Check a model's folder before anything is loaded.

`folder_of` converts a GGUF file to a folder, with the converter passed in: transformers' own reader drops
the RoPE frequencies of long contexts and guesses pre-tokenizers. Pickled weights are not read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from redraft.errors import ModelError, UsageError
from redraft.files import check_model_links

Convert = Callable[[Path, Path], None]
"""Converts a GGUF file (first) to a folder (second), completely or not at all."""

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_MOST_JSON = 64 << 20
_SHOWN = 12
"""The most files to name in a message."""


def folder_of(ref: str, *, cache: Path, convert: Convert) -> str:
    """Return a reference that `load_tokenizer` and `load_model` take, converting a GGUF file to a folder.

    The folder is created once in `cache`. A changed file gets another one.

    Raises:
        ModelError: The file is missing, or cannot be converted.
    """
    if not ref.lower().endswith(".gguf"):
        return ref
    path = Path(ref).expanduser().resolve()
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"{ref} cannot be read: {error.strerror}.") from None
    key = hashlib.sha256(f"{path}\0{found.st_size}\0{found.st_mtime_ns}".encode("utf-8", "replace"))
    folder = cache / f"{path.stem}-{key.hexdigest()[:16]}"
    if not (folder / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        convert(path, folder)
    return str(folder)


def model_folder(ref: str) -> Path | None:
    """Return the folder that a model reference names, or None for org/name on the hub.

    Raises:
        UsageError: It is neither, or a file.
        ModelError: A file of the folder is a link that leads out of it.
    """
    path = Path(ref).expanduser()
    if path.is_dir():
        check_model_links(path)
        return path
    if path.is_file() or ref.lower().endswith(".gguf"):
        raise UsageError(
            f"{ref} is a file, and training starts from a folder in transformers' format.",
            hint=f"redraft weights from-gguf {ref} -o FOLDER",
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", ref) and not path.parent.is_dir():
        return None
    raise UsageError(
        f"there is no model {ref!r}: it is neither a folder nor org/name on the hub.",
        hint="--model_name_or_path default · FOLDER · FILE.gguf · org/name",
    )


def there(folder: Path) -> str:
    """Return what a folder contains, for messages about what is missing."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there is: {', '.join(names[:_SHOWN])}{more}" if names else "it is empty"


def insist_on_tokenizer(folder: Path) -> None:
    """Sees that a folder has a tokenizer.

    Raises:
        ModelError: It has none.
    """
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"{folder} has no tokenizer: none of {', '.join(_TOKENIZERS[:3])}… ({there(folder)}).",
            hint="Copy the tokenizer's files there from the model that it was made of.",
        )


def insist_on_files(folder: Path) -> None:
    """Raise `ModelError` if a folder lacks a file of a complete model."""
    insist_on_config(folder)
    if (folder / INDEX).is_file():
        parts = _parts(folder)
        missing = [name for name in parts if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"{folder} lacks {len(missing)} of {len(parts)} files of weights: {', '.join(missing[:4])} "
                f"({there(folder)}).",
                hint="Copy or download them again: model.safetensors.index.json names them.",
            )
    elif not (folder / WEIGHTS).is_file():
        raise _no_weights(folder)


def insist_on_config(folder: Path) -> None:
    """Raise `ModelError` if a folder has no config.json, or holds an adapter."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, not a model.",
            hint=f"Put it into its base first: redraft weights merge-lora BASE {folder} -o FOLDER",
        )
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        hint = f"--model_name_or_path {files[0]}" if files else "Name the folder that has config.json in it."
        raise ModelError(f"{folder} is not a model: it has no config.json ({there(folder)}).", hint=hint)


def _no_weights(folder: Path) -> ModelError:
    if any(folder.glob("*.bin")):
        return ModelError(
            f"{folder} has pickled weights (.bin), which can contain code and are not read here.",
            hint=f"Convert them first: redraft weights convert {folder} -o FOLDER --allow-pickle",
        )
    return ModelError(
        f"{folder} has no weights: neither {WEIGHTS} nor {INDEX} ({there(folder)}).",
        hint="Copy or download the model again.",
    )


def _parts(folder: Path) -> list[str]:
    """Return the files that an index names, all in its folder."""
    path = folder / INDEX
    damaged = ModelError(f"{path} is damaged.", hint="Copy or download it again.")
    try:
        if path.stat().st_size > _MOST_JSON:
            raise damaged
        names = {str(name) for name in json.loads(path.read_bytes())["weight_map"].values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if any(Path(name).name != name for name in names):
        raise damaged
    return sorted(names)
