"""What lies in a model's folder, looked at before anything is loaded: what is missing, and what to type.

A GGUF file becomes a folder first (`folder_of`), by the converter that is passed in: transformers' own reader
drops the frequencies of long contexts and guesses pre-tokenizers. Pickled weights are not read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from redraft.errors import ModelError, UsageError
from redraft.files import insist_on_own_files

Convert = Callable[[Path, Path], None]
"""Writes the folder (second) of a GGUF file (first), whole or not at all."""

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_MOST_JSON = 64 << 20
_SHOWN = 12
"""Names of files that a message lists at most."""


def folder_of(ref: str, *, cache: Path, convert: Convert) -> str:
    """A model reference that `load_tokenizer` and `load_model` take: itself, or the folder of a GGUF file.

    The folder is made once in `cache`; it is another one when the file changes.

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
    """The folder that a model reference names, or None if it can only be org/name on the hub.

    Raises:
        UsageError: It is neither, or a file.
        ModelError: A file of the folder is a link that leads out of it.
    """
    path = Path(ref).expanduser()
    if path.is_dir():
        insist_on_own_files(path)
        return path
    if path.is_file() or ref.lower().endswith(".gguf"):
        raise UsageError(
            f"{ref} is a file: training begins from a folder, as transformers has it.",
            hint=f"redraft weights from-gguf {ref} -o FOLDER",
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", ref) and not path.parent.is_dir():
        return None
    raise UsageError(
        f"there is no model {ref!r}: no folder has that name, and it is no org/name of the hub.",
        hint="--model_name_or_path default · FOLDER · FILE.gguf · org/name",
    )


def there(folder: Path) -> str:
    """What a folder has, to say beside what it has not."""
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
    """Sees that a folder has the files of a whole model, all of them.

    Raises:
        ModelError: One is missing.
    """
    insist_on_config(folder)
    if (folder / INDEX).is_file():
        parts = _parts(folder)
        missing = [name for name in parts if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"{folder} lacks {len(missing)} of {len(parts)} files of weights: {', '.join(missing[:4])} "
                f"({there(folder)}).",
                hint="Copy or download them again: it is the files that model.safetensors.index.json names.",
            )
    elif not (folder / WEIGHTS).is_file():
        raise _no_weights(folder)


def insist_on_config(folder: Path) -> None:
    """Sees that a folder says what model it holds.

    Raises:
        ModelError: It does not, or holds an adapter.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, not a model.",
            hint=f"Put it into its base first: redraft weights merge-lora BASE {folder} -o FOLDER",
        )
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        hint = f"--model_name_or_path {files[0]}" if files else "Name the folder that has config.json in it."
        raise ModelError(f"{folder} is no model: it has no config.json ({there(folder)}).", hint=hint)


def _no_weights(folder: Path) -> ModelError:
    if any(folder.glob("*.bin")):
        return ModelError(
            f"{folder} has its weights in pickles (.bin), which can hold programs and are not read here.",
            hint=f"Convert them first: redraft weights convert {folder} -o FOLDER --allow-pickle",
        )
    return ModelError(
        f"{folder} has no weights: neither {WEIGHTS} nor {INDEX} ({there(folder)}).",
        hint="Copy or download the model again.",
    )


def _parts(folder: Path) -> list[str]:
    """The files that an index names, all in its folder."""
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
