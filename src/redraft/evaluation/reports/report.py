"""The report on reviews: all comparisons, as sections and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from redraft import stats
from redraft.counting import counted
from redraft.errors import RecordError
from redraft.evaluation.records import listed
from redraft.evaluation.reports.against import Change, changes
from redraft.evaluation.reports.compare import (
    Comparison,
    Difference,
    LeftOut,
    Result,
    Tally,
    compare,
    difference,
    judges_agree,
)
from redraft.evaluation.reports.controls import Control, control_results
from redraft.evaluation.reports.inputs import BadFiles, Input
from redraft.evaluation.reports.sides import Material, place
from redraft.evaluation.tables import Line, Section, cost_facts, percent, plain, without_nan
from redraft.formats.read.files import name_of
from redraft.stats import Estimate

_FEW = 5  # reviews to name in a row


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


def describe_reviews(
    inputs: Sequence[Input],
    material: Material,
    bad: BadFiles,
    against: Path | None = None,
    *,
    draws: int,
    seed: int,
) -> Report:
    """Describe files of reviews.

    Args:
        inputs: The files; each order may have its own.
        material: The answers that were judged, and what was asked.
        bad: Takes the files that cannot be read.
        against: The JSON of an earlier report, to say what changed.
        draws: Number of resamples.
        seed: Decides the resamples.

    Raises:
        RecordError: The files do not belong together, or no review can be read.
    """
    names = tuple(name_of(each.path) for each in inputs)
    found = compare(place(inputs, material, bad), material.names, draws=draws, seed=seed)
    if not any(comparison.items for comparison in found):
        raise _nothing(names, [each for comparison in found for each in comparison.unreadable])
    controls = [each for each in found if each.control]
    found = tuple(each for each in found if not each.control)
    pairs = [(two, one) for one, two in combinations(found, 2) if one.opponent == two.opponent]
    differences = filter(None, (difference(*pair) for pair in pairs))
    since = changes(found, against) if against else ()
    tested = tuple(control_results(controls, found))
    return Report(names, material, found, tuple(differences), since, tested)


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
