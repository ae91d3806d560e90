"""The figures of reviews: how a model does against its opponent, and what biases the judge shows.

A question counts if it has a readable review in each order, so that the order favours neither side; the
others are listed. Where no question has both orders, all of them count, and the report says so. People judge
a pair once, in an order that is drawn: such votes count as they are. Published
ratios (SelFee's) are the sum of the model's scores over that of its opponent.

An item is a question, or a turn of one. Intervals are over questions (`stats`), and all figures of a
comparison share their resamples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product

import numpy as np

from redraft import stats
from redraft.evaluation.judging.orders import in_both_orders, majority
from redraft.evaluation.judging.reviews import usage_in
from redraft.evaluation.judging.scores import HIGHEST, LOWEST, Unreadable
from redraft.evaluation.records import JudgeUsage
from redraft.evaluation.reports.sides import Placed, Question
from redraft.stats import Bootstrap, Estimate, Numbers

_NAMES = (
    *("model_1", "opponent_1", "model_2", "opponent_2"),
    *("wins", "ties", "losses", "both_wins", "both_ties", "both_losses"),
    *("first", "neither", "second", "points", "scored"),
)
_COLUMN = {name: place for place, name in enumerate(_NAMES)}
_CROSSED = slice(len(_NAMES), len(_NAMES) + 9)
_MOMENTS = slice(_CROSSED.stop, _CROSSED.stop + 6)
_SIGNS = (1, 0, -1)
_BOTH_WAYS = 0.2  # share of questions with each side longer, below which equal length is hardly seen
_RATIO = (LOWEST / HIGHEST, HIGHEST / LOWEST)
_POINTS = (float(LOWEST - HIGHEST), float(HIGHEST - LOWEST))


@dataclass(frozen=True)
class Tally:
    """Counts of reviews or questions that a model won, tied and lost."""

    wins: int
    ties: int
    losses: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.wins + self.ties + self.losses


@dataclass(frozen=True)
class Result:
    """How a model did, in all questions or in those of a category.

    Attributes:
        questions: Number of questions that count.
        ratio: The model's scores over its opponent's; None if the judge gives verdicts without scores.
        win_rate: Share of reviews that it won; a tie is a half.
        reviews: Reviews that it won, tied and lost.
        both: Items that it won in both orders, neither, and lost in both; None if no item has both.
    """

    questions: int
    ratio: Estimate | None
    win_rate: Estimate
    reviews: Tally
    both: Tally | None


@dataclass(frozen=True)
class OrderBias:
    """What the judge makes of the order of answers.

    Attributes:
        shown_first: Reviews that the answer shown first won, tied and lost.
        points: Score of the answer shown first less that of the other; None without scores.
        agreement: Share of items with the same verdict in both orders.
        kappa: Cohen's kappa of the verdicts in both orders.
    """

    shown_first: Tally
    points: Estimate | None
    agreement: Estimate
    kappa: Estimate


@dataclass(frozen=True)
class LengthBias:
    """What the judge makes of length, in characters.

    Attributes:
        model: Mean length of the model's answers.
        opponent: Mean length of the opponent's answers.
        correlation: Of the difference in length with the difference in score (or in wins), by question.
        win_rate: The win rate that answers of equal length would have.
        longer: Questions in which the model's answer is longer.
        shorter: Questions in which it is shorter.
    """

    model: float
    opponent: float
    correlation: Estimate
    win_rate: Estimate
    longer: int
    shorter: int

    @property
    def extrapolates(self) -> bool:
        """Whether one side is nearly always longer, so that answers of equal length were hardly seen."""
        return min(self.longer, self.shorter) < _BOTH_WAYS * (self.longer + self.shorter)


@dataclass(frozen=True)
class LeftOut:
    """A review or question that does not count, and why."""

    where: str
    question_id: str
    reason: str


@dataclass(frozen=True)
class Game:
    """A readable review from the model's side.

    Attributes:
        second: Whether the model's answer was shown second.
        scores: Of model and opponent; None if the judge gave a verdict only.
        sign: 1 if the model won, 0 for a tie, -1 if it lost.
    """

    placed: Placed
    second: bool
    scores: tuple[float, float] | None
    sign: int

    @property
    def drawn(self) -> bool:
        """Whether the order was drawn at random."""
        return self.placed.review.drawn

    @property
    def lengths(self) -> tuple[int, int] | None:
        """Characters of the answers of model and opponent."""
        if self.placed.answers is None:
            return None
        first, second = (len(answer.text) for answer in self.placed.answers)
        return (second, first) if self.second else (first, second)


@dataclass(frozen=True)
class Item:
    """A question, or a turn of one, with its readable reviews."""

    question_id: str
    turn: int
    games: tuple[Game, ...]

    @property
    def drawn(self) -> bool:
        """Whether all reviews are in an order that was drawn, so that none of the orders can be missing."""
        return bool(self.games) and all(game.drawn for game in self.games)

    def sign(self, *, second: bool) -> int | None:
        """Return the verdict in one order; None without a review. Several reviews vote."""
        return majority([game.sign for game in self.games if game.second == second])

    @property
    def both(self) -> int | None:
        """1 if the model won in both orders, -1 if it lost in both, else 0; None if an order is missing."""
        return in_both_orders(self.sign(second=False), self.sign(second=True))

    def row(self) -> list[float]:
        """Return what is counted of the item, in the order of `_NAMES`, and the verdicts crossed."""
        row = [0.0] * _CROSSED.stop
        for game in self.games:
            row[_COLUMN["wins"] + 1 - game.sign] += 1
            row[_COLUMN["first"] + (1 + game.sign if game.second else 1 - game.sign)] += 1
            if game.scores:
                ours, theirs = game.scores
                row[2 * game.second] += ours
                row[2 * game.second + 1] += theirs
                row[_COLUMN["points"]] += theirs - ours if game.second else ours - theirs
                row[_COLUMN["scored"]] += 1
        if (both := self.both) is not None:
            row[_COLUMN["both_wins"] + 1 - both] += 1
            one, other = (_SIGNS.index(self.sign(second=second) or 0) for second in (False, True))
            row[_CROSSED.start + 3 * one + other] += 1
        return row


@dataclass(frozen=True)
class JudgedQuestion:
    """What reviews of a question came to.

    Attributes:
        scores: Sums of the scores of model and opponent; None if the judge gave verdicts only.
        wins: Share of reviews that the model won; a tie is a half.
        outcome: 1 if the model won (in both orders, if there are two), -1 if it lost, else 0.
    """

    id: str
    scores: tuple[float, float] | None
    wins: float
    outcome: int


@dataclass(frozen=True)
class Comparison:
    """A model against its opponent.

    Attributes:
        model: The name of the model.
        opponent: The name of its opponent.
        items: Items that count, with their reviews.
        left_out: Questions that do not count.
        unreadable: Reviews without a score.
        in_both_orders: Whether each item was judged in both orders, but for those whose order was drawn.
        control: Which kind of control the model's answers are; empty for those of a model.
        usage: What the reviews say that they cost, unreadable ones too.
    """

    model: str
    opponent: str
    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]
    unreadable: tuple[LeftOut, ...]
    in_both_orders: bool
    draws: int = stats.DRAWS
    seed: int = stats.SEED
    control: str = ""
    usage: JudgeUsage = field(default_factory=JudgeUsage)

    @property
    def drawn(self) -> bool:
        """Whether the order of all reviews was drawn at random."""
        return bool(self.items) and all(item.drawn for item in self.items)

    @property
    def shown_first(self) -> Tally:
        """Reviews that the answer shown first won, tied and lost."""
        return _tally(self.sample.sums, "first")

    @cached_property
    def question_ids(self) -> tuple[str, ...]:
        """The questions that count, in the order of the reviews."""
        return tuple(dict.fromkeys(item.question_id for item in self.items))

    @cached_property
    def table(self) -> Numbers:
        """What is counted of each question, shape [questions, columns]."""
        rows = np.reshape([item.row() for item in self.items], (-1, _CROSSED.stop))
        return stats.clustered(rows, [item.question_id for item in self.items])

    @cached_property
    def sample(self) -> Bootstrap:
        """The sums over questions and their resamples, which all figures share."""
        table = self.table
        if self._gaps is not None:
            table = np.hstack([table, stats.moments(self._gaps, self._leads)])
        return Bootstrap(table, draws=self.draws, seed=self.seed)

    @cached_property
    def whole(self) -> Result:
        """The result over all questions."""
        return self._result(self.sample)

    def by_category(self, questions: Mapping[str, Question]) -> dict[str, Result]:
        """Return the result of each category, in the order of the questions."""
        places: dict[str, list[int]] = {question.category: [] for question in questions.values()}
        for place, question_id in enumerate(self.question_ids):
            places[questions[question_id].category].append(place)
        samples = {
            name: Bootstrap(self.table[chosen], draws=self.draws, seed=self.seed)
            for name, chosen in places.items()
            if chosen
        }
        return {name: self._result(sample) for name, sample in samples.items()}

    def _result(self, sample: Bootstrap) -> Result:
        scored = bool(sample.sums[_COLUMN["scored"]])
        return Result(
            questions=sample.questions,
            ratio=_ratio_in(sample) if scored else None,
            win_rate=sample.estimate(_win_rate, stats.SHARE),
            reviews=_tally(sample.sums, "wins"),
            both=_tally(sample.sums, "both_wins") if self.in_both_orders else None,
        )

    @property
    def sums(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The scores of model and opponent, with the model shown first, and second."""
        one, two, three, four = map(float, self.sample.sums[:4])
        return (one, two), (three, four)

    @property
    def p(self) -> float | None:
        """The exact p of the questions won and lost in both orders, if both were equally probable.

        The turns of a question count once, by what most of them say.
        """
        if not self.in_both_orders:
            return None
        outcomes = [each.outcome for each in self.by_question()]
        return stats.sign_test(outcomes.count(1), outcomes.count(-1))

    @cached_property
    def order_bias(self) -> OrderBias | None:
        """The bias of the order; None if the items were judged in one order."""
        if not self.in_both_orders:
            return None
        scored = bool(self.sample.sums[_COLUMN["scored"]])
        return OrderBias(
            shown_first=self.shown_first,
            points=self.sample.estimate(_points, _POINTS) if scored else None,
            agreement=self.sample.estimate(lambda sums: stats.agreed_of(sums[..., _CROSSED]), stats.SHARE),
            kappa=self.sample.estimate(lambda sums: stats.kappa_of(sums[..., _CROSSED]), stats.CHANGE),
        )

    @cached_property
    def length_bias(self) -> LengthBias | None:
        """The bias of length; None if the answers were not given."""
        if self._gaps is None:
            return None
        lengths = [game.lengths or (0, 0) for item in self.items for game in item.games]
        ours, theirs = (sum(each) / len(lengths) for each in zip(*lengths, strict=True))
        wins = (self._of("wins") + self._of("ties") / 2) / self._reviews
        return LengthBias(
            model=ours,
            opponent=theirs,
            correlation=self.sample.estimate(
                lambda sums: stats.correlation_of(sums[..., _MOMENTS]), stats.CHANGE, scale="correlation"
            ),
            win_rate=stats.length_controlled(wins.tolist(), self._gaps.tolist()),
            longer=int((self._gaps > 0).sum()),
            shorter=int((self._gaps < 0).sum()),
        )

    def by_question(self) -> Iterator[JudgedQuestion]:
        """Yield what reviews of each question came to."""
        prefix = "both_" if self.in_both_orders else ""
        wins = (self._of("wins") + self._of("ties") / 2) / self._reviews
        outcomes = np.sign(self._of(f"{prefix}wins") - self._of(f"{prefix}losses"))
        for place, question_id in enumerate(self.question_ids):
            row = self.table[place]
            sums = float(row[0] + row[2]), float(row[1] + row[3])
            scores = sums if row[_COLUMN["scored"]] else None
            yield JudgedQuestion(question_id, scores, float(wins[place]), int(outcomes[place]))

    def leads(self) -> Iterator[tuple[float, float, str]]:
        """Yield each question's gap in characters and lead in points, with its id; none without answers."""
        if self._gaps is not None:
            yield from zip(self._gaps.tolist(), self._leads.tolist(), self.question_ids, strict=True)

    def _of(self, name: str) -> Numbers:
        return np.asarray(self.table[:, _COLUMN[name]])

    @property
    def _reviews(self) -> Numbers:
        return self._of("wins") + self._of("ties") + self._of("losses")

    @cached_property
    def _gaps(self) -> Numbers | None:
        """By how much the model's answers are longer, of each question; None without the answers."""
        games = [(item.question_id, game.lengths) for item in self.items for game in item.games]
        if not games or not all(lengths for _, lengths in games):
            return None
        rows = [[lengths[0] - lengths[1]] for _, lengths in games if lengths]
        sums = stats.clustered(rows, [question_id for question_id, _ in games])
        return np.asarray(sums[:, 0] / self._reviews)

    @cached_property
    def _leads(self) -> Numbers:
        """By how much the model's score is higher, of each question; without scores, its wins less losses."""
        if not self._of("scored").any():
            return (self._of("wins") - self._of("losses")) / self._reviews
        ours, theirs = (self._of(f"{side}_1") + self._of(f"{side}_2") for side in ("model", "opponent"))
        return np.asarray((ours - theirs) / np.maximum(self._of("scored"), 1))


