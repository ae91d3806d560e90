"""Which number format is fastest by which engine, how large it is, and how well the model answers in it.

A cell of the table is stored when it was measured, and the same command goes on behind it. To measure again,
remove build/formats.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from cpu_quality import ENGINES, opened, passed, records, speed
from material import default_model
from measure import Figure, Row, Unit
from redraft.engines.base import Engine
from redraft.weights.gguf.from_folder import export_gguf
from redraft.weights.gguf.to_folder import import_gguf

FORMATS = ("q4_0", "q4_1", "q8_0", "f16")
STREAMS = (1, 4, 8, 32)
TEXTS = {1: 2, 4: 4, 8: 8, 32: 32}
"""Streams -> the texts that are timed."""
PROMPTS, LONGEST, SEEDS, ROUNDS, PARALLEL = 32, 64, (0,), 1, 32
TEXTS_READ = 24  # prompts whose tokens the weights of a format are asked for
HOME = Path("build/formats")

Cell = Callable[[Engine], Awaitable[float]]


def formats(*, quick: bool) -> Row:
    """Measures each number format with each engine."""
    home = HOME.with_name("formats-quick") if quick else HOME
    cells = Cells(home)
    for what, kind, name, streams, measure in wanted(quick=quick):
        if what not in cells.known:
            cells.store(what, asyncio.run(_measured(cells.file(kind), name, streams, measure)))
    for kind in FORMATS:
        if (what := f"{kind}: a token of text, seed 0") not in cells.known:
            texts = [record["prompt"] for record in records(TEXTS_READ)]
            cells.store(what, asyncio.run(surprise(cells.file(kind), texts)))
    return row_of(cells)


def row_of(cells: Cells) -> Row:
    """Returns the row of the cells that were measured."""
    sizes = [Figure(f"{kind}: size", (cells.file(kind).stat().st_size / 1e6,), "MB") for kind in FORMATS]
    how = (
        f"The default model, whose weights have 4 bits and offsets (Q4_1), written in each format. Tokens a "
        f"second of processor time, with one thread, of {cells.words} tokens a text, prompts included; and "
        f"the share of one plain answer to each of {PROMPTS} IFEval prompts that passes, at most {LONGEST} "
        f"tokens, seeds {', '.join(map(str, SEEDS))}. A token of text: the mean of −log p "
        f"of a token of {TEXTS_READ} of these prompts. OpenVINO computes Q4_1 as a copy in Q8_0."
    )
    return Row("number formats", how, (*sizes, *cells.figures()))


class Cells:
    """The cells that were measured, in a file."""

    words = 48

    def __init__(self, home: Path) -> None:
        self._home, self._file = home, home / "cells.jsonl"
        home.mkdir(parents=True, exist_ok=True)
        lines = self._file.read_text("utf-8").splitlines() if self._file.exists() else []
        self.known: dict[str, float] = dict(map(json.loads, lines))

    def store(self, what: str, value: float) -> None:
        """Adds a cell."""
        self.known[what] = value
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, value]) + "\n")
        print(f"{what}: {value:.3f}", flush=True)

    def file(self, kind: str) -> Path:
        """Returns the model in a format."""
        file, source = self._home / f"{kind}.gguf", self._home / "folder"
        if not file.exists():
            if not source.exists():
                import_gguf(default_model(), source)
            export_gguf(source, file, quant=kind)
        return file

    def figures(self) -> Iterator[Figure]:
        """Yields the cells, those of several rounds or seeds as one figure."""
        by_name: dict[str, list[float]] = {}
        for what, value in self.known.items():
            by_name.setdefault(what.rpartition(", ")[0], []).append(value)
        for name, values in sorted(by_name.items()):
            unit: Unit = "%" if "passing" in name else "nats" if "a token" in name else "tokens/s"
            yield Figure(name, tuple(values), unit)


def wanted(*, quick: bool) -> Iterator[tuple[str, str, str, int, Cell]]:
    """Yields the cells: a name, the format, the engine, its streams, and what measures one."""
    for number in range(1 if quick else ROUNDS):
        for streams in STREAMS[: 1 if quick else None]:
            for kind in FORMATS:
                for name in ENGINES:
                    what = f"{kind}, {name}, {streams} streams, round {number}"
                    yield what, kind, name, streams, _speed(streams)
        if number in SEEDS:
            for kind in FORMATS:
                for name in ENGINES:
                    what = f"{kind}, {name}: passing answers, seed {number}"
                    yield what, kind, name, PARALLEL, _share(number, 4 if quick else PROMPTS)


def _speed(streams: int) -> Cell:
    return lambda engine: speed(engine, streams, TEXTS[streams], Cells.words)


def _share(seed: int, prompts: int) -> Cell:
    async def share(engine: Engine) -> float:
        return 100 * fmean(await passed(engine, records(prompts), seed, LONGEST, PARALLEL))

    return share


async def surprise(file: Path, texts: Sequence[str]) -> float:
    """Return the mean of −log p of a token of texts, with these weights in 32 bits."""
    with TemporaryDirectory() as folder:
        import_gguf(file, Path(folder) / "model", dtype="F32")
        async with opened(Path(folder) / "model", "hf", 1, threads=1) as engine:
            scores = await engine.score(texts)
    return -fmean(chance for text in scores for chance in text)


async def _measured(file: Path, name: str, streams: int, measure: Cell) -> float:
    async with opened(file, name, streams, threads=1) as engine:
        return await measure(engine)
