"""The page of statistics on data: figures, warnings, charts and sample records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from redraft.chain import Chain, Step
from redraft.collect.language import language_of
from redraft.collect.report.findings import findings
from redraft.collect.report.histogram import Bin, bins, figures
from redraft.collect.report.stats import DataReport, Sample
from redraft.collect.report.summary import DEPTHS, score_in
from redraft.formats.texts import asked_turns, gold_answers, rationales, turns_of
from redraft.pages import page as pages
from redraft.pages.charts import bars, histogram, levels, stacks
from redraft.pages.page import Card, Part, render

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
    if verdicts := report.verdicts():
        named = {f"Feedback {place}{'+' * (place == DEPTHS)}": counts for place, counts in verdicts.items()}
        yield Card("verdicts", "accept · revise · unknown, by place", stacks(named, VERDICTS))
    yield from _scores(report)
    yield from _steps(report)
    for name, kinds in report.kinds().items():
        yield Card(name, f"{len(kinds):,} different", bars(kinds))


def _scores(report: DataReport) -> Iterator[Card]:
    """Give charts of all scores and of those in last feedbacks, rounded down."""
    every: Counter[float] = sum(report.scores().values(), Counter())
    last = Counter(report.summary.tables.get("last scores", Counter()))
    for title, counts in (("scores in feedbacks", every), ("scores in last feedbacks", last)):
        if counts:
            whole = Counter(dict.fromkeys(range(11), 0))
            for score, times in counts.items():
                whole[int(score)] += times
            shown = [Bin(score, score, times) for score, times in sorted(whole.items())]
            yield Card(title, _in_words(counts), histogram([each.bar for each in shown]))


def distribution(title: str, counts: Counter[int]) -> Card:
    """Return the card of counted numbers: figures and a histogram."""
    shown = bins(counts)
    wider = len({each.high - each.low for each in shown}) > 1
    note = f"{_in_words(Counter(counts))}{' · a bar has a wider range than those before it' * wider}"
    return Card(title, note, histogram([each.bar for each in shown]))


def _steps(report: DataReport) -> Iterator[Card]:
    """Give a chart of the median lengths of answers and feedbacks by step, if there are feedbacks."""
    answers, feedbacks = report.lengths("answer"), report.lengths("feedback")
    if not feedbacks:
        return
    rows: list[tuple[str, float]] = []
    for place in sorted({*answers, *feedbacks}):
        more = "+" * (place == DEPTHS)
        named = ((_name(place - 1) + more, answers), (f"feedback {place}{more}", feedbacks))
        found = ((name, figures(lengths.get(place, Counter()))) for name, lengths in named)
        rows += [(name, row.median) for name, row in found if row]
    yield Card(f"{report.unit} by step", "median", levels(rows))


def _in_words(counts: Counter[float]) -> str:
    found = figures(counts)
    if found is None:
        return ""
    mean = f"{found.mean:,.{1 if found.mean >= 10 else 2}f}"
    return (
        f"median {found.median:,g} · mean {mean} · 95 % ≤ {found.p95:,g} · {found.min:,g} to {found.max:,g}"
    )


def _sample(sample: Sample, *, kind: str = "", is_open: bool = False) -> pages.Sample:
    chain = sample.chain
    asked = asked_turns(chain.prompt)
    texts = [_text(turn.role, turn.text) for turn in asked[:_TURNS]]
    texts += _more(len(asked) - _TURNS, "turns")
    texts += [_text("rationale", way, "gold") for way in rationales(chain)[:1]]
    texts += [_text("gold answer", gold, "gold") for gold in gold_answers(chain)[:1]]
    for place, step in enumerate(chain.steps[:_STEPS]):
        texts += _step(step, place, best=place == chain.best)
    texts += _more(len(chain.steps) - _STEPS, "answers")
    return pages.Sample(f"{kind} · " * bool(kind) + sample.where, _about(chain), texts, is_open)


def _about(chain: Chain) -> str:
    answers = [f"{len(chain.steps)} answer{'s' * (len(chain.steps) != 1)}"] if chain.steps else ["no answer"]
    language = language_of(" ".join(turn.text for turn in turns_of(chain)))
    return " · ".join([*answers, *([language] if language else []), *([chain.stop] if chain.stop else [])])


Text = tuple[str, str, str]


def _step(step: Step, place: int, *, best: bool) -> Iterator[Text]:
    yield _text(_name(place) + (" · best" if best else ""), step.answer, "answer")
    if feedback := step.feedback:
        score = score_in(feedback)
        named = "" if score is None else f" · {score:g} of 10"
        yield _text(f"feedback {place + 1} · {feedback.verdict}{named}", feedback.text, feedback.verdict)


def _name(place: int) -> str:
    return f"revision {place}" if place else "answer"


def _text(who: str, text: str, kind: str = "") -> Text:
    more = f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else ""
    return who or "?", text[:_TEXT] + more, kind


def _more(number: int, what: str) -> Iterable[Text]:
    return [("", f"… {number:,} more {what}", "")] if number > 0 else []
