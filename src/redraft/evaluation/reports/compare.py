"""Compute figures from reviews: a model's results against an opponent, and the biases of the judge.

Judges favour answers by position. So a question counts only with readable reviews in both orders, and a model
wins a question only by winning in both orders. If no question has both orders, all questions count, and the
report says so. Votes by people, in random order, always count. An item is a question or a turn of a question.
Intervals are over questions (`stats`). All figures of a comparison use the same resamples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import ClassVar

import numpy as np

from redraft.evaluation import stats
from redraft.evaluation.judging.pairs import AskedQuestion
from redraft.evaluation.judging.reviews import HIGHEST, LOWEST, SAME, Unreadable
from redraft.evaluation.reports.inputs import Placed
from redraft.evaluation.stats import Bootstrap, Estimate, Numbers

_NAMES = (
    *("model_1", "opponent_1", "model_2", "opponent_2"),
    *("wins", "ties", "losses", "both_wins", "both_ties", "both_losses"),
    *("first", "neither", "second", "points", "scored", "seen", "agreed"),
    *("length", "other_length"),
)
_COLUMN = {name: place for place, name in enumerate(_NAMES)}
_MOMENTS = slice(len(_NAMES), len(_NAMES) + 6)
_OUTCOMES = ("wins", "ties", "losses")
_RATIO = (LOWEST / HIGHEST, HIGHEST / LOWEST)
_POINTS = (float(LOWEST - HIGHEST), float(HIGHEST - LOWEST))


@dataclass(frozen=True)
class Tally:
    """The numbers of reviews or questions that a model won, tied and lost."""

    wins: int
    ties: int
    losses: int

    @classmethod
    def of(cls, sums: Numbers, first: str) -> Tally:
        """Read the counts from three columns, starting at `first`."""
        return cls(*(int(sums[_COLUMN[first] + place]) for place in range(3)))

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return self.wins + self.ties + self.losses


@dataclass(frozen=True)
class Result:
    """A model's result on all questions or on a category."""

    questions: int
    ratio: Estimate | None  # the sum of its scores divided by its opponent's; None without scores
    win_rate: Estimate  # share of reviews that it won; a tie counts as half
    reviews: Tally
    both: Tally | None  # items that it won in both orders, neither won nor lost in both, and lost in both


@dataclass(frozen=True)
class OrderBias:
    """The influence of the order of the answers on the judge."""

    points: Estimate | None  # score of the answer shown first minus the second's; None without scores
    agreement: Estimate  # share of items with the same verdict in both orders


@dataclass(frozen=True)
class LengthBias:
    """The influence of the answers' length, in characters, on the judge."""

    model: float  # mean length of the model's answers
    opponent: float
    correlation: Estimate  # between the differences in length and in score (or wins), by question
    win_rate: Estimate  # the estimated win rate if answers had equal length
    longer: int  # questions in which the model's answer is longer
    shorter: int


@dataclass(frozen=True)
class LeftOut:
    """A review or question that is not counted, with the reason."""

    where: str
    question_id: str
    reason: str


@dataclass(frozen=True)
class Game:
    """A review whose verdict could be read, as a win, a tie or a loss of the model."""

    placed: Placed
    second: bool  # whether the model's answer was shown second
    scores: tuple[float, float] | None  # of model and opponent; None if the judge gave only a verdict
    sign: int  # 1 if the model won, 0 for a tie, -1 if it lost

    @property
    def lengths(self) -> tuple[int, int] | None:
        """The lengths of the model's and the opponent's answer in characters; None without the answers."""
        if self.placed.answers is None:
            return None
        first, second = (len(answer.text) for answer in self.placed.answers)
        return (second, first) if self.second else (first, second)

    @property
    def turned(self) -> Game:
        """The same review, with model and opponent swapped."""
        return Game(self.placed, not self.second, self.scores and self.scores[::-1], -self.sign)


