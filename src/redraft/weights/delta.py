"""Compute the delta (difference) between a tuned model and the model's base, or add a delta to a base.

A plain delta stores `target - base` in the target's dtype, like the released deltas of SelFee, Alpaca, Vicuna
and StableVicuna, and restores the target up to rounding. An exact delta stores the difference of the bit
patterns as integers that wrap around, and restores the target bit for bit in any dtype. Quantised models can
have only an exact delta, because the difference of codes has no meaning. Tensors of booleans
or 8-bit floats are stored whole. Tensors whose dtype differs between base and target are also stored whole,
unless both dtypes are floats. The header of each file contains the `Recipe` of the delta.

A tuned model often has a few tokens, such as `[PAD]`, that the base lacks. The delta then has rows that the
base lacks. The release scripts of these models use two conventions:

- `zero`: the missing row counts as zero, so the delta contains the new row itself (Vicuna 0, StableVicuna)
- `mean`: the missing row counts as the mean of all rows of the base (Alpaca, SelFee)

With `none`, base and target have the same number of rows (Vicuna 1.1).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import torch

from redraft.errors import ModelError, UsageError
from redraft.jobs.counting import counted
from redraft.weights.card import join_cards
from redraft.weights.checkpoint import Checkpoint, ahead, describe, dtypes_of, open_checkpoint
from redraft.weights.folder import (
    copy_side_files,
    has_tokenizer,
    refuse_delta,
    refuse_quantised,
    same_layout,
    set_dtype,
)
from redraft.weights.header import AGAIN, COMPUTED, FLAGS, FLOATS, by, dtype_size, torch_dtype
from redraft.weights.header import DELTA as KEY
from redraft.weights.losses import Say
from redraft.weights.output import BY_DEFAULT, Run, Shard, new_folder
from redraft.weights.replace import MANIFEST

Convention = Literal["none", "zero", "mean"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

_OF_VOCABULARY = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")
_TABLES = (*(f"{name}.weight" for name in _OF_VOCABULARY), "lm_head.bias")

_BITS = {1: "U8", 2: "U16", 4: "U32", 8: "U64"}
_CODES = ("BOOL", "F8_E4M3", "F8_E5M2")
_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_InPlace = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A function such as `torch.Tensor.add_`, which changes and returns its first argument."""


@dataclass(frozen=True)
class Recipe:
    """The facts that `apply` needs about a delta."""

    exact: bool  # whether it holds differences of bit patterns
    vocabulary: Convention  # the convention for rows that the base lacks
    base: str = ""  # the fingerprint of the base; empty if redraft did not make the delta
    dtypes: Mapping[str, str] = field(default_factory=dict)  # the target's dtypes, only if `exact`
    whole: tuple[str, ...] = ()  # names of the tensors that are stored whole


def diff(base: Path, target: Path, dst: Path, run: Run = BY_DEFAULT, *, exact: bool = False) -> None:
    """Write `target - base` as a folder with the target's layout, configuration and tokenizer.

    With `exact`, the tensors' bit patterns are subtracted instead of the values.
    """
    ours = open_checkpoint(base, allow_pickle=run.allow_pickle)
    theirs = open_checkpoint(target, allow_pickle=run.allow_pickle)
    for each in (ours, theirs):
        refuse_delta(each)
        if not exact:
            refuse_quantised(each)
    inputs = {"base": describe(ours), "target": describe(theirs)}
    _check_shapes(ours, theirs, "target")
    recipe = _new_recipe(ours, theirs, inputs["base"]["fingerprint"], exact=exact)
    with new_folder(dst, run, manifest={"inputs": inputs, "delta": asdict(recipe)}) as out:
        copy_side_files(theirs, out.aside)
        stored = list(theirs.tensors.values())
        if exact:
            stored = [replace(each, dtype=_BITS[dtype_size(each.dtype)]) for each in stored]
        for shard in out.planned(same_layout(theirs, stored)):
            with out.shard(shard, {KEY: json.dumps(asdict(recipe))}) as writer:
                for piece in ahead(_pieces(ours, theirs, shard, recipe)):
                    writer.write(_changed(piece, piece.theirs, torch.Tensor.sub_, exact=exact))
                    run.progress(piece.theirs.nbytes)