def extremes(sums: Numbers, signs: Mapping[int, int]) -> tuple[Numbers, Numbers]:
    """Return sums in which all reviews are as bad, and as good, as can be: 1 to 10, and 10 to 1.

    Args:
        sums: Sums over questions.
        signs: At which columns scores of a model stand, before those of its opponent; -1 where good ones
            lower the figure.
    """
    found = sums.copy(), sums.copy()
    for (column, sign), (each, side) in product(signs.items(), zip(found, (-1, 1), strict=True)):
        total = sums[column] + sums[column + 1]
        good, bad = (total * score / (LOWEST + HIGHEST) for score in (HIGHEST, LOWEST))
        each[column], each[column + 1] = (good, bad) if sign * side > 0 else (bad, good)
    return found


def _column(sums: Numbers, *names: str) -> Numbers:
    return np.asarray(sum(sums[..., _COLUMN[name]] for name in names))


def _ratio(sums: Numbers) -> Numbers:
    ours, theirs = (_column(sums, f"{side}_1", f"{side}_2") for side in ("model", "opponent"))
    return np.asarray(ours / theirs)


def _ratio_in(sample: Bootstrap) -> Estimate:
    ends = extremes(sample.sums, {0: 1, 2: 1})
    return sample.estimate(_ratio, _RATIO, scale="ratio", extremes=ends)


