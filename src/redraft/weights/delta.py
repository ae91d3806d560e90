"""Deltas: the difference of a tuned model from its base, and the sum of both.

A plain delta holds `target - base` in the target's dtype, as the released ones of SelFee, Alpaca, Vicuna and
StableVicuna do; adding it back is exact but for rounding. An exact delta holds the difference of the bit
patterns, taken as integers that wrap around, and gives the target back bit for bit in any dtype. Rows that
the base lacks, and numbers of another kind than the base's, are stored as they are. How a delta was made is
in the header of each of its files.

Rows of added tokens follow a convention: see `vocabulary`. Deltas over quantised files are not made here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from redraft.errors import ModelError, UsageError
from redraft.weights import plausible, vocabulary
from redraft.weights.checkpoint import BIN, Checkpoint, open_checkpoint
from redraft.weights.dtypes import FLOATS, dtype_size, torch_dtype
from redraft.weights.folder import copy_side_files, has_tokenizer, refuse_delta, same_layout, set_dtype
from redraft.weights.header import AGAIN, TensorInfo
from redraft.weights.header import DELTA as KEY
from redraft.weights.identity import describe, dtypes_of, raw_bytes
from redraft.weights.output import OutputFolder, Progress, Shard, ignore
from redraft.weights.repair import repair_tokenizer
from redraft.weights.replace import MANIFEST
from redraft.weights.stream import ahead
from redraft.weights.vocabulary import CONVENTIONS, Convention

Sums = dict[str, tuple[str | None, str]]
"""By tensor: SHA-256 of the base's bytes (None where it has none), and of the target's."""

_BITS = {1: "U8", 2: "U16", 4: "U32", 8: "U64"}
_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_COMPUTED = "rotary_emb.inv_freq"
"""A buffer in old checkpoints that every model computes for itself."""


@dataclass(frozen=True)
class Recipe:
    """How a delta was made, as far as its sum depends on it.

    Attributes:
        exact: Differences of bit patterns.
        vocabulary: What rows that the base lacks count as.
        base: The fingerprint of the base; empty where the delta is not ours.
        dtypes: The target's dtype of each tensor, where the delta is exact.
        whole: Tensors that are stored as they are, because the base lacks them.
    """

    exact: bool
    vocabulary: Convention
    base: str = ""
    dtypes: Mapping[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()


def diff(
    base: Path,
    target: Path,
    dst: Path,
    *,
    exact: bool = False,
    force: bool = False,
    allow_pickle: bool = False,
    command: str = "",
    progress: Progress = ignore,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes `target - base` as a folder with the target's layout, configuration and tokenizer.

    Memory does not grow with the model: tensors go through in pieces of 8 MiB.

    Args:
        base: The folder or file of the base.
        target: The folder or file of the tuned model.
        dst: The folder to be made.
        exact: Store differences of bit patterns.
        force: Replace a folder that redraft made.
        allow_pickle: Read `.bin` files.
        command: What the manifest calls the command.
        progress: Told of the target's bytes.
        tell: Told in words what is begun afresh.

    Raises:
        ModelError: A checkpoint is damaged, the two are of different architectures, or a plain difference is
            not finite.
        UsageError: There are only `.bin` files, and they are not allowed.
        OutputError: The output exists or cannot be written.
    """
    ours = open_checkpoint(base, allow_pickle=allow_pickle)
    theirs = open_checkpoint(target, allow_pickle=allow_pickle)
    refuse_delta(ours)
    refuse_delta(theirs)
    inputs = {"base": describe(ours), "target": describe(theirs)}
    ours = _with_head(ours, theirs)
    _insist_on_shapes(ours, theirs, "target")
    recipe = _new_recipe(ours, theirs, inputs["base"]["fingerprint"], exact=exact)
    making = {"inputs": inputs, "delta": asdict(recipe)}
    with OutputFolder(dst, making=making, command=command, force=force, tell=tell) as out:
        copy_side_files(theirs, out.aside)
        stored = [_stored(each, recipe) for each in theirs.tensors.values()]
        for shard in out.todo(same_layout(theirs, stored), progress):
            sums: Sums = {}
            header = {KEY: json.dumps(asdict(recipe))}
            with out.shard(shard, header, notes={"sources": sums}) as writer:
                for piece in ahead(_summed_up(_pieces(ours, theirs, shard, recipe), sums)):
                    writer.write(_difference(piece, recipe))
                    progress(piece.size)


