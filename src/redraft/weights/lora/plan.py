"""Plans how each tensor of a merged model is made from a base and a LoRA adapter.

All mismatches are found here, before anything is written: a module that the base lacks, another shape, a
quantised base. Only headers are read, except to compare two embeddings.

If the base ties its embeddings and the adapter changes one of them, the merged model has two, because the
model ran with two while it was trained. (peft's merge_and_unload changes both.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint
from redraft.weights.folder import refuse_delta, refuse_quantised
from redraft.weights.header import FLOATS, NotHandled, TensorInfo
from redraft.weights.lora.adapter import (
    Change,
    LoraAdapter,
    TrainedTokens,
    damaged,
    is_frozen,
    other_model,
    refuse_adapter,
    sizes,
)

OUTPUT = "lm_head.weight"
_INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")
_MERGED = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Target:
    """A tensor of the merged model, and how it is made.

    Attributes:
        info: Its name, dtype and shape, and its file in the base.
        source: The base or the adapter, which holds its values before the change.
        origin: Its name in `source`.
        change: The change to add, or None.
        transposed: Whether to add B·A transposed: for embeddings, and layers that store (in, out).
        tokens: The rows to replace, or None.
    """

    info: TensorInfo
    source: Checkpoint
    origin: str
    change: Change | None = None
    transposed: bool = False
    tokens: TrainedTokens | None = None

    @property
    def size(self) -> int:
        """Bytes in the source."""
        return self.source.tensors[self.origin].size


@dataclass(frozen=True)
class MergePlan:
    """All tensors of the merged model in the base's order, and the changes to config.json."""

    targets: Mapping[str, Target]
    config: Mapping[str, Any]


def plan_merge(base: Checkpoint, adapter: LoraAdapter, dtype: str | None) -> MergePlan:
    """Plan a merge into a result of one dtype, such as "BF16". None keeps the dtype of each tensor."""
    _check_base(base)
    targets = {name: Target(info, base, name) for name, info in base.tensors.items()}
    # An embedding saved with its LoRA is the base's, perhaps with more rows. If tied, it is the output too.
    shared = {name for name, info in adapter.replaced.items() if name.endswith(_INPUTS) and is_frozen(info)}
    for name in sorted(shared):
        _replace(adapter, base, targets, name, adapter.replaced[name])
    parted = _part_embeddings(base, adapter, targets)
    for name in sorted(adapter.replaced.keys() - shared - ({OUTPUT} if parted is False else set())):
        _replace(adapter, base, targets, name, adapter.replaced[name])
    for change in adapter.changes.values():
        _change(adapter, base, targets, change)
    for tokens in adapter.tokens.values():
        _set_tokens(adapter, base, targets, tokens)
    targets = {name: replace(each, info=each.info.rounded(dtype)) for name, each in targets.items()}
    return MergePlan(
        targets, {**_vocabulary(base, targets), **({"tie_word_embeddings": False} if parted else {})}
    )


def _check_base(base: Checkpoint) -> None:
    refuse_adapter(base)
    refuse_delta(base)
    refuse_quantised(base)
    for info in base.tensors.values():
        if info.dtype in FLOATS:
            _check_plain(base, info)


def _check_plain(base: Checkpoint, info: TensorInfo) -> None:
    if info.dtype not in _MERGED:
        raise NotHandled(
            f"{base.path} stores {info.name!r:.120} as {info.dtype}, which cannot be merged.",
            hint="Merge into the unquantised model, then quantise the result.",
        )


def _found(adapter: LoraAdapter, base: Checkpoint, targets: Mapping[str, Target], name: str) -> Target:
    """Return a target by the adapter's name. The base may lack the outer module, or have one more."""
    candidates = (name, f"model.{name}", name.partition(".")[2])
    found = next((each for each in candidates if each in targets), None)
    if found is None:
        raise other_model(adapter, base.path, f"it changes {name!r:.120}, which that model does not have")
    _check_plain(base, targets[found].info)
    return targets[found]


