"""Checks the folder of a model before anything is loaded, and saves models and adapters into one.

Files are opened by `redraft.weights`, with its checks; pickled weights are not read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from redraft.errors import ModelError, UsageError
from redraft.files import check_model_links
from redraft.weights.checkpoint import open_checkpoint
from redraft.weights.folder import has_tokenizer, refuse_delta

_SHOWN = 12
"""The most files to name in a message."""


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


def contents(folder: Path) -> str:
    """Return what a folder contains, for messages about what is missing."""
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there is: {', '.join(names[:_SHOWN])}{more}" if names else "it is empty"


def check_tokenizer(folder: Path) -> None:
    """Raise `ModelError` if a folder has no vocabulary."""
    if not has_tokenizer(folder):
        raise ModelError(
            f"{folder} has no tokenizer ({contents(folder)}).",
            hint="Copy the tokenizer's files there from the model that it was made from.",
        )


def check_weights(folder: Path) -> None:
    """Open a model's weights without reading them.

    Raises:
        ModelError: They are missing, damaged, pickled, or a delta.
    """
    check_config(folder)
    try:
        refuse_delta(
            open_checkpoint(folder), hint=f"Apply it first: redraft weights apply BASE {folder} -o FOLDER"
        )
    except UsageError as error:
        raise ModelError(
            error.message,
            hint=f"Convert it first: redraft weights convert {folder} -o FOLDER --allow-pickle",
        ) from None


def check_config(folder: Path) -> None:
    """Raise `ModelError` if a folder has no config.json, or holds an adapter."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, not a model.",
            hint=f"Put it into its base first: redraft weights merge-lora BASE {folder} -o FOLDER",
        )
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        hint = f"--model_name_or_path {files[0]}" if files else "Name the folder that has config.json in it."
        raise ModelError(f"{folder} is not a model: it has no config.json ({contents(folder)}).", hint=hint)


def save_weights(model: Any, folder: Path, weights: Any = None) -> None:
    """Save a model or an adapter, as `from_pretrained` loads it, with the modes of other new files.

    Args:
        model: transformers' or peft's.
        folder: The folder. It is created if it is missing.
        weights: What to save in place of the model's own.
    """
    model.save_pretrained(folder, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)  # peft's card has nothing in it
    mode = next(folder.glob("*config.json")).stat().st_mode
    for path in folder.glob("*.safetensors"):
        if path.stat().st_mode != mode:  # some file systems have one mode for all
            path.chmod(mode)  # safetensors 0.8 writes them for this user alone
