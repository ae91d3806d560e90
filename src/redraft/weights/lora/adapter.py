"""Read a LoRA adapter saved by peft: the settings, and the effect of each tensor on the base model.

Plain and rank-stabilised adapters of linear layers, modules saved whole, and biases are supported. Other
adapters raise an error that recommends peft: an incomplete merge would make a wrong model that looks right.
`merge` and `gguf` check whether an adapter fits the base.

Format: peft 0.21, `LoraConfig` (tuners/lora/config.py), `get_peft_model_state_dict` (utils/save_and_load.py).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from redraft.errors import ModelError, UsageError
from redraft.weights.checkpoint import Checkpoint, open_checkpoint, read_json
from redraft.weights.folder import ADAPTER
from redraft.weights.header import FLOATS, TensorInfo, by
from redraft.weights.losses import not_finite

CONFIG = "adapter_config.json"
_MOST = 1 << 31

# Settings that do more than `W + scale·B·A` (peft, LoraConfig).
_VARIANTS = {
    "use_dora": "DoRA",
    "rank_pattern": "ranks by pattern",
    "alpha_pattern": "alphas by pattern",
    "trainable_token_indices": "trained tokens",
    "lora_bias": "a bias on lora_B",
    "target_parameters": "LoRA on bare parameters",
    "layer_replication": "repeated layers",
    "fan_in_fan_out": "layers that store (in, out), as in GPT-2",
    "kasa_config": "KaSA, which truncates the base",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "routing between adapters",
    "monteclora_config": "MonteCLoRA",
    "alora_invocation_tokens": "activated LoRA, which works on some tokens only",
    "use_qalora": "QALoRA on a quantised base",
    "velora_config": "VeLoRA",
    "megatron_config": "layers of Megatron",
}
# Initialisations that also change the base's own weights (peft, LoraLayer.update_layer).
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B)(\.weight)?")
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")


@dataclass(frozen=True)
class Change:
    """The change that an adapter makes to the weight of one module: scale · B·A."""

    module: str  # the module's name in the base, such as `model.layers.0.self_attn.q_proj`
    a: TensorInfo  # shape (rank, in)
    b: TensorInfo  # shape (out, rank)
    scale: float  # alpha / rank, or alpha / √rank if it is rank-stabilised

    @property
    def rank(self) -> int:
        """The number of rows of A, which is the number of columns of B."""
        return self.a.shape[0]

    @property
    def product(self) -> tuple[int, int]:
        """The shape of B·A."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class LoraAdapter:
    """A LoRA adapter on disk."""

    folder: Path
    config: Mapping[str, Any]  # `adapter_config.json`
    weights: Checkpoint  # its tensors, by their names in the adapter
    changes: Mapping[str, Change]  # by module
    # The adapter's tensors that replace tensors of the base, by name in the base.
    replaced: Mapping[str, TensorInfo]

    def rows(self, info: TensorInfo, start: int, stop: int) -> torch.Tensor:
        """Read rows `start` to `stop` of a matrix, in the matrix's dtype."""
        width = info.shape[1]
        return self.weights.read(info.name, start * width, stop * width).reshape(-1, width)

    @property
    def format(self) -> str | None:
        """The revision format used to train the adapter (the setting `redraft_format`), or None."""
        value = self.config.get("redraft_format")
        return value if isinstance(value, str) else None

    @property
    def certain(self) -> float | None:
        """The token probability below which a criticism is too uncertain (`EngineInfo.certain`), or None."""
        value = self.config.get("redraft_certain")
        return value if isinstance(value, float) and 0 <= value <= 1 else None


def read_config(folder: Path) -> dict[str, Any]:
    """Read an adapter's settings. Raise an error if the folder contains no adapter."""
    if not folder.exists():
        raise UsageError(f"there is no {folder}.", hint="Check the path.")
    if not (config := read_json(folder / CONFIG)):
        hint = "Name the folder that peft's save_pretrained wrote."
        if saved := max(folder.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime, default=None):
            hint = f"To finish the training, repeat the command that began it. Or name a checkpoint: {saved}"
            raise UsageError(f"{folder} contains checkpoints, but no finished adapter.", hint=hint)
        raise ModelError(f"{folder} is not an adapter: it has no {CONFIG}.", hint=hint)
    return config


