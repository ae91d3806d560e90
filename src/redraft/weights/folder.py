"""What a model's folder holds beside its weights, and how its weights are cut into files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from redraft.errors import ModelError
from redraft.weights.checkpoint import MAX_JSON, SAFETENSORS, Checkpoint, read_json
from redraft.weights.dtypes import FLOATS, torch_dtype
from redraft.weights.header import TensorInfo
from redraft.weights.output import Shard, shard_name
from redraft.weights.replace import MANIFEST

_SIDE_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "NOTICE*")
_NOT = (MANIFEST, "adapter_config.json", "trainer_state.json", "training_args.json")


def copy_side_files(checkpoint: Checkpoint, into: Path) -> None:
    """Copies configuration, tokenizer and licence. A single file brings none: its folder may be anyone's.

    Raises:
        ModelError: One cannot be read, or is larger than any such file is.
    """
    if checkpoint.path != checkpoint.folder:
        return
    found = {path for pattern in _SIDE_FILES for path in checkpoint.folder.glob(pattern)}
    for path in sorted(found):
        if path.name in _NOT or path.name.endswith(".index.json"):
            continue
        try:
            if path.stat().st_size > MAX_JSON:
                raise ModelError(f"{path} has more than {MAX_JSON >> 20} MB, which no such file has.")
            shutil.copyfile(path, into / path.name)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}.") from None


def same_layout(
    checkpoint: Checkpoint, tensors: Iterable[TensorInfo], form: str = SAFETENSORS
) -> list[Shard]:
    """Tensors in as many files as the checkpoint has, the same ones together, by the usual names."""
    groups: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        groups.setdefault(checkpoint.tensors[tensor.name].file, []).append(tensor)
    return [Shard(shard_name(i, len(groups), form), group) for i, group in enumerate(groups.values(), 1)]


def set_dtype(folder: Path, tensors: Iterable[TensorInfo]) -> None:
    """Lets `config.json` name the dtype that most of the weights have, under the key that it uses for it."""
    path = folder / "config.json"
    config = read_json(path)
    counts: dict[str, int] = {}
    for tensor in tensors:
        if tensor.dtype in FLOATS:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.count
    if not config or not counts:
        return
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = str(torch_dtype(max(counts, key=lambda name: counts[name]))).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