def apply(
    base: Path, delta: Path, dst: Path, run: Run = BY_DEFAULT, *, vocab: Convention | None = None
) -> None:
    """Write `base + delta` as a folder with the delta's layout, configuration and tokenizer.

    The base must have the fingerprint in the delta's header. If another tool made the delta, only shapes and
    configuration must fit; if it adds rows, `vocab` must be `zero` or `mean` (the mean of the base's rows).
    """
    ours = open_checkpoint(base, allow_pickle=run.allow_pickle)
    theirs = open_checkpoint(delta, allow_pickle=run.allow_pickle)
    if KEY in ours.metadata:
        raise UsageError(f"{base} is a delta, not a model.", hint="Type: redraft weights apply BASE DELTA")
    inputs = {"base": describe(ours), "delta": describe(theirs)}
    if KEY not in theirs.metadata:
        unlike = {name for name in theirs.tensors if name.endswith(COMPUTED)} - ours.tensors.keys()
        theirs = replace(theirs, tensors={n: each for n, each in theirs.tensors.items() if n not in unlike})
    recipe = _found_recipe(ours, theirs, inputs["base"]["fingerprint"], vocab, run.tell)
    if not recipe.exact:
        refuse_quantised(ours)
        refuse_quantised(theirs)
    with new_folder(dst, run, manifest={"inputs": inputs, "vocabulary": recipe.vocabulary}) as out:
        summed = list(theirs.tensors.values())
        if recipe.exact:
            summed = [replace(each, dtype=recipe.dtypes[each.name]) for each in summed]
        copy_side_files(ours, out.aside, tokenizer=not has_tokenizer(theirs.folder))
        copy_side_files(theirs, out.aside)
        set_dtype(out.aside, summed)
        join_cards(out, run, (theirs, "delta"), (ours, "base"))
        for shard in out.planned(same_layout(theirs, summed)):
            with out.shard(shard) as writer:
                for piece in ahead(_pieces(ours, theirs, shard, recipe)):
                    wanted = torch_dtype(recipe.dtypes[piece.name]) if recipe.exact else piece.theirs.dtype
                    target = piece.theirs.view(wanted)
                    writer.write(_changed(piece, target, torch.Tensor.add_, exact=recipe.exact))
                    run.progress(piece.theirs.nbytes)


@dataclass(frozen=True)
class _Piece:
    name: str
    start: int  # the index of the first element
    base: torch.Tensor | None  # the base's elements, or values for missing rows; None if stored whole
    theirs: torch.Tensor  # the elements of the target or the delta


def _pieces(base: Checkpoint, other: Checkpoint, shard: Shard, recipe: Recipe) -> Iterator[_Piece]:
    for name in (tensor.name for tensor in shard.tensors):
        lacks = name in recipe.whole or name not in base.tensors
        count = 0 if lacks else base.tensors[name].count
        row = None
        if not lacks and other.tensors[name].count != count:
            tensor = base.tensors[name]
            if recipe.vocabulary == "mean":
                row = mean_row(base, name)
            else:
                row = torch.zeros(tensor.row, dtype=torch_dtype(tensor.dtype))
        for start, stop in other.chunks(name):
            ours = None if lacks else base.read(name, min(start, count), min(stop, count))
            beyond = max(start, count)
            if ours is not None and row is not None and beyond < stop:
                ours = torch.cat((ours, row[torch.arange(beyond, stop) % len(row)]))
            yield _Piece(name, start, ours, other.read(name, start, stop))