def read_adapter(folder: Path, *, allow_pickle: bool = False) -> LoraAdapter:
    """Read and check an adapter's settings and headers."""
    config = read_config(folder)
    kind, start = config.get("peft_type"), config.get("init_lora_weights")
    if kind != "LORA":
        raise _not_merged_here(folder, f"its peft_type is {kind!r:.40}")
    for key, what in _VARIANTS.items():
        if config.get(key):
            raise _not_merged_here(folder, f"its {key} asks for {what}")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise _not_merged_here(folder, f"it was initialised by {start!r:.40} and changes the base too")
    weights = open_checkpoint(folder, allow_pickle=allow_pickle)
    parts, replaced = _sorted_out(folder, weights)
    changes = {name: _change(folder, config, name, part) for name, part in parts.items()}
    if not changes and not replaced:
        raise ModelError(f"{folder} changes nothing: it contains no tensors.")
    return LoraAdapter(folder, config, weights, changes, replaced)


def check_finite(adapter: LoraAdapter) -> None:
    """Raise `ModelError` if an adapter has NaN or infinite values, for example after failed training."""
    weights = adapter.weights
    for name in weights.tensors:
        if bad := sum(sum(not_finite(weights.read(name, *part))) for part in weights.chunks(name)):
            raise damaged(adapter.folder, f"{name!r:.120} contains infinite or NaN values ({bad:,})")


def refuse_adapter(checkpoint: Checkpoint) -> None:
    """Raise if a checkpoint is an adapter."""
    if checkpoint.files[0].startswith(ADAPTER):
        hint = f"Merge it first: redraft weights merge-lora BASE {checkpoint.path} -o DIR"
        raise ModelError(f"{checkpoint.path} is an adapter, but a model is needed.", hint=hint)


def other_model(adapter: LoraAdapter, base: Path, why: str) -> ModelError:
    """Return the error for an adapter that does not fit `base`."""
    trained = adapter.config.get("base_model_name_or_path")
    hint = "Use the model that the adapter was trained on" + (f": {trained!r:.120}" if trained else ".")
    return ModelError(f"the adapter {adapter.folder} does not fit the model {base}: {why}.", hint=hint)


def sizes(name: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> str:
    """Return a phrase that compares the shape of an adapter's change with the shape of the base's tensor."""
    return f"{name!r:.120} is {by(theirs)} in the adapter and {by(ours)} in the model"


def _not_merged_here(folder: Path, what: str) -> ModelError:
    hint = "Use peft: PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(DIR)"
    return ModelError(f"{folder}: {what}, which redraft does not merge.", hint=hint)


def damaged(folder: Path, what: str) -> ModelError:
    """Return the error for a damaged adapter."""
    return ModelError(f"{folder} is damaged: {what}.", hint="Get it again, or save it again with peft.")


def _sorted_out(
    folder: Path, weights: Checkpoint
) -> tuple[dict[str, dict[str, TensorInfo]], dict[str, TensorInfo]]:
    parts: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
    replaced: dict[str, TensorInfo] = {}
    for name, info in weights.tensors.items():
        if info.dtype not in FLOATS:
            raise damaged(folder, f"{name!r:.120} contains {info.dtype}, not floats")
        plain = name.removeprefix("base_model.model.")
        if match := _PART.fullmatch(plain):
            parts[match["module"]][match["part"]] = info
        elif "lora_" in plain or "token_adapter" in plain:
            raise _not_merged_here(folder, f"it contains the tensor {name!r:.120}")
        else:
            unwrapped = _WRAPPED.sub("", plain)
            if unwrapped in replaced:
                raise damaged(folder, f"it contains {unwrapped!r:.120} twice")
            replaced[unwrapped] = info
    return parts, replaced


def _change(folder: Path, config: Mapping[str, Any], module: str, part: dict[str, TensorInfo]) -> Change:
    if missing := [name for name in ("lora_A", "lora_B") if name not in part]:
        raise damaged(folder, f"{module!r:.120} has no {' and no '.join(missing)}")
    a, b, rank, alpha = part["lora_A"], part["lora_B"], config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not 0 < rank < _MOST:
        raise damaged(folder, f"{CONFIG} sets the rank {rank!r:.40}")
    if not isinstance(alpha, int | float) or not abs(alpha) < _MOST:
        raise damaged(folder, f"{CONFIG} sets the alpha {alpha!r:.40}")
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise _not_merged_here(folder, f"{module!r:.120} has a lora_A of shape {list(a.shape)}")
    if a.shape[0] != rank or b.shape[1] != rank:
        shapes = f"lora_A {list(a.shape)} and lora_B {list(b.shape)}"
        raise damaged(folder, f"{module!r:.120} has {shapes}, which do not fit the rank {rank} in {CONFIG}")
    return Change(module, a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
