"""Measure the memory of each command, on checkpoints of three sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from material import default_model
from measure import Figure, Goal, Row
from report import drawn
from weights_material import GIB, Pair, Scale, add_tokenizer, config_of, make_adapter, make_pair
from weights_run import MB, forget, imports_of, remove, weights

MEASURE = "extra memory of the commands"
HOW = (
    "The peak anonymous memory of the process while the real command runs (`RssAnon` and `RssShmem`, read "
    "every 10 ms), minus that of an idle Python that has imported the same modules. Checkpoints have "
    "Llama's shapes and several shards; larger ones have more and wider tensors. `convert` goes from bf16 "
    "to fp16. The adapter is of rank 16 on every linear layer. Flat: the memory for the largest checkpoint "
    "minus that for the smallest."
)
KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (("plain", ()), ("exact", ("--exact",)))
Arguments = tuple[str | Path, ...]


def run(scale: Scale) -> Row:
    folder = scale.work / "memory"
    tokenizer = folder / "tokenizer"
    weights("from-gguf", default_model(), "-o", tokenizer)
    idle = {what: imports_of(*each) for what, each in _all_of(folder / "model", GIB // 64, tokenizer)}
    extra: dict[str, list[tuple[float, float]]] = {}
    for size in scale.memory:
        for what, each in _all_of(folder / "model", size, tokenizer):
            held = weights(*each).anonymous - idle[what]
            extra.setdefault(what, []).append((size / GIB, held / MB))
    remove(folder)
    figures = [figure for what, found in extra.items() for figure in _figures(what, found)]
    sizes = [f"{gib:.2g} GiB" for gib, _ in next(iter(extra.values()))]
    cells = ([what, *(f"{held:.0f}" for _, held in found)] for what, found in extra.items())
    return Row(MEASURE, HOW, tuple(figures), (drawn([["extra memory in MB", *sizes], *cells]),))


def _figures(what: str, found: list[tuple[float, float]]) -> Iterator[Figure]:
    sizes = "; ".join(f"{gib:.2g} GiB {extra:.0f} MB" for gib, extra in found)
    yield Figure(what, (max(extra for _, extra in found),), "MB", Goal("≤", 600.0), sizes)
    yield Figure(f"{what}, largest less smallest", (found[-1][1] - found[0][1],), "MB", Goal("≤", 100.0))


def _all_of(folder: Path, size: int, tokenizer: Path) -> Iterator[tuple[str, Arguments]]:
    pair = make_pair(folder, size)
    add_tokenizer(pair.target, tokenizer)
    for what, arguments, output in _commands(folder, pair, make_adapter(folder / "adapter", config_of(size))):
        forget(*(path for path in folder.iterdir() if path.is_dir()))
        yield what, arguments
        if not what.startswith("diff"):
            remove(output)
    remove(folder)


def _commands(folder: Path, pair: Pair, adapter: Path) -> Iterator[tuple[str, Arguments, Path]]:
    for kind, flags in KINDS:
        delta, applied = folder / f"delta-{kind}", folder / "applied"
        yield f"diff, {kind}", ("diff", pair.base, pair.target, "-o", delta, *flags), delta
        yield f"apply, {kind}", ("apply", pair.base, delta, "-o", applied), applied
        remove(delta)
    converted, merged = folder / "converted", folder / "merged"
    yield "convert", ("convert", pair.target, "-o", converted, "--dtype", "fp16"), converted
    for quant in ("q8_0", "q4_0"):
        file = folder / f"{quant}.gguf"
        yield f"gguf, {quant}", ("gguf", pair.target, "-o", file, "--quant", quant), file
    yield "merge-lora", ("merge-lora", pair.base, adapter, "-o", merged), merged
