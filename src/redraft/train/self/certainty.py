"""Find how certain a critic must be before an answer is revised.

Certainty is the probability of a criticism's least likely token. When a small critic computes a wrong value,
revising may make a right answer wrong, but the certainty is usually low. So below a threshold of certainty,
the verdict counts as `unknown` (`EngineInfo.certain`). The adapter's settings contain the threshold: the
lowest at which revising makes hardly any right answers wrong, plus a margin.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from redraft.chain import Chain
from redraft.chain.selfee import feedback_heading, render_prompt, render_steps
from redraft.engines.base import Engine
from redraft.engines.load import load_engine
from redraft.train.self import lessons
from redraft.train.self.tasks.task import Task

MOST_BROKEN = 0.02
"""At the threshold without `MARGIN`, revising makes at most this share of a task's answers wrong."""
EXERCISES = 100  # exercises per task. With fewer, one answer made wrong by chance would decide.
MARGIN = 3
"""Steps of 0.05 added to the threshold. On prompts in new wordings, critics are more often certain and wrong:
a critic made 10 of 63 right answers wrong without the margin, and 1 with the margin (benchmarks/LOST.md)."""
_STEPS = tuple(number / 20 for number in range(20))


@dataclass(frozen=True)
class Revised:
    """The revision of a chain's first answer (answer 0)."""

    task: str
    certain: float  # the probability of the least likely token of its criticism
    broken: bool  # whether it made a right answer wrong


def threshold(found: Sequence[Revised], counts: Mapping[str, int]) -> float:
    """Return the lowest certainty at which revising makes few answers wrong (`MOST_BROKEN`), plus `MARGIN`.

    Args:
        found: The revisions, which were made without a threshold.
        counts: The number of exercises (prompts) of each task.
    """

    def holds(least: float) -> bool:
        broken = [each.task for each in found if each.broken and each.certain >= least]
        return all(broken.count(task) <= MOST_BROKEN * count for task, count in counts.items())

    least = next((step for step, least in enumerate(_STEPS) if holds(least)), len(_STEPS))
    return _STEPS[min(least + MARGIN, len(_STEPS) - 1)]


def revised(tasks: Iterable[Task], chains: Sequence[Chain], model: str) -> list[Revised]:
    """Return the revisions of each chain's first answer, with the certainty of the criticisms.

    Args:
        chains: Chains that the model wrote, with no threshold for criticisms.
        model: A transformers folder and the adapter that wrote the criticisms, joined by `+`.
    """
    by_name = {task.name: task for task in tasks}
    kept = [chain for chain in chains if len(chain.steps) > 1 and not chain.steps[1].fresh]
    certain = asyncio.run(_scored(model, kept))

    def broken(chain: Chain) -> bool:
        task = by_name[chain.meta["task"]]
        was, became = (lessons.passes(task, chain, each) for each in (chain.steps[0].answer, chain.answer))
        return was and not became

    pairs = zip(kept, certain, strict=True)
    return [Revised(chain.meta["task"], least, broken(chain)) for chain, least in pairs]


async def _scored(model: str, chains: Sequence[Chain]) -> list[float]:
    async with aclosing(await load_engine(model)) as engine:
        split = [await _criticised(engine, chain) for chain in chains]
        scored = await engine.score([tokens for tokens, _ in split]) if split else []
    return [math.exp(min(scores[-written:])) for scores, (_, written) in zip(scored, split, strict=True)]


async def _criticised(engine: Engine, chain: Chain) -> tuple[tuple[int, ...], int]:
    text = render_prompt(chain.prompt) + render_steps(chain.steps[:1])
    heading = feedback_heading(1)
    start = text.rindex(heading) + len(heading)
    read = await engine.encode(text[:start], special=True)
    written = await engine.encode(text[start:])
    return (*read, *written), len(written)
