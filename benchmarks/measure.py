"""What every benchmark measures with: pairs that alternate, their medians and spread, and goals.

Two sides are measured in turn, A B B A A B B A, so that a machine that grows slower or faster during a
run does so to both; what is compared is each pair, and then the median over pairs. Nothing here knows
what is measured.
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
    """What a row needs is not on this machine, as the message says."""


@dataclass(frozen=True)
class Size:
    """How much is measured. A whole run on 2 cores: full about 20 minutes, quick about 5."""

    rounds: int  # pairs that are measured, or repetitions
    questions: int  # chains a round, where chains are made one after the other or eight at a time
    tokens: int  # most new tokens of a native chain; other texts are shorter
    prompts: tuple[int, int]  # how many prompts the memory of `answer` is measured with: a few, and many
    threads: int | None = None  # threads of the model; None leaves it to llama.cpp, as a user would


FULL = Size(rounds=3, questions=8, tokens=256, prompts=(10_000, 100_000))
# With one thread llama.cpp also gets somewhere on a machine that has other things to do.
QUICK = Size(rounds=2, questions=2, tokens=96, prompts=(200, 2_000), threads=1)


@dataclass(frozen=True)
class Goal:
    """What is to be reached: at least, or at most, so much."""

    op: Literal["≥", "≤"]
    value: float

    def reached(self, value: float) -> bool:
        return value >= self.value if self.op == "≥" else value <= self.value


@dataclass(frozen=True)
class Figure:
    """One number that was measured, several times."""

    what: str  # what it is of, such as `one stream`
    values: tuple[float, ...]  # one a repetition: ratios of pairs, or times, or sizes
    unit: Unit
    goal: Goal | None = None  # what its median has to reach; None for a figure that is there for information
    sides: str = ""  # what was measured on each side, in words

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        return None if self.goal is None else self.goal.reached(self.median)


@dataclass(frozen=True)
class Row:
    """A measure of the table, with everything that was found."""

    measure: str  # what is measured, in the words of the table
    how: str  # how it was done, and what was compared with what
    figures: tuple[Figure, ...]  # what came out
    notes: tuple[str, ...] = ()  # what else a reader should know
    # Lines of cells, the head first, where figures of one number each would not do.
    table: Sequence[Sequence[str]] = ()


@dataclass
class Rates:
    """Tokens and seconds of two sides, pair by pair."""

    # (tokens, seconds) of redraft, or of what is new.
    ours: list[tuple[int, float]] = field(default_factory=list)
    # (tokens, seconds) of what it is compared with.
    theirs: list[tuple[int, float]] = field(default_factory=list)

    def ratios(self) -> tuple[float, ...]:
        """Our tokens per second over theirs, of each pair."""
        return tuple(rate(ours) / rate(theirs) for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def figure(self, what: str, goal: Goal | None, ours: str, theirs: str) -> Figure:
        """The ratio as a figure, with the names of both sides and their median rates."""
        return Figure(what, self.ratios(), "×", goal, f"{says(ours, self.ours)}; {says(theirs, self.theirs)}")


def rate(measured: tuple[int, float]) -> float:
    tokens, seconds = measured
    return tokens / seconds


def says(name: str, measured: Sequence[tuple[int, float]]) -> str:
    """A side in words: its name and its median rate."""
    return f"{name} {statistics.median(map(rate, measured)):.0f} tokens/s"


def in_turn(pair: int) -> tuple[bool, bool]:
    """Whether ours is measured, for both places of a pair: first in every other pair."""
    return (True, False) if pair % 2 == 0 else (False, True)


def in_turns(rounds: int, ours: Callable[[], T], theirs: Callable[[], T]) -> tuple[list[T], list[T]]:
    """What both sides give, called so many times, in turn."""
    found: dict[bool, list[T]] = {True: [], False: []}
    for our_turn in (each for pair in range(rounds) for each in in_turn(pair)):
        found[our_turn].append((ours if our_turn else theirs)())
    return found[True], found[False]


Work = Callable[[], Awaitable[tuple[int, float]]]


async def alternate(rounds: int, ours: Work, theirs: Work) -> Rates:
    """Measures both sides so many times, in turn."""
    rates = Rates()
    for pair in range(rounds):
        for our_turn in in_turn(pair):
            (rates.ours if our_turn else rates.theirs).append(await (ours if our_turn else theirs)())
    return rates


def over(ones: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """One over the other, of each pair."""
    return tuple(one / other for one, other in zip(ones, others, strict=True))


def blocks(items: Sequence[T], size: int, count: int) -> Iterator[list[T]]:
    """So many blocks of a size, one after the other, and round again when the items are used up."""
    for block in range(count):
        yield [items[(block * size + i) % len(items)] for i in range(size)]
