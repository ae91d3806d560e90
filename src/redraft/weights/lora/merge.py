"""Merges a LoRA adapter into its base: W + scale·B·A, rounded once.

Sums are computed in float32, some rows at a time, so memory holds one thin factor and a few chunks for models
of any size. `plan` decides first how each tensor is made, and refuses adapters that do not fit. Adapters of
other kinds are not supported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from redraft.weights.card import join_cards
from redraft.weights.checkpoint import CHUNK, Checkpoint, describe, open_checkpoint, portions
from redraft.weights.folder import copy_side_files, has_tokenizer, set_dtype
from redraft.weights.lora.adapter import (
    CONFIG,
    Change,
    LoraAdapter,
    TrainedTokens,
    check_finite,
    read_adapter,
)
from redraft.weights.lora.plan import MergePlan, Target, plan_merge
from redraft.weights.output import BY_DEFAULT, OutputFolder, Run, layout

Rows = tuple[int, torch.Tensor]  # the index of the first row, and some rows


class LowRank:
    """Adds scale·B·A of a module to rows of its weight. Holds one factor: rank × columns."""

    def __init__(self, adapter: LoraAdapter, change: Change, dtype: torch.dtype, *, transposed: bool) -> None:
        self.adapter = adapter
        self.scale = change.scale
        self.dtype = dtype
        self.transposed = transposed
        held, self.cut = (change.b, change.a) if transposed else (change.a, change.b)
        self.held = adapter.rows(held, 0, held.shape[0]).to(dtype)
        if transposed:
            self.held = self.held.T

    def added_to(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """Return rows of the weight from `start` on, shape (rows, columns), plus the product."""
        factor = self.adapter.rows(self.cut, start, start + len(rows), turned=self.transposed)
        return torch.addmm(rows.to(self.dtype), factor.to(self.dtype), self.held, alpha=self.scale)


def merged(target: Target, adapter: LoraAdapter, size: int = CHUNK) -> Iterator[torch.Tensor]:
    """Yield a tensor of the merged model before rounding, in parts of about `size` bytes in float32.

    Parts are flat: float32 (float64 if the source is), or the source's dtype if nothing changes.
    """
    if not target.change and not target.tokens:
        for start, stop in target.source.chunks(target.origin, size):
            yield target.source.read(target.origin, start, stop)
        return
    for start, rows in _changed(target, adapter, size):
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if target.tokens:
            _put_tokens(target.tokens, adapter, wide, start)
        yield wide.reshape(-1)


def _rows(target: Target, size: int) -> Iterator[Rows]:
    """Yield the rows of a matrix before the change."""
    count, width = target.info.shape
    for start, stop in portions(count, width, size=size):
        yield start, target.source.read(target.origin, start * width, stop * width).reshape(-1, width)


def _changed(target: Target, adapter: LoraAdapter, size: int) -> Iterator[Rows]:
    """Yield the rows of a matrix with the change, in float32 (float64 if the source is)."""
    change = target.change
    if change is None:
        yield from _rows(target, size)
        return
    wide = torch.float64 if target.info.dtype == "F64" else torch.float32
    product = LowRank(adapter, change, wide, transposed=target.transposed)

    def summed() -> Iterator[Rows]:
        return ((at, product.added_to(rows, at)) for at, rows in _rows(target, size))

    if change.magnitude is None:
        yield from summed()
        return
    lengths = adapter.weights.read(change.magnitude.name).to(wide)
    if target.transposed:
        across = lengths / _column_lengths(rows for _, rows in summed())
        yield from ((at, rows * across) for at, rows in summed())
    else:
        for at, rows in summed():
            yield at, rows * (lengths[at : at + len(rows)] / rows.norm(dim=1)).unsqueeze(1)


def _column_lengths(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    squares = (rows.double().square().sum(dim=0) for rows in parts)
    return sum(squares, start=torch.zeros(())).sqrt().float()


def _put_tokens(tokens: TrainedTokens, adapter: LoraAdapter, rows: torch.Tensor, start: int) -> None:
    """Overwrite rows of a part with trained rows."""
    for number, row in enumerate(tokens.rows):
        if start <= row < start + len(rows):
            rows[row - start] = adapter.rows(tokens.values, number, number + 1)[0]


def merge_lora(
    base: Path,
    adapter: Path,
    dst: Path,
    run: Run = BY_DEFAULT,
    *,
    dtype: str | None = None,
) -> None:
    """Write the base with the adapter merged in: a folder that runs by itself.

    Configuration and tokenizer are the base's. If the adapter's folder has a tokenizer, that one is used
    instead, because training may have added tokens. `redraft_format` is copied from the adapter's settings to
    config.json. Without `dtype`, such as "BF16", weights keep the base's.
    """
    model = open_checkpoint(base, allow_pickle=run.allow_pickle)
    lora = read_adapter(adapter, allow_pickle=run.allow_pickle)
    plan = plan_merge(model, lora, dtype)
    check_finite(lora)
    inputs = {"base": describe(model), "adapter": describe(lora.weights)}
    provenance = {"inputs": inputs, "settings": dict(lora.config), "dtype": dtype}
    with OutputFolder(dst, run, provenance=provenance) as out:
        _write_side_files(model, lora, plan, out)
        join_cards(out, run, (model, "base"), (lora.weights, "adapter"))
        out.write_rounded(
            layout(target.info for target in plan.targets.values()),
            lambda info: merged(plan.targets[info.name], lora),
            size=lambda info: plan.targets[info.name].size,
        )


def _write_side_files(base: Checkpoint, adapter: LoraAdapter, plan: MergePlan, out: OutputFolder) -> None:
    own = has_tokenizer(adapter.folder)
    copy_side_files(adapter.weights, out.aside, tokenizer=own)
    copy_side_files(base, out.aside, tokenizer=not own)
    (out.aside / CONFIG).unlink(missing_ok=True)  # this file would mark the folder as an adapter
    named = {"redraft_format": adapter.format} if adapter.format else {}
    if config := base.json("config.json"):
        out.json("config.json", {**config, **plan.config, **named})
    set_dtype(out.aside, [target.info for target in plan.targets.values()])