def _win_rate(sums: Numbers) -> Numbers:
    won = _column(sums, "wins") + _column(sums, "ties") / 2
    return np.asarray(won / _column(sums, "wins", "ties", "losses"))


def _points(sums: Numbers) -> Numbers:
    return np.asarray(_column(sums, "points") / _column(sums, "scored"))


def _tally(sums: Numbers, first: str) -> Tally:
    return Tally(*(int(sums[_COLUMN[first] + place]) for place in range(3)))


@dataclass(frozen=True)
class Difference:
    """By how much a model does better than another against the same opponent, in the same questions."""

    model: str
    other: str
    questions: int
    ratio: Estimate


def difference(model: Comparison, other: Comparison) -> Difference | None:
    """Return the difference of two ratios, paired by question; None without common questions or scores."""
    places = {question_id: place for place, question_id in enumerate(other.question_ids)}
    pairs = [(place, places[id_]) for place, id_ in enumerate(model.question_ids) if id_ in places]
    if not pairs or model.whole.ratio is None or other.whole.ratio is None:
        return None
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    table = np.hstack([model.table[ours, :4], other.table[theirs, :4]])
    sample = Bootstrap(table, draws=model.draws, seed=model.seed)
    ratio = sample.estimate(
        lambda sums: _ratio(sums[..., :4]) - _ratio(sums[..., 4:]),
        extremes=extremes(sample.sums, {0: 1, 2: 1, 4: -1, 6: -1}),
    )
    return None if math.isnan(ratio.value) else Difference(model.model, other.model, len(pairs), ratio)


