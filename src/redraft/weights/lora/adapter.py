"""Reads a LoRA adapter as peft saves it: its settings, and what each of its tensors does to the base.

Understood are plain, rank-stabilised and DoRA adapters of linear layers and embeddings, patterns of ranks and
alphas, modules saved whole, biases, and trained tokens. Whatever else is in an adapter is an error that names
what does it, because a merge that leaves a part out is a wrong model that looks right. `plan` and
`to_gguf` say whether an adapter fits a base.

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

import regex
import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint, open_checkpoint, read_json
from redraft.weights.dtypes import FLOATS
from redraft.weights.folder import ADAPTER
from redraft.weights.header import NotHandled, TensorInfo
from redraft.weights.losses import not_finite

CONFIG = "adapter_config.json"
_MOST = 1 << 31

# What `W + scale·B·A` is not the whole of, each with what it does (peft, LoraConfig).
_VARIANTS = {
    "lora_bias": "a bias on lora_B",
    "target_parameters": "LoRA on bare parameters",
    "layer_replication": "repeated layers",
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

_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector"
    r"|token_adapter\.trainable_tokens_delta)(\.weight)?"
)
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save|token_adapter\.base_layer)(?=\.)")
_TOKENS = "token_adapter.trainable_tokens_delta"


@dataclass(frozen=True)
class Change:
    """What an adapter adds to the weight of one module: scale · B·A.

    Attributes:
        module: Its name in the base, such as `model.layers.0.self_attn.q_proj`.
        a: Shape (rank, in); for an embedding (rank, vocabulary).
        b: Shape (out, rank); for an embedding (width, rank).
        scale: alpha / rank, or alpha / √rank where it is rank-stabilised.
        embedding: Whether the weight is looked up, and so is (vocabulary, width): the product transposed.
        magnitude: DoRA's lengths, shape (out,), or None.
    """

    module: str
    a: TensorInfo
    b: TensorInfo
    scale: float
    embedding: bool = False
    magnitude: TensorInfo | None = None

    @property
    def rank(self) -> int:
        """How many rows A has, and columns B."""
        return self.a.shape[0]

    @property
    def product(self) -> tuple[int, int]:
        """The shape of B·A."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class Tokens:
    """Rows of an embedding that were trained by themselves, and replace those of the base.

    Attributes:
        rows: The indices, in the order of the tensor's rows.
        values: Shape (rows, width).
    """

    module: str
    rows: tuple[int, ...]
    values: TensorInfo


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on disk.

    Attributes:
        config: `adapter_config.json`.
        weights: Its tensors, under the adapter's own names.
        changes: By module.
        replaced: Names of the base's tensors, and the adapter's tensors that take their places.
        tokens: By module.
    """

    folder: Path
    config: Mapping[str, Any]
    weights: Checkpoint
    changes: Mapping[str, Change]
    replaced: Mapping[str, TensorInfo]
    tokens: Mapping[str, Tokens]

    def rows(self, info: TensorInfo, start: int, stop: int, *, turned: bool = False) -> torch.Tensor:
        """Rows `start` to `stop` of one of its matrices, or of the transpose, in the matrix's dtype."""
        count, width = info.shape
        if not turned:
            return self.weights.read(info.name, start * width, stop * width).reshape(-1, width)
        parts = (self.weights.read(info.name, i * width + start, i * width + stop) for i in range(count))
        return torch.stack(list(parts), dim=1)

    @property
    def format(self) -> str | None:
        """How the model revises (`redraft_format`), or None."""
        value = self.config.get("redraft_format")
        return value if isinstance(value, str) else None


