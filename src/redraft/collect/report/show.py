"""Show a report on data: as text for a terminal, as JSON values, and as a page.

A short range has a bin per number, and a longer one bins of an equal, round width. With a long tail, bins
grow with the numbers, so that most records and the few huge ones are both visible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain as chained
from itertools import count, pairwise, zip_longest
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any, TypeVar

from redraft.collect.language import language_of
from redraft.collect.report.findings import findings
from redraft.collect.report.stats import PARTS, DataReport, Sample
from redraft.collect.report.summary import DEPTHS, score_in
from redraft.formats.texts import asked_turns, gold_answers, rationales, turns_of
from redraft.pages import page as pages
from redraft.pages.charts import bars, histogram, levels, stacks
from redraft.pages.page import Card, Part, render

Number = TypeVar("Number", int, float)

MOST = 24  # most bins of equal width
TAIL = 6  # largest ratio of maximum to median for bins of equal width

_FEW = 10  # medians below it get a bin for each small number, such as of turns
_WIDTHS = (1, 2, 5)  # widths of equal bins, times a power of ten
_EDGES = (10, 15, 20, 30, 50, 70)  # starts of growing bins, times a power of ten; about √2 apart


@dataclass(frozen=True)
class Bin:
    """A bin with the count of numbers from `low` to `high`, both included."""

    low: int
    high: int
    count: int

    @property
    def name(self) -> str:
        """Return the range as text, such as `20-29`."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"

    @property
    def bar(self) -> tuple[str, str, int]:
        """Return the bin for a chart: its start as a short text, such as `1.5k`, its name and its count."""
        for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
            if self.low >= unit:
                return f"{self.low / unit:.3g}{name}", self.name, self.count
        return str(self.low), self.name, self.count


@dataclass(frozen=True)
class Figures:
    """Figures of a distribution of `count` numbers; 95 % of them are at most `p95`."""

    count: int
    min: float
    median: float
    mean: float
    p95: float
    max: float


def figures(counts: Counter[int] | Counter[float]) -> Figures | None:
    """Return the figures of counted numbers, or None without any. The median is one of the numbers."""
    if not (total := counts.total()):
        return None
    values = sorted(counts)
    mean = sum(value * times for value, times in counts.items()) / total
    half, most = (_quantile(counts, values, share * total) for share in (0.5, 0.95))
    return Figures(total, values[0], half, mean, most, values[-1])


def bins(counts: Counter[int]) -> list[Bin]:
    """Return the histogram of counted whole numbers from 0 on, from the smallest to the largest."""
    if not counts:
        return []
    low, high = min(counts), max(counts)
    middle = _quantile(counts, sorted(counts), counts.total() / 2)
    if high - low < MOST:
        edges: Iterator[int] = count(low)
    elif high > TAIL * max(middle, 1):
        growing = (edge * 10**power for power in count() for edge in _EDGES)
        edges = chained(range(10) if middle < _FEW else (0, 1, 2, 3, 5, 7), growing)
    else:
        widths = (step * 10**power for power in count() for step in _WIDTHS)
        edges = count(0, next(width for width in widths if high < MOST * width))
    found: list[Bin] = []
    rest = sorted(counts.items(), reverse=True)
    for start, after in pairwise(edges):
        inside = 0
        while rest and rest[-1][0] < after:
            inside += rest.pop()[1]
        if inside or found:
            found.append(Bin(start, after - 1, inside))
        if not rest:
            break
    return found


def _quantile(counts: Counter[Any], values: Sequence[Number], rank: float) -> Number:
    seen = 0
    for value in values:
        seen += counts[value]
        if seen >= rank:
            break
    return value


_BAR = 24  # characters of the longest bar
_SHOWN = 8  # names of a kind that get a line each


def lines(report: DataReport) -> Iterator[str]:
    """Give the lines of a report."""
    yield " · ".join(
        f"{number:,} {what.removesuffix('s') if number == 1 else what}"
        for what, number in report.totals().items()
    )
    yield from _figures(report)
    yield from _by_place(report)
    for name, kinds in report.kinds().items():
        yield from ("", name, *_bars(kinds))
    width = max(min(get_terminal_size().columns, 100) - 11, 40)
    for number, each in enumerate(findings(report)):
        yield from ([] if number else ["", "warnings"])
        text = [*wrap(each.text, width), *wrap(each.advice, width), *each.examples[:2]]
        for level, line in zip_longest([each.level], text, fillvalue=""):
            yield f"  {level:7}  {line}"


