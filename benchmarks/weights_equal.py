"""Compare conversions from GGUF to a folder and back, bit by bit, with the values of the gguf package."""

from __future__ import annotations

from pathlib import Path

from material import default_model
from measure import Figure, Goal, Row
from weights_gguf import read, same_bits, tensors_for
from weights_material import Scale
from weights_run import remove, weights

HOW = (
    "The default model is converted in three ways. Its file → a folder in fp32: each tensor is compared "
    "with the result of gguf's own `dequantize`. That folder → each quantisation: each tensor is compared "
    "with the result of gguf's own `quantize` for the whole tensor. An f16 file → a folder in fp16 → an f16 "
    "file: both files are compared. Names and the order of q and k come from gguf's tables and a formula in "
    "`weights_gguf.py`, not from redraft."
)


def run(scale: Scale) -> Row:
    folder = scale.work / "equal"
    folder.mkdir()
    model = folder / "model"
    weights("from-gguf", default_model(), "-o", model, "--dtype", "fp32")
    figures = [_figure("default model → folder, gguf's values", unlike_file(default_model(), model))]
    for quant in scale.quants:
        file = folder / f"{quant}.gguf"
        weights("gguf", model, "-o", file, "--quant", quant)
        figures.append(_figure(f"folder → {quant}, gguf's values", unlike_folder(file, model)))
        remove(file)
    figures.append(_figure("f16 → folder → f16", unlike(*there_and_back(folder, model))))
    remove(folder)
    return Row("GGUF and folders, bit by bit", HOW, tuple(figures))


def _figure(what: str, found: list[tuple[str, bool]]) -> Figure:
    wrong = [name for name, same in found if not same]
    sides = f"of {len(found)}" + (f", such as {wrong[0]}" if wrong else "")
    return Figure(what, (float(len(wrong)),), "differ", Goal("≤", 0.0), sides)


def there_and_back(folder: Path, model: Path) -> tuple[Path, Path]:
    before, between, after = folder / "before.gguf", folder / "between", folder / "after.gguf"
    weights("gguf", model, "-o", before, "--quant", "f16")
    weights("from-gguf", before, "-o", between, "--dtype", "fp16")
    weights("gguf", between, "-o", after, "--quant", "f16")
    return before, after


def unlike_file(file: Path, folder: Path) -> list[tuple[str, bool]]:
    from gguf.quants import dequantize

    values = dict(tensors_for(folder))
    stored = read(file)
    return [(name, False) for name in values.keys() - stored.keys()] + [
        (name, name in values and same_bits(values[name], dequantize(data, kind)))
        for name, (data, kind) in stored.items()
    ]


def unlike_folder(file: Path, folder: Path) -> list[tuple[str, bool]]:
    from gguf.quants import quantize

    stored = read(file)
    made = ((name, values, *stored[name]) for name, values in tensors_for(folder))
    return [(name, same_bits(data, quantize(values, kind))) for name, values, data, kind in made]


def unlike(one: Path, other: Path) -> list[tuple[str, bool]]:
    first, second = read(one), read(other)
    pairs = {name: (first[name], second[name]) for name in first.keys() & second.keys()}
    same = {name for name, (a, b) in pairs.items() if a[1] == b[1] and same_bits(a[0], b[0])}
    return [(name, name in same) for name in first.keys() | second.keys()]
