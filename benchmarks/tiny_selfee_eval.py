"""What chains and the control's answers came to on held-out prompts, task by task.

A chain is judged by the exercise that its record carries, never by what the model says of it. The control may
generate as many tokens as the chains did: it answers each prompt so many times, and the answer that it gives
most often is its vote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redraft.chain import Chain, Step
from redraft.stats import Judged, judged
from tiny_selfee_data import exercise_of
from tiny_selfee_tasks import TASKS, plain


@dataclass(frozen=True)
class Outcome:
    """What the chains of a task came to, one entry a prompt, in the order of their ids.

    Attributes:
        first: Whether answer 0 passes.
        final: Whether the answer after revising passes.
        judged: The verdict on answer 0.
        judged_all: The verdicts on all answers of the chain.
        well_formed: Whether the text kept to the format.
        echoes: Answers that only repeat the feedback.
        tokens: Generated tokens.
    """

    first: tuple[bool, ...]
    final: tuple[bool, ...]
    judged: tuple[Judged, ...]
    judged_all: tuple[Judged, ...]
    well_formed: tuple[bool, ...]
    echoes: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Votes:
    """What so many answers to each prompt came to, one entry a prompt, in the order of their ids.

    Attributes:
        samples: Answers to each prompt.
        right: Whether the most frequent answer passes.
        tokens: Generated tokens, all answers together.
    """

    samples: int
    right: tuple[bool, ...]
    tokens: tuple[int, ...]


def by_task(chains: Iterable[Chain]) -> Mapping[str, list[Chain]]:
    """Chains of each task, in the order of their ids."""
    found: dict[str, list[Chain]] = {task: [] for task in TASKS}
    for chain in sorted(chains, key=lambda chain: chain.id):
        found[chain.meta["task"]].append(chain)
    return {task: of_task for task, of_task in found.items() if of_task}


def outcome(chains: Sequence[Chain]) -> Outcome:
    """What the chains of one task came to."""
    return Outcome(
        first=tuple(passes(chain, chain.steps[0].answer) for chain in chains),
        final=tuple(passes(chain, chain.answer) for chain in chains),
        judged=tuple(_judged(chain, chain.steps[:1]) for chain in chains),
        judged_all=tuple(_judged(chain, chain.steps) for chain in chains),
        well_formed=tuple(map(well_formed, chains)),
        echoes=sum(chain.echoes for chain in chains),
        tokens=tuple(chain.usage.completion_tokens for chain in chains),
    )


def passes(chain: Chain, answer: str) -> bool:
    """Whether an answer is right for what a chain was asked."""
    return exercise_of(chain).passes(answer)


def well_formed(chain: Chain) -> bool:
    """Whether a chain kept to the format: sections in order, a verdict in every feedback, and an end that the
    verdict or the limit of revisions gave it, not the limit of tokens.
    """
    decided = all(step.feedback and step.feedback.verdict != "unknown" for step in chain.steps[:-1])
    ended = chain.stop in ("max_revisions", "unchanged") or (
        chain.stop == "accepted" and chain.steps[-1].feedback is not None
    )
    return decided and ended and bool(chain.answer.strip())


def _judged(chain: Chain, steps: Sequence[Step]) -> Judged:
    """Verdicts against what the exercise says. One that is unknown is wrong either way, and so is none on
    answer 0; a last answer that came when no more revisions were allowed was not to be judged.
    """
    return judged(
        (step.verdict, passes(chain, step.answer))
        for number, step in enumerate(steps)
        if step.feedback or number == 0
    )


def samples_for(outcome: Outcome, tokens_of_one: Sequence[int]) -> int:
    """How many answers to each prompt take at least the tokens of the chains, all as long as one was."""
    return max(1, math.ceil(sum(outcome.tokens) / max(sum(tokens_of_one), 1)))


def votes(answers: Sequence[Chain], samples: int) -> Votes:
    """The votes on each prompt.

    Args:
        answers: Of one task; those with the same id before `#` answer the same prompt. Of two answers that
            are equally frequent the one that came first is taken.
        samples: How many answers each prompt has.
    """
    grouped: dict[str, list[Chain]] = {}
    for chain in answers:
        grouped.setdefault(chain.id.rpartition("#")[0], []).append(chain)
    right, tokens = [], []
    for _, chains in sorted(grouped.items()):
        ordered = sorted(chains, key=lambda chain: int(chain.id.rpartition("#")[2]))
        [(voted, _)] = Counter(plain(chain.answer) for chain in ordered).most_common(1)
        right.append(passes(ordered[0], voted))
        tokens.append(sum(chain.usage.completion_tokens for chain in ordered))
    return Votes(samples, tuple(right), tuple(tokens))
