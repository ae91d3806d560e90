"""Compute the figures of a diagnosis: how revising changed right and wrong answers.

Items are the random sample: an item with several runs or turns counts once in intervals and tests. ECR is the
share of wrong answers that a revision makes right. EIR is the share of right answers that a revision makes
wrong. Revising raises Acc, the share of right answers, as long as ECR/EIR > Acc/(1 - Acc).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from statistics import fmean
from typing import ClassVar, Literal

from redraft.evaluation import stats
from redraft.evaluation.diagnosis.truth import Known
from redraft.evaluation.stats import Estimate
from redraft.evaluation.tables import p_text, plain
from redraft.jobs.counting import counted

LEVEL = 0.05  # a difference is significant if p is below this
MOST = 10  # later revisions get no figures
Pair = tuple[bool, bool, Hashable]  # whether an answer is right before and after, and the id of its item


@dataclass(frozen=True)
class Decision:
    """The result of comparing two lists of scores for the same items."""

    IN_JSON: ClassVar = "items better worse gain p outcome"

    items: int  # number of items that both ways answered
    better: int  # items in which the second way scores higher
    worse: int  # items in which the second way scores lower
    gain: Estimate  # mean score of the second way minus that of the first, -1 to 1
    p: float  # McNemar's exact test; if a score is not 0 or 1, a sign-flip test (`stats.paired`)

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Whether the second scores are better or worse; `undecided` if p is not below `LEVEL`."""
        if self.p >= LEVEL:
            return "undecided"
        return "better" if self.gain.value > 0 else "worse"


def decide(one: Sequence[float], other: Sequence[float]) -> Decision:
    """Compare two lists of scores (0 to 1) for the same items in the same order."""
    gain = stats.change(one, other)
    return Decision(len(one), *split(one, other), gain, stats.paired(one, other))


def split(one: Sequence[float], other: Sequence[float]) -> tuple[int, int]:
    """Return the number of items with a higher score in `other`, and the number with a lower score."""
    pairs = list(zip(one, other, strict=True))
    return sum(after > before for before, after in pairs), sum(after < before for before, after in pairs)


def sentence(decision: Decision) -> str:
    """Return a sentence on whether revised answers beat first answers, regardless of costs."""
    split = f"better in {decision.better:,} of {counted(decision.items, 'item')}, worse in {decision.worse:,}"
    tested = f"{split}, {p_text(decision.p)}"
    points, found = points_of(decision.gain), decision.outcome
    if found == "better":
        return f"Revising does better here: it adds {points} over the first answers; {tested}."
    if found == "worse":
        return f"Don't revise: it loses {points} against the first answers; {tested}."
    if not decision.better + decision.worse:
        return "Undecided: revising changes no item's score."
    value, interval = plain(decision.gain.times(100), 1, sign=True)
    return f"Undecided: so far, revising changes the score by {value} points ({interval}); {tested}."


def points_of(gain: Estimate) -> str:
    """Return a gain or loss without its sign: `6.7 points (3.1 to 16.4)`."""
    size = gain if gain.value >= 0 else Estimate(-gain.value, -gain.high, -gain.low)
    value, interval = plain(size.times(100), 1)
    return f"{value} points" + f" ({interval})" * bool(interval)


@dataclass(frozen=True)
class Changes:
    """Counts and rates of answers before and after a revision."""

    IN_JSON: ClassVar = "right wrong fixed broken ecr eir ratio threshold decision.p"

    pairs: tuple[Pair, ...]

    def count(self, before: bool, after: bool) -> int:  # noqa: FBT001  (right before, right after)
        """Count the answers with these outcomes before and after the revision. True means right."""
        return sum(pair[:2] == (before, after) for pair in self.pairs)

    @property
    def fixed(self) -> int:
        """The number of wrong answers that became right."""
        return self.count(False, True)

    @property
    def broken(self) -> int:
        """The number of right answers that became wrong."""
        return self.count(True, False)

    @property
    def right(self) -> int:
        """The number of answers that were right before the revision."""
        return sum(before for before, _, _ in self.pairs)

    @property
    def wrong(self) -> int:
        """The number of answers that were wrong before the revision."""
        return len(self.pairs) - self.right

    @cached_property
    def ecr(self) -> Estimate:
        """The share of wrong answers that became right."""
        return self._share(before=False)

    @cached_property
    def eir(self) -> Estimate:
        """The share of right answers that became wrong."""
        return self._share(before=True)

    def _share(self, *, before: bool) -> Estimate:
        trials = [float(was == before) for was, _, _ in self.pairs]
        hits = [float(was == before and now != before) for was, now, _ in self.pairs]
        return stats.proportions(hits, trials, [item for _, _, item in self.pairs])

    @property
    def ratio(self) -> float:
        """ECR/EIR: infinite if only EIR is 0, NaN if both are 0 or either is unknown."""
        ecr, eir = self.ecr.value, self.eir.value
        if eir:
            return ecr / eir
        return math.inf if ecr > 0 else math.nan

    @property
    def threshold(self) -> float:
        """Right answers per wrong answer before the revision. If ECR/EIR is larger, revising raises Acc."""
        return self.right / self.wrong if self.wrong else math.inf

    @cached_property
    def decision(self) -> Decision:
        """The comparison of the answers before and after the revision, by item."""
        before = by_item((was, item) for was, _, item in self.pairs)
        return decide(before, by_item((now, item) for _, now, item in self.pairs))


def by_item(scores: Iterable[tuple[float, Hashable]]) -> list[float]:
    """Return the mean score of each item, in the order in which items first appear."""
    found: dict[Hashable, list[float]] = {}
    for score, item in scores:
        found.setdefault(item, []).append(float(score))
    return [fmean(runs) for runs in found.values()]