def _figures(report: DataReport) -> Iterator[str]:
    rows = [(title, found) for title, counts in report.numbers().items() if (found := figures(counts))]
    if not rows:
        return
    width = max(len(title) for title, _ in rows)
    yield ""
    yield f"{'':{width}}  {'min':>7} {'median':>7} {'mean':>7} {'95 %':>7} {'max':>9}"
    for title, row in rows:
        yield f"{title:{width}}  {row.min:>7,} {row.median:>7,} {row.mean:>7,.1f} {row.p95:>7,} {row.max:>9,}"
    counts = sorted(report.summary.tables["answers a record"].items())
    if len(counts) > 1:
        yield from ("", "answers a record", *_bars([(f"{number:,}", times) for number, times in counts]))


def _by_place(report: DataReport) -> Iterator[str]:
    """Yield a table of steps: verdicts and scores of feedback, and median lengths."""
    verdicts, scores = report.by_place("verdicts"), report.by_place("scores")
    if not verdicts:
        return
    lengths = [report.by_place(f"{part} by step") for part in PARTS]
    names = ("accept", "revise", "unknown", "scores", "mean")
    yield from ("", f"{f'median {report.unit}':>73}")
    yield f"{'feedback':8} " + " ".join(f"{name:>8}" for name in (*names, "answer", "feedback"))
    for place in sorted({*verdicts, *lengths[0]}):
        counts, score = verdicts.get(place, Counter()), figures(scores.get(place, Counter()))
        cells = [f"{counts[kind]:,}" for kind in names[:3]]
        cells += [f"{score.count:,}", f"{score.mean:.2f}"] if score else ["", ""]
        found = (figures(each.get(place, Counter())) for each in lengths)
        cells += [f"{length.median:,}" if length else "" for length in found]
        row = " ".join(f"{cell:>8}" for cell in cells)
        yield f"{f'{place}+' if place == DEPTHS else place:>8} {row}".rstrip()


