"""The report on reviews: comparisons, what changed since an earlier report, and what controls tell.

A comparison belongs to the earlier one of the same models. If both reports have a single comparison with the
same opponent, these belong together, because a new version of a model often has a new name.

Controls are answers that test a judge (`redraft judge --controls`). A constant answers no question, so it has
to lose. An instruction to the judge adds nothing to an answer, so it has to change nothing. If a judge
fails one of these, its other reviews are in doubt as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from redraft import stats
from redraft.chain import describe
from redraft.counting import counted
from redraft.errors import RecordError
from redraft.evaluation.judging.pairs import WITH_INSTRUCTION
from redraft.evaluation.records import JudgeUsage, listed
from redraft.evaluation.reports.compare import (
    Comparison,
    Difference,
    JudgedQuestion,
    LeftOut,
    Result,
    Tally,
    compare,
    difference,
    extremes,
    judges_agree,
)
from redraft.evaluation.reports.sides import Given, Material, place
from redraft.evaluation.tables import Line, Section, cost_facts, percent, plain, without_nan
from redraft.formats.read.files import open_input, reading
from redraft.stats import CHANGE, Bootstrap, Estimate, Numbers, ratio_of

_FEW = 5  # reviews to name in a row


_KEEP = "Keep the JSON of a run for the next one: redraft report REVIEWS --json > last.json"
_EVEN = 0.5


@dataclass(frozen=True)
class Change:
    """How a comparison changed, in the questions that both reports have.

    Attributes:
        model: The name of the model now.
        before: Its name before.
        questions: Number of common questions.
        ratio: By how much the ratio of scores is higher; None without scores.
        win_rate: By how much the win rate is higher.
        better: Questions with a better outcome than before.
        worse: Questions with a worse one.
    """

    model: str
    before: str
    opponent: str
    questions: int
    ratio: Estimate | None
    win_rate: Estimate
    better: tuple[str, ...]
    worse: tuple[str, ...]


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

        A few questions give a wide interval. If all of them agree, that decides.
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


@dataclass(frozen=True)
class Report:
    """Comparisons, and their differences where they have the same opponent.

    Attributes:
        files: The files of reviews.
        material: The answers and questions that were given.
        changes: What changed since an earlier report, if one was given.
        controls: What the judge made of control answers, if there are reviews of such.
    """

    files: tuple[str, ...]
    material: Material
    comparisons: tuple[Comparison, ...]
    differences: tuple[Difference, ...]
    changes: tuple[Change, ...] = ()
    controls: tuple[Control, ...] = ()

    def categories(self, comparison: Comparison) -> dict[str, Result]:
        """Return a comparison's result in each category; none without the questions."""
        questions = self.material.questions
        return comparison.by_category(questions) if questions else {}

    def unasked(self, comparison: Comparison) -> list[str]:
        """Return the questions that were given and have no review."""
        without = (*comparison.left_out, *comparison.unreadable)
        known = {*comparison.question_ids, *(each.question_id for each in without)}
        return [question_id for question_id in self.material.questions if question_id not in known]

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"Report on {counted(sum(each.whole.reviews.total for each in self.comparisons), 'review')}"

    def sections(self) -> Iterator[Section]:
        """Yield the sections: each comparison, what changed, differences and controls."""
        for comparison in self.comparisons:
            title = f"{comparison.model} against {comparison.opponent}"
            lines, facts = tuple(_lines(self, comparison)), tuple(self._facts(comparison))
            yield Section(title, _counts(comparison), lines, facts, comparison)
        for control in self.controls:
            lines, facts = tuple(_control_lines(control)), tuple(cost_facts(control.usage))
            title = f"Control: {control.model} against {control.opponent}"
            yield Section(title, control.finding, lines, facts, warns=control.changes_outcome)
        for change in self.changes:
            yield Section(_change_title(change), "", tuple(_change_lines(change)))
        if self.differences:
            yield Section("Differences of ratios", "", tuple(map(_difference_line, self.differences)))

    def _facts(self, comparison: Comparison) -> Iterator[tuple[str, str]]:
        swayed = [each.model for each in self.controls if each.changes_outcome]
        if swayed:
            yield "judge", f"not to be trusted, see Control: {', '.join(swayed)}"
        yield from cost_facts(comparison.usage)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        found: dict[str, Any] = without_nan(
            {
                "files": self.files,
                "comparisons": [_comparison(self, each) for each in self.comparisons],
                "differences": list(map(asdict, self.differences)),
                "changes": list(map(asdict, self.changes)),
                "controls": [
                    {
                        **asdict(each),
                        "usage": each.usage.model_dump(),
                        "changes_outcome": each.changes_outcome,
                    }
                    for each in self.controls
                ],
            }
        )
        return found