@dataclass(frozen=True)
class JudgeAgreement:
    """How far two judges agree on the reviews that both gave: the same pair in the same order.

    If both saw drawn orders, as people do, the order does not matter.
    """

    first: str
    second: str
    reviews: int
    agreement: Estimate
    kappa: Estimate


def judges_agree(comparison: Comparison) -> Iterator[JudgeAgreement]:
    """Yield the agreement of each pair of judges that have a name and reviews in common."""
    games: defaultdict[str, list[tuple[Item, Game]]] = defaultdict(list)
    for item in comparison.items:
        for game in item.games:
            games[game.placed.review.judge or ""].append((item, game))
    for (first, our_games), (second, their_games) in combinations(games.items(), 2):
        drawn = all(game.drawn for _, game in [*our_games, *their_games])
        ours, theirs = (_verdicts(each, by_order=not drawn) for each in (our_games, their_games))
        common = [key for key in ours if key in theirs]
        if first and second and common:
            crossed = stats.crossed(*([said[key] for key in common] for said in (ours, theirs)))
            rows = stats.clustered(crossed, [question_id for question_id, _, _ in common])
            sample = Bootstrap(rows, draws=comparison.draws, seed=comparison.seed)
            agreement = sample.estimate(stats.agreed_of, stats.SHARE)
            kappa = sample.estimate(stats.kappa_of, stats.CHANGE)
            yield JudgeAgreement(first, second, len(common), agreement, kappa)


