"""Merges a LoRA adapter into its base: W + scale·B·A, rounded once.

The sum is made in 32 bits, some rows at a time, so that memory holds one thin factor and a few chunks,
whatever the size of the model. `plan` says before what becomes of each tensor, and refuses what does
not fit; adapters of another kind than LoRA are not merged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import torch

from redraft.weights.checkpoint import CHUNK, Checkpoint, open_checkpoint
from redraft.weights.dtypes import dtype_size, torch_dtype
from redraft.weights.folder import copy_side_files, set_dtype
from redraft.weights.identity import describe
from redraft.weights.lora.adapter import Adapter, Change, Tokens, check_finite, read_adapter
from redraft.weights.lora.plan import Plan, Target, plan_merge
from redraft.weights.output import OutputFolder, Progress, Shard, ignore, layout
from redraft.weights.stream import ahead

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")

Rows = tuple[int, torch.Tensor]
"""The number of the first row, and some rows."""


class LowRank:
    """scale·B·A of one module, by rows of the weight. Holds one factor: rank × columns."""

    def __init__(self, adapter: Adapter, change: Change, dtype: torch.dtype, *, transposed: bool) -> None:
        self.adapter = adapter
        self.scale = change.scale
        self.dtype = dtype
        self.transposed = transposed
        held, self.cut = (change.b, change.a) if transposed else (change.a, change.b)
        self.held = adapter.rows(held, 0, held.shape[0]).to(dtype)
        if transposed:
            self.held = self.held.T

    def added_to(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """Rows of the weight from `start` on, shape (rows, columns), with the product added."""
        factor = self.adapter.rows(self.cut, start, start + len(rows), turned=self.transposed)
        return torch.addmm(rows.to(self.dtype), factor.to(self.dtype), self.held, alpha=self.scale)


def merged(target: Target, adapter: Adapter, size: int = CHUNK) -> Iterator[torch.Tensor]:
    """One tensor of the merged model, in parts of about `size` bytes at 32 bits.

    Yields:
        Flat parts in order, of the target's dtype.
    """
    dtype = torch_dtype(target.info.dtype)
    if not target.change and not target.tokens:
        for start, stop in target.source.chunks(target.origin, size):
            yield target.source.read(target.origin, start, stop).to(dtype)
        return
    for start, rows in _changed(target, adapter, size):
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if target.tokens:
            _put_tokens(target.tokens, adapter, wide, start)
        yield wide.to(dtype).reshape(-1)


def _rows(target: Target, size: int) -> Iterator[Rows]:
    """A matrix before the change."""
    count, width = target.info.shape
    step = max(size // (4 * max(width, 1)), 1)
    for start, stop in pairwise((*range(0, count, step), count)):
        yield start, target.source.read(target.origin, start * width, stop * width).reshape(-1, width)


def _changed(target: Target, adapter: Adapter, size: int) -> Iterator[Rows]:
    """A matrix with the change, in 32 bits (64 where its source has them)."""
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


def _put_tokens(tokens: Tokens, adapter: Adapter, rows: torch.Tensor, start: int) -> None:
    """Writes the trained rows over those of a part."""
    for number, row in enumerate(tokens.rows):
        if start <= row < start + len(rows):
            rows[row - start] = adapter.rows(tokens.values, number, number + 1)[0]


def merge_lora(
    base: Path,
    adapter: Path,
    dst: Path,
    *,
    dtype: str | None = None,
    force: bool = False,
    allow_pickle: bool = False,
    command: str = "",
    progress: Progress = ignore,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes the base with the adapter merged in: a folder that runs by itself.

    Configuration and tokenizer are the base's. Where the adapter's folder has a tokenizer, that one is taken,
    because training may have added tokens. `redraft_format` goes from the adapter's settings to config.json.

    Args:
        base: The folder or file of the model that the adapter was trained on.
        adapter: The folder that peft wrote.
        dst: The folder to be made.
        dtype: What all weights are rounded to, such as "BF16"; None for the base's own.
        force: Replace a folder that redraft made.
        allow_pickle: Read `.bin` files.
        command: What the manifest calls the command.
        progress: Told of the base's bytes.
        tell: Told in words what else should be known.

    Raises:
        ModelError: Base or adapter are damaged, of a kind that is not merged, or not made for each other.
        UsageError: There are only `.bin` files, and they are not allowed.
        OutputError: The output exists or cannot be written.
    """
    model = open_checkpoint(base, allow_pickle=allow_pickle)
    lora = read_adapter(adapter, allow_pickle=allow_pickle)
    plan = plan_merge(model, lora, dtype)
    check_finite(lora)
    inputs = {"base": describe(model), "adapter": describe(lora.weights)}
    making = {"command": command, "inputs": inputs, "settings": dict(lora.config), "dtype": dtype}
    with OutputFolder(dst, making=making, force=force) as out:
        _write_side_files(model, lora, plan, out)
        for shard in out.todo(layout(target.info for target in plan.targets.values()), progress):
            notes = {"not_finite": 0}
            with out.shard(shard, notes=notes) as writer:
                for part, width in ahead(_parts(shard, plan, lora)):
                    notes["not_finite"] += int((~part.isfinite()).sum()) if part.itemsize > 1 else 0
                    writer.write(part)
                    progress(part.numel() * width)
        _tell_of_odd(out, dtype, tell)


def _parts(shard: Shard, plan: Plan, adapter: Adapter) -> Iterator[tuple[torch.Tensor, int]]:
    """The tensors of a file in parts, and how many bytes an element of each had."""
    for info in shard.tensors:
        target = plan.targets[info.name]
        width = dtype_size(target.source.tensors[target.origin].dtype)
        for part in merged(target, adapter):
            yield part, width


def _write_side_files(base: Checkpoint, adapter: Adapter, plan: Plan, out: OutputFolder) -> None:
    copy_side_files(base, out.aside)
    if any((adapter.folder / name).is_file() for name in _VOCABULARIES):
        copy_side_files(adapter.weights, out.aside)
    named = {"redraft_format": adapter.format} if adapter.format else {}
    if config := base.json("config.json"):
        out.json("config.json", {**config, **plan.config, **named})
    set_dtype(out.aside, [target.info for target in plan.targets.values()])


def _tell_of_odd(out: OutputFolder, dtype: str | None, tell: Callable[[str], None]) -> None:
    odd = sum(each.get("not_finite", 0) for each in out.done.values())
    if odd:
        tell(
            f"{odd} values of the result are infinite or NaN: too large for {dtype or 'its dtype'}, or so "
            "in the base already. --dtype bf16 has room for larger ones."
        )