def describe_reviews(given: Given) -> Report:
    """Describe files of reviews; each order may have its own.

    Raises:
        RecordError: The files do not belong together, or no review can be read.
    """
    names, placed = given.names, place(given.inputs, given.material, given.bad)
    found = compare(placed, given.material.names, draws=given.draws, seed=given.seed)
    if not any(comparison.items for comparison in found):
        raise _nothing(names, [each for comparison in found for each in comparison.unreadable])
    controls = [each for each in found if each.control]
    found = tuple(each for each in found if not each.control)
    pairs = [(two, one) for one, two in combinations(found, 2) if one.opponent == two.opponent]
    differences = filter(None, (difference(*pair) for pair in pairs))
    since = changes(found, given.against) if given.against else ()
    tested = tuple(control_results(controls, found))
    return Report(names, given.material, found, tuple(differences), since, tested)


def _nothing(files: Sequence[str], unreadable: Sequence[LeftOut]) -> RecordError:
    if not unreadable:
        return RecordError(f"there is no review in {', '.join(files)}.")
    return RecordError(
        f"no review can be read, of {counted(len(unreadable), 'review')}: {_named(unreadable)}.",
        hint="A judge writes two numbers from 1 to 10 on the first line, such as: 8 9",
    )


def _lines(report: Report, comparison: Comparison) -> Iterator[Line]:
    whole = comparison.whole
    if whole.ratio:
        yield from _ratio(comparison, whole.ratio)
    yield Line("win rate", *percent(whole.win_rate, 1), _tally(whole.reviews))
    if whole.both and comparison.p is not None:
        over = " over questions" * (len(comparison.items) > whole.questions)
        p = f"p = {comparison.p:.2g}{over}{_corrected(report, comparison)}"
        yield Line("in both orders", "", "", f"{_tally(whole.both)}, {p}")
    yield from _order(comparison)
    for each in judges_agree(comparison):
        note = f"{each.first} and {each.second}, {counted(each.reviews, 'review')}"
        yield Line("judges agree", *percent(each.agreement, 1), note)
        yield Line("  kappa", *plain(each.kappa, 2))
    yield from _length(comparison)
    yield from _not_counted(comparison)
    if unasked := report.unasked(comparison):
        yield Line("without a review", f"{len(unasked):,}", "", listed(unasked))
    if categories := report.categories(comparison):
        yield Line("by category")
        yield from (_category_line(*each) for each in categories.items())


def _corrected(report: Report, comparison: Comparison) -> str:
    """Return what a p-value is as one of several comparisons; empty if it is the only one."""
    tested = [(each, each.p) for each in report.comparisons if each.p is not None]
    corrected = stats.holm([p for _, p in tested])
    found = [p for (each, _), p in zip(tested, corrected, strict=True) if each is comparison]
    return f"; {found[0]:.2g} as one of {len(tested)}" * (len(tested) > 1)


def _ratio(comparison: Comparison, ratio: Estimate) -> Iterator[Line]:
    (one, two), (three, four) = comparison.sums
    yield Line("ratio of scores", *percent(ratio, 2), f"{one + three:,g} of {two + four:,g}")
    for name, ours, theirs in (("first", one, two), ("second", three, four)):
        if theirs:
            yield Line(
                f"  shown {name}", f"{ours / theirs:.2%}".replace("%", " %"), "", f"{ours:,g} of {theirs:,g}"
            )