def _replace(
    adapter: LoraAdapter, base: Checkpoint, targets: dict[str, Target], name: str, info: TensorInfo
) -> None:
    """Replace a tensor of the base by one that the adapter holds whole, in the base's dtype."""
    target = _found(adapter, base, targets, name)
    old = target.info
    resized = old.name == OUTPUT or old.name.endswith(_INPUTS)
    if info.shape != old.shape and not (resized and len(info.shape) == 2 and info.shape[1:] == old.shape[1:]):
        raise other_model(adapter, base.path, sizes(name, info.shape, old.shape))
    targets[old.name] = replace(
        target, info=replace(old, shape=info.shape), source=adapter.weights, origin=info.name
    )


def _change(adapter: LoraAdapter, base: Checkpoint, targets: dict[str, Target], change: Change) -> None:
    target = _found(adapter, base, targets, f"{change.module}.weight")
    turned = change.product[::-1]
    transposed = change.embedding or (
        bool(adapter.config.get("fan_in_fan_out")) and turned == target.info.shape
    )
    product = turned if transposed else change.product
    if product != target.info.shape:
        raise other_model(adapter, base.path, sizes(change.module, product, target.info.shape))
    if target.change:
        raise damaged(adapter.folder, f"it changes {target.info.name!r:.120} under two names")
    targets[target.info.name] = replace(target, change=change, transposed=transposed)


def _set_tokens(
    adapter: LoraAdapter, base: Checkpoint, targets: dict[str, Target], tokens: TrainedTokens
) -> None:
    target = _found(adapter, base, targets, f"{tokens.module}.weight")
    shape = target.info.shape
    if tokens.values.shape[1:] != shape[1:] or max(tokens.rows, default=0) >= shape[0]:
        raise other_model(adapter, base.path, sizes(tokens.module, tokens.values.shape, shape))
    targets[target.info.name] = replace(target, tokens=tokens)


def _part_embeddings(base: Checkpoint, adapter: LoraAdapter, targets: dict[str, Target]) -> bool | None:
    """If the base ties its embeddings, give the merged model one or two, as it needs.

    Return whether it needs two; None if the base has two different ones.
    """
    source = next((name for name in targets if name.endswith(_INPUTS)), None)
    tied = base.json("config.json").get("tie_word_embeddings", OUTPUT not in targets)
    if source is None or not tied:
        return None
    if not _parts(adapter):
        targets.pop(OUTPUT, None)  # some bases keep a copy, which would not change
        return False
    targets.setdefault(OUTPUT, replace(targets[source], info=replace(targets[source].info, name=OUTPUT)))
    return True


def _parts(adapter: LoraAdapter) -> bool:
    """Return whether an adapter changes one of two tied embeddings, or both differently."""
    names = {*adapter.replaced, *(f"{module}.weight" for module in adapter.changes)}
    trained = {f"{module}.weight" for module in adapter.tokens}  # peft keeps these tied
    inputs = {name for name in names if name.endswith(_INPUTS)}
    if OUTPUT not in names | trained:
        return bool(inputs) and not adapter.config.get("ensure_weight_tying")
    replaced = [adapter.replaced.get(name) for name in (*inputs, OUTPUT)]
    modules = {name.removesuffix(".weight") for name in (*inputs, OUTPUT)}
    if len(replaced) == 2 and all(replaced) and not adapter.changes.keys() & modules:
        one, other = (info for info in replaced if info)
        return not _same(adapter.weights, one, other)
    return True


def _same(weights: Checkpoint, one: TensorInfo, other: TensorInfo) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return all(
        torch.equal(weights.read(one.name, start, stop), weights.read(other.name, start, stop))
        for start, stop in weights.chunks(one.name)
    )


def _vocabulary(base: Checkpoint, targets: Mapping[str, Target]) -> dict[str, int]:
    """Return the new vocabulary size for config.json, if the adapter changes it."""
    tables = [name for name in targets if name == OUTPUT or name.endswith(_INPUTS)]
    rows = {name: targets[name].info.shape[0] for name in tables}
    old = {base.tensors[name].shape[0] for name in rows if name in base.tensors}
    new = set(rows.values())
    if len(new) > 1:
        sizes = ", ".join(f"{name}: {count}" for name, count in rows.items())
        raise ModelError(
            f"the adapter has embeddings of different sizes ({sizes}).",
            hint="Train it again with both in modules_to_save.",
        )
    return {"vocab_size": new.pop()} if new and new != old else {}
