"""Render a report as one HTML page without other files, in light and dark.

The texts of records may be hostile. All are escaped and shortened, and the page's policy forbids scripts and
loading.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from redraft.chain import Chain, Step
from redraft.collect.language import language_of
from redraft.collect.report.charts import bars, histogram, levels, safe, stacks
from redraft.collect.report.findings import DataFinding, findings
from redraft.collect.report.histogram import Bin, bins, figures
from redraft.collect.report.stats import DataReport, Sample
from redraft.collect.report.summary import DEPTHS, score_in
from redraft.formats.texts import asked_turns, gold_answers, rationales, turns_of

_CODE = re.compile(r"`([^`]+)`")
VERDICTS = ("accept", "revise", "unknown")
_FILES, _PATHS = 3, 50  # files to name in the title, and below it
_TEXT, _TURNS, _STEPS = 1500, 20, 10  # characters of a text, turns and steps to show of a sample

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="color-scheme" content="light dark">
"""


def page(report: DataReport, made: str) -> str:
    """Return the page. `made` says how the report was made: version, settings and seed."""
    title, paths = _title(report.files), " · ".join(report.files[:_PATHS])
    parts = [
        tiles(report.totals()),
        _warnings(findings(report)),
        _charts(report),
        _examples(report),
        _samples(report),
    ]
    return document(title, "" if paths == title else paths, parts, made)


def document(
    title: str,
    below: str,
    parts: Sequence[str],
    made: str,
    *,
    style: str = "",
    script: str = "",
    connect: bool = False,
) -> str:
    """Return a whole page.

    Its policy allows no request, and no script but the given one, by its hash.

    Args:
        title: Its title, as text.
        below: A line below the title, as text; may be empty.
        parts: Its content, as HTML.
        made: How it was made, as text.
        style: More style sheets, of redraft's own.
        script: A script of redraft's own.
        connect: Allow requests to the page's own server.
    """
    line = f"<p>{safe(below)}</p>" if below else ""
    style = files("redraft.collect.report").joinpath("page.css").read_text("utf-8") + style
    policy, run = _POLICY, ""
    if script:
        digest = b64encode(sha256(script.encode()).digest()).decode()
        policy, run = f"{_POLICY}; script-src 'sha256-{digest}'", f"<script>{script}</script>\n"
    if connect:
        policy += "; connect-src 'self'"
    return (
        f"{_HEAD.format(policy=policy)}<title>{safe(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{safe(title)}</h1>{line}</header>\n<main>\n{''.join(parts)}</main>\n"
        f"<footer>{safe(made)}</footer>\n{run}</body>\n</html>\n"
    )


def _title(names: Sequence[str]) -> str:
    shown = ", ".join(Path(name).name for name in names[:_FILES])
    return shown if len(names) <= _FILES else f"{shown} and {len(names) - _FILES:,} more"


def tiles(totals: Mapping[str, int | str]) -> str:
    """Return large figures with their names."""
    shown = "".join(
        f"<li><b>{safe(figure if isinstance(figure, str) else f'{figure:,}')}</b> {safe(name)}</li>"
        for name, figure in totals.items()
    )
    return f'<ul class="tiles">{shown}</ul>\n'


def _warnings(found: Sequence[DataFinding]) -> str:
    rows = "".join(map(_warning, found)) or "<li>Nothing to warn of.</li>"
    return f'<section><h2>Warnings</h2><ul class="warnings">{rows}</ul></section>\n'


def _warning(each: DataFinding) -> str:
    places = "".join(f"<li>{safe(place)}</li>" for place in each.examples)
    examples = f"<details><summary>such as</summary><ul>{places}</ul></details>" if places else ""
    advice = _CODE.sub(r"<code>\1</code>", safe(each.advice))
    return (
        f'<li class="{each.level}"><b>{each.level}</b><div><p>{safe(each.text)}</p>'
        f"<p>{advice}</p>{examples}</div></li>"
    )


def _charts(report: DataReport) -> str:
    cards = "".join(_cards(report))
    return f'<section><h2>Distributions</h2><div class="cards">{cards}</div></section>\n' if cards else ""


def _cards(report: DataReport) -> Iterator[str]:
    for title, counts in report.numbers().items():
        yield distribution(title, counts)
    if verdicts := report.verdicts():
        named = {f"Feedback {place}{'+' * (place == DEPTHS)}": counts for place, counts in verdicts.items()}
        yield card("verdicts", "accept · revise · unknown, by place", stacks(named, VERDICTS))
    yield from _scores(report)
    yield from _steps(report)
    for name, kinds in report.kinds().items():
        yield card(name, f"{len(kinds):,} different", bars(kinds))


