"""The tools of all benchmarks: alternating pairs, medians and spreads, and goals.

Two sides are measured in turn, A B B A A B B A, so a machine that becomes slower or faster during a run
affects both alike. Each pair is compared. The result is the median over pairs.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")
Unit = Literal[
    "×",
    "s",
    "ms",
    "MB",
    "%",
    "nats",
    "differ",
    "texts",
    "tokens",
    "tokens/s",
    "calls",
    "chains",
    "errors",
    "",
]


class NotMeasured(Exception):
    """A row cannot be measured on this machine. The message says what is missing."""


@dataclass(frozen=True)
class Size:
    """The sizes of a measurement. On 2 cores, a full run takes about 20 minutes, and a quick one about 5."""

    rounds: int  # pairs that are measured, or repetitions
    questions: int  # chains a round, where chains are made one after the other or eight at a time
    tokens: int  # most new tokens of a native chain; other texts are shorter
    prompts: tuple[int, int]  # a small and a large number of prompts for the memory of `answer`
    threads: int | None = None  # threads of the model; None for the default of llama.cpp


FULL = Size(rounds=5, questions=8, tokens=256, prompts=(10_000, 100_000))
# With one thread, llama.cpp also makes progress on a busy machine.
QUICK = Size(rounds=2, questions=2, tokens=96, prompts=(200, 2_000), threads=1)


@dataclass(frozen=True)
class Goal:
    op: Literal["≥", "≤"]
    value: float

    def reached(self, value: float) -> bool:
        return value >= self.value if self.op == "≥" else value <= self.value


@dataclass(frozen=True)
class Figure:
    what: str  # its label, such as `one stream`
    values: tuple[float, ...]  # ratios of pairs, times, or sizes
    unit: Unit
    goal: Goal | None = None  # the goal of the median; None for a figure without a goal
    sides: str = ""  # the values of both sides, in words

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        return None if self.goal is None else self.goal.reached(self.median)


@dataclass(frozen=True)
class Row:
    measure: str  # the name of the row in the table
    how: str  # the method, and the sides that were compared
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()  # further remarks for readers
    # Lines of cells, with a header, for results that are not single numbers.
    table: Sequence[Sequence[str]] = ()


@dataclass
class Rates:
    # (tokens, seconds) of redraft, or of the new version.
    ours: list[tuple[int, float]] = field(default_factory=list)
    # (tokens, seconds) of the peer, or of the old version.
    theirs: list[tuple[int, float]] = field(default_factory=list)

    def ratios(self) -> tuple[float, ...]:
        return tuple(rate(ours) / rate(theirs) for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def figure(self, what: str, goal: Goal | None, ours: str, theirs: str) -> Figure:
        return Figure(what, self.ratios(), "×", goal, f"{says(ours, self.ours)}; {says(theirs, self.theirs)}")


def rate(measured: tuple[int, float]) -> float:
    tokens, seconds = measured
    return tokens / seconds


def says(name: str, measured: Sequence[tuple[int, float]]) -> str:
    return f"{name} {statistics.median(map(rate, measured)):.0f} tokens/s"


def in_turn(pair: int) -> tuple[bool, bool]:
    return (True, False) if pair % 2 == 0 else (False, True)


def in_turns(rounds: int, ours: Callable[[], T], theirs: Callable[[], T]) -> tuple[list[T], list[T]]:
    found: dict[bool, list[T]] = {True: [], False: []}
    for our_turn in (each for pair in range(rounds) for each in in_turn(pair)):
        found[our_turn].append((ours if our_turn else theirs)())
    return found[True], found[False]


Work = Callable[[], Awaitable[tuple[int, float]]]


async def alternate(rounds: int, ours: Work, theirs: Work) -> Rates:
    rates = Rates()
    for pair in range(rounds):
        for our_turn in in_turn(pair):
            (rates.ours if our_turn else rates.theirs).append(await (ours if our_turn else theirs)())
    return rates


def over(ones: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(one / other for one, other in zip(ones, others, strict=True))


def blocks(items: Sequence[T], size: int, count: int) -> Iterator[list[T]]:
    for block in range(count):
        yield [items[(block * size + i) % len(items)] for i in range(size)]
