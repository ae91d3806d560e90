"""The figures of a diagnosis: what revising did to right and wrong answers, and where its gain comes from.

Items are what is drawn at random: an item with several runs or turns counts once in intervals and tests.
"First" is the first answer of a chain, "best" the one that it kept. The figures of a revision are of the
chains that made it. `equal_tokens` asks whether the same tokens bring more if they are spent in another way.

ECR is the share of wrong answers that a revision makes right, EIR that of right answers that it makes wrong.
Revising raises the accuracy Acc of the answers that are revised while ECR/EIR > Acc/(1 - Acc), which is while
Acc < ECR/(ECR + EIR).

The kind of a repair is what can be seen without a model: a draft that was cut, the same words in another
form, or a right result that was read as another one. Everything else counts as a change of content.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from statistics import fmean

from redraft import stats
from redraft.chain import Chain, Feedback
from redraft.evaluation.diagnosis.decide import Decision, decide
from redraft.evaluation.diagnosis.truth import Known, Material
from redraft.evaluation.records import item_of
from redraft.evaluation.tasks.tasks import is_answer
from redraft.plugins import plugins
from redraft.stats import Estimate
from redraft.verify.segment import count_words, words

MOST = 10  # revisions that get figures of their own
COLLAPSED = 0.95  # share of equal verdicts, 0 to 1, from which they are said to be always the same
OTHERS = 5  # answers of the other kind without which equal verdicts say nothing about who gave them
Pair = tuple[bool, bool, Hashable]  # whether an answer is right before and after, and the id of its item


@dataclass(frozen=True)
class Changes:
    """Answers before and after something was done to them.

    Attributes:
        pairs: One for each answer.
    """

    pairs: tuple[Pair, ...]

    def count(self, before: bool, after: bool) -> int:  # noqa: FBT001  (right before, right after)
        """Return how many went so."""
        return sum(pair[:2] == (before, after) for pair in self.pairs)

    @property
    def fixed(self) -> int:
        """Wrong answers that became right."""
        return self.count(False, True)

    @property
    def broken(self) -> int:
        """Right answers that became wrong."""
        return self.count(True, False)

    @property
    def right(self) -> int:
        """Answers that were right before."""
        return sum(before for before, _, _ in self.pairs)

    @property
    def wrong(self) -> int:
        """Answers that were wrong before."""
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
        """ECR/EIR; infinite if nothing was broken, NaN if neither is known or both are 0."""
        ecr, eir = self.ecr.value, self.eir.value
        if eir:
            return ecr / eir
        return math.inf if ecr > 0 else math.nan

    @property
    def threshold(self) -> float:
        """Acc/(1 - Acc) before: what ECR/EIR must exceed."""
        return self.right / self.wrong if self.wrong else math.inf

    @property
    def level(self) -> float:
        """ECR/(ECR + EIR): while fewer than this share are right, revising pays; NaN if it is not known."""
        return self.ecr.value / total if (total := self.ecr.value + self.eir.value) else math.nan

    @property
    def _by_item(self) -> tuple[list[float], list[float]]:
        before = by_item((was, item) for was, _, item in self.pairs)
        return before, by_item((now, item) for _, now, item in self.pairs)

    @cached_property
    def decision(self) -> Decision:
        """Whether the answers are better after than before."""
        return decide(*self._by_item)

    @cached_property
    def p(self) -> float:
        """The p of the decision, without its interval, which takes longer."""
        return stats.paired(*self._by_item)


def by_item(scores: Iterable[tuple[float, Hashable]]) -> list[float]:
    """Return the mean score of each item's runs, in the order in which items come first."""
    found: dict[Hashable, list[float]] = {}
    for score, item in scores:
        found.setdefault(item, []).append(float(score))
    return [fmean(runs) for runs in found.values()]


@dataclass(frozen=True)
class Level:
    """The answers after some revisions.

    Attributes:
        name: Such as `first answer`.
        right: Share of right answers.
        guide: Share of those that pass the checks that guided revising; None where there are none.
        words: Mean length.
    """

    name: str
    right: Estimate
    hits: int
    count: int
    guide: Estimate | None
    words: float


@dataclass(frozen=True)
class Verdicts:
    """Verdicts of feedback against the truth, where "needs revision" is what is to be found.

    Attributes:
        judged: The counts of each item.
        unknown: Verdicts that say neither.
    """

    judged: tuple[stats.Judged, ...]
    unknown: int

    @cached_property
    def precision(self) -> Estimate:
        """The share of rejected answers that are wrong."""
        return stats.precision(self.judged)

    @cached_property
    def recall(self) -> Estimate:
        """The share of wrong answers that are rejected."""
        return stats.recall(self.judged)

    @cached_property
    def balanced(self) -> Estimate:
        """The mean of the shares of wrong answers rejected and right ones accepted."""
        return stats.balanced(self.judged)

    @property
    def total(self) -> stats.Judged:
        """The counts of all items."""
        names = ("rejected", "wrong", "accepted", "right", "alarms")
        return stats.Judged(*(sum(getattr(each, name) for each in self.judged) for name in names))

    @property
    def collapse(self) -> str:
        """`accept` or `revise` if nearly all verdicts are this one, though some answers need the other."""
        total = self.total
        rejected = total.rejected + total.alarms
        accepted = total.wrong + total.right - rejected - self.unknown
        enough = COLLAPSED * (total.wrong + total.right)
        if accepted >= enough and total.wrong >= OTHERS and total.rejected * 2 < total.wrong:
            return "accept"
        always = rejected >= enough and total.right >= OTHERS and total.accepted * 2 < total.right
        return "revise" if always else ""