def _scores(report: DataReport) -> Iterator[str]:
    """Give charts of all scores and of those in last feedbacks, rounded down."""
    every: Counter[float] = sum(report.scores().values(), Counter())
    last = Counter(report.summary.tables.get("last scores", Counter()))
    for title, counts in (("scores in feedbacks", every), ("scores in last feedbacks", last)):
        if counts:
            whole = Counter(dict.fromkeys(range(11), 0))
            for score, times in counts.items():
                whole[int(score)] += times
            shown = [Bin(score, score, times) for score, times in sorted(whole.items())]
            yield card(title, _in_words(counts), histogram(shown, title))


def distribution(title: str, counts: Counter[int]) -> str:
    """Return the card of counted numbers: figures and a histogram."""
    shown = bins(counts)
    wider = len({each.high - each.low for each in shown}) > 1
    note = f"{_in_words(Counter(counts))}{' · a bar has a wider range than those before it' * wider}"
    return card(title, note, histogram(shown, title))


def _steps(report: DataReport) -> Iterator[str]:
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
    yield card(f"{report.unit} by step", "median", levels(rows))


def _in_words(counts: Counter[float]) -> str:
    found = figures(counts)
    if found is None:
        return ""
    mean = f"{found.mean:,.{1 if found.mean >= 10 else 2}f}"
    return (
        f"median {found.median:,g} · mean {mean} · 95 % ≤ {found.p95:,g} · {found.min:,g} to {found.max:,g}"
    )


def card(title: str, note: str, chart: str) -> str:
    """Return a chart with its title, both as text, and a note."""
    return f"<figure><figcaption><b>{safe(title)}</b><br>{note}</figcaption>{chart}</figure>\n"


def _examples(report: DataReport) -> str:
    """Show a record of each kind of chain."""
    shown = "".join(_sample(each, kind=kind) for kind, each in report.examples.items())
    return f"<section><h2>Examples</h2>{shown}</section>\n" if shown else ""


def _samples(report: DataReport) -> str:
    if not report.samples:
        return ""
    shown = "".join(_sample(each, is_open=not number) for number, each in enumerate(report.samples))
    return f"<section><h2>Samples</h2>{shown}</section>\n"


def _sample(sample: Sample, *, kind: str = "", is_open: bool = False) -> str:
    chain = sample.chain
    asked = asked_turns(chain.prompt)
    parts = [_text(turn.role, turn.text) for turn in asked[:_TURNS]]
    parts += _more(len(asked) - _TURNS, "turns")
    parts += [_text("rationale", way, "gold") for way in rationales(chain)[:1]]
    parts += [_text("gold answer", gold, "gold") for gold in gold_answers(chain)[:1]]
    for place, step in enumerate(chain.steps[:_STEPS]):
        parts += _step(step, place, best=place == chain.best)
    parts += _more(len(chain.steps) - _STEPS, "answers")
    return (
        f"<details{' open' if is_open else ''}><summary>{f'{kind} · ' * bool(kind)}{safe(sample.where)} "
        f"<small>{_about(chain)}</small></summary>{''.join(parts)}</details>\n"
    )


def _about(chain: Chain) -> str:
    answers = [f"{len(chain.steps)} answer{'s' * (len(chain.steps) != 1)}"] if chain.steps else ["no answer"]
    language = language_of(" ".join(turn.text for turn in turns_of(chain)))
    return " · ".join([*answers, *([language] if language else []), *([chain.stop] if chain.stop else [])])


def _step(step: Step, place: int, *, best: bool) -> Iterator[str]:
    yield _text(_name(place) + (" · best" if best else ""), step.answer, "answer")
    if step.feedback:
        score = score_in(step.feedback)
        named = "" if score is None else f" · {score:g} of 10"
        yield _text(
            f"feedback {place + 1} · {step.feedback.verdict}{named}",
            step.feedback.text,
            step.feedback.verdict,
        )


def _name(place: int) -> str:
    return f"revision {place}" if place else "answer"


def _text(who: str, text: str, kind: str = "") -> str:
    more = f"\n… {len(text) - _TEXT:,} more characters" if len(text) > _TEXT else ""
    shown = safe(text[:_TEXT] + more) if text.strip() else "<em>empty</em>"
    return f'<div class="said {kind}"><b>{safe(who)}</b><pre dir="auto">{shown}</pre></div>'


def _more(number: int, what: str) -> list[str]:
    return [f"<p>… {number:,} more {what}</p>"] if number > 0 else []
