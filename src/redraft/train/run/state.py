"""Save the states of optimizer, schedule and random generators as safetensors and JSON, bit for bit.

A state is a tree of dictionaries, lists, tensors and plain values. Its tensors go into a safetensors file,
and the rest of the tree into the header of that file. Nothing is pickled, so a stranger's checkpoint can at
worst hold wrong numbers. FSDP and DeepSpeed have formats of their own, which do pickle.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from redraft.errors import ModelError

_HEAD = "state"


def save_state(path: Path, state: Any) -> None:
    """Write a state.

    Raises:
        TypeError: A value is neither a tensor nor plain.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(state, tensors)
    save_file(tensors, path, metadata={_HEAD: json.dumps(tree)})


def load_state(path: Path) -> Any:
    """Read a state written by `save_state`.

    Raises:
        ModelError: The file is not one, or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tree = json.loads(file.metadata()[_HEAD])
            return _unpack(tree, file)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> ModelError:
    """Return the error for a damaged file of a checkpoint."""
    return ModelError(
        f"{path} cannot be read: {error!s:.200}.",
        hint="Resume from another checkpoint with --resume_from_checkpoint FOLDER.",
    )


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a tree as JSON, with each tensor replaced by its name in `tensors`."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A copy: safetensors takes no views, and no two tensors of one memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[_pack(key, tensors), _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(each, tensors) for each in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved in a state")


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
    """Return the states of all random generators of this process and its GPUs."""
    kind, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.random.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the generators to a state from `random_state`."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.random.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