@dataclass(frozen=True)
class Item:
    """A question, or a turn of a question, with the readable reviews."""

    question_id: str
    turn: int
    games: tuple[Game, ...]

    @property
    def drawn(self) -> bool:
        """Whether the order of the answers was random in all reviews."""
        return bool(self.games) and all(game.placed.review.drawn for game in self.games)

    def sign(self, *, second: bool) -> int | None:
        """Return the majority outcome in one order: 1, 0 or -1 as in `Game.sign`; None if not reviewed."""
        signs = [game.sign for game in self.games if game.second == second]
        return (sum(signs) > 0) - (sum(signs) < 0) if signs else None

    @property
    def both(self) -> int | None:
        """1 for a win in both orders, -1 for a loss in both orders, else 0; None if an order is missing."""
        one, other = self.sign(second=False), self.sign(second=True)
        if one is None or other is None:
            return None
        return one if one == other else 0

    @property
    def same(self) -> bool:
        """Whether the answers are the same text, so that no judge was asked."""
        return any(game.placed.review.metadata.get(SAME) for game in self.games)

    def row(self) -> list[float]:
        """Return the item's counts, in the order of `_NAMES`."""
        row = [0.0] * len(_NAMES)
        for game in self.games:
            row[_COLUMN["wins"] + 1 - game.sign] += 1
            row[_COLUMN["first"] + (1 + game.sign if game.second else 1 - game.sign)] += 1
            row[_COLUMN["length"]] += (game.lengths or (0, 0))[0]
            row[_COLUMN["other_length"]] += (game.lengths or (0, 0))[1]
            if game.scores:
                ours, theirs = game.scores
                row[2 * game.second] += ours
                row[2 * game.second + 1] += theirs
                row[_COLUMN["points"]] += theirs - ours if game.second else ours - theirs
                row[_COLUMN["scored"]] += 1
        if (both := self.both) is not None:
            row[_COLUMN["both_wins"] + 1 - both] += 1
            row[_COLUMN["seen"]] += not self.same
            row[_COLUMN["agreed"]] += not self.same and self.sign(second=False) == self.sign(second=True)
        return row


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with an opponent."""

    IN_JSON: ClassVar = (
        "model opponent whole.questions whole.ratio whole.win_rate whole.reviews whole.both sums p drawn "
        "in_both_orders shown_first order_bias length_bias judges unreadable left_out"
    )

    model: str
    opponent: str
    items: tuple[Item, ...]  # items that are counted, with their reviews
    left_out: tuple[LeftOut, ...]  # questions that are not counted
    unreadable: tuple[LeftOut, ...]  # reviews without a score
    in_both_orders: bool  # whether each item has both orders, except items with random order

    def against(self, opponent: str) -> Comparison:
        """Return the comparison against `opponent`, with the two models swapped if needed."""
        if opponent == self.opponent:
            return self
        items = (replace(item, games=tuple(game.turned for game in item.games)) for item in self.items)
        return replace(self, model=self.opponent, opponent=opponent, items=tuple(items))

    @property
    def drawn(self) -> bool:
        """Whether the order of all reviews was drawn at random."""
        return bool(self.items) and all(item.drawn for item in self.items)

    @property
    def shown_first(self) -> Tally:
        """The numbers of reviews in which the answer shown first won, tied and lost."""
        return Tally.of(self.sample.sums, "first")

    @cached_property
    def question_ids(self) -> tuple[str, ...]:
        """The questions that are counted."""
        return tuple(dict.fromkeys(item.question_id for item in self.items))

    @cached_property
    def table(self) -> Numbers:
        """The counts of each question, shape [questions, columns]."""
        rows = np.reshape([item.row() for item in self.items], (-1, len(_NAMES)))
        return stats.clustered(rows, [item.question_id for item in self.items])

    @cached_property
    def sample(self) -> Bootstrap:
        """The sums over questions and over resamples."""
        table = self.table
        if self._gaps is not None:
            table = np.hstack([table, stats.moments(self._gaps, self._leads)])
        return Bootstrap(table)

    @cached_property
    def whole(self) -> Result:
        """The result over all questions."""
        return self._result(self.sample)

    def by_category(self, questions: Mapping[str, AskedQuestion]) -> dict[str, Result]:
        """Map each category to the model's result, in the order of `questions`; {} without questions."""
        places: dict[str, list[int]] = {question.category: [] for question in questions.values()}
        for place, question_id in enumerate(self.question_ids if questions else ()):
            places[questions[question_id].category].append(place)
        return {name: self._result(Bootstrap(self.table[rows])) for name, rows in places.items() if rows}

    def _result(self, sample: Bootstrap) -> Result:
        scored, reviews = sample.sums[_COLUMN["scored"]], Tally.of(sample.sums, "wins")
        both = Tally.of(sample.sums, "both_wins") if self.in_both_orders else None
        ratio = sample.estimate(_ratio, _RATIO, scale="ratio") if scored else None
        return Result(sample.questions, ratio, sample.estimate(_win_rate, stats.SHARE), reviews, both)

    @property
    def sums(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The model's and the opponent's sums of scores: with the model shown first, then second."""
        one, two, three, four = map(float, self.sample.sums[:4])
        return (one, two), (three, four)

    @property
    def p(self) -> float | None:
        """The p-value of an exact sign test on the questions' `outcomes`; None if judged in one order."""
        if not self.in_both_orders:
            return None
        return stats.sign_test(self.outcomes.count(1), self.outcomes.count(-1))

    @cached_property
    def order_bias(self) -> OrderBias | None:
        """The bias from the order; None if the items were judged in one order only."""
        if not self.in_both_orders:
            return None
        points = self.sample.estimate(lambda sums: _column(sums, "points") / _column(sums, "scored"), _POINTS)
        same = self.sample.estimate(lambda sums: _column(sums, "agreed") / _column(sums, "seen"), stats.SHARE)
        return OrderBias(points if self.sample.sums[_COLUMN["scored"]] else None, same)

    @cached_property
    def length_bias(self) -> LengthBias | None:
        """The bias from length; None if the answers were not given."""
        if self._gaps is None:
            return None
        games = self._of(*_OUTCOMES).sum()
        ours, theirs = (float(self._of(name).sum() / games) for name in ("length", "other_length"))
        longer, shorter = int((self._gaps > 0).sum()), int((self._gaps < 0).sum())
        correlation = self.sample.estimate(
            lambda sums: stats.correlation_of(sums[..., _MOMENTS]), stats.CHANGE, scale="correlation"
        )
        win_rate = stats.length_controlled(_win_rate(self.table).tolist(), self._gaps.tolist())
        return LengthBias(ours, theirs, correlation, win_rate, longer, shorter)

    @property
    def judges(self) -> list[JudgeAgreement]:
        """The agreement of each pair of named judges that reviewed the same items."""
        found = []
        games: defaultdict[str, list[tuple[Item, Game]]] = defaultdict(list)
        for item in self.items:
            for game in item.games:
                games[game.placed.review.judge or ""].append((item, game))
        for (first, our_games), (second, their_games) in combinations(games.items(), 2):
            drawn = all(game.placed.review.drawn for _, game in [*our_games, *their_games])
            ours, theirs = (
                {(item.question_id, item.turn, game.second and not drawn): game.sign for item, game in each}
                for each in (our_games, their_games)
            )
            common = [key for key in ours if key in theirs]
            if first and second and common:
                same, questions = [ours[key] == theirs[key] for key in common], [key[0] for key in common]
                agreement = stats.mean(same, questions, stats.SHARE)
                found.append(JudgeAgreement(first, second, len(common), agreement))
        return found

    @property
    def outcomes(self) -> list[int]:
        """For each question: 1 for a win (in both orders, if there are two), -1 for a loss, else 0."""
        prefix = "both_" if self.in_both_orders else ""
        return [int(gap) for gap in np.sign(self._of(f"{prefix}wins") - self._of(f"{prefix}losses"))]

    def _of(self, *names: str) -> Numbers:
        return _column(self.table, *names)

    @cached_property
    def _gaps(self) -> Numbers | None:
        known = [bool(game.lengths) for item in self.items for game in item.games]
        gaps = (self._of("length") - self._of("other_length")) / self._of(*_OUTCOMES)
        return np.asarray(gaps) if known and all(known) else None

    @cached_property
    def _leads(self) -> Numbers:
        if not self._of("scored").any():
            return np.asarray((self._of("wins") - self._of("losses")) / self._of(*_OUTCOMES))
        ours, theirs = self._of("model_1", "model_2"), self._of("opponent_1", "opponent_2")
        return np.asarray((ours - theirs) / np.maximum(self._of("scored"), 1))


def _column(sums: Numbers, *names: str) -> Numbers:
    return np.asarray(sum(sums[..., _COLUMN[name]] for name in names))


def _ratio(sums: Numbers) -> Numbers:
    ours, theirs = (_column(sums, f"{side}_1", f"{side}_2") for side in ("model", "opponent"))
    return np.asarray(ours / theirs)


def _win_rate(sums: Numbers) -> Numbers:
    return np.asarray((_column(sums, "wins") + _column(sums, "ties") / 2) / _column(sums, *_OUTCOMES))


@dataclass(frozen=True)
class Difference:
    """A model's lead over another model, against the same opponent on the same questions."""

    model: str
    other: str
    questions: int
    ratio: Estimate


def difference(model: Comparison, other: Comparison) -> Difference | None:
    """Return the score ratio of `model` minus that of `other` on shared questions, or None if undefined."""
    places = {question_id: place for place, question_id in enumerate(other.question_ids)}
    pairs = [(place, places[id_]) for place, id_ in enumerate(model.question_ids) if id_ in places]
    if not pairs or model.whole.ratio is None or other.whole.ratio is None:
        return None
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    sample = Bootstrap(np.hstack([model.table[ours, :4], other.table[theirs, :4]]))
    most = _RATIO[1] - _RATIO[0]
    ratio = sample.estimate(lambda sums: _ratio(sums[..., :4]) - _ratio(sums[..., 4:]), (-most, most))
    return None if math.isnan(ratio.value) else Difference(model.model, other.model, len(pairs), ratio)


@dataclass(frozen=True)
class JudgeAgreement:
    """The agreement of two judges on the same answers, in the same order unless all orders were random."""

    first: str
    second: str
    reviews: int
    agreement: Estimate


def compare(reviews: Iterable[Placed], first: Sequence[str] = ()) -> tuple[Comparison, ...]:
    """Return a comparison for each pair of models in the reviews.

    A comparison's `model` is the one that comes earlier in the list `first`, and `opponent` the other. If
    neither is in the list, `model` is the one that the pair's earliest review showed first (if `swapped`,
    second).
    """
    pairs: defaultdict[frozenset[str], list[Placed]] = defaultdict(list)
    for placed in reviews:
        pairs[frozenset(placed.names)].append(placed)
    found = []
    for group in pairs.values():
        shown = group[0].names[::-1] if group[0].review.metadata.get("swapped") else group[0].names
        model, opponent = sorted(shown, key=lambda name: first.index(name) if name in first else len(first))
        found.append(_comparison(model, opponent, group))
    return tuple(found)


def shared(comparisons: Iterable[Comparison]) -> str:
    """Return the model that is in all comparisons; "" without such a model or with only one pair."""
    pairs = {frozenset((each.model, each.opponent)) for each in comparisons}
    return next(iter(frozenset.intersection(*pairs)), "") if len(pairs) > 1 else ""


def _comparison(model: str, opponent: str, group: Sequence[Placed]) -> Comparison:
    items: dict[tuple[str, int], list[Game]] = {}
    unreadable, left_out, chosen = [], [], []
    for placed in group:
        question_id = str(placed.review.question_id)
        games = items.setdefault((question_id, placed.review.turn), [])
        second, review = placed.names[1] == model, placed.review
        try:
            scores = None if review.score is None and review.winner is not None else review.scores()
            game = Game(placed, second=False, scores=scores, sign=review.verdict())
            games.append(game.turned if second else game)
        except Unreadable as error:
            unreadable.append(LeftOut(placed.where, question_id, str(error)))
    every = [Item(*key, tuple(games)) for key, games in items.items()]
    in_both = any(item.both is not None for item in every if not item.drawn)
    for item in every:
        if item.drawn or item.both is not None if in_both else item.games:
            chosen.append(item)
        elif item.games:
            game = item.games[0]
            why = f"readable only with {model} shown {'second' if game.second else 'first'}"
            left_out.append(LeftOut(game.placed.where, item.question_id, why))
    return Comparison(model, opponent, tuple(chosen), tuple(left_out), tuple(unreadable), in_both)
