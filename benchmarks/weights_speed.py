"""Measure `diff` and `apply` on a checkpoint in shards, beside plain reading and writing of as many bytes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from measure import Figure, Goal, Row, in_turns, over
from weights_material import GIB, Pair, Scale, make_pair
from weights_run import forget, remove, weights

MEASURE = "apply and diff of a bf16 checkpoint in shards, bytes/s vs plainly reading and writing as much"
HOW = (
    "A base of {gib:.2g} GiB in Llama's shapes, in {shards} shards of safetensors, and a target that "
    "differs from it by a small noise. redraft is the real command, and the whole life of its process "
    "counts, with all checks and records. The peer is a running process that reads both inputs in turn by "
    "16 MiB, and writes as many bytes as redraft. Both begin with inputs that are not in the page cache, "
    "and end with fsync of everything that was written. They take turns."
)


def run(scale: Scale) -> Row:
    folder = scale.work / "speed"
    pair = make_pair(folder, scale.speed)
    figures = [each for exact in (False, True) for each in _figures(scale.rounds, folder, pair, exact=exact)]
    shards = len(list(pair.base.glob("*.safetensors")))
    remove(folder)
    return Row(MEASURE, HOW.format(gib=pair.size / GIB, shards=shards), tuple(figures))


def _figures(rounds: int, folder: Path, pair: Pair, *, exact: bool) -> Iterator[Figure]:
    delta, target = folder / "delta", folder / "applied"
    flags = ["--exact"] if exact else []
    kind = "exact" if exact else "plain"
    yield _figure(f"diff, {kind}", rounds, (pair.base, pair.target), delta, ("diff", *flags))
    yield _figure(f"apply, {kind}", rounds, (pair.base, delta), target, ("apply",))
    remove(delta)
    remove(target)


def _figure(what: str, rounds: int, inputs: tuple[Path, Path], output: Path, verb: Sequence[str]) -> Figure:
    """Return the peer's seconds divided by redraft's. As the bytes are the same, it is the ratio of rates."""
    plain = output.with_name("plain")

    def ours() -> float:
        _prepare(inputs, output)
        return weights(verb[0], *inputs, "-o", output, *verb[1:]).seconds

    def theirs() -> float:
        _prepare(inputs, plain)
        return plainly(*inputs, plain, written)

    ours()  # not counted: gives the bytes to write, and an output for the next verb
    written = sum(size_of(output))
    moved = sum(map(sum, map(size_of, inputs))) + written
    us, them = in_turns(rounds, ours, theirs)
    remove(plain)
    sides = f"redraft {_rate(moved, us)}; plainly {_rate(moved, them)}"
    return Figure(what, over(them, us), "×", Goal("≥", 0.8), sides)


def _prepare(inputs: Sequence[Path], output: Path) -> None:
    remove(output)
    forget(*inputs)


def _rate(moved: int, seconds: Sequence[float]) -> str:
    return f"{moved / statistics.median(seconds) / 1e6:,.0f} MB/s"


def size_of(folder: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()]


def plainly(one: Path, other: Path, output: Path, count: int) -> float:
    start = time.perf_counter()
    output.mkdir()
    with (output / "data").open("wb", buffering=0) as out:
        for first, second in zip_longest(_blocks(one), _blocks(other)):
            block = second if first is None else first
            count -= out.write(block[:count])
        os.fsync(out.fileno())
    return time.perf_counter() - start


def _blocks(folder: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(16 << 20))
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while length := file.readinto(buffer):
                yield buffer[:length]