def _bars(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    shown, rest = list(counts[:_SHOWN]), counts[_SHOWN:]
    if rest:
        shown.append((f"{len(rest):,} others", sum(times for _, times in rest)))
    width = max(len(name) for name, _ in shown)
    most, total = max(times for _, times in shown), sum(times for _, times in shown)
    for name, times in shown:
        bar = "█" * round(times / most * _BAR) or "▏"
        yield f"  {name:{width}}  {times:>9,}  {times / total:>6.1%}  {bar}"


def as_json(report: DataReport) -> dict[str, Any]:
    """Return the report as JSON values."""
    numbers = report.numbers()
    return {
        "files": report.files,
        "unit": report.unit,
        "totals": report.totals(),
        "answers_a_record": dict(sorted(report.summary.tables["answers a record"].items())),
        "numbers": {
            title: {**asdict(row), "bins": [asdict(each) for each in bins(counts)]}
            for title, counts in numbers.items()
            if (row := figures(counts))
        },
        "kinds": {name: dict(counts) for name, counts in report.kinds().items()},
        "verdicts": report.by_place("verdicts"),
        "scores": {
            place: dict(sorted(counts.items())) for place, counts in report.by_place("scores").items()
        },
        "lengths": {
            part: {
                place: asdict(row)
                for place, each in report.by_place(f"{part} by step").items()
                if (row := figures(each))
            }
            for part in PARTS
        },
        "findings": [asdict(each) for each in findings(report)],
    }


VERDICTS = ("accept", "revise", "unknown")
_FILES, _PATHS = 3, 50  # files to name in the title, and below it
_TEXT, _TURNS, _STEPS = 1500, 20, 10  # characters of a text, turns and steps to show of a sample


def page(report: DataReport, made: str) -> str:
    """Return the page. `made` says how the report was made: version, settings and seed."""
    names = report.files
    title, paths = ", ".join(Path(name).name for name in names[:_FILES]), " · ".join(names[:_PATHS])
    if len(names) > _FILES:
        title += f" and {len(names) - _FILES:,} more"
    parts = [Part(tiles=tiles(report.totals())), Part("Warnings", warnings=findings(report))]
    if cards := tuple(_cards(report)):
        parts.append(Part("Distributions", cards=cards))
    if report.examples:
        shown = [_sample(each, kind=kind) for kind, each in report.examples.items()]
        parts.append(Part("Examples", samples=shown))
    if report.samples:
        shown = [_sample(each, is_open=not number) for number, each in enumerate(report.samples)]
        parts.append(Part("Samples", samples=shown))
    return render(title, "" if paths == title else paths, parts, made)


def tiles(totals: Mapping[str, int | str]) -> dict[str, str]:
    """Return figures as texts, by name."""
    return {name: each if isinstance(each, str) else f"{each:,}" for name, each in totals.items()}


def _cards(report: DataReport) -> Iterator[Card]:
    for title, counts in report.numbers().items():
        yield distribution(title, counts)
    if verdicts := report.by_place("verdicts"):
        named = {f"Feedback {place}{'+' * (place == DEPTHS)}": counts for place, counts in verdicts.items()}
        yield Card("verdicts", "accept · revise · unknown, by place", stacks(named, VERDICTS))
    every: Counter[float] = sum(report.by_place("scores").values(), Counter())
    last = Counter(report.summary.tables.get("last scores", Counter()))
    for title, scores in (("scores in feedbacks", every), ("scores in last feedbacks", last)):
        if scores:
            whole = Counter(dict.fromkeys(range(11), 0))
            for score, times in scores.items():
                whole[int(score)] += times
            shown = [Bin(score, score, times) for score, times in sorted(whole.items())]
            yield Card(title, _in_words(scores), histogram([each.bar for each in shown]))
    if rows := _steps(report):
        yield Card(f"{report.unit} by step", "median", levels(rows))
    for kind, kinds in report.kinds().items():
        yield Card(kind, f"{len(kinds):,} different", bars(kinds))


def distribution(title: str, counts: Counter[int]) -> Card:
    """Return the card of counted numbers: figures and a histogram."""
    shown = bins(counts)
    wider = len({each.high - each.low for each in shown}) > 1
    note = f"{_in_words(Counter(counts))}{' · a bar has a wider range than those before it' * wider}"
    return Card(title, note, histogram([each.bar for each in shown]))


def _steps(report: DataReport) -> list[tuple[str, float]]:
    """Return the median lengths of answers and feedbacks by step, if there are feedbacks."""
    answers, feedbacks = report.by_place("answer by step"), report.by_place("feedback by step")
    rows: list[tuple[str, float]] = []
    for place in sorted({*answers, *feedbacks}) if feedbacks else ():
        more = "+" * (place == DEPTHS)
        for name, lengths in ((_name(place - 1) + more, answers), (f"feedback {place}{more}", feedbacks)):
            if row := figures(lengths.get(place, Counter())):
                rows.append((name, row.median))
    return rows


def _in_words(counts: Counter[float]) -> str:
    found = figures(counts)
    if found is None:
        return ""
    mean = f"{found.mean:,.{1 if found.mean >= 10 else 2}f}"
    middle, most = f"median {found.median:,g} · mean {mean}", f"95 % ≤ {found.p95:,g}"
    return f"{middle} · {most} · {found.min:,g} to {found.max:,g}"


def _sample(sample: Sample, *, kind: str = "", is_open: bool = False) -> pages.Sample:
    chain = sample.chain
    asked = asked_turns(chain.prompt)
    texts = [_text(turn.role, turn.text) for turn in asked[:_TURNS]]
    texts += _more(len(asked) - _TURNS, "turns")
    texts += [_text("rationale", way, "gold") for way in rationales(chain)[:1]]
    texts += [_text("gold answer", gold, "gold") for gold in gold_answers(chain)[:1]]
    for place, step in enumerate(chain.steps[:_STEPS]):
        texts.append(_text(_name(place) + " · best" * (place == chain.best), step.answer, "answer"))
        if feedback := step.feedback:
            score = score_in(feedback)
            named = "" if score is None else f" · {score:g} of 10"
            who = f"feedback {place + 1} · {feedback.verdict}{named}"
            texts.append(_text(who, feedback.text, feedback.verdict))
    texts += _more(len(chain.steps) - _STEPS, "answers")
    count = len(chain.steps)
    about = f"{count} answer{'s' * (count != 1)}" if count else "no answer"
    language = language_of(" ".join(turn.text for turn in turns_of(chain)))
    about = " · ".join(filter(None, (about, language, chain.stop)))
    return pages.Sample(f"{kind} · " * bool(kind) + sample.where, about, texts, is_open)


Text = tuple[str, str, str]


def _name(place: int) -> str:
    return f"revision {place}" if place else "answer"


def _text(who: str, text: str, kind: str = "") -> Text:
    more = f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else ""
    return who or "?", text[:_TEXT] + more, kind


def _more(number: int, what: str) -> Iterable[Text]:
    return [("", f"… {number:,} more {what}", "")] if number > 0 else []
