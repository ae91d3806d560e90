"""Choose the report that fits the kind of records, and render the report's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from redraft.chain import Chain
from redraft.chain.read.files import open_output
from redraft.errors import UsageError
from redraft.evaluation.judging.reviews import Grade
from redraft.evaluation.pages.page import render
from redraft.evaluation.reports.chains import Links, Listed
from redraft.evaluation.reports.compare import Comparison, Game, Item
from redraft.evaluation.reports.grades import GradeReport, describe_grades
from redraft.evaluation.reports.inputs import Material, kind_of, opened
from redraft.evaluation.reports.reviews import Report, describe_reviews
from redraft.evaluation.reports.runs import MOST_SHOWN, RunReport, Shown, describe_runs
from redraft.evaluation.tables import Part
from redraft.evaluation.tasks.tally import outcome_of, results_of, truth_of
from redraft.jobs.counting import counted
from redraft.revision.words import SHORT_STOPS

AnyReport = Report | GradeReport | RunReport
_SIGNS = {1: "won", 0: "tied", -1: "lost"}

Entry = dict[str, Any]
"""A record for `browse.js`: `about`, `question`, `row` for the list, `kind` for the colour, `kinds`
to filter by, `answers` (`name`, `text`, and an optional link `chain`), and `notes` on the answers (`kind`,
`title`, `by`, `text` or null)."""


def describe(
    files: Sequence[Path], *, answers: Sequence[Path] = (), questions: Path | None = None
) -> AnyReport:
    """Return a report on files of reviews, grades or chains. `answers` are files of the judged answers."""
    inputs = list(map(opened, files))
    kind = kind_of(inputs)
    if answers and kind == "chains":
        raise UsageError("--answers is for reviews and grades, not for chains.", hint="Leave it out.")
    material = Material.read(answers, questions)
    if kind == "reviews":
        return describe_reviews(inputs, material)
    return describe_grades(inputs, material) if kind == "grades" else describe_runs(inputs, material)


def page(report: AnyReport, made: str, links: Links | None = None) -> str:
    """Return a report as HTML. `made` says how the page was made."""
    parts = [*report.sections()]
    if records := _records(report, links or Links()):
        parts.append(records)
    return render(report.title, " · ".join(Path(name).name for name in report.files[:50]), parts, made)


def chains_of(report: AnyReport) -> Iterator[Listed]:
    """Yield the chains of all records on a report's page. Only reports on runs show chains."""
    if isinstance(report, RunReport):
        for record, shown in report.shown.items():
            for name, chain in shown.chains.items():
                yield Listed("/".join(_place(report, name, record)), chain, [name] * (len(report.runs) > 1))


def _place(report: RunReport, name: str, record: str) -> tuple[str, ...]:
    return (name, record) if len(report.runs) > 1 else (record,)


def _records(report: AnyReport, links: Links) -> Part | None:
    if isinstance(report, Report):
        title, count = "Pairs", sum(len(each.items) for each in report.comparisons)
        entries = (_pair(report, each, item) for each in report.comparisons for item in each.items)
        kinds = {**{each: each for each in _SIGNS.values()}, "disagree": "orders disagree"}
    elif isinstance(report, GradeReport):
        by_key: dict[tuple[str, int], list[Grade]] = {}
        for grades in report.grades:
            for _, grade in grades.found:
                by_key.setdefault(grade.key, []).append(grade)
        title, count, kinds = "Grades", len(by_key), {"unreadable": "unreadable"}
        entries = (_graded(report, *each) for each in by_key.items())
    else:
        title, count = "Answers", len(report.shown)
        entries = (_answered(report, links, *each) for each in report.shown.items())
        words = _RIGHT if any(run.tally.task for run in report.runs) else _PASSED
        kinds = {**dict(words.values()), "differ": "runs differ"}
    if not count:
        return None
    more = f"The first {MOST_SHOWN:,} of {count:,} are shown." * (count > MOST_SHOWN)
    return Part(title, more, records=list(islice(entries, MOST_SHOWN)), kinds=kinds)