def apply(
    base: Path,
    delta: Path,
    dst: Path,
    *,
    vocab: Convention | None = None,
    force: bool = False,
    allow_pickle: bool = False,
    command: str = "",
    progress: Progress = ignore,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes `base + delta` as a folder with the delta's layout, configuration and tokenizer.

    A wrong base is refused before anything is written: by the fingerprint in our own deltas, by shapes,
    configuration and `plausible` in others'. Where the delta's manifest has checksums, base and result are
    held against them on the way, and nothing is finished if they differ.

    Args:
        base: The folder or file of the base.
        delta: The folder or file of the delta.
        dst: The folder to be made.
        vocab: The convention for rows that the base lacks; None to find out.
        force: Replace a folder that redraft made.
        allow_pickle: Read `.bin` files.
        command: What the manifest calls the command.
        progress: Told of the delta's bytes.
        tell: Told in words which convention was found, and what was repaired.

    Raises:
        ModelError: A checkpoint is damaged, the base is not the delta's, or no convention fits.
        UsageError: There are only `.bin` files, and they are not allowed.
        OutputError: The output exists or cannot be written.
    """
    ours = open_checkpoint(base, allow_pickle=allow_pickle)
    theirs = open_checkpoint(delta, allow_pickle=allow_pickle)
    refuse_delta(ours, hint="The order is: redraft weights apply BASE DELTA")
    inputs = {"base": describe(ours), "delta": describe(theirs)}
    ours, theirs = _with_head(ours, theirs), _without_buffers(ours, theirs)
    recipe = _found_recipe(ours, theirs, inputs["base"]["fingerprint"], vocab, tell)
    check = _Check(ours, theirs, _recorded_sums(theirs) if recipe.base else {}, exact=recipe.exact)
    making = {"inputs": inputs, "vocabulary": recipe.vocabulary}
    with OutputFolder(dst, making=making, command=command, force=force, tell=tell) as out:
        _take_side_files(ours, theirs, recipe, out, tell)
        summed = [_summed(each, recipe) for each in theirs.tensors.values()]
        for shard in out.todo(same_layout(theirs, summed), progress):
            with out.shard(shard) as writer:
                for piece in ahead(check.base(_pieces(ours, theirs, shard, recipe))):
                    total = _total(piece, recipe)
                    check.target(piece, total)
                    writer.write(total)
                    progress(piece.size)


@dataclass(frozen=True)
class _Piece:
    """The same elements of a tensor of both checkpoints.

    Attributes:
        name: The tensor.
        start: Where they begin.
        last: They are the tensor's last.
        ours: Those of the base, as far as it has them; None where it lacks the tensor.
        more: What counts for those that it lacks.
        theirs: Those of the target or the delta.
    """

    name: str
    start: int
    last: bool
    ours: torch.Tensor | None
    more: torch.Tensor | None
    theirs: torch.Tensor

    @property
    def base(self) -> torch.Tensor | None:
        """What `theirs` is a difference from, or is to be added to."""
        return self.ours if self.ours is None or self.more is None else torch.cat((self.ours, self.more))

    @property
    def size(self) -> int:
        """Bytes of the second checkpoint."""
        return self.theirs.numel() * self.theirs.element_size()


def _pieces(base: Checkpoint, other: Checkpoint, shard: Shard, recipe: Recipe) -> Iterator[_Piece]:
    for name in (tensor.name for tensor in shard.tensors):
        lacks = name in recipe.whole
        count = 0 if lacks else base.tensors[name].count
        row = None if lacks else _row(base, other, name, recipe)
        for start, stop in other.chunks(name):
            ours = None if lacks else base.read(name, min(start, count), min(stop, count))
            beyond = max(start, count)
            more = row[torch.arange(beyond, stop) % len(row)] if row is not None and beyond < stop else None
            theirs = other.read(name, start, stop)
            yield _Piece(name, start, stop == other.tensors[name].count, ours, more, theirs)


def _summed_up(pieces: Iterator[_Piece], sums: Sums) -> Iterator[_Piece]:
    """The same pieces; checksums of both sides of each tensor are noted on the way."""
    ours, theirs = hashlib.sha256(), hashlib.sha256()
    for piece in pieces:
        theirs.update(raw_bytes(piece.theirs))
        if piece.ours is not None:
            ours.update(raw_bytes(piece.ours))
        if piece.last:
            sums[piece.name] = (None if piece.ours is None else ours.hexdigest(), theirs.hexdigest())
            ours, theirs = hashlib.sha256(), hashlib.sha256()
        yield piece


def _row(base: Checkpoint, other: Checkpoint, name: str, recipe: Recipe) -> torch.Tensor | None:
    """A row that stands for those which the base lacks; None where it lacks none."""
    tensor = base.tensors[name]
    if other.tensors[name].count == tensor.count:
        return None
    if recipe.vocabulary == "mean":
        return vocabulary.mean_row(base, name)
    return torch.zeros(tensor.row, dtype=torch_dtype(tensor.dtype))


def _difference(piece: _Piece, recipe: Recipe) -> torch.Tensor:
    ours, theirs = piece.base, piece.theirs
    if ours is None:
        return theirs
    if recipe.exact or not theirs.is_floating_point():
        _bits(theirs).sub_(_bits(ours.to(theirs.dtype)))
        return theirs
    return _insist_on_finite(piece, _wide(ours, theirs, torch.Tensor.sub_))


def _total(piece: _Piece, recipe: Recipe) -> torch.Tensor:
    ours, theirs = piece.base, piece.theirs
    if recipe.exact:
        target = theirs.view(torch_dtype(recipe.dtypes[piece.name]))
        if ours is not None:
            _bits(target).add_(_bits(ours.to(target.dtype)))
        return target
    if ours is None:
        return theirs
    if not theirs.is_floating_point():
        _bits(theirs).add_(_bits(ours.to(theirs.dtype)))
        return theirs
    return _insist_on_finite(piece, _wide(ours, theirs, torch.Tensor.add_))


def _bits(values: torch.Tensor) -> torch.Tensor:
    """The same memory as signed integers, whose sums wrap around."""
    return values.view(_SIGNED[values.element_size()])


def _wide(
    ours: torch.Tensor, theirs: torch.Tensor, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """`theirs` changed by `ours`: rounded once, to its own dtype. Eight bits have no sums of their own."""
    if ours.dtype == theirs.dtype and theirs.element_size() > 1:
        return change(theirs, ours)
    wide = torch.float64 if torch.float64 in (ours.dtype, theirs.dtype) else torch.float32
    return change(theirs.to(wide), ours.to(wide)).to(theirs.dtype)


def _insist_on_finite(piece: _Piece, result: torch.Tensor) -> torch.Tensor:
    # The extremes carry NaN along, and are found fifty times as fast as `isfinite` looks at every number.
    extremes = (result if result.element_size() > 1 else result.float()).aminmax()
    if not all(math.isfinite(value) for value in extremes):
        raise ModelError(
            f"{piece.name!r:.120}: the result has NaN or infinite values, near element {piece.start:,}.",
            hint="redraft weights verify DIR tells which model has them. An --exact delta keeps them.",
        )
    return result


class _Check:
    """Holds base and target against the checksums in a delta's manifest, where it has them."""

    def __init__(self, base: Checkpoint, delta: Checkpoint, known: Sums, *, exact: bool) -> None:
        self._base, self._delta = base, delta
        self._known, self._exact = known, exact
        self._sum = hashlib.sha256()

    def base(self, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
        """The same pieces.

        Raises:
            ModelError: A tensor of the base is not what it was.
        """
        own = hashlib.sha256()
        for piece in pieces:
            known = self._known.get(piece.name, (None, ""))[0]
            if known and piece.ours is not None:
                own.update(raw_bytes(piece.ours))
                if piece.last and own.hexdigest() != known:
                    raise ModelError(
                        f"{self._base.path} is not as it was when {self._delta.path} was made: "
                        f"{piece.name!r:.120} differs.",
                        hint="The base is damaged or was changed: get it again. Nothing was finished.",
                    )
            if piece.last:
                own = hashlib.sha256()
            yield piece

    def target(self, piece: _Piece, total: torch.Tensor) -> None:
        """Takes the next part of the target.

        Raises:
            ModelError: A tensor is over, and an exact delta did not give what it was made from.
        """
        known = self._known.get(piece.name, (None, ""))[1]
        if not self._exact or not known:
            return
        self._sum.update(raw_bytes(total))
        if piece.last:
            if self._sum.hexdigest() != known:
                wrong = f"{piece.name!r:.120} does not give the target"
                raise ModelError(f"{self._delta.path} is damaged: {wrong}.", hint=AGAIN)
            self._sum = hashlib.sha256()


def _new_recipe(base: Checkpoint, target: Checkpoint, print_of_base: str, *, exact: bool) -> Recipe:
    whole = tuple(
        name
        for name, each in target.tensors.items()
        if name not in base.tensors or each.dtype == "BOOL" or _unlike(base.tensors[name], each)
    )
    return Recipe(
        exact=exact,
        vocabulary="zero" if vocabulary.added_rows(base, target) else "none",
        base=print_of_base,
        dtypes={name: each.dtype for name, each in target.tensors.items()} if exact else {},
        whole=whole,
    )


def _unlike(ours: TensorInfo, theirs: TensorInfo) -> bool:
    """Whether two tensors have no difference: numbers of different kinds."""
    return ours.dtype != theirs.dtype and not {ours.dtype, theirs.dtype} <= FLOATS


def _found_recipe(
    base: Checkpoint,
    delta: Checkpoint,
    print_of_base: str,
    vocab: Convention | None,
    tell: Callable[[str], None],
) -> Recipe:
    recipe = recorded_recipe(delta)
    if recipe is not None and print_of_base != recipe.base:
        raise _wrong_base(base, delta)
    _insist_on_shapes(base, delta, "delta", whole=recipe.whole if recipe else ())
    if recipe is None:
        _insist_on_config(base, delta)
        convention, why = vocabulary.settle(base, delta, vocab)
        recipe = Recipe(exact=False, vocabulary=convention)
        plausible.insist(base, delta)
    else:
        recipe, why = _with_vocab(recipe, vocab)
    tell(f"vocabulary: {recipe.vocabulary} ({why})")
    return recipe


def _with_vocab(recipe: Recipe, vocab: Convention | None) -> tuple[Recipe, str]:
    if vocab is None or vocab == recipe.vocabulary:
        return recipe, "as the delta says"
    if recipe.exact:
        raise UsageError(
            f"--vocab {vocab} does not fit: this delta is exact, and says {recipe.vocabulary}.",
            hint="Leave --vocab out.",
        )
    return replace(recipe, vocabulary=vocab), f"as --vocab says, though the delta says {recipe.vocabulary}"


def _wrong_base(base: Checkpoint, delta: Checkpoint) -> ModelError:
    inputs = delta.json(MANIFEST).get("inputs")
    made = inputs.get("base") if isinstance(inputs, dict) else None
    there = f", {made.get('path')!r:.80} in {made.get('dtypes')!r:.40}" if isinstance(made, dict) else ""
    return ModelError(
        f"{base.path} is not the base that {delta.path} was made from{there}: the fingerprints differ.",
        hint=f"This one is in {dtypes_of(base)!r}. The same model in another dtype is another base: "
        "see redraft weights convert.",
    )


def recorded_recipe(delta: Checkpoint) -> Recipe | None:
    """Return what the header of a delta says of it; None where redraft did not make it.

    Raises:
        ModelError: The header does not fit the tensors.
    """
    text = delta.metadata.get(KEY)
    if text is None:
        return None
    try:
        said = json.loads(text)
        recipe = Recipe(**said | {"whole": tuple(said["whole"])})
        sound = recipe.vocabulary in CONVENTIONS and _fits(delta, recipe)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ModelError(
            f"{delta.path}: what its header says of the delta does not fit its tensors.", hint=AGAIN
        )
    return recipe


def _fits(delta: Checkpoint, recipe: Recipe) -> bool:
    """A header is a stranger's word: every dtype in it must be as wide as the tensor is stored."""
    if not {*recipe.whole} <= delta.tensors.keys():
        return False
    if not recipe.exact:
        return True
    return all(
        _BITS.get(dtype_size(recipe.dtypes[each.name])) == each.dtype for each in delta.tensors.values()
    )


def _recorded_sums(delta: Checkpoint) -> Sums:
    """The checksums in the delta's manifest; none where it has no manifest, or one that is not ours."""
    sums: Sums = {}
    files = delta.json(MANIFEST).get("files")
    for noted in files.values() if isinstance(files, dict) else ():
        sources = noted.get("sources") if isinstance(noted, dict) else None
        for name, pair in sources.items() if isinstance(sources, dict) else ():
            if isinstance(pair, list) and len(pair) == 2:
                sums[name] = (pair[0], pair[1])
    return sums


def _stored(tensor: TensorInfo, recipe: Recipe) -> TensorInfo:
    """A tensor of the target as the delta has it."""
    return replace(tensor, dtype=_BITS[dtype_size(tensor.dtype)]) if recipe.exact else tensor


def _summed(tensor: TensorInfo, recipe: Recipe) -> TensorInfo:
    """A tensor of the delta as the target has it."""
    return replace(tensor, dtype=recipe.dtypes[tensor.name]) if recipe.exact else tensor


def _with_head(base: Checkpoint, other: Checkpoint) -> Checkpoint:
    """The base with its output table, where that is its input table and the other has one of its own."""
    head, table = "lm_head.weight", base.tensors.get("model.embed_tokens.weight")
    if head in base.tensors or head not in other.tensors or table is None or table.file.endswith(BIN):
        return base
    if not base.json("config.json").get("tie_word_embeddings"):
        return base
    return replace(base, tensors={**base.tensors, head: replace(table, name=head)})


def _without_buffers(base: Checkpoint, delta: Checkpoint) -> Checkpoint:
    """Another's delta without buffers that the base lacks: zeros, where a model would compute them."""
    if KEY in delta.metadata:
        return delta
    computed = {name for name in delta.tensors if name.endswith(_COMPUTED) and name not in base.tensors}
    kept = {name: each for name, each in delta.tensors.items() if name not in computed}
    return replace(delta, tensors=kept)


def _insist_on_shapes(base: Checkpoint, other: Checkpoint, role: str, whole: Collection[str] = ()) -> None:
    """Sees that both have the same tensors, but for added rows, what is stored whole, and what is not missed.

    Raises:
        ModelError: They do not.
    """
    added = vocabulary.added_rows(base, other)
    for name, theirs in other.tensors.items():
        ours = base.tensors.get(name)
        if ours is not None and ours.shape != theirs.shape and name not in added and name not in whole:
            raise _other_architecture(
                base, other, role, f"{name!r:.120} is {_by(ours)} there and {_by(theirs)} here"
            )
    for one, two in ((base, other), (other, base)):
        lacking = [name for name in one.tensors if name not in two.tensors and name not in whole]
        lacking = [name for name in lacking if not name.endswith(_COMPUTED)]
        if lacking:
            raise _other_architecture(
                base, other, role, f"{two.path} lacks {len(lacking)} tensors, such as {lacking[0]!r:.120}"
            )


def _by(tensor: TensorInfo) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _other_architecture(base: Checkpoint, other: Checkpoint, role: str, why: str) -> ModelError:
    return ModelError(
        f"{base.path} is not a base of the {role} {other.path}: {why}.",
        hint=f"redraft weights info {base.path}   and the same for {other.path}",
    )


def _insist_on_config(base: Checkpoint, delta: Checkpoint) -> None:
    """Sees that both configurations, where there are two, describe models of one shape and kind."""
    ours, theirs = base.json("config.json"), delta.json("config.json")
    for key in ("model_type", "num_attention_heads", "num_key_value_heads", "rope_theta", "hidden_act"):
        one, two = ours.get(key), theirs.get(key)
        if one is not None and two is not None and one != two:
            raise _other_architecture(
                base, delta, "delta", f"{key} is {one!r:.40} there and {two!r:.40} here"
            )


def _take_side_files(
    base: Checkpoint, delta: Checkpoint, recipe: Recipe, out: OutputFolder, tell: Callable[[str], None]
) -> None:
    copy_side_files(base, out.aside, tokenizer=not has_tokenizer(delta.folder))
    copy_side_files(delta, out.aside)
    set_dtype(out.aside, [_summed(each, recipe) for each in delta.tensors.values()])
    rows = next((each.shape[0] for each in delta.tensors.values() if vocabulary.is_table(each.name)), None)
    repairs = repair_tokenizer(out.aside, rows=rows)
    out.manifest["repairs"] = repairs
    for line in repairs:
        tell(f"repaired: {line}")
