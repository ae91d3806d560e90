"""Merge a LoRA adapter into the base model: W + scale·B·A, rounded once.

`plan_merge` decides how each tensor is made, and rejects adapters that do not fit. Sums are computed in
float32, some rows at a time, so memory holds only A, B and a few chunks, for models of any size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from redraft.errors import ModelError
from redraft.weights.card import join_cards
from redraft.weights.checkpoint import CHUNK, Checkpoint, describe, open_checkpoint, portions
from redraft.weights.folder import copy_side_files, has_tokenizer, refuse_delta, refuse_quantised, set_dtype
from redraft.weights.header import FLOATS, TensorInfo
from redraft.weights.lora import adapter as peft
from redraft.weights.lora.adapter import Change, LoraAdapter
from redraft.weights.output import BY_DEFAULT, Run, layout, new_folder
from redraft.weights.replace import MANIFEST, write_json

OUTPUT = "lm_head.weight"
_INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


@dataclass(frozen=True)
class Target:
    """A tensor of the merged model, with the source tensor and the change to add."""

    info: TensorInfo  # its name, dtype and shape, and its file in the base
    source: Checkpoint  # the checkpoint with its values before the change: the base or the adapter
    origin: str  # its name in `source`
    change: Change | None = None  # the change to add, or None

    @property
    def size(self) -> int:
        """The number of bytes of the tensor in `source`."""
        return self.source.tensors[self.origin].size


@dataclass(frozen=True)
class MergePlan:
    """All tensors of the merged model, in the base's order, and the changes to config.json."""

    targets: Mapping[str, Target]
    config: Mapping[str, Any]


def plan_merge(base: Checkpoint, adapter: LoraAdapter, dtype: str | None) -> MergePlan:
    """Plan a merge. Float tensors get `dtype`, such as "BF16"; None keeps the dtype of each tensor."""
    peft.refuse_adapter(base)
    refuse_delta(base)
    refuse_quantised(base)
    _refuse_without_first(base, adapter)
    work = _Planner(base, adapter, {name: Target(info, base, name) for name, info in base.tensors.items()})
    parted = work.part_embeddings()
    for name in sorted(adapter.replaced.keys() - ({OUTPUT} if parted is False else set())):
        work.take_whole(name)
    for change in adapter.changes.values():
        work.change(change)
    targets = {name: replace(each, info=each.info.rounded(dtype)) for name, each in work.targets.items()}
    config = {**_vocabulary(base, targets), **({"tie_word_embeddings": False} if parted else {})}
    return MergePlan(targets, config)


def _refuse_without_first(base: Checkpoint, adapter: LoraAdapter) -> None:
    trained = str(adapter.config.get("base_model_name_or_path"))
    _, plus, first = trained.rpartition("+")
    # A plus may also belong to the base's own name.
    if not plus or Path(trained).expanduser().exists() or Path(trained).name == Path(base.path).name:
        return
    inputs = base.json(MANIFEST).get("inputs")
    merged = inputs.get("adapter") if isinstance(inputs, dict) else None
    if not isinstance(merged, dict) or Path(str(merged.get("path"))).name != Path(first).name:
        said = f"{adapter.folder} was trained on {trained}, but {base.path} has no record of merging {first}."
        raise ModelError(said, hint=f"redraft weights merge-lora {trained} {adapter.folder} -o FOLDER")


@dataclass(frozen=True)
class _Planner:
    base: Checkpoint
    adapter: LoraAdapter
    targets: dict[str, Target]

    def target_of(self, name: str) -> Target:
        candidates = (name, f"model.{name}", name.partition(".")[2])  # names may differ by a prefix
        if (found := next((each for each in candidates if each in self.targets), None)) is None:
            raise self.unfit(f"the model has no {name!r:.120}")
        if (info := self.targets[found].info).dtype not in FLOATS:
            message = f"{self.base.path} stores {info.name!r:.120} as {info.dtype}, which cannot be merged."
            raise ModelError(message, hint="Merge into the unquantised model, then quantise the result.")
        return self.targets[found]

    def unfit(self, why: str) -> ModelError:
        return peft.other_model(self.adapter, self.base.path, why)

    def take_whole(self, name: str) -> None:
        new, target = self.adapter.replaced[name], self.target_of(name)
        old = target.info
        resized = old.name == OUTPUT or old.name.endswith(_INPUTS)
        longer = resized and len(new.shape) == 2 and new.shape[1:] == old.shape[1:]
        if new.shape != old.shape and not longer:
            raise self.unfit(peft.sizes(name, new.shape, old.shape))
        info = replace(old, shape=new.shape)
        self.targets[old.name] = replace(target, info=info, source=self.adapter.weights, origin=new.name)

    def change(self, change: Change) -> None:
        target = self.target_of(f"{change.module}.weight")
        info = target.info
        if change.product != info.shape:
            raise self.unfit(peft.sizes(change.module, change.product, info.shape))
        if target.change:
            raise peft.damaged(self.adapter.folder, f"two of its modules change {info.name!r:.120}")
        self.targets[info.name] = replace(target, change=change)

    def part_embeddings(self) -> bool | None:
        """Untie embeddings if the adapter needs it. Return whether they are untied, or None if never tied."""
        source = next((target for name, target in self.targets.items() if name.endswith(_INPUTS)), None)
        tied = self.base.json("config.json").get("tie_word_embeddings", OUTPUT not in self.targets)
        if source is None or not tied:
            return None
        if not _parts(self.adapter):
            self.targets.pop(OUTPUT, None)  # some bases store a copy, which would not be merged
            return False
        self.targets.setdefault(OUTPUT, replace(source, info=replace(source.info, name=OUTPUT)))
        return True


