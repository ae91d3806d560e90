"""Many models on one scale, by Bradley and Terry's model; at equal style, where the answers are known.

The chance that a model wins is logistic in the difference of two strengths. A tie is half a win for each.
With style, as in arena-hard, differences in style stand beside the strengths: the difference of two lengths
over their sum, and the same of headers, list items and bold texts a word. Unlike there, they are not centred:
what is left is the strength at equal style, and not at the mean difference.

Sources: Bradley and Terry, Biometrika 39 (1952), 324; arena-hard-auto, `show_result.py`; Li and others, Does
Style Matter? (LMSYS, 28 August 2024). The penalty is ours: it keeps a model that always wins finite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from redraft.evaluation.reports.compare import Comparison, Game, shared
from redraft.evaluation.stats import SHARE, Bootstrap, Estimate, Numbers

DRAWS = 1_000  # resamples: each fits the model anew
_PENALTY = 1e-3  # half of it, times each squared coefficient, is taken off the log-likelihood
_STEPS = 40
_ALIKE = 0.2  # over the number of questions: resamples whose rates differ by less have the same outcomes

STYLE = ("length", "headers", "list items", "bold texts")
_MARKS = (r"^#{1,6}\s", r"^\s*(?:[-*+]|\d+\.)\s", r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_COUNTED = [re.compile(mark, re.MULTILINE) for mark in _MARKS]
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Ranked:
    """A model's place: how likely it beats `Ranking.against`."""

    model: str
    win_rate: Estimate
    at_equal_style: Estimate | None  # None without the answers


@dataclass(frozen=True)
class Ranking:
    """Models by their strength, the strongest first."""

    models: tuple[Ranked, ...]
    against: str  # the model that all were judged against; empty for a model of mean strength
    effects: tuple[tuple[str, Estimate], ...]  # of style: what a standard deviation adds to the log-odds
    questions: int


@dataclass(frozen=True)
class Battles:
    """All readable reviews, each as a battle of two models."""

    names: tuple[str, ...]  # of models
    games: tuple[Game, ...]
    met: Numbers  # shape [games, models]: 1 for the model of the game, -1 for its opponent
    questions: tuple[int, ...]  # of each game

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Battles:
        """Return the battles of comparisons."""
        names = list(dict.fromkeys(name for each in comparisons for name in (each.model, each.opponent)))
        found = [(each, item, game) for each in comparisons for item in each.items for game in item.games]
        met, asked = np.zeros((len(found), len(names))), dict[str, int]()
        for row, (each, item, _) in zip(met, found, strict=True):
            row[names.index(each.model)], row[names.index(each.opponent)] = 1, -1
            asked.setdefault(item.question_id, len(asked))
        questions = tuple(asked[item.question_id] for _, item, _ in found)
        return cls(tuple(names), tuple(game for _, _, game in found), met, questions)

    @cached_property
    def count(self) -> int:
        """Number of questions."""
        return len({*self.questions})

    @property
    def connected(self) -> bool:
        """Whether battles lead from each model to each other one: else their scales have no relation."""
        pairs = [{*np.flatnonzero(row).tolist()} for row in np.unique(self.met, axis=0)]
        reached = {0}
        while more := [pair for pair in pairs if pair & reached and pair - reached]:
            reached |= set[int]().union(*more)
        return len(reached) == len(self.names)


