"""Report on reviews: comparisons, differences between models with a common opponent, and a ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from redraft.chain.read.files import name_of
from redraft.errors import RecordError
from redraft.evaluation import stats
from redraft.evaluation.records import listed
from redraft.evaluation.reports import compare
from redraft.evaluation.reports.inputs import Input, Material, place
from redraft.evaluation.reports.ranking import Ranking, ranked
from redraft.evaluation.stats import Estimate, without_nan
from redraft.evaluation.tables import Line, Part, claimed, percent, plain
from redraft.jobs.counting import counted

_FEW = 5  # reviews to name in a row
_MOSTLY = 0.8  # if one side is longer in a larger share of questions, equal length is extrapolated


@dataclass(frozen=True)
class Report:
    """Comparisons, and differences between models if all comparisons have the same opponent."""

    files: tuple[str, ...]
    material: Material
    comparisons: tuple[compare.Comparison, ...]
    differences: tuple[compare.Difference, ...]
    ranking: Ranking | None = None  # of three or more models

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"Report on {counted(sum(each.whole.reviews.total for each in self.comparisons), 'review')}"

    def sections(self) -> Iterator[Part]:
        """Yield the sections of the report: each comparison, then the ranking and the differences."""
        for comparison in self.comparisons:
            title = f"{comparison.model} against {comparison.opponent}"
            how = "in both orders" if comparison.in_both_orders else "in one order"
            how = "in an order drawn at random" if comparison.drawn else how
            whole = comparison.whole
            note = f"{counted(whole.questions, 'question')}, {counted(whole.reviews.total, 'review')} {how}"
            value, interval = percent(whole.win_rate, 1)
            told = f"its win rate is {value} ({interval or 'no interval'})"
            claim = claimed(comparison.model, comparison.opponent, whole.win_rate, 0.5, told)
            yield Part(title, note, lines=[*_lines(self, comparison)], claim=claim)
        if ranking := self.ranking:
            lines = [Line(name, *percent(rate, 1)) for name, rate in ranking.models.items()]
            against = f"against {ranking.against or 'a model of average strength'}"
            note = f"win rate {against}, by Bradley and Terry; {counted(ranking.questions, 'question')}"
            yield Part("All models", note, lines=lines)
        if self.differences:
            lines = []
            for each in self.differences:
                name, figures = f"{each.model} minus {each.other}", plain(each.ratio.times(100), 2, sign=True)
                lines.append(Line(name, *figures, f"points; {counted(each.questions, 'question')}"))
            yield Part("Differences of ratios", lines=lines)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        asked = self.material.questions
        found = [without_nan(each) | {"categories": each.by_category(asked)} for each in self.comparisons]
        beside = {"ranking": self.ranking, "differences": self.differences}
        return without_nan({"files": self.files, "comparisons": found, **beside})


def describe_reviews(inputs: Sequence[Input], material: Material) -> Report:
    """Return a report on files of reviews. The two orders may be in different files."""
    names = tuple(name_of(each.path) for each in inputs)
    found = compare.compare(place(inputs, material), material.names)
    if not any(comparison.items for comparison in found):
        if not (unreadable := [each for comparison in found for each in comparison.unreadable]):
            raise RecordError(f"there is no review in {', '.join(names)}.")
        raise RecordError(
            f"found {counted(len(unreadable), 'review')}, but no readable scores: {_named(unreadable)}.",
            hint="A judge should end with its scores: [[8, 9]]. With --way verdicts: [[A]], [[B]] or [[C]].",
        )
    opponent = compare.shared(found)
    turned = [each.against(opponent) for each in found] if opponent else []
    return Report(
        names,
        material,
        found,
        tuple(filter(None, (compare.difference(two, one) for one, two in combinations(turned, 2)))),
        ranked(found),
    )


def _lines(report: Report, comparison: compare.Comparison) -> Iterator[Line]:
    whole = comparison.whole
    if whole.ratio:
        yield from _ratio(comparison, whole.ratio)
    yield Line("win rate", *percent(whole.win_rate, 1), _tally(whole.reviews))
    if whole.both and comparison.p is not None:
        over = " over questions" * (len(comparison.items) > whole.questions)
        ps = {id(each): each.p for each in report.comparisons if each.p is not None}
        corrected = dict(zip(ps, stats.holm([*ps.values()]), strict=True))
        several = f"; {corrected[id(comparison)]:.2g} corrected for {len(ps)} comparisons" * (len(ps) > 1)
        note = f"{_tally(whole.both)}, p = {comparison.p:.2g}{over}{several}"
        yield Line("in both orders", "", "", note)
    yield from _order(comparison)
    for each in comparison.judges:
        note = f"{each.first} and {each.second}, {counted(each.reviews, 'review')}"
        yield Line("judges agree", *percent(each.agreement, 1), note)
    if comparison.length_bias:
        yield from _length(comparison, comparison.length_bias)
    for name, found in (("unreadable", comparison.unreadable), ("not counted", comparison.left_out)):
        if found:
            yield Line(name, f"{len(found):,}", "", _named(found))
    if categories := comparison.by_category(report.material.questions):
        yield Line("by category")
        for name, result in categories.items():
            note = f"{counted(result.questions, 'question')}; {_tally(result.reviews)}"
            yield Line(f"  {name}", *percent(result.ratio or result.win_rate, 1), note)


def _ratio(comparison: compare.Comparison, ratio: Estimate) -> Iterator[Line]:
    (one, two), (three, four) = comparison.sums
    scored = [bool(game.scores) for item in comparison.items for game in item.games]
    some = f"; {sum(scored):,} of {len(scored):,} reviews have scores" * (not all(scored))
    yield Line("ratio of scores", *percent(ratio, 2), f"{one + three:,g} of {two + four:,g}{some}")
    for name, ours, theirs in (("first", one, two), ("second", three, four)):
        if theirs:
            share = f"{ours / theirs:.2%}".replace("%", " %")
            yield Line(f"  shown {name}", share, "", f"{ours:,g} of {theirs:,g}")


def _length(comparison: compare.Comparison, bias: compare.LengthBias) -> Iterator[Line]:
    note = f"{bias.model:,.0f} characters against {bias.opponent:,.0f}"
    yield Line("length and score", *plain(bias.correlation, 2), f"correlation; {note}")
    note = "win rate by AlpacaEval's minimal model, not regularised"
    most, apart = max(bias.longer, bias.shorter), bias.longer + bias.shorter
    if most > _MOSTLY * apart:
        side = comparison.model if bias.longer == most else comparison.opponent
        note += f"; extrapolated: {side} is longer in {most:,} of {apart:,}"
    yield Line("  at equal length", *percent(bias.win_rate, 1), note)


def _order(comparison: compare.Comparison) -> Iterator[Line]:
    bias, first = comparison.order_bias, _tally(comparison.shown_first)
    if comparison.drawn or (bias and not bias.points):
        yield Line("shown first", note=first)
    elif bias is None and comparison.items:
        yield Line("order", note="each pair was judged in one order only, which may favour a side")
    if bias is None:
        return
    if bias.points:
        yield Line("shown first adds", *plain(bias.points, 2, sign=True), f"points; {first}")
    same = "of questions: the same winner, or a tie"
    same += "; so few that the judge's scores say little" * (bias.agreement.high < 0.5)
    if alike := sum(item.same for item in comparison.items):
        same += f"; without {counted(alike, 'tie')} of identical answers"
    yield Line("both orders agree", *percent(bias.agreement, 1), same)


def _named(found: Sequence[compare.LeftOut]) -> str:
    return listed([f"{each.where} ({each.reason})" for each in found], _FEW)


def _tally(tally: compare.Tally) -> str:
    return f"{tally.wins:,} won, {tally.ties:,} tied, {tally.losses:,} lost"
