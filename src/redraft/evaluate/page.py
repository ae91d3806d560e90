"""Render a report as one HTML page: figures, pictures, and the pairs of answers with their reviews.

Answers and reviews may be hostile. Those of the pairs are JSON in a block that is no script, and `page.js`
puts them into text nodes (`elements.js`); all others are escaped. The page's policy allows that script alone,
by its hash, and no request. Head and charts are those of `redraft data stats`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from redraft.collect.report.charts import histogram, intervals, safe, scatter, stacks
from redraft.collect.report.histogram import Bin
from redraft.collect.report.page import card, document, tiles
from redraft.counting import printable
from redraft.evaluate.against import Change
from redraft.evaluate.compare import Comparison, Game, Item, Result, Tally
from redraft.evaluate.controls import Control
from redraft.evaluate.lines import Line, percent
from redraft.evaluate.report import (
    Report,
    change_lines,
    change_title,
    control_lines,
    counts_of,
    difference_line,
    lines_of,
    many,
    title_of,
)

MOST_PAIRS, _MOST_DOTS = 2_000, 1_000
_OUTCOMES = ("won", "tied", "lost")
_FIND = """<div class="find">
<input id="search" type="search" placeholder="Search in questions, answers and reviews" aria-label="Search">
<select id="only" aria-label="Show only"><option value="all">all</option><option value="won">won</option>\
<option value="tied">tied</option><option value="lost">lost</option>\
<option value="disagree">orders disagree</option></select>
<span id="count"></span>
<span class="keys"><kbd>j</kbd> <kbd>k</kbd> next, previous · <kbd>/</kbd> search · \
<kbd>d</kbd> differences</span>
</div>
<div id="browse" hidden><ul id="list"></ul><div id="pair"></div></div>
<noscript><p>Showing the pairs needs JavaScript.</p></noscript>
"""


def page(report: Report, made: str) -> str:
    """Return the page. `made` says how the report was made."""
    reviews = sum(each.whole.reviews.total for each in report.comparisons)
    title = f"Report on {many(reviews, 'review')}"
    parts = [_section(report, comparison) for comparison in report.comparisons]
    parts += [_change(each) for each in report.changes]
    if report.differences:
        parts.append(_differences(report))
    parts += [_control(each) for each in report.controls]
    parts.append(_pairs(report))
    below = " · ".join(Path(name).name for name in report.files[:50])
    script = _own("elements.js") + _own("page.js")
    return document(title, below, parts, made, style=_own("page.css"), script=script)


def _own(name: str) -> str:
    return files("redraft.evaluate").joinpath(name).read_text("utf-8")


def _section(report: Report, comparison: Comparison) -> str:
    cards = "".join(_cards(report, comparison))
    note = counts_of(comparison)
    if unasked := report.unasked(comparison):
        note += f" · {many(len(unasked), 'question')} without a review"
    return (
        f'<section><h2>{safe(title_of(comparison))}</h2><p class="note">{safe(note)}</p>\n'
        f"{tiles(_tiles(comparison))}{line_table(list(lines_of(comparison)))}"
        f'<div class="cards">{cards}</div></section>\n'
    )


def _tiles(comparison: Comparison) -> dict[str, int | str]:
    whole = comparison.whole
    shown: dict[str, int | str] = {}
    if whole.ratio:
        shown[f"ratio of scores, {_range(whole.ratio, 2)}"] = percent(whole.ratio, 2)[0]
    shown[f"win rate, {_range(whole.win_rate, 1)}"] = percent(whole.win_rate, 1)[0]
    if whole.both:
        counts = (whole.both.wins, whole.both.ties, whole.both.losses)
        shown["won, tied, lost in both orders"] = " · ".join(f"{count:,}" for count in counts)
    return shown


def _range(estimate: Any, digits: int) -> str:
    return percent(estimate, digits)[1] or "no interval"


def line_table(rows: Sequence[Line]) -> str:
    """Return rows as a table."""
    cells = "".join(
        f"<tr><th{' class=part' if name.startswith(' ') else ''}>{safe(name.strip())}</th>"
        f"<td>{safe(value)}</td><td>{safe(interval)}</td><td>{safe(note)}</td></tr>\n"
        for name, value, interval, note in rows
    )
    return f"<table>{cells}</table>\n"


def _change(change: Change) -> str:
    return (
        f"<section><h2>{safe(change_title(change))}</h2>{line_table(list(change_lines(change)))}</section>\n"
    )


def _control(control: Control) -> str:
    title = f"Control: {control.model} against {control.opponent}"
    return f"<section><h2>{safe(title)}</h2>{line_table(list(control_lines(control)))}</section>\n"


def _differences(report: Report) -> str:
    rows = [
        difference_line(each)._replace(name=f"{each.model} less {each.other}") for each in report.differences
    ]
    return f"<section><h2>Differences of ratios</h2>{line_table(rows)}</section>\n"


def _cards(report: Report, comparison: Comparison) -> Iterator[str]:
    categories = report.categories(comparison)
    results = {"all": comparison.whole, **categories}
    whole = comparison.whole
    if whole.ratio:
        rows = [_row(name, each) for name, each in results.items()]
        yield card("ratio of scores", "with 95 % intervals; the line is at 100 %", intervals(rows, 100))
    outcomes = {name: _counted(each.reviews) for name, each in (categories or results).items()}
    yield card("reviews", "won · tied · lost", stacks(outcomes, _OUTCOMES))
    if comparison.in_both_orders or comparison.drawn:
        shown = {"shown first": _counted(comparison.shown_first), **_by_order(comparison)}
        yield card(
            "order", "won · tied · lost by the answer shown first, and by the model", stacks(shown, _OUTCOMES)
        )
    if comparison.length_bias:
        yield _lengths(comparison)
    if whole.ratio:
        yield from _scores(comparison)


def _row(name: str, result: Result) -> tuple[str, float, float, float, str]:
    ratio = (result.ratio or result.win_rate).times(100)
    return name, ratio.value, ratio.low, ratio.high, f"{ratio.value:.1f}"


def _counted(tally: Tally) -> Counter[str]:
    return Counter(dict(zip(_OUTCOMES, (tally.wins, tally.ties, tally.losses), strict=True)))


def _by_order(comparison: Comparison) -> dict[str, Counter[str]]:
    """Count the model's outcomes when it is shown first, and second."""
    found = {"model first": Counter[str](), "model second": Counter[str]()}
    for item in comparison.items:
        for game in item.games:
            found["model second" if game.second else "model first"][_OUTCOMES[1 - game.sign]] += 1
    return found