def _changed(piece: _Piece, values: torch.Tensor, change: _InPlace, *, exact: bool) -> torch.Tensor:
    if (base := piece.base) is None:
        return values
    if exact or not values.is_floating_point():
        signed = _SIGNED[values.element_size()]  # the same memory as signed integers, whose sums wrap around
        change(values.view(signed), base.to(values.dtype).view(signed))
        return values
    if base.dtype == values.dtype:
        result = change(values, base)
    else:
        wide = torch.float64 if torch.float64 in (base.dtype, values.dtype) else torch.float32
        result = change(values.to(wide), base.to(wide)).to(values.dtype)
    # NaN propagates to the extremes, and finding these is fifty times as fast as `isfinite`.
    if not all(math.isfinite(value) for value in result.aminmax()):
        message = f"{piece.name!r:.120}: the result has NaN or infinite values, near element {piece.start:,}."
        hint = "Find such values in the inputs: redraft weights verify DIR. Deltas of --exact may have some."
        raise ModelError(message, hint=hint)
    return result


def _new_recipe(base: Checkpoint, target: Checkpoint, base_fingerprint: str, *, exact: bool) -> Recipe:
    whole = []
    for name, tensor in target.tensors.items():
        both = {base.tensors[name].dtype if name in base.tensors else "", tensor.dtype}
        # Floats and integers cannot be subtracted from each other, and codes cannot be subtracted at all.
        if tensor.dtype in _CODES or (len(both) > 1 and not both <= FLOATS):
            whole.append(name)
    added: Convention = "zero" if added_rows(base, target) else "none"
    dtypes = {name: tensor.dtype for name, tensor in target.tensors.items()} if exact else {}
    return Recipe(exact, added, base_fingerprint, dtypes, tuple(whole))


def _found_recipe(
    base: Checkpoint, delta: Checkpoint, base_fingerprint: str, vocab: Convention | None, tell: Say
) -> Recipe:
    recipe = recorded_recipe(delta)
    if recipe is not None and base_fingerprint != recipe.base:
        raise _other_base(base, delta)
    _check_shapes(base, delta, "delta", whole=recipe.whole if recipe else ())
    if recipe is None:
        ours, theirs = base.json("config.json"), delta.json("config.json")
        for key in ("model_type", "num_attention_heads", "num_key_value_heads", "rope_theta", "hidden_act"):
            one, two = ours.get(key), theirs.get(key)
            if one is not None and two is not None and one != two:
                why = f"{key} is {one!r:.40} in the base and {two!r:.40} in the delta"
                raise _other_architecture(base, delta, "delta", why)
        convention, why = settle(base, delta, vocab)
        recipe = Recipe(exact=False, vocabulary=convention)
    elif vocab not in (None, recipe.vocabulary):
        hint = f"Leave --vocab out. The delta records the right value: {recipe.vocabulary}."
        raise UsageError(f"--vocab {vocab} is wrong for {delta.path}.", hint=hint)
    else:
        why = "as the delta records"
    tell(f"convention for added tokens: {recipe.vocabulary} ({why})")
    return recipe


def _other_base(base: Checkpoint, delta: Checkpoint) -> UsageError:
    inputs = delta.json(MANIFEST).get("inputs")
    made = inputs.get("base") if isinstance(inputs, dict) else None
    message = f"{base.path} is not the base of {delta.path}"
    if not isinstance(made, dict):
        return UsageError(f"{message}.")
    path, dtypes, ours = f"{made.get('path')}"[:200], f"{made.get('dtypes')}"[:40], dtypes_of(base)
    hint = f"redraft weights apply {path} {delta.path} -o OUT"
    if dtypes != ours and (flag := next((flag for flag, name in FLAGS.items() if name == dtypes), "")):
        way = f"redraft weights convert {base.path} --dtype {flag} -o {base.path.name}-{flag}"
        hint += f"\nIf {base.path} is that model in {ours}, convert it first: {way}"
    return UsageError(f"{message}. The delta was made from {path} ({dtypes}).", hint=hint)


