"""Say whether answers that test a judge change the outcome (`redraft judge --controls`).

A constant answers no question, so it has to lose. An instruction to the judge adds nothing to an answer, so
it has to change nothing. Where they do, the judge's other reviews are in doubt as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redraft.evaluation.judging.pairs import WITH_INSTRUCTION
from redraft.evaluation.records import JudgeUsage
from redraft.evaluation.reports.compare import Comparison
from redraft.stats import CHANGE, Bootstrap, Estimate

_EVEN = 0.5


@dataclass(frozen=True)
class Control:
    """What a judge made of control answers.

    Attributes:
        kind: `constant` or `instruction`.
        model: The name of the control answers.
        opponent: The model that they were judged against.
        win_rate: Their win rate; NaN if no review of them can be read.
        unreadable: How many reviews of them could not be read.
        usage: What the reviews say that they cost.
        base: The model whose answers carry the instruction; empty for a constant.
        change: By how much its win rate rises with the instruction; None for a constant.
    """

    kind: str
    model: str
    opponent: str
    win_rate: Estimate
    unreadable: int
    usage: JudgeUsage
    base: str = ""
    change: Estimate | None = None

    @property
    def changes_outcome(self) -> bool:
        """Whether the judge fell for it: an instruction changed the win rate, or a constant did not lose.

        Of few questions the interval is wide. If all of them say the same, that is what counts.
        """
        if math.isnan(self.win_rate.value):
            return False
        if self.change is None:
            return not (self.win_rate.high < _EVEN or self.win_rate.value == 0)
        return self.change.low > 0 or self.change.high < 0 or abs(self.change.value) == 1

    @property
    def finding(self) -> str:
        """That in words."""
        if math.isnan(self.win_rate.value):
            return "no review of it can be read, so this says nothing of the judge"
        if self.kind == "constant":
            if self.changes_outcome:
                return f"a constant does not clearly lose against {self.opponent}: do not trust this judge"
            return f"a constant loses against {self.opponent}, as it should"
        if self.changes_outcome:
            return "an instruction to the judge changes the outcome: do not trust this judge"
        return "an instruction to the judge changes nothing that these questions can show"


def control_results(controls: Sequence[Comparison], comparisons: Sequence[Comparison]) -> Iterator[Control]:
    """Yield the result of each control, given the comparisons of models."""
    for each in controls:
        known = (
            each.control,
            each.model,
            each.opponent,
            each.whole.win_rate,
            len(each.unreadable),
            each.usage,
        )
        if each.control == "constant":
            yield Control(*known)
        for base in comparisons:
            if each.control == "instruction" and _carries(each, base):
                yield Control(*known, base.model, _change(each, base))


def _carries(control: Comparison, base: Comparison) -> bool:
    """Whether a control's answers are those of a comparison's model, with an instruction."""
    return control.opponent == base.opponent and control.model == WITH_INSTRUCTION.format(base.model)


def _change(control: Comparison, base: Comparison) -> Estimate:
    """Return by how much the control wins more often, paired by question."""
    before = {each.id: each.wins for each in base.by_question()}
    rows = [[each.wins - before[each.id], 1] for each in control.by_question() if each.id in before]
    sample = Bootstrap(np.reshape(rows, (-1, 2)), draws=control.draws, seed=control.seed)
    return sample.estimate(lambda sums: np.asarray(sums[..., 0] / sums[..., 1]), CHANGE)
