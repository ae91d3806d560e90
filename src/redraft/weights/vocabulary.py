"""Deltas that redraft did not make: what rows of added tokens mean.

A tuned model often has a few tokens more than its base, such as `[PAD]`. Its delta then has rows that the
base lacks. Two conventions are in use (in the release scripts of the models named):

- `zero`: the missing row counts as zero, so that the delta holds the new row itself (Vicuna 0, StableVicuna)
- `mean`: the missing row counts as the mean of all rows of the base (Alpaca, SelFee)

With `none` both have the same rows (Vicuna 1.1).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from redraft.errors import ModelError
from redraft.weights.checkpoint import Checkpoint

Convention = Literal["none", "zero", "mean"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

_TABLES = (
    "embed_tokens.weight",
    "lm_head.weight",
    "lm_head.bias",
    "wte.weight",
    "embed_in.weight",
    "embed_out.weight",
)


def is_table(name: str) -> bool:
    """Return whether a tensor has a row for each token."""
    return name.endswith(_TABLES)


def added_rows(base: Checkpoint, other: Checkpoint) -> dict[str, int]:
    """Return the number of added rows of each table that has more rows than the base's and the same width."""
    added = {}
    for name in filter(is_table, other.tensors):
        if name not in base.tensors:
            continue
        ours, theirs = base.tensors[name].shape, other.tensors[name].shape
        if len(theirs) == len(ours) > 0 and theirs[1:] == ours[1:] and theirs[0] > ours[0]:
            added[name] = theirs[0] - ours[0]
    return added


def mean_row(base: Checkpoint, name: str) -> torch.Tensor:
    """Return the mean of a table's rows. Shape: (row,); float32, or float64 if the table is.

    It is summed in float64, and not rounded to the table's dtype: Alpaca's weight_diff.py uses float32.
    """
    tensor = base.tensors[name]
    total = torch.zeros(tensor.row, dtype=torch.float64)
    for start, stop in base.chunks(name):
        total += base.read(name, start, stop).view(-1, tensor.row).sum(0, dtype=torch.float64)
    mean = total / tensor.shape[0]
    return mean if tensor.dtype == "F64" else mean.float()


def settle(base: Checkpoint, delta: Checkpoint, asked: Convention | None) -> tuple[Convention, str]:
    """Return the convention of a delta, and the reason as a phrase.

    `asked` is the user's choice, which must fit the shapes. It is needed if the delta adds rows: they do not
    show what they are a difference from.
    """
    added = added_rows(base, delta)
    rows = {name: (base.tensors[name].shape[0], delta.tensors[name].shape[0]) for name in added}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name} {ours:,} → {theirs:,}" for name, (ours, theirs) in rows.items())
        raise ModelError(
            f"{delta.path} fits no convention for added tokens: its tables grow differently ({found}).",
            hint="Check that base and delta belong together.",
        )
    if not added:
        if asked not in (None, "none"):
            raise ModelError(f"--vocab {asked} does not fit: {delta.path} adds no rows to the base's.")
        return "none", "as many rows as the base"
    ours, theirs = next(iter(rows.values()))
    if asked in (None, "none"):
        raise ModelError(
            f"{delta.path} has {theirs:,} rows, and the base {ours:,}: what do the new ones hold?",
            hint="--vocab mean (Alpaca, SelFee), or --vocab zero (Vicuna 0, StableVicuna)",
        )
    return asked, f"{theirs - ours:,} rows more than the base"
