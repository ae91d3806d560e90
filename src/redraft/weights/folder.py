"""What a model's folder holds beside its weights, and how its weights are cut into files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from redraft.errors import ModelError
from redraft.weights.checkpoint import SAFETENSORS, Checkpoint, read_json, read_small
from redraft.weights.dtypes import FLOATS, torch_dtype
from redraft.weights.header import DELTA, NotHandled, TensorInfo
from redraft.weights.output import Shard, shard_name
from redraft.weights.replace import MANIFEST

_SETTINGS = ("*.json", "README.md", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt")
_TOKENIZER = (
    *_VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "*.jinja",
    "chat_template.json",
)
_NEVER = ("*.index.json", MANIFEST, "trainer_state.json", "training_args.json")


ADAPTER = "adapter_model"
"""What the weights' file of a peft adapter is called, without its ending."""


def refuse_delta(
    checkpoint: Checkpoint, *, hint: str = "Apply it first: redraft weights apply BASE DELTA"
) -> None:
    """Sees that a checkpoint is a model, and not the difference of two.

    Raises:
        ModelError: It is a delta that redraft made. Another's cannot be told from a model.
    """
    if DELTA in checkpoint.metadata:
        raise ModelError(f"{checkpoint.path} is a delta, not a model.", hint=hint)


def refuse_quantised(checkpoint: Checkpoint) -> None:
    """Sees that a model's numbers are the weights, and not codes that go with scales.

    Raises:
        ModelError: It is quantised.
    """
    kind = checkpoint.json("config.json").get("quantization_config")
    scaled = next(
        (name for name in checkpoint.tensors if name.endswith((".weight_scale", ".weight_scale_inv"))), ""
    )
    if kind or scaled:
        method = kind.get("quant_method") if isinstance(kind, dict) else None
        raise NotHandled(
            f"{checkpoint.path} is quantised ({method or scaled!r:.80}): its numbers are codes, not weights.",
            hint="Start from the model that it was made from, or let transformers load and save it again.",
        )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a vocabulary of its own."""
    return any(True for pattern in _VOCABULARIES for _ in folder.glob(pattern))


def copy_side_files(checkpoint: Checkpoint, into: Path, *, tokenizer: bool = True) -> None:
    """Copies configuration, card, licence and tokenizer. A single file brings none: its folder may be any.

    Args:
        checkpoint: Whose folder it is.
        into: A folder of ours.
        tokenizer: Whether the tokenizer's files are copied. Those of two models must not be mixed.

    Raises:
        ModelError: A file cannot be read, is no plain file of that folder, or is too large.
        OSError: A copy cannot be written.
    """
    if checkpoint.path != checkpoint.folder:
        return
    wanted = (*_SETTINGS, *_TOKENIZER) if tokenizer else _SETTINGS
    unwanted = _NEVER if tokenizer else (*_NEVER, *_TOKENIZER)
    for path in sorted({path for pattern in wanted for path in checkpoint.folder.glob(pattern)}):
        if not any(fnmatch(path.name, pattern) for pattern in unwanted):
            (into / path.name).write_bytes(read_small(path))


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
