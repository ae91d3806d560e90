"""Define the strategies that `redraft diagnose --tasks` compares at equal tokens, such as best of N.

Each strategy runs `redraft.revise` with different options. The strategy `alone` uses no checks. All others
use the same guiding checks, but some hide the checks' messages or continue after a pass.

Sources: blind retry and shuffled feedback as controls of revising, Kamoi et al. (2024, arXiv 2406.01297);
majority vote, Wang et al., "Self-Consistency Improves Chain of Thought Reasoning" (2022, arXiv 2203.11171);
early vote, Aggarwal et al., "Let's Sample Step by Step" (2023, arXiv 2305.11860), with the Beta criterion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Any, Self

from redraft.chain import Chain, Prompt, Usage
from redraft.checks.base import Check, Outcome, demand_of, failed, outcome_of, schema_of

NAMES = {
    "plain": "one answer",
    "revise": "revise",
    "alone": "revise alone",
    "repair": "repair",
    "best-of": "best of N",
    "steered": "steered best of N",
    "auto": "auto",
    "verified": "verified",
    "vote": "majority vote",
    "early": "early vote",
    "blind": "blind retry",
    "shuffled": "shuffled feedback",
}
"""Maps kinds of strategies to names, in the order of tables. Unlisted kinds come last in tables."""
SAMPLED = ("best-of", "vote", "early", "steered")
"""The kinds with several drafts, drawn until they take as many tokens as the costliest other kind."""


@dataclass(frozen=True)
class Strategy:
    """A way to spend tokens on an answer."""

    kind: str  # a key of `NAMES`, or any other name for chains that were made elsewhere
    texts: int  # the largest number of answers to one prompt

    @property
    def name(self) -> str:
        """The name of the strategy's files, such as `best-of-4`."""
        return self.kind if self.kind == "plain" else f"{self.kind}-{self.texts}"

    @property
    def called(self) -> str:
        """The name in messages and on the command line: `one`, `the judge`, or the name of the files."""
        return {"plain": "one", "pairs.reviews": "the judge"}.get(self.kind, self.name)

    @classmethod
    def of(cls, name: str) -> Self:
        """Parse a strategy's `name` or `called`, such as `best-of-4` or `one`."""
        name = "plain" if name == "one" else name
        kind, _, texts = name.rpartition("-")
        return cls(kind, int(texts)) if kind and texts.isdecimal() else cls(name, 1)

    @property
    def place(self) -> tuple[int, str, int]:
        """A sort key for the order in tables."""
        order = [*NAMES]
        return order.index(self.kind) if self.kind in NAMES else len(order), self.kind, self.texts

    @property
    def revises(self) -> bool:
        """Whether the answers after the first are revisions."""
        return self.texts > 1 and self.kind in NAMES and self.kind not in SAMPLED

    @property
    def options(self) -> dict[str, Any]:
        """The options of `revise` for this strategy."""
        if self.kind in SAMPLED:
            steered = {"steer": True} if self.kind == "steered" else {}
            return {"mode": "best-of", "drafts": self.texts, **steered}
        revisions = {"max_revisions": self.texts - 1}
        if self.kind in ("plain", "revise", "alone"):
            return revisions
        return {"mode": {"auto": "auto", "repair": "repair"}.get(self.kind, "verified"), **revisions}


REVIEWED = Strategy("pairs.reviews", 2)  # stands for a judge's reviews of the answers of all ways


def strategies_of(
    kinds: Iterable[str], revisions: int, drawn: Sequence[int], *, voting: bool
) -> list[Strategy]:
    """Return the strategies of the given kinds, in the order of running.

    Args:
        kinds: Keys of `NAMES`.
        revisions: The largest number of revisions.
        drawn: The numbers of answers for best of N and majority vote, ascending from 2.
        voting: Whether answers have a short result, such as a number, so that votes can be counted.
    """
    texts: Mapping[str, Sequence[int]] = {
        "plain": (1,),
        "best-of": drawn,
        "vote": drawn[1:] if voting else (),  # two votes give the same answer as one
        "early": drawn[-1:] if voting else (),
        "steered": (1, *drawn),
    }
    found = [Strategy(kind, n) for kind in kinds for n in texts.get(kind, range(2, revisions + 2))]
    # The places put `shuffled` after `revise`, whose feedback it uses.
    return sorted(found, key=lambda way: (way.kind in SAMPLED, way.place))


@dataclass(frozen=True)
class Retold:
    """A check with the same demand as the original but another message."""

    part: Check  # the original check
    message: str = ""  # replaces the message of each failure; may be empty
    never: bool = False  # whether to fail every answer, so that all samples are drawn

    @property
    def name(self) -> str:
        """The name of the original check."""
        return self.part.name

    @property
    def demand(self) -> str:
        """The demand of the original check."""
        return demand_of(self.part)

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The schema of the original check."""
        return schema_of(self.part)

    async def check(self, answer: str, prompt: Prompt) -> Outcome:
        """Run the original check, and replace the message of a failure."""
        if self.never:
            return failed(self.message)
        outcome = await outcome_of(self.part, answer, prompt)
        return outcome if outcome.passed else replace(outcome, message=self.message)


def retold(checks: Iterable[Check], message: str = "", *, never: bool = False) -> tuple[Check, ...]:
    """Return the checks with another message. With `never`, they fail every answer."""
    return tuple(Retold(check, message, never) for check in checks)


def reader_of(checks: Sequence[Check]) -> Callable[[str], Hashable] | None:
    """Return a function that reads an answer's result, such as `42`; None if no check reads results."""
    return next((getattr(check, "said") for check in checks if hasattr(check, "said")), None)  # noqa: B009


def voted(chain: Chain, said: Callable[[str], Hashable], *, early: bool = False) -> Chain:
    """Choose a chain's answer by vote: the first sample with the most frequent result.

    A sample without a result does not vote. At equal votes, the earliest result wins. With `early`, samples
    after the vote was settled are dropped, with their usage.
    """
    # Their feedback only made the model draw all samples (`Retold.never`).
    samples = [step.model_copy(update={"feedback": None}) for step in (*chain.steps[:1], *chain.drafts)]
    read = [said(step.answer) for step in samples]
    if early:
        most = next((count for count in range(1, len(read)) if settled(read[:count])), len(read))
        samples, read = samples[:most], read[:most]
        chain = chain.model_copy(update={"usage": sum((step.usage for step in samples), Usage())})
    votes = Counter(each for each in read if each is not None)
    chosen = samples.pop(read.index(votes.most_common(1)[0][0]) if votes else 0)
    return chain.model_copy(update={"steps": (chosen,), "drafts": tuple(samples), "best": 0})


def settled(votes: Iterable[Hashable]) -> bool:
    """Return whether the leading result stays ahead with a probability above 95 %."""
    counts = sorted(Counter(vote for vote in votes if vote is not None).values(), reverse=True)
    first, second, *_ = (*counts, 0, 0)
    trials = first + second + 1
    # This is P(share > 1/2) for a share distributed as Beta(first + 1, second + 1).
    return sum(comb(trials, each) for each in range(first + 1)) / 2.0**trials > 0.95


def strangers(chains: Iterable[Chain]) -> dict[str, str]:
    """Map the id of each chain whose first answer is criticised to the criticism of another such chain.

    If there is only one such chain, the result is empty.
    """
    told = {
        chain.id: step.feedback.text
        for chain in chains
        for step in chain.steps[:1]
        if step.feedback and step.feedback.verdict == "revise" and not step.echo and step.feedback.text
    }
    ids = list(told)
    return {} if len(ids) < 2 else {own: told[ids[place - 1]] for place, own in enumerate(ids)}