def _order(comparison: Comparison) -> Iterator[Line]:
    bias = comparison.order_bias
    if comparison.drawn:
        yield Line("shown first", note=_tally(comparison.shown_first))
    elif bias is None and comparison.items:
        yield Line("order", note="each pair was judged in one order only: the order may favour a side")
    if bias is None:
        return
    if bias.points:
        yield Line(
            "gain of the first", *plain(bias.points, 2, sign=True), f"points; {_tally(bias.shown_first)}"
        )
    else:
        yield Line("shown first", note=_tally(bias.shown_first))
    yield Line("orders agree", *percent(bias.agreement, 1), "of questions")
    yield Line("  kappa", *plain(bias.kappa, 2))


def _length(comparison: Comparison) -> Iterator[Line]:
    if bias := comparison.length_bias:
        note = f"{bias.model:,.0f} characters against {bias.opponent:,.0f}"
        yield Line("length and score", *plain(bias.correlation, 2), f"correlation; {note}")
        note = "win rate by AlpacaEval's minimal model, not regularised"
        if bias.extrapolates:
            most = max(bias.longer, bias.shorter)
            side = comparison.model if bias.longer == most else comparison.opponent
            note += f"; extrapolated: {side} is longer in {most:,} of {bias.longer + bias.shorter:,}"
        yield Line("  at equal length", *percent(bias.win_rate, 1), note)


def _not_counted(comparison: Comparison) -> Iterator[Line]:
    for name, found in (("unreadable", comparison.unreadable), ("not counted", comparison.left_out)):
        if found:
            yield Line(name, f"{len(found):,}", "", _named(found))


def _named(found: Sequence[LeftOut]) -> str:
    shown = ", ".join(f"{each.where} ({each.reason})" for each in found[:_FEW])
    return shown + " …" * (len(found) > _FEW)


def _difference_line(each: Difference) -> Line:
    figures = plain(each.ratio.times(100), 2, sign=True)
    return Line(f"{each.model} less {each.other}", *figures, f"points; {counted(each.questions, 'question')}")


def _change_lines(change: Change) -> Iterator[Line]:
    for name, estimate in (("ratio of scores", change.ratio), ("win rate", change.win_rate)):
        if estimate:
            yield Line(name, *plain(estimate.times(100), 2, sign=True), "points")
    for name, ids in (("better", change.better), ("worse", change.worse)):
        of = f"of {counted(change.questions, 'question')}"
        yield Line(name, f"{len(ids):,}", "", of + f": {listed(ids)}" * bool(ids))


def _control_lines(control: Control) -> Iterator[Line]:
    yield Line("win rate", *percent(control.win_rate, 1))
    if control.change:
        note = f"points over {control.base}"
        yield Line("change", *plain(control.change.times(100), 1, sign=True), note)
    if control.unreadable:
        yield Line("unreadable", f"{control.unreadable:,}")


def _change_title(change: Change) -> str:
    return f"{change.model} since {change.before if change.before != change.model else 'the last report'}"


def _category_line(name: str, result: Result) -> Line:
    figure = percent(result.ratio, 1) if result.ratio else percent(result.win_rate, 1)
    return Line(f"  {name}", *figure, f"{counted(result.questions, 'question')}; {_tally(result.reviews)}")


def _tally(tally: Tally) -> str:
    return f"{tally.wins:,} won, {tally.ties:,} tied, {tally.losses:,} lost"


def _counts(comparison: Comparison) -> str:
    """Return how much was counted."""
    orders = "in both orders" if comparison.in_both_orders else "in one order"
    orders = "in an order drawn at random" if comparison.drawn else orders
    whole = comparison.whole
    return f"{counted(whole.questions, 'question')}, {counted(whole.reviews.total, 'review')} {orders}"


def _comparison(report: Report, comparison: Comparison) -> dict[str, Any]:
    order, length = comparison.order_bias, comparison.length_bias
    return {
        "model": comparison.model,
        "opponent": comparison.opponent,
        "in_both_orders": comparison.in_both_orders,
        "drawn_order": comparison.drawn,
        **asdict(comparison.whole),
        "sums": comparison.sums,
        "p": comparison.p,
        "order_bias": order and asdict(order),
        "length_bias": length and asdict(length),
        "judges": list(map(asdict, judges_agree(comparison))),
        "categories": {name: asdict(each) for name, each in report.categories(comparison).items()},
        "unreadable": list(map(asdict, comparison.unreadable)),
        "left_out": list(map(asdict, comparison.left_out)),
        "without_review": report.unasked(comparison),
        "by_question": list(map(vars, comparison.by_question())),
        "draws": comparison.draws,
        "seed": comparison.seed,
        "usage": comparison.usage.model_dump(),
    }