def _verdicts(games: Iterable[tuple[Item, Game]], *, by_order: bool) -> dict[tuple[str, int, bool], int]:
    return {(item.question_id, item.turn, game.second and by_order): game.sign for item, game in games}


def compare(
    reviews: Iterable[Placed], first: Sequence[str] = (), *, draws: int = stats.DRAWS, seed: int = stats.SEED
) -> tuple[Comparison, ...]:
    """Return a comparison for each pair of models that reviews are of.

    An opponent that all pairs have is the opponent of all. Else the model is the one that comes earlier in
    `first`, and else the one that the first review of the pair shows first, unless that says `swapped`.

    Args:
        reviews: Reviews whose models are known.
        first: Names of models, such as those of the answers' files.
        draws: Number of resamples.
        seed: Decides the resamples.
    """
    pairs: defaultdict[frozenset[str], list[Placed]] = defaultdict(list)
    for placed in reviews:
        pairs[frozenset(placed.names)].append(placed)
    common = frozenset.intersection(*pairs) if len(pairs) > 1 else frozenset[str]()
    found = []
    for names, group in pairs.items():
        review = group[0].review
        shown = list(group[0].names[::-1] if review.metadata.get("swapped") else group[0].names)
        if not review.control:  # it stands in the place of the model
            shown.sort(key=lambda name: first.index(name) if name in first else len(first))
        opponent = next(iter(names & common), shown[1])
        [model] = names - {opponent}
        found.append(_comparison(model, opponent, group, draws, seed))
    return tuple(found)


def _comparison(model: str, opponent: str, group: Sequence[Placed], draws: int, seed: int) -> Comparison:
    items: dict[tuple[str, int], list[Game]] = {}
    unreadable = []
    for placed in group:
        question_id = str(placed.review.question_id)
        games = items.setdefault((question_id, placed.review.turn), [])
        try:
            games.append(_game(placed, model))
        except Unreadable as error:
            unreadable.append(LeftOut(placed.where, question_id, str(error)))
    every = [Item(*key, tuple(games)) for key, games in items.items()]
    in_both = any(item.both is not None for item in every if not item.drawn)
    chosen = [item for item in every if (item.drawn or item.both is not None if in_both else item.games)]
    kept = set(map(id, chosen))
    left_out = [_left_out(item, model) for item in every if item.games and id(item) not in kept]
    return Comparison(
        model=model,
        opponent=opponent,
        items=tuple(chosen),
        left_out=tuple(left_out),
        unreadable=tuple(unreadable),
        in_both_orders=in_both,
        draws=draws,
        seed=seed,
        control=group[0].review.control or "",
        usage=usage_in(placed.review.metadata for placed in group),
    )


def _game(placed: Placed, model: str) -> Game:
    """Return a review from the model's side.

    Raises:
        Unreadable: It has no score.
    """
    second = placed.names[1] == model
    sign = placed.review.verdict()
    scores = None
    if placed.review.score is not None or placed.review.winner is None:
        scores = placed.review.scores()
    if second:
        return Game(placed, second, scores and (scores[1], scores[0]), -sign)
    return Game(placed, second, scores, sign)


def _left_out(item: Item, model: str) -> LeftOut:
    game = item.games[0]
    order = "second" if game.second else "first"
    return LeftOut(game.placed.where, item.question_id, f"readable with {model} shown {order} only")