@dataclass(frozen=True)
class Level:
    """The share of right answers at one stage, such as after at most 2 revisions."""

    name: str  # such as `first answer`
    right: Estimate  # share of right answers
    hits: int
    cut: int  # number of answers that the token limit cut off
    count: int


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of feedback on answers that are known to be right or wrong."""

    IN_JSON: ClassVar = "total unknown precision recall balanced"

    judged: tuple[stats.Judged, ...]  # the counts of each item
    unknown: int  # number of verdicts that neither accept nor reject

    @cached_property
    def precision(self) -> Estimate:
        """The share of rejected answers that are wrong."""
        hits = [each.rejected for each in self.judged]
        return stats.proportions(hits, [each.rejected + each.alarms for each in self.judged])

    @cached_property
    def recall(self) -> Estimate:
        """The share of wrong answers that are rejected."""
        hits = [each.rejected for each in self.judged]
        return stats.proportions(hits, [each.wrong for each in self.judged])

    @cached_property
    def balanced(self) -> Estimate:
        """Balanced accuracy: the mean of recall and the share of right answers that are accepted."""
        return stats.balanced(self.judged)

    @property
    def total(self) -> stats.Judged:
        """The sums of the counts over all items."""
        return stats.Judged(*map(sum, zip(*map(astuple, self.judged), strict=True)))


@dataclass(frozen=True)
class Figures:
    """The figures on how revising changed answers."""

    IN_JSON: ClassVar = "tasks items same left_out levels revisions of_revised fixed broken verdicts decision"

    chains: tuple[Known, ...]  # the chains that are counted
    left_out: Mapping[str, tuple[str, ...]]  # ids of the other chains, by reason

    @cached_property
    def items(self) -> int:
        """The number of items."""
        return len({each.item for each in self.chains})

    @property
    def tasks(self) -> list[str]:
        """The tasks of the chains."""
        return list(dict.fromkeys(each.truth.task for each in self.chains))

    @cached_property
    def revised(self) -> tuple[Known, ...]:
        """The chains with at least one revision."""
        return tuple(each for each in self.chains if each.chain.revisions)

    @property
    def same(self) -> bool:
        """Whether the scoring checks also guided revising."""
        guided = [each for each in self.chains if each.guided]
        return bool(guided) and all(each.scored <= each.guided for each in guided)

    @property
    def most(self) -> int:
        """The largest number of revisions in a chain."""
        return max(each.chain.revisions for each in self.chains)

    @cached_property
    def revisions(self) -> tuple[Changes, ...]:
        """The effects of the first revision, the second revision and so on, up to `MOST`."""
        found = []
        for n in range(1, min(self.most, MOST) + 1):
            longer = (each for each in self.chains if each.chain.revisions >= n)
            found.append(Changes(tuple((each.rights[n - 1], each.rights[n], each.item) for each in longer)))
        return tuple(found)

    @cached_property
    def whole(self) -> Changes:
        """The change from the first answer to the best answer, over all chains."""
        return Changes(tuple((each.first, each.best, each.item) for each in self.chains))

    @cached_property
    def of_revised(self) -> Changes:
        """The change from the first answer to the best answer, over the chains with a revision."""
        return Changes(tuple((each.first, each.best, each.item) for each in self.revised))

    @cached_property
    def fixed(self) -> list[str]:
        """The ids of the chains with a wrong first answer and a right best answer."""
        return [each.chain.id for each in self.chains if each.best and not each.first]

    @cached_property
    def broken(self) -> list[str]:
        """The ids of the chains with a right first answer and a wrong best answer."""
        return [each.chain.id for each in self.chains if each.first and not each.best]

    @property
    def decision(self) -> Decision:
        """The comparison of the best answers with the first answers."""
        return self.whole.decision

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The shares of right answers after at most 0, 1, 2 … revisions, and among the best answers."""
        found, drafted = [], any(each.chain.drafts for each in self.chains)
        first = "chosen draft" if drafted else "first answer"
        for most in range(min(self.most, MOST) + 1):
            name = f"{counted(most, 'revision')} at most" if most else first
            found.append(_level(name, self.chains, [min(most, len(each.rights) - 1) for each in self.chains]))
        return (*found, _level("best answer", self.chains, [each.chain.best for each in self.chains]))

    @cached_property
    def verdicts(self) -> Verdicts:
        """The verdicts on answers, except those of the scoring checks, which are never wrong."""
        said: dict[str, list[tuple[str, bool]]] = {}
        for each in self.chains:
            said.setdefault(each.item, []).extend(
                (step.feedback.verdict, right)
                for step, right in zip(each.chain.steps, each.rights, strict=True)
                if step.feedback and (step.feedback.by == "model" or each.guided != each.scored)
            )
        found = tuple(stats.judged(verdicts) for verdicts in said.values())
        return Verdicts(found, sum(word == "unknown" for all_ in said.values() for word, _ in all_))


def _level(name: str, chains: Sequence[Known], places: Sequence[int | None]) -> Level:
    rights = [at is not None and each.rights[at] for each, at in zip(chains, places, strict=True)]
    cut = sum(at is not None and each.cuts[at] for each, at in zip(chains, places, strict=True))
    share = stats.proportions(rights, [1] * len(rights), [each.item for each in chains])
    return Level(name, share, sum(rights), cut, len(rights))


def cut_off(shares: Iterable[float]) -> Iterator[str]:
    """Yield a warning if one of `shares` is above 5 %. Each is a share of answers that were cut off."""
    if (most := max(shares)) > 0.05:
        said = f"--max-tokens is too small: it cut off up to {most * 100:.1f} % of the answers"
        yield f"{said}, so complete but wrong answers may replace right ones."