def _parts(adapter: LoraAdapter) -> bool:
    names = {*adapter.replaced, *(f"{module}.weight" for module in adapter.changes)}
    inputs = {name for name in names if name.endswith(_INPUTS)}
    if OUTPUT not in names:
        return bool(inputs) and not adapter.config.get("ensure_weight_tying")
    both = [info for info in [adapter.replaced.get(name) for name in (*inputs, OUTPUT)] if info]
    if len(both) != 2 or OUTPUT.removesuffix(".weight") in adapter.changes:
        return True
    one, other = both
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return True
    read = adapter.weights.read
    parts = adapter.weights.chunks(one.name)
    return not all(torch.equal(read(one.name, *part), read(other.name, *part)) for part in parts)


def _vocabulary(base: Checkpoint, targets: Mapping[str, Target]) -> dict[str, int]:
    tables = [name for name in targets if name == OUTPUT or name.endswith(_INPUTS)]
    rows = {name: targets[name].info.shape[0] for name in tables}
    old = {base.tensors[name].shape[0] for name in rows if name in base.tensors}
    new = set(rows.values())
    if len(new) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in rows.items())
        hint = "Train the adapter again, with input and output embeddings in modules_to_save."
        raise ModelError(f"the adapter has embeddings of different sizes ({listed}).", hint=hint)
    return {"vocab_size": new.pop()} if new and new != old else {}


def merged(target: Target, adapter: LoraAdapter, size: int = CHUNK) -> Iterator[torch.Tensor]:
    """Yield a tensor of the merged model before rounding, in flat parts (`size`: bytes of a part in float32).

    Changed tensors are in float32, or float64 for a float64 target. Other tensors keep their dtype.
    """
    source, origin, change = target.source, target.origin, target.change
    if change is None:
        for start, stop in source.chunks(origin, size):
            yield source.read(origin, start, stop)
        return
    wide = torch.float64 if target.info.dtype == "F64" else torch.float32
    a, b = (adapter.rows(half, 0, half.shape[0]).to(wide) for half in (change.a, change.b))
    count, width = target.info.shape
    for start, stop in portions(count, width, size=size):
        rows = source.read(origin, start * width, stop * width).reshape(-1, width).to(wide)
        yield torch.addmm(rows, b[start:stop], a, alpha=change.scale).reshape(-1)


def merge_lora(
    base: Path, adapter: Path, dst: Path, run: Run = BY_DEFAULT, *, dtype: str | None = None
) -> None:
    """Merge an adapter into a base model, and write the merged model as a folder.

    The configuration comes from the base, and `redraft_format` from the adapter's settings. A tokenizer in
    the adapter's folder replaces the base's tokenizer. `dtype` is for example "BF16", or None to keep the
    dtype of each tensor.
    """
    model = open_checkpoint(base, allow_pickle=run.allow_pickle)
    lora = peft.read_adapter(adapter, allow_pickle=run.allow_pickle)
    plan = plan_merge(model, lora, dtype)
    peft.check_finite(lora)
    inputs = {"base": describe(model), "adapter": describe(lora.weights)}
    facts = {"inputs": inputs, "settings": dict(lora.config), "dtype": dtype}
    with new_folder(dst, run, manifest=facts) as out:
        own = has_tokenizer(lora.folder)
        copy_side_files(lora.weights, out.aside, tokenizer=own)
        copy_side_files(model, out.aside, tokenizer=not own)
        (out.aside / peft.CONFIG).unlink(missing_ok=True)  # this file would mark the folder as an adapter
        if config := model.json("config.json"):
            named = {"redraft_format": lora.format} if lora.format else {}
            write_json(out.aside / "config.json", {**config, **plan.config, **named})
        set_dtype(out.aside, [target.info for target in plan.targets.values()])
        join_cards(out, run, (model, "base"), (lora.weights, "adapter"))
        out.write_rounded(
            layout(target.info for target in plan.targets.values()),
            lambda info: merged(plan.targets[info.name], lora),
            size=lambda info: plan.targets[info.name].size,
        )