def read_adapter(folder: Path, *, allow_pickle: bool = False) -> Adapter:
    """Reads and checks an adapter's settings and headers.

    Raises:
        UsageError: Its weights are a pickle, and that is not allowed.
        ModelError: It is missing or damaged, or of a kind that is not merged here.
    """
    config = read_json(folder / CONFIG)
    if not config:
        raise ModelError(
            f"{folder} is no adapter: it has no {CONFIG}.",
            hint="Name the folder that peft's save_pretrained wrote.",
        )
    _check_kind(folder, config)
    weights = open_checkpoint(folder, allow_pickle=allow_pickle)
    parts, replaced = _sorted_out(folder, weights)
    tokens = {name: _tokens(folder, config, name, part) for name, part in parts.items() if _TOKENS in part}
    changes = {
        name: _change(folder, config, name, part) for name, part in parts.items() if name not in tokens
    }
    if not changes and not replaced and not tokens:
        raise ModelError(f"{folder} changes nothing: it holds no tensors.")
    return Adapter(folder, config, weights, changes, replaced, tokens)


def check_finite(adapter: Adapter) -> None:
    """Sees that no value of an adapter is infinite or NaN, as they are after training that went wrong.

    Raises:
        ModelError: One is.
    """
    weights = adapter.weights
    for name in weights.tensors:
        bad = sum(sum(not_finite(weights.read(name, *part))) for part in weights.chunks(name))
        if bad:
            raise damaged(adapter.folder, f"{bad} values of {name!r:.120} are infinite or NaN")


def refuse_adapter(checkpoint: Checkpoint) -> None:
    """Sees that a checkpoint is a model.

    Raises:
        ModelError: It is an adapter.
    """
    if checkpoint.files[0].startswith(ADAPTER):
        raise ModelError(
            f"{checkpoint.path} is an adapter, and a model is needed here.",
            hint=f"redraft weights merge-lora BASE {checkpoint.path} -o DIR   makes a model of it",
        )


def other_model(adapter: Adapter, base: Path, why: str) -> ModelError:
    """The adapter does not fit the base."""
    trained = adapter.config.get("base_model_name_or_path")
    return ModelError(
        f"the adapter {adapter.folder} is for another model than {base}: {why}.",
        hint=f"It was trained on {trained!r:.120}." if trained else "Name the model that it was trained on.",
    )


