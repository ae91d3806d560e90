"""Rank many models on one scale, by Bradley and Terry's model.

A model's probability of winning is a logistic function of the lead in strength. A tie is half a win for both.

Source: Bradley and Terry, Biometrika 39 (1952), 324. redraft adds a penalty on squared strengths, which keeps
them finite even if a model always wins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from redraft.evaluation.reports.compare import Comparison, shared
from redraft.evaluation.stats import SHARE, Bootstrap, Estimate, Numbers, logistic

DRAWS = 1_000  # number of resamples. The model is fitted to each
_PENALTY = 1e-3
_ALIKE = 0.2  # resamples agree if their rates differ by less than this divided by the number of questions


@dataclass(frozen=True)
class Ranking:
    """The models in order of strength, strongest first."""

    models: Mapping[str, Estimate]  # by name: each model's chance of beating `against`
    against: str  # the model that all were judged against; empty for a model of average strength
    questions: int


@dataclass(frozen=True)
class Battles:
    """All readable reviews, as battles of two models."""

    names: tuple[str, ...]  # the models' names
    wins: Numbers  # shape [games]: 1 if the model won, 0 if its opponent did, ½ for a tie
    met: Numbers  # shape [games, models]: 1 for the model of the game, -1 for its opponent
    questions: tuple[int, ...]  # the index of each game's question
    count: int  # the number of questions

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> Battles:
        """Collect the battles from comparisons."""
        names = list(dict.fromkeys(name for each in comparisons for name in (each.model, each.opponent)))
        found = [(each, item, game) for each in comparisons for item in each.items for game in item.games]
        met, asked = np.zeros((len(found), len(names))), dict[str, int]()
        for row, (each, item, _) in zip(met, found, strict=True):
            row[names.index(each.model)], row[names.index(each.opponent)] = 1, -1
            asked.setdefault(item.question_id, len(asked))
        questions = tuple(asked[item.question_id] for _, item, _ in found)
        wins = np.array([(1 + game.sign) / 2 for _, _, game in found])
        return cls(tuple(names), wins, met, questions, len(asked))

    def _fits(self, times: Numbers) -> Numbers:
        weights = times[..., list(self.questions)].reshape(-1, len(self.wins))
        fits = [logistic(self.met, self.wins, weight, _PENALTY) for weight in weights]
        return np.reshape(fits, (*times.shape[:-1], -1))

    def rates(self, against: str, draws: int = DRAWS) -> list[Estimate]:
        """Return each model's chance of beating `against`. An empty `against` stands for an average model."""
        sample = Bootstrap(np.eye(self.count), draws=draws).fitted(self._fits)
        return [self._rate(sample, place, against) for place in range(len(self.names))]

    def _rate(self, sample: Bootstrap, place: int, against: str) -> Estimate:
        """Return a rate with an interval, which is widened for unseen questions if all resamples agree."""
        names, mine = self.names, self.met[:, place]

        def rate(fits: Numbers) -> Numbers:
            base = fits[..., names.index(against)] if against else fits.mean(axis=-1)
            return np.asarray(special.expit(fits[..., place] - base))

        found = sample.estimate(rate, SHARE)
        if names[place] == against:
            return Estimate(found.value, math.nan, math.nan)
        if found.high - found.low > _ALIKE / self.count:
            return found
        ends = [found.low, found.high, found.value]
        for side in (1, -1):
            turned = self.wins + sample.others * ((mine == side) - self.wins)
            fit = logistic(self.met, np.where(mine, turned, self.wins), np.ones(len(mine)), _PENALTY)
            ends.append(float(rate(fit)))
        return Estimate(found.value, min(ends), max(ends))


def ranked(comparisons: Sequence[Comparison]) -> Ranking | None:
    """Return the models' ranking; None for fewer than three models, or if battles do not connect all models.

    Intervals are at 95 % over questions.
    """
    battles = Battles.of(comparisons)
    linked = np.linalg.matrix_rank(battles.met.T @ battles.met) == len(battles.names) - 1
    if len(battles.names) < 3 or not linked:
        return None
    against = shared(comparisons)
    rates = zip(battles.names, battles.rates(against), strict=True)
    return Ranking(dict(sorted(rates, key=lambda each: -each[1].value)), against, battles.count)
