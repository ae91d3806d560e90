"""Decide between two ways to answer the same items, and say so in a sentence.

The same rule serves first answers against revised ones, and one way against another at equal tokens. It does
not know what the ways are, nor what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from redraft import stats
from redraft.counting import counted
from redraft.evaluation.tables import p_text, plain, without_nan
from redraft.stats import Estimate

LEVEL = 0.05  # a difference counts if p is below


@dataclass(frozen=True)
class Decision:
    """What paired scores of two ways say.

    Attributes:
        items: How many items both ways answered.
        better: Items in which the second way scores higher.
        worse: Items in which it scores lower.
        gain: Mean score of the second way less that of the first, -1 to 1.
        p: Of McNemar's exact test; for scores between 0 and 1, by random flips of the signs.
        needed: Items that would show the observed difference, with a chance of 80 %; None if there is none.
    """

    items: int
    better: int
    worse: int
    gain: Estimate
    p: float
    needed: int | None

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Whether the second way is better, worse, or neither is shown."""
        if self.p >= LEVEL:
            return "undecided"
        return "better" if self.gain.value > 0 else "worse"

    @property
    def more(self) -> int | None:
        """How many more items would decide, in two digits; 0 if decided, None if no number would."""
        if self.outcome != "undecided":
            return 0
        missing = self.needed and max(self.needed - self.items, 1)
        return missing and round(missing, 2 - len(str(missing)))

    def record(self) -> dict[str, Any]:
        """Return everything for JSON."""
        values: dict[str, Any] = without_nan(asdict(self))
        return {**values, "outcome": self.outcome, "more": self.more}


def decide(one: Sequence[float], other: Sequence[float]) -> Decision:
    """Compare two ways by their scores of the same items.

    Args:
        one: Scores of one way, 0 to 1: whether the item is right, or the share of its runs that are.
        other: Scores of the other way, in the same order.
    """
    better, worse = split(one, other)
    return Decision(
        items=len(one),
        better=better,
        worse=worse,
        gain=stats.difference(one, other, bounds=stats.CHANGE),
        p=stats.paired(one, other),
        needed=stats.pairs_needed(one, other),
    )


def split(one: Sequence[float], other: Sequence[float]) -> tuple[int, int]:
    """Return in how many items the other way scores higher, and in how many lower."""
    pairs = list(zip(one, other, strict=True))
    return sum(after > before for before, after in pairs), sum(after < before for before, after in pairs)


def sentence(decision: Decision, one: str = "the first answers", other: str = "revising") -> str:
    """Say in plain words whether the other way does better. What the ways cost is not looked at.

    Args:
        decision: What `decide` found of the ways.
        one: The name of the first way.
        other: The name of the second way.
    """
    split = f"better in {decision.better:,} of {counted(decision.items, 'item')}, worse in {decision.worse:,}"
    tested = f"{split}, {p_text(decision.p)}"
    points, found = _points(decision.gain), decision.outcome
    if found == "better":
        return f"{other.capitalize()} does better here: it adds {points} over {one}; {tested}."
    if found == "worse":
        return f"Don't: {other} loses {points} against {one}; {tested}."
    if decision.needed is None:
        return f"Undecided: {other} and {one} do equally well; {split}. No difference is in sight."
    verb, to = ("adds", "over") if decision.gain.value > 0 else ("loses", "against")
    more = f"About {counted(decision.more or 0, 'more item')} would decide it, if they go on like this."
    return f"Undecided: {other} {verb} {points} {to} {one} so far; {tested}. {more}"


def _points(gain: Estimate) -> str:
    """Return a gain in points with its interval, such as `6.7 points (-3.1 to +16.4)`."""
    _, interval = plain(gain.times(100), 1, sign=True)
    return f"{abs(gain.value) * 100:.1f} points" + (f" ({interval})" if interval else "")
