"""Make the chains for measuring training, with SelFee's mix of lengths, from permissively licensed texts.

SelFee's own data is CC BY-NC and may not be shipped. These records have its fields, its shares of five kinds
(README table: Alpaca 52K, math 26K, code 30K, FLAN 16K, ShareGPT 55K), and its lengths. The number of answers
and the words of feedback are as in its released chains (conala and mbpp). The words of answers are as in
those chains for code, as in GSM8K for math, and as in ChatGPT's and SelFee's released answers for ShareGPT.
For Alpaca and FLAN, of which no chain was released, they are assumptions. The words are those of
`data_material`, in sentences without meaning. The same seed gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_material import sentences
from redraft.jobs.machine import KERNELS
from redraft.train.options import LARGE

SEED = 5
ALLOCATOR = (
    "THP_MEM_ALLOC_ENABLE=1",
    f"ONEDNN_PRIMITIVE_CACHE_CAPACITY={KERNELS}",
    f"MALLOC_MMAP_THRESHOLD_={LARGE}",
)
"""The environment that `redraft train` sets before importing torch: large blocks get their own large pages,
and few kernels are cached."""
STEPS = ((1, 1480), (2, 2080), (3, 135), (4, 18), (5, 33))
"""Numbers of answers, each with the number of records in conala and mbpp that have so many."""

"""The median words of feedback, and the deviation of the logarithm, as in the released chains."""


@dataclass(frozen=True)
class Scale:
    records: int  # chains that are prepared; the memory is compared with that of half as many
    rounds: int  # pairs of processes that are timed in turn
    steps: int  # timed steps of each process, after the first one
    shrink: int  # the divisor of the length of rows
    workers: int  # tokenising processes
    work: Path  # a folder with room for twice the data


@dataclass(frozen=True)
class Kind:
    name: str  # the name of the kind in a record
    records: int  # the number of SelFee's records of this kind
    asked: tuple[int, int]  # words of the instruction, at least and at most
    given: int  # words of the input; 0 where there is none
    answer: tuple[float, float]  # words of an answer: the median, and the deviation of the logarithm
    most: int = 350  # the most words of an answer, because SelFee cut generated texts at 512 tokens


KINDS = (
    Kind("alpaca", 52_000, (5, 20), 12, (55, 0.8)),
    Kind("math", 26_000, (25, 70), 0, (45, 0.5)),
    Kind("code", 30_000, (10, 28), 0, (40, 1.0)),
    Kind("flan", 16_000, (30, 150), 0, (20, 1.0)),
    Kind("sharegpt", 55_000, (8, 80), 0, (185, 0.6), most=700),
)


class Chains:
    def __init__(self, folder: Path) -> None:
        self._known = sentences(folder)
        self._lines = list(_lines_of_programs(folder))

    def make(self, number: int) -> dict[str, Any]:
        rng = random.Random(SEED * 1_000_003 + number)
        (kind,) = rng.choices(KINDS, [each.records for each in KINDS])
        (steps,) = rng.choices([count for count, _ in STEPS], [share for _, share in STEPS])
        return {
            "instruction": self._said(rng, rng.randint(*kind.asked)),
            "input": self._said(rng, kind.given) if kind.given and rng.random() < 0.4 else "",
            "outputs": [self._step(rng, kind, last=step == steps - 1) for step in range(steps)],
            "iteration": steps,
            "iteration_truncated": False,
            "dataset": kind.name,
        }

    def _step(self, rng: random.Random, kind: Kind, *, last: bool) -> dict[str, str]:
        words = min(_drawn(rng, *kind.answer), kind.most)
        answer = self._written(rng, words) if kind.name == "code" else self._said(rng, words)
        verdict = "Revision is not needed." if last else "Revision is needed."
        return {"output": answer, "feedback": f"{self._said(rng, _drawn(rng, 63, 0.35))} {verdict}"}

    def _said(self, rng: random.Random, words: int) -> str:
        said: list[str] = []
        while words > 0:
            sentence = list(rng.choice(self._known)[:words])
            words -= len(sentence)
            other = rng.choice(self._known)
            number = rng.random() < 0.1
            sentence[rng.randrange(len(sentence))] = (
                str(rng.randrange(10_000)) if number else rng.choice(other)
            )
            said.append(" ".join(sentence).capitalize() + ".")
        return " ".join(said)

    def _written(self, rng: random.Random, words: int) -> str:
        lines = []
        while words > 0:
            lines.append(rng.choice(self._lines))
            words -= len(lines[-1].split())
        return "\n".join(lines)


def _lines_of_programs(folder: Path) -> Iterator[str]:
    with gzip.open(folder / "code" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        for each in map(json.loads, lines):
            yield from filter(str.strip, (each["prompt"] + each["canonical_solution"]).splitlines())


def _drawn(rng: random.Random, middle: float, deviation: float) -> int:
    return max(1, round(middle * rng.lognormvariate(0, deviation)))


def write_chains(path: Path, chains: Chains, count: int) -> int:
    with path.open("wb") as out:
        return sum(out.write(line) for line in _lines(chains, count))


def _lines(chains: Chains, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield json.dumps(chains.make(number), ensure_ascii=False).encode() + b"\n"