class Fitted:
    """The model's coefficients, fitted to all battles and to resamples of their questions.

    Args:
        battles: What is fitted.
        features: Shape [games, features]: `Battles.met`, and what else may decide a game.
    """

    def __init__(self, battles: Battles, features: Numbers, draws: int = DRAWS) -> None:
        self.battles, self.features = battles, features
        self.wins = np.array([(1 + game.sign) / 2 for game in battles.games])
        self.sample = Bootstrap(np.eye(battles.count), draws=draws).fitted(self._fits)

    def _fits(self, times: Numbers) -> Numbers:
        """Return the coefficients by how often each question counts, shape [..., questions]."""
        weights = times[..., list(self.battles.questions)].reshape(-1, len(self.wins))
        fits = [_fit(self.features, self.wins, weight) for weight in weights]
        return np.reshape(fits, (*times.shape[:-1], -1))

    def rates(self, against: str) -> list[Estimate]:
        """Return how likely each model beats another, or one of mean strength if it has no name."""
        return [self._rate(place, against) for place in range(len(self.battles.names))]

    def _rate(self, place: int, against: str) -> Estimate:
        """Return a model's rate.

        If all resamples agree, as where it always wins, the ends are its rates if as many of its games as may
        be unseen had been lost, and won.
        """
        names, mine = self.battles.names, self.battles.met[:, place]

        def rate(fits: Numbers) -> Numbers:
            models = fits[..., : len(names)]
            base = models[..., names.index(against)] if against else models.mean(axis=-1)
            return np.asarray(special.expit(models[..., place] - base))

        found = self.sample.estimate(rate, SHARE)
        if names[place] == against:
            return Estimate(found.value, math.nan, math.nan)
        if found.high - found.low > _ALIKE / self.battles.count:
            return found
        ends = [found.low, found.high, found.value]
        for side in (1, -1):
            turned = self.wins + self.sample.others * ((mine == side) - self.wins)
            fit = _fit(self.features, np.where(mine, turned, self.wins), np.ones(len(mine)))
            ends.append(float(rate(fit)))
        return Estimate(found.value, min(ends), max(ends))


def ranked(comparisons: Sequence[Comparison]) -> Ranking | None:
    """Return the ranking of the models; None if there are fewer than three, or some have never met.

    Intervals are at 95 % over questions: all reviews of a question are drawn together.
    """
    battles = Battles.of(comparisons)
    if len(battles.names) < 3 or not battles.connected:
        return None
    against = shared(comparisons)
    plain = Fitted(battles, battles.met).rates(against)
    style = _styles(battles.games)
    if style is None:
        found = [Ranked(*each, None) for each in zip(battles.names, plain, strict=True)]
        return Ranking(_sorted(found), against, (), battles.count)
    fitted = Fitted(battles, np.hstack([battles.met, style]))
    effects = tuple(
        (name, fitted.sample.estimate(lambda fits, place=place: fits[..., place]))  # type: ignore[misc]
        for place, name in enumerate(STYLE, start=len(battles.names))
        if style[:, place - len(battles.names)].any()
    )
    rates = zip(battles.names, plain, fitted.rates(against), strict=True)
    return Ranking(_sorted([Ranked(*each) for each in rates]), against, effects, battles.count)


def _sorted(found: Sequence[Ranked]) -> tuple[Ranked, ...]:
    return tuple(sorted(found, key=lambda each: -(each.at_equal_style or each.win_rate).value))


def _fit(features: Numbers, wins: Numbers, weight: Numbers) -> Numbers:
    beta, ridge = np.zeros(features.shape[1]), _PENALTY * np.eye(features.shape[1])
    for _ in range(_STEPS):
        chance = special.expit(features @ beta)
        slope = features.T @ (weight * (wins - chance)) - _PENALTY * beta
        curve = (features * (weight * chance * (1 - chance))[:, None]).T @ features + ridge
        step = np.linalg.solve(curve, slope)
        step *= min(
            1.0, 2.0 / max(float(np.abs(step).max()), 1e-12)
        )  # where all wins are one's, steps would explode
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    return beta


def _styles(games: Sequence[Game]) -> Numbers | None:
    """Return the differences in style of each battle, in standard deviations; None without the answers."""
    rows = list(_gaps(games))
    if len(rows) < len(games):
        return None
    found = np.array(rows)
    spread = found.std(axis=0)
    return np.asarray(found / np.where(spread > 0, spread, 1))


def _gaps(games: Sequence[Game]) -> Iterator[list[float]]:
    for game in games:
        if game.placed.answers:
            shown = [style_of(answer.text) for answer in game.placed.answers]
            ours, theirs = shown[::-1] if game.second else shown
            length = (ours[0] - theirs[0]) / max(ours[0] + theirs[0], 1)
            dense = [[count / max(each[0], 1) for count in each[1:]] for each in (ours, theirs)]
            yield [length, *((one - two) / (one + two + 1) for one, two in zip(*dense, strict=True))]


def style_of(text: str) -> tuple[int, ...]:
    """Return the words of a text, and its headers, list items and bold texts outside of code (`STYLE`)."""
    prose = _CODE.sub("", text)
    return len(text.split()), *(len(mark.findall(prose)) for mark in _COUNTED)