# What changed since an earlier report, which is read as JSON.


class _PastComparison(BaseModel):
    """What is read of a comparison."""

    model: str
    opponent: str
    by_question: list[JudgedQuestion]


class _PastReport(BaseModel):
    """What is read of a report."""

    comparisons: list[_PastComparison]


def changes(comparisons: Sequence[Comparison], past: Path) -> tuple[Change, ...]:
    """Return how comparisons changed since an earlier report.

    Raises:
        RecordError: The file is no report, or has none of the comparisons or questions.
    """
    reports = _read(past)
    found = tuple(_changes(comparisons, reports))
    if not found:
        models = "; ".join(f"{each.model} against {each.opponent}" for each in reports)
        raise RecordError(
            f"{past}: has no comparison of these models in these questions. It has: {models or 'none'}.",
            hint=_KEEP,
        )
    return found


def _read(path: Path) -> list[_PastComparison]:
    with reading(path), open_input(path) as file:
        data = file.read()
    try:
        return _PastReport.model_validate_json(data).comparisons
    except ValidationError as error:
        raise RecordError(f"{path}: is not a report: {describe(error)}.", hint=_KEEP) from None


def _changes(comparisons: Sequence[Comparison], reports: Sequence[_PastComparison]) -> Iterator[Change]:
    single = len(comparisons) == len(reports) == 1
    for comparison in comparisons:
        for past in reports:
            same = past.opponent == comparison.opponent and (single or past.model == comparison.model)
            if same:
                earlier = {each.id: each for each in past.by_question}
                pairs = [(earlier[now.id], now) for now in comparison.by_question() if now.id in earlier]
                if pairs:
                    yield _change(comparison, past.model, pairs)


def _change(
    comparison: Comparison, before: str, pairs: Sequence[tuple[JudgedQuestion, JudgedQuestion]]
) -> Change:
    rows = [
        [value for each in (now, then) for value in (*(each.scores or (0, 0)), each.wins, 1)]
        for then, now in pairs
    ]
    sample = Bootstrap(rows, draws=comparison.draws, seed=comparison.seed)
    scored = all(each.scores for pair in pairs for each in pair)
    return Change(
        model=comparison.model,
        before=before,
        opponent=comparison.opponent,
        questions=len(pairs),
        ratio=sample.estimate(lambda sums: _gain(sums, 0), extremes=extremes(sample.sums, {0: 1, 4: -1}))
        if scored
        else None,
        win_rate=sample.estimate(lambda sums: _gain(sums, 2), CHANGE),
        better=tuple(now.id for then, now in pairs if now.outcome > then.outcome),
        worse=tuple(now.id for then, now in pairs if now.outcome < then.outcome),
    )


def _gain(sums: Numbers, column: int) -> Numbers:
    """Return by how much a ratio of neighbouring columns is higher in the first four than in the last."""
    now, then = (sums[..., start + column : start + column + 2] for start in (0, 4))
    return np.asarray(ratio_of(now) - ratio_of(then))


# Whether answers that test a judge change the outcome.


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
                yield Control(*known, base.model, _change_by(each, base))


def _carries(control: Comparison, base: Comparison) -> bool:
    """Whether a control's answers are those of a comparison's model, with an instruction."""
    return control.opponent == base.opponent and control.model == WITH_INSTRUCTION.format(base.model)


def _change_by(control: Comparison, base: Comparison) -> Estimate:
    """Return by how much the control wins more often, paired by question."""
    before = {each.id: each.wins for each in base.by_question()}
    rows = [[each.wins - before[each.id], 1] for each in control.by_question() if each.id in before]
    sample = Bootstrap(np.reshape(rows, (-1, 2)), draws=control.draws, seed=control.seed)
    return sample.estimate(lambda sums: np.asarray(sums[..., 0] / sums[..., 1]), CHANGE)