def sizes(name: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> str:
    """Why an adapter does not fit: it has one shape and the base another."""
    said = " × ".join(map(str, theirs)), " × ".join(map(str, ours))
    return f"it changes {name!r:.120} as {said[0]} and the model has {said[1]}"


def is_frozen(info: TensorInfo) -> bool:
    """Whether a tensor is the base's own weight, which peft saves along with the LoRA of an embedding."""
    return info.name.endswith(".base_layer.weight")


def not_merged_here(folder: Path, what: str) -> ModelError:
    """An adapter of a kind that only peft can handle."""
    return NotHandled(
        f"{folder}: {what}, which redraft does not merge.",
        hint="peft does: PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(DIR)",
    )


def damaged(folder: Path, what: str) -> ModelError:
    """An adapter that contradicts itself."""
    return ModelError(f"{folder} is damaged: {what}.", hint="Get it again, or save it again with peft.")


def _check_kind(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise not_merged_here(folder, f"its peft_type is {kind!r:.40}")
    for key, what in _VARIANTS.items():
        if config.get(key):
            raise not_merged_here(folder, f"its {key} asks for {what}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise not_merged_here(folder, f"it began from {start!r:.40}, which changed the base too")


def _sorted_out(
    folder: Path, weights: Checkpoint
) -> tuple[dict[str, dict[str, TensorInfo]], dict[str, TensorInfo]]:
    """The parts of each changed module, and the tensors that replace the base's."""
    parts: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
    replaced: dict[str, TensorInfo] = {}
    for name, info in weights.tensors.items():
        if info.dtype not in FLOATS:
            raise damaged(folder, f"{name!r:.120} holds {info.dtype}, not numbers with a fraction")
        plain = name.removeprefix("base_model.model.")
        if match := _PART.fullmatch(plain):
            parts[match["module"]][match["part"]] = info
        elif "lora_" in plain or "token_adapter" in _WRAPPED.sub("", plain):
            raise not_merged_here(folder, f"it holds the tensor {name!r:.120}")
        else:
            unwrapped = _WRAPPED.sub("", plain)
            if unwrapped in replaced:
                raise damaged(folder, f"it holds {unwrapped!r:.120} twice")
            replaced[unwrapped] = info
    return parts, replaced


def _change(folder: Path, config: Mapping[str, Any], module: str, part: dict[str, TensorInfo]) -> Change:
    embedding = "lora_embedding_A" in part
    names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    missing = [name for name in names if name not in part]
    if missing:
        raise damaged(folder, f"{module!r:.120} has no {' and no '.join(missing)}")
    a, b = (part[name] for name in names)
    rank, scale = _scale(folder, config, module)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise not_merged_here(folder, f"{module!r:.120} has a lora_A of shape {list(a.shape)}")
    if a.shape[0] != rank or b.shape[1] != rank:
        sizes = f"lora_A {list(a.shape)} and lora_B {list(b.shape)}"
        raise damaged(folder, f"{module!r:.120} has {sizes}, and {CONFIG} says rank {rank}")
    magnitude = part.get("lora_magnitude_vector")
    if (magnitude is None) == bool(config.get("use_dora")):
        raise damaged(folder, f"use_dora and the tensors of {module!r:.120} contradict each other")
    if magnitude and magnitude.count != b.shape[0]:
        raise damaged(folder, f"the lora_magnitude_vector of {module!r:.120} has {magnitude.count} numbers")
    return Change(module, a, b, scale, embedding, magnitude)


def _scale(folder: Path, config: Mapping[str, Any], module: str) -> tuple[int, float]:
    """Rank and scale of a module, by the settings and their patterns."""
    rank = _by_pattern(folder, config, "rank_pattern", module, config.get("r"))
    alpha = _by_pattern(folder, config, "alpha_pattern", module, config.get("lora_alpha"))
    if not isinstance(rank, int) or not 0 < rank < _MOST:
        raise damaged(folder, f"{CONFIG} gives {module!r:.120} the rank {rank!r:.40}")
    if not isinstance(alpha, int | float) or not abs(alpha) < _MOST:
        raise damaged(folder, f"{CONFIG} gives {module!r:.120} the alpha {alpha!r:.40}")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(folder: Path, config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    """The value of the first pattern that the end of a module's name matches (peft, `get_pattern_key`)."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise damaged(folder, f"{key} of {CONFIG} is no object")
    return next((value for pattern, value in patterns.items() if _matches(folder, pattern, module)), default)


def _matches(folder: Path, pattern: str, module: str) -> bool:
    # A stranger's pattern may take for ever: hence the time limit, which the standard library lacks.
    try:
        return regex.fullmatch(rf"(.*\.)?({pattern})", module, timeout=1) is not None
    except (regex.error, TimeoutError):
        raise damaged(folder, f"{CONFIG} has the pattern {pattern!r:.80}, which cannot be used") from None


def _tokens(folder: Path, config: Mapping[str, Any], module: str, part: dict[str, TensorInfo]) -> Tokens:
    if len(part) > 1:
        raise not_merged_here(folder, f"{module!r:.120} has trained tokens and LoRA at once")
    values, rows = part[_TOKENS], _rows(config, module)
    if len(values.shape) != 2 or len(rows) != values.shape[0]:
        raise damaged(
            folder, f"trainable_token_indices names {len(rows)} rows of {module!r:.120}: {list(values.shape)}"
        )
    return Tokens(module, rows, values)


def _rows(config: Mapping[str, Any], module: str) -> tuple[int, ...]:
    listed = config.get("trainable_token_indices")
    if isinstance(listed, dict):
        found = (rows for name, rows in listed.items() if f".{module}".endswith(f".{name}"))
        listed = next(found, None)
    rows = listed if isinstance(listed, list) else []
    return tuple(row for row in rows if isinstance(row, int) and row >= 0)
