"""Measure the memory of `redraft data clean` on inputs of two sizes."""

from __future__ import annotations

from data_material import CLEAN, Conversations, Scale, data, write_bytes
from material import shared
from measure import Figure, Goal, Row
from weights_run import MB, remove

MEASURE = "memory of redraft data clean"
HOW = (
    "The real command with all its processes on JSON lines of shared conversations in HTML. The figure is "
    "the sum of the peaks of all processes (the kernel's `VmHWM`), so shared pages count once per process. "
    "Flat: the memory for the largest input minus that for the smallest."
)
MOST, FLAT = Goal("≤", 500.0), Goal("≤", 50.0)


def run(scale: Scale) -> Row:
    conversations = Conversations(shared())
    source, output = scale.work / "memory.jsonl", scale.work / "cleaned.jsonl"
    figures = []
    for size in scale.memory:
        records = write_bytes(source, conversations, size)
        took = data("clean", source, "-o", output, *CLEAN, workers=scale.workers)
        sides = f"{records:,} records, {took.seconds:.0f} s, {scale.workers} processes that clean"
        figures.append(Figure(f"{size / 1e9:.2g} GB of input", (took.resident / MB,), "MB", MOST, sides))
        remove(output)
    remove(source)
    grown = figures[-1].median - figures[0].median
    return Row(MEASURE, HOW, (*figures, Figure("largest less smallest", (grown,), "MB", FLAT)))