def _pair(report: Report, comparison: Comparison, item: Item) -> Entry:
    answers: list[Entry] = []
    names = (comparison.model, comparison.opponent)
    if placed := item.games[0].placed.answers:
        order = reversed(placed) if item.games[0].second else placed
        answers = [{"name": name, "text": each.text} for name, each in zip(names, order, strict=True)]
    both = None if item.drawn else item.both
    votes = sum(game.sign for game in item.games)
    kind = _SIGNS[(votes > 0) - (votes < 0) if both is None else both]
    apart = both is not None and item.sign(second=False) != item.sign(second=True)
    games = sorted(item.games, key=lambda game: game.second)
    row = (f"{game.scores[0]:g}–{game.scores[1]:g}" if game.scores else _SIGNS[game.sign] for game in games)
    outcome = f"{comparison.model} {kind}" + ": the orders disagree" * (kind == "tied" and apart)
    return {
        **_asked(report, item.question_id, item.turn, outcome),
        "kind": kind,
        "kinds": [kind, *(["disagree"] if apart else [])],
        "row": " · ".join(row),
        "answers": answers,
        "notes": [_review(comparison, game) for game in games],
    }


def _asked(report: Report | GradeReport, record: str, turn: int, outcome: str = "") -> Entry:
    question = report.material.questions.get(record)
    name = f"{record}, turn {turn}" if turn > 1 else record
    about = " · ".join(filter(None, (name, question.category if question else "", outcome)))
    asked = question.turns[0] if question else report.material.prompts.get(str(record))
    return {"about": about, "question": asked or f"Question {name}"}


def _review(comparison: Comparison, game: Game) -> Entry:
    step = -1 if game.second else 1
    first, second = (comparison.model, comparison.opponent)[::step]
    title = f"{first} {'<=>'[1 + step * game.sign]} {second}"
    if game.scores:
        one, two = game.scores[::step]
        title = f"{first} {one:g} : {two:g} {second}"
    review = game.placed.review
    return {"kind": _SIGNS[game.sign], "title": title, "by": review.judge or "", "text": review.text or None}


def _graded(report: GradeReport, key: tuple[str, int], grades: Sequence[Grade]) -> Entry:
    given = [(each.model, report.material.answers.get(str(each.answer_id), {})) for each in grades]
    answers = {name: found[name] for name, found in given if name in found}
    scores = [f"{each.score:g}" if each.is_readable else "–" for each in grades]
    return {
        **_asked(report, *key),
        "kind": "tied",
        "kinds": ["unreadable"] if "–" in scores else [],
        "row": " · ".join(scores),
        "answers": [{"name": name, "text": each.text} for name, each in answers.items()],
        "notes": [
            {
                "kind": "tied" if each.is_readable else "lost",
                "title": f"{each.model}: {score}",
                "by": each.judge_name,
                "text": each.judgment,
            }
            for each, score in zip(grades, scores, strict=True)
        ],
    }


_RIGHT = {True: ("won", "right"), False: ("lost", "wrong"), None: ("tied", "not checked")}
_PASSED = {**_RIGHT, True: ("passed", "passed"), False: ("lost", "failed")}  # no task says what is right


def _answered(report: RunReport, links: Links, record: str, shown: Shown) -> Entry:
    words = {name: _RIGHT if truth_of(chain) else _PASSED for name, chain in shown.chains.items()}
    found = [(name, chain, *words[name][outcome_of(chain)]) for name, chain in shown.chains.items()]
    kinds = list(dict.fromkeys(kind for _, _, kind, _ in found))
    same = len(kinds) == 1
    return {
        "about": " · ".join(filter(None, (record, shown.category))),
        "question": shown.question or f"Question {record}",
        "kind": kinds[0] if same else "tied",
        "kinds": kinds if same else ["differ"],
        "row": " · ".join(word for *_, word in found),
        "answers": [
            {"name": name, "text": chain.answer, "chain": links.to(*_place(report, name, record))}
            for name, chain, *_ in found
        ],
        "notes": [_checked(f"{name}: {word}", chain, kind) for name, chain, kind, word in found],
    }


def _checked(title: str, chain: Chain, kind: str) -> Entry:
    stop = SHORT_STOPS.get(chain.stop or "", chain.stop)
    by = f"{counted(chain.revisions, 'revision')}, {stop}" if stop else ""
    by = by if chain.revisions or chain.stop != "max_revisions" else "not revised"
    found = (
        f"{'✓' if each.passed else '✗'} {': '.join(filter(None, (each.name, each.message)))}"
        for each in results_of(chain)
    )
    return {"kind": kind, "title": title, "by": by, "text": "\n".join(found) or None}


def write_page(path: Path, report: AnyReport, made: str, *, force: bool) -> list[Path]:
    """Write the page of a report and, if there are chains, a page of chains. Return the written paths."""
    with open_output(path, force=force, flag="--html") as file:
        title, version = f"{report.title}: chains", made.partition(" ·")[0]
        links = Links.write(path, title, [*chains_of(report)], version, force=force)
        file.write(page(report, made, links).encode())
    return [path, *([path.with_name(links.file)] if links.file else [])]