def _lengths(comparison: Comparison) -> str:
    step = -(-len(comparison.question_ids) // _MOST_DOTS)
    points = [(x, y, f"question {name}") for x, y, name in comparison.leads()][::step]
    note = f"each dot is a question{f'; every {step}th is shown' if step > 1 else ''}"
    names = ("characters more", "points more")
    return card("length and score of the model's answer", note, scatter(points, "length and score", *names))


def _scores(comparison: Comparison) -> Iterator[str]:
    """Give a histogram of each side's scores, rounded down."""
    for side, name in enumerate((comparison.model, comparison.opponent)):
        counts = Counter(dict.fromkeys(range(1, 11), 0))
        for item in comparison.items:
            counts.update(int(game.scores[side]) for game in item.games if game.scores)
        bins = [Bin(score, score, times) for score, times in sorted(counts.items())]
        yield card(f"scores of {name}", "rounded down", histogram(bins, f"scores of {name}"))


def _pairs(report: Report) -> str:
    every = [(each, item) for each in report.comparisons for item in each.items]
    data = json.dumps([_pair(report, *each) for each in every[:MOST_PAIRS]], ensure_ascii=False)
    more = f" The first {MOST_PAIRS:,} of {len(every):,}." if len(every) > MOST_PAIRS else ""
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return (
        f'<section><h2>Pairs</h2><p class="note">{more}</p>{_FIND}'
        f'<script type="application/json" id="pairs">{data}</script></section>\n'
    )


def _pair(report: Report, comparison: Comparison, item: Item) -> dict[str, Any]:
    question = report.material.questions.get(item.question_id)
    answers = None
    if placed := item.games[0].placed.answers:
        order = reversed(placed) if item.games[0].second else placed
        answers = [printable(answer.text) for answer in order]
    return {
        "id": printable(item.question_id) + (f", turn {item.turn}" if item.turn > 1 else ""),
        "category": printable(question.category) if question else "",
        "question": printable(question.text) if question else "",
        "model": printable(comparison.model),
        "opponent": printable(comparison.opponent),
        "sign": item.games[0].sign if item.both is None else item.both,
        "agree": None if item.both is None else item.sign(second=False) == item.sign(second=True),
        "answers": answers,
        "reviews": [_review(game) for game in sorted(item.games, key=lambda game: game.second)],
    }


def _review(game: Game) -> dict[str, Any]:
    review = game.placed.review
    return {
        "first": not game.second,
        "scores": game.scores,
        "sign": game.sign,
        "judge": printable(review.judge or ""),
        "text": printable(review.text),
    }
