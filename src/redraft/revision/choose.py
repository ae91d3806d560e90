"""Choose how the next text is written, in mode `adaptive`: the way that is likeliest to pass for its tokens.

Nothing is left to chance: the same steps, counts and limits give the same choice. What a way is likely to do
is counted: first in benchmarks (`PASSED`), then in earlier chains of the run, then in the chain itself.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redraft.chain import Choice, Step, Way, best_step, has_answer

WAYS: tuple[Way, ...] = ("draft", "repair", "revision")

PASSED: Mapping[tuple[Way, bool], float] = {
    ("draft", False): 0.053,
    ("draft", True): 0.099,
    ("repair", False): 0.046,
    ("repair", True): 0.086,
    ("revision", False): 0.030,
    ("revision", True): 0.049,
}
"""Share of texts that pass after one that failed, by way and by whether that was near.

Source: `benchmarks/ifeval_runs.tar.xz`, the default model on 300 prompts of IFEval, three seeds, no steering.
It has no repairs: on 60 prompts that short answers can meet 7 of 133 passed, and 8 of 132 other drafts, so
they have 0.87 times the share of these.
"""

WEIGHT = 100.0
"""How many texts the shares of `PASSED` count as, against those of a run. A choice: a run of a hundred
prompts may overrule them, and a few lucky texts may not."""

SMALL = 1e9
"""The most weights of a model that `PASSED` is taken for. A choice: the one that it was counted with has 0.3
billion, and nothing was counted with larger ones."""

OF_LARGER: Mapping[Way, float] = {"draft": 0.3, "repair": 0.3, "revision": 0.5}
"""Share of texts that pass after one that failed, for other models. A choice: two revisions, then a draft.

Models that follow instructions gain from being told what a check found (docs/evaluate.md), and none that is
told so in vain twice is likely to gain the third time."""

FEW = 4.0  # how many texts the shares of `OF_LARGER` count as. A choice: the chain's own soon count for more.

NEAR = 0.5  # the score from which a text that failed was near
PROMPT_SHARE = 0.2
"""Price of a prompt token over that of a new one, for a model without a price. A choice: servers take a third
to an eighth, and a machine of one's own needs less."""
TOKEN = 4.0  # characters of a token of the prompt. A choice, for estimates alone.

Counts = Mapping[Way, tuple[int, int]]
"""For each way, how many texts passed, and how many were written."""


@dataclass(frozen=True)
class Limits:
    """What the next text may use.

    Attributes:
        texts: Texts left.
        tokens: New tokens left; None for as many as one likes.
        may_be_longer: Whether a text may have more tokens than the one before it.
        greedy: The same request gives the same text.
        share: Price of a prompt token over that of a new one.
        small: The model is a small one (`SMALL`).
        seed: What draws are made from, if there are counts of a run.
    """

    texts: int
    tokens: int | None = None
    may_be_longer: bool = False
    greedy: bool = False
    share: float = PROMPT_SHARE
    small: bool = False
    seed: str = ""


@dataclass(frozen=True)
class Move:
    """What to do next: write a text as chosen, or stop."""

    choice: Choice | None = None  # None for a stop
    stop: Literal["max_revisions", "budget", "unchanged"] | None = None
    most: int | None = None  # most new tokens of a longer text


def choose(steps: Sequence[Step], counts: Counts | None, limits: Limits) -> Move:
    """Choose the next text of a chain without one that passes, or stop.

    Args:
        steps: The texts so far, with their checks.
        counts: Those of earlier chains of the run; None without a run.
        limits: What the next text may use.
    """
    if limits.texts <= 0:
        return Move(stop="max_revisions")
    if not steps:
        return Move(Choice(way="draft", why="there is no answer yet"))
    best = best_step(steps) or 0
    if limits.tokens is not None and limits.tokens < min(map(_length, steps)) // 2:
        return Move(stop="budget")
    if move := _longer(steps, best, limits):
        return move
    real = has_answer([steps[best]]) and not steps[best].echo
    ways = [way for way in WAYS if real or way != "revision"]
    if limits.greedy:
        ways = [way for way in ways if _is_new(way, best, steps)]
    if not ways:
        return Move(stop="unchanged")
    return Move(_likeliest(ways, steps, best, counts, limits))


def counts_of(steps: Sequence[Step]) -> dict[Way, tuple[int, int]]:
    """Return what the ways that were chosen came to."""
    found: dict[Way, tuple[int, int]] = {}
    for step in steps:
        if step.choice is not None:
            passed, tried = found.get(step.choice.way, (0, 0))
            found[step.choice.way] = (passed + bool(step.passed), tried + 1)
    return found


def _longer(steps: Sequence[Step], best: int, limits: Limits) -> Move | None:
    """Return a draft with twice the room, if the best one lacks nothing but its end, and that may help."""
    cut = steps[best]
    if not limits.may_be_longer or cut.finish != "max_tokens" or not all(c.passed for c in cut.checks):
        return None
    if any(step.choice and step.choice.way == "longer" for step in steps):
        return None
    most = 2 * _length(cut)
    if limits.tokens is not None and limits.tokens < most:
        return None
    why = f"nothing but its end is missing, after {_length(cut)} tokens"
    return Move(Choice(way="longer", of=best, why=why), most=most)


def _is_new(way: Way, best: int, steps: Sequence[Step]) -> bool:
    """Return whether the request was not made in the chain before."""
    made = [(step.choice.way, step.choice.of) for step in steps if step.choice]
    return way != "draft" and (way, best) not in made


def _likeliest(
    ways: Sequence[Way], steps: Sequence[Step], best: int, counts: Counts | None, limits: Limits
) -> Choice:
    """Return the way with the highest chance for its cost. With counts of a run the chances are drawn."""
    step, own = steps[best], counts_of(steps)
    near = (step.score or 0.0) >= NEAR
    weight = WEIGHT if limits.small else FEW
    chance, cost = random.Random(f"{limits.seed}:{len(steps)}"), _costs(steps, step, limits)  # noqa: S311
    value: dict[Way, float] = {}
    likely: dict[Way, float] = {}
    for way in ways:
        passed, tried = (PASSED[way, near] if limits.small else OF_LARGER[way]) * weight, weight
        for found in (counts or {}, own):
            passed, tried = passed + found.get(way, (0, 0))[0], tried + found.get(way, (0, 0))[1]
        likely[way] = passed / tried
        drawn = chance.betavariate(passed, tried - passed) if counts else likely[way]
        value[way] = drawn / cost[way]
    found_best = max(ways, key=lambda way: value[way])
    chances = ", ".join(f"{way} {100 * likely[way]:.0f} % for {cost[way]:.0f} tokens" for way in ways)
    return Choice(way=found_best, of=best, why=f"chances to pass: {chances}")


def _costs(steps: Sequence[Step], best: Step, limits: Limits) -> dict[Way, float]:
    """Return what each way costs, in new tokens."""
    written = steps
    text = sum(map(_length, written)) / len(written)
    told, shown = len(best.criticism) / TOKEN, len(best.answer) / TOKEN
    more: dict[Way, float] = {"draft": 0.0, "repair": told, "revision": told + shown}
    asked = steps[0].usage.prompt_tokens
    return {way: max(text + limits.share * (asked + each), 1.0) for way, each in more.items()}


def _length(step: Step) -> int:
    """Return the tokens of an answer, estimated of one that no model wrote."""
    return step.usage.completion_tokens or int(len(step.answer) / TOKEN)
