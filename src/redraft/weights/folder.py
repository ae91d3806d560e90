"""Copy configuration, card and tokenizer of a model, and keep the assignment of tensors to shards."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint, read_json, read_small
from redraft.weights.header import DELTA, FLOATS, TensorInfo, torch_dtype
from redraft.weights.output import Shard, shard_name
from redraft.weights.replace import MANIFEST, write_json

_SETTINGS = ("*.json", "README.md", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt")
_TEMPLATES = ("*.jinja", "chat_template.json")
_TOKENS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
_TOKENIZER = (*_VOCABULARIES, *_TOKENS, *_TEMPLATES)
_NEVER = ("*.index.json", MANIFEST, "trainer_state.json", "training_args.json")

ADAPTER = "adapter_model"  # the file name of a peft adapter's weights, without its suffix


def refuse_delta(
    checkpoint: Checkpoint, *, hint: str = "Apply it first: redraft weights apply BASE DELTA"
) -> None:
    """Raise if a checkpoint is a delta made by redraft. Deltas made by other tools look like models."""
    if DELTA in checkpoint.metadata:
        raise ModelError(f"{checkpoint.path} is a delta, not a model.", hint=hint)


def refuse_quantised(checkpoint: Checkpoint) -> None:
    """Raise if a model is quantised."""
    kind = checkpoint.json("config.json").get("quantization_config")
    scales = (".weight_scale", ".weight_scale_inv")
    scaled = next((name for name in checkpoint.tensors if name.endswith(scales)), "")
    if kind or scaled:
        method = kind.get("quant_method") if isinstance(kind, dict) else None
        found = f"{checkpoint.path} is quantised ({method or scaled!r:.80}): it contains codes, not weights."
        raise ModelError(found, hint="Start from the original model, or from a dequantised copy of this one.")


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder contains a tokenizer's vocabulary."""
    return any(any(folder.glob(pattern)) for pattern in _VOCABULARIES)


def copy_side_files(checkpoint: Checkpoint, into: Path, *, tokenizer: bool = True) -> None:
    """Copy configuration, card, licence and tokenizer, if the checkpoint is a folder.

    If `tokenizer` is false, no tokenizer file is copied.
    """
    if checkpoint.path != checkpoint.folder:
        return
    wanted = (*_SETTINGS, *_TOKENIZER) if tokenizer else _SETTINGS
    unwanted = _NEVER if tokenizer else (*_NEVER, *_TOKENIZER)
    for path in sorted({path for pattern in wanted for path in checkpoint.folder.glob(pattern)}):
        # There are folders called LICENSES (REUSE specification 3.3).
        if not path.is_dir() and not any(fnmatch(path.name, pattern) for pattern in unwanted):
            (into / path.name).write_bytes(read_small(path))


def same_layout(checkpoint: Checkpoint, tensors: Iterable[TensorInfo]) -> list[Shard]:
    """Assign tensors to the same shards as in the checkpoint. Shards are named as in transformers."""
    groups: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        groups.setdefault(checkpoint.tensors[tensor.name].file, []).append(tensor)
    return [Shard(shard_name(i, len(groups)), group) for i, group in enumerate(groups.values(), 1)]


def set_dtype(folder: Path, tensors: Iterable[TensorInfo]) -> None:
    """Set the dtype in `config.json` to the most common dtype of the weights."""
    config = read_json(folder / "config.json")
    counts: dict[str, int] = {}
    for tensor in tensors:
        if tensor.dtype in FLOATS:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.count
    if not config or not counts:
        return
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = str(torch_dtype(max(counts, key=lambda name: counts[name]))).removeprefix("torch.")
    write_json(folder / "config.json", config)