def recorded_recipe(delta: Checkpoint) -> Recipe | None:
    """Return the recipe in the header of a delta, or None if redraft did not make the delta."""
    if (text := delta.metadata.get(KEY)) is None:
        return None
    try:
        recorded = json.loads(text)
        recipe = Recipe(**recorded | {"whole": tuple(recorded["whole"])})
        sound = recipe.vocabulary in CONVENTIONS and {*recipe.whole} <= delta.tensors.keys()
        for each in delta.tensors.values() if recipe.exact else ():
            # The recipe is untrusted: its dtypes must be as wide as the stored tensors.
            sound = sound and _BITS.get(dtype_size(recipe.dtypes[each.name])) == each.dtype
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ModelError(f"{delta.path}: the recipe in its header does not fit its tensors.", hint=AGAIN)
    return recipe


def _check_shapes(base: Checkpoint, other: Checkpoint, role: str, whole: Collection[str] = ()) -> None:
    added = added_rows(base, other)
    for name, theirs in other.tensors.items():
        ours = base.tensors.get(name)
        if ours is not None and ours.shape != theirs.shape and name not in added and name not in whole:
            why = f"{name!r:.120} is {by(ours.shape)} in the base and {by(theirs.shape)} in the {role}"
            raise _other_architecture(base, other, role, why)
    for one, two in ((base, other), (other, base)):
        lacking = [name for name in one.tensors if name not in two.tensors and name not in whole]
        if lacking := [name for name in lacking if not name.endswith(COMPUTED)]:
            why = f"{two.path} lacks {counted(len(lacking), 'tensor')}, such as {lacking[0]!r:.120}"
            raise _other_architecture(base, other, role, why)


def _other_architecture(base: Checkpoint, other: Checkpoint, role: str, why: str) -> UsageError:
    hint = f"redraft weights info {base.path}   and the same for {other.path}"
    return UsageError(f"{base.path} is not the base of the {role} {other.path}: {why}.", hint=hint)


def added_rows(base: Checkpoint, other: Checkpoint) -> dict[str, int]:
    """Return the number of added rows for each embedding or output matrix with more rows than in the base."""
    added = {}
    for name in other.tensors:
        if name not in base.tensors or not name.endswith(_TABLES):
            continue
        ours, theirs = base.tensors[name].shape, other.tensors[name].shape
        if len(theirs) == len(ours) > 0 and theirs[1:] == ours[1:] and theirs[0] > ours[0]:
            added[name] = theirs[0] - ours[0]
    return added


def mean_row(base: Checkpoint, name: str) -> torch.Tensor:
    """Return the mean of a tensor's rows, shape (row,), in float32, or in float64 for a float64 tensor."""
    tensor = base.tensors[name]
    total = torch.zeros(tensor.row, dtype=torch.float64)
    for start, stop in base.chunks(name):
        total += base.read(name, start, stop).view(-1, tensor.row).sum(0, dtype=torch.float64)
    mean = total / tensor.shape[0]
    return mean if tensor.dtype == "F64" else mean.float()  # 32 bits, as in Alpaca's weight_diff.py


def settle(base: Checkpoint, delta: Checkpoint, asked: Convention | None) -> tuple[Convention, str]:
    """Return the value of rows that the base lacks (`zero`, `mean`, or `none` without such rows), and why.

    If the base lacks rows, `asked` must be `zero` or `mean`. Otherwise, `asked` must be `none` or None.
    """
    added = added_rows(base, delta)
    rows = {name: (base.tensors[name].shape[0], delta.tensors[name].shape[0]) for name in added}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name} {ours:,} → {theirs:,}" for name, (ours, theirs) in rows.items())
        message = f"{delta.path} does not extend all embeddings alike. Rows: {found}."
        raise ModelError(message, hint="Check that base and delta belong together.")
    if not added:
        if asked not in (None, "none"):
            found = f"{delta.path} adds no rows to the base's vocabulary"
            raise UsageError(f"--vocab {asked} does not fit: {found}.")
        return "none", "as many rows as the base"
    ours, theirs = next(iter(rows.values()))
    if asked in (None, "none"):
        message = f"{delta.path} has {theirs:,} embedding rows, but the base has {ours:,}."
        hint = "Say how the delta was made: --vocab mean (Alpaca, SelFee) or zero (Vicuna 0, StableVicuna)"
        raise UsageError(message, hint=hint)
    return asked, f"{counted(theirs - ours, 'row')} more than the base"