@dataclass(frozen=True)
class Figures:
    """What revising did.

    Attributes:
        material: The chains, with truth.
    """

    material: Material

    @property
    def chains(self) -> tuple[Known, ...]:
        """The chains that count."""
        return self.material.chains

    @cached_property
    def items(self) -> int:
        """Number of items."""
        return len({each.item for each in self.chains})

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order in which they come first."""
        return list(dict.fromkeys(each.task for each in self.chains))

    @cached_property
    def revised(self) -> tuple[Known, ...]:
        """The chains with a revision."""
        return tuple(each for each in self.chains if each.chain.revisions)

    @cached_property
    def guides(self) -> list[str]:
        """The names of the checks that guided revising; of IFEval's, their types."""
        return list(dict.fromkeys(type_of(name) for each in self.chains for name in each.guided))

    @property
    def same(self) -> bool:
        """Whether the checks that score guided revising, too."""
        guided = [each for each in self.chains if each.guided]
        return bool(guided) and all(each.scored <= each.guided for each in guided)

    @property
    def most(self) -> int:
        """The most revisions of a chain."""
        return max(each.chain.revisions for each in self.chains)

    def _changes(self, before: Side, after: Side, chains: Sequence[Known]) -> Changes:
        return Changes(tuple((before(each), after(each), each.item) for each in chains))

    @cached_property
    def revisions(self) -> tuple[Changes, ...]:
        """What each revision did, of the chains that made it."""
        return tuple(self._revision(number) for number in range(1, min(self.most, MOST) + 1))

    def _revision(self, number: int) -> Changes:
        chains = [each for each in self.chains if each.chain.revisions >= number]
        return self._changes(lambda each: each.rights[number - 1], lambda each: each.rights[number], chains)

    @cached_property
    def whole(self) -> Changes:
        """From the first answer to the best one, of all chains."""
        return self._changes(_first, _best, self.chains)

    @cached_property
    def of_revised(self) -> Changes:
        """From the first answer to the best one, of the chains with a revision."""
        return self._changes(_first, _best, self.revised)

    @cached_property
    def keeping(self) -> Changes:
        """From the last answer to the best one: what choosing the best one changes."""
        return self._changes(lambda each: each.rights[-1], _best, self.revised)

    @property
    def decision(self) -> Decision:
        """Whether the best answers are better than the first ones."""
        return self.whole.decision

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The answers after at most 0, 1, 2 … revisions, and the best ones."""
        names = ["first answer", "1 revision at most"]
        names += [f"{k} revisions at most" for k in range(2, self.most + 1)]
        found = [_level(names[k], self.chains, _place_after(k)) for k in range(min(self.most, MOST) + 1)]
        return (*found, _level("best answer", self.chains, lambda chain: chain.best))

    @cached_property
    def verdicts(self) -> Verdicts:
        """The verdicts on all answers that have feedback."""
        said: dict[str, list[tuple[str, bool]]] = {}
        for each in self.chains:
            said.setdefault(each.item, []).extend(_verdicts(each))
        found = tuple(stats.judged(verdicts) for verdicts in said.values())
        return Verdicts(found, sum(word == "unknown" for all_ in said.values() for word, _ in all_))

    @cached_property
    def kinds(self) -> Counter[str]:
        """How many first answers that were wrong were repaired, by kind of repair."""
        return Counter(kind_of(each) for each in self.revised if each.best and not each.first)

    @cached_property
    def groups(self) -> dict[str, Changes]:
        """From first to best answers, by group."""
        found: dict[str, list[Pair]] = {}
        for each in trials(self.chains):
            found.setdefault(each.group, []).append((each.before, each.after, each.item))
        return {name: Changes(tuple(found[name])) for name in sorted(found)}

    @cached_property
    def drafts(self) -> Decision | None:
        """What choosing among drafts adds: a draft at random against the chosen one; None without drafts."""
        chains = [each for each in self.chains if each.drafts]
        at_random = [(fmean([each.first, *each.drafts]), each.item) for each in chains]
        chosen = [(each.first, each.item) for each in chains]
        return decide(by_item(at_random), by_item(chosen)) if chains else None

    @cached_property
    def longer(self) -> Estimate:
        """By how many words best answers are longer than first ones, of revised chains."""
        chains = [each.chain for each in self.revised if each.chain.best is not None]
        gaps = [count_words(chain.answer) - count_words(chain.steps[0].answer) for chain in chains]
        return stats.mean(gaps, [item_of(chain) for chain in chains])

    @cached_property
    def length_and_truth(self) -> Estimate:
        """The correlation of length in words with being right, over all answers."""
        rows = [
            (count_words(step.answer), right, each.item)
            for each in self.chains
            for step, right in zip(each.chain.steps, each.rights, strict=True)
        ]
        lengths, rights, items = zip(*rows, strict=True)
        return stats.correlation(lengths, rights, items)


Side = Callable[[Known], bool]


_first: Side = attrgetter("first")
_best: Side = attrgetter("best")


def _place_after(revisions: int) -> Callable[[Chain], int]:
    return lambda chain: min(revisions, len(chain.steps) - 1)


def _level(name: str, chains: Sequence[Known], place: Callable[[Chain], int | None]) -> Level:
    """Describe one answer of each chain. A chain without that answer is wrong."""
    guided = any(each.guided for each in chains)
    places = [place(each.chain) for each in chains]
    rights = [at is not None and each.rights[at] for each, at in zip(chains, places, strict=True)]
    kept = [(each, at) for each, at in zip(chains, places, strict=True) if at is not None]
    passed = [
        (each.guide[at] is True, each.item)
        for each, at in kept
        if guided and (each.empty or each.guide[at] is not None)
    ]
    lengths = [count_words(each.chain.steps[at].answer) for each, at in kept]
    return Level(
        name,
        _share(rights, [each.item for each in chains]),
        sum(rights),
        len(rights),
        _share([hit for hit, _ in passed], [item for _, item in passed]) if passed else None,
        fmean(lengths) if lengths else math.nan,
    )


def _share(hits: Sequence[bool], items: Sequence[Hashable]) -> Estimate:
    return stats.proportions(hits, [1] * len(hits), items)


def _verdicts(each: Known) -> Iterator[tuple[str, bool]]:
    for step, right in zip(each.chain.steps, each.rights, strict=True):
        if isinstance(step.feedback, Feedback):
            yield step.feedback.verdict, right


CUT, FORM, CONTENT = "empty or cut draft completed", "form alone changed", "content changed"
KINDS = (CUT, FORM, CONTENT)  # the kinds of repairs
MOST_CHECKS = 40  # different checks that get a row each: more are checks of single records


def kind_of(each: Known) -> str:
    """Return the kind of a repair, of a chain whose best answer is right and whose first one is not.

    The form alone changed if IFEval's loose score held already, if both answers have the same words, or if
    the first answer ended in the task's right result too, and was read as another one.
    """
    first = each.chain.steps[0]
    if not first.answer.strip() or not first.complete:
        return CUT
    same = _words(first.answer) == _words(each.chain.answer)
    return FORM if same or each.loose[:1] == (True,) or _stood(each) else CONTENT


def _stood(each: Known) -> bool:
    result = (
        _words(str(each.chain.meta.get("reference") or "")) if each.task in plugins("redraft.tasks") else []
    )
    lines = each.chain.steps[0].answer.strip().splitlines()
    return bool(result) and _words(lines[-1])[-len(result) :] == result


def _words(text: str) -> list[str]:
    return [word.casefold() for word in words(text)]


@dataclass(frozen=True)
class Trial:
    """A first and a best answer in one respect: all of it, or one of its checks."""

    group: str
    before: bool
    after: bool
    item: Hashable


def trials(chains: Sequence[Known]) -> Iterator[Trial]:
    """Yield the trials of each group, from first to best answers.

    Groups are those of the records, and the task where several are mixed. Where no record has any, they are
    the names of the checks, if there are several; IFEval's are types of constraints.
    """
    mixed = len({each.task for each in chains}) > 1
    grouped = any(each.groups for each in chains)
    for each in chains:
        for group in (*each.groups, *([each.task] if mixed else [])):
            yield Trial(group, each.first, each.best, each.item)
    several = any(len(found) > 1 for each in chains for found in each.results)
    names = {type_of(name) for each in chains for name in each.scored}
    if several and not grouped and not mixed and len(names) <= MOST_CHECKS:
        for each in chains:
            yield from _by_check(each)


def _by_check(each: Known) -> Iterator[Trial]:
    best, answered = each.chain.best, [is_answer(step) for step in each.chain.steps]
    for place, (name, before) in enumerate(each.results[0]):
        after = best is not None and each.results[best][place][1] and answered[best]
        yield Trial(type_of(name), before and answered[0], after, each.item)


def type_of(check: str) -> str:
    """Return the type of one of IFEval's constraints, or the name of another check."""
    return check.removeprefix("ifeval:").split(" {")[0] if check.startswith("ifeval:") else check
