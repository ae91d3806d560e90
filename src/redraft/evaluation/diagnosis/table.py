"""Compute the table and the page of a folder of runs, and verify both files.

Strategies are compared at equal tokens (`equal_tokens`) within each task, and again over all tasks, where all
prompts have equal weight. Holm's procedure corrects the p-values in two families: comparisons within
tasks, and comparisons over all tasks. The strategy `alone` is compared only with `UNGUIDED` strategies.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from itertools import compress
from os.path import commonprefix
from pathlib import Path
from typing import Any, get_args

from redraft import __version__
from redraft.chain import Chain
from redraft.chain.read.records import read_records
from redraft.errors import OutputError, RecordError, UsageError
from redraft.evaluation.diagnosis import equal_tokens
from redraft.evaluation.diagnosis.equal_tokens import Cost, Curves, Point, Versus, corrected
from redraft.evaluation.diagnosis.figures import cut_off
from redraft.evaluation.diagnosis.matrix import PLAN, RUNS, read_plan, stored
from redraft.evaluation.diagnosis.truth import chains_of, leaked
from redraft.evaluation.pages.charts import curves as drawn
from redraft.evaluation.pages.page import render
from redraft.evaluation.stats import without_nan
from redraft.evaluation.tables import Part, as_text
from redraft.evaluation.tasks.tasks import KEY, UNSCORED, asked, checks_of, scored, task_of
from redraft.jobs.counting import counted
from redraft.jobs.files import sha256_of, write_file

TABLE, PAGE = "table.json", "index.html"
_MOST = 20  # differing figures to list
_CHART, _WORDS = re.compile(r"<svg.*?</svg>", re.DOTALL), re.compile(r'>[^<>]+<|aria-label="[^"]*"')
_HOW = """\
Two ways are compared at the highest cost in {by} that both reach. If there is none, the row names both costs.
Best of N and a vote draw more answers until they take as many new tokens as the costliest other way, or \
until --samples is reached. Best of N keeps the answer that passes the checks, and a blind retry revises \
without being told what failed.
For one answer and a vote, the model is told what the checks demand, but gets no feedback. For revise alone, \
it is not told, so its first answers differ from those of the other ways. With --no-tell-checks, it is never \
told. Only one answer and votes are compared with revise alone. The other ways use the guiding checks: \
those of --check or else the task's own, which also score.
Intervals are at 95 %, paired by prompt. "Open" means that these prompts do not show which way is better: \
if the ways were equal, chance would make such a difference with the probability p. p is corrected for the \
number of comparisons (Holm's procedure), once over all tasks and once within tasks. Intervals are not \
corrected, so they may exclude 0 although the finding is open.""".splitlines()
_ENGINES = "The engines llamacpp and hf can be steered, and so can servers of vLLM, SGLang and llama.cpp."
ALL = "all tasks"
MODES = ("auto", "repair", "verified")
REVISING = ("revise", "alone", *MODES)
UNGUIDED = ("plain", "vote", "early")  # ways without feedback: revising alone is compared with these
CONTROLS = ("blind", "shuffled")  # ways that only measure the effect of feedback


@dataclass(frozen=True)
class Table:
    """All figures, in the order of the page."""

    cells: Sequence[Curves]  # first over `ALL`, for each model with several tasks; then for each task
    comparisons: Sequence[Versus]  # comparisons over all tasks come first
    remarks: Sequence[str]  # notes on missing runs and prompts
    by: Cost = "tokens"

    def __str__(self) -> str:
        return "\n".join(as_text([*parts_of(self), Part(notes=[*sentences(self, best=True)])]))


def table_of(folder: Path, by: Cost = "tokens") -> Table:
    """Return the figures of a folder at equal cost. Raise `UsageError` if there are no finished runs."""
    plan, cells, over, remarks = read_plan(folder), list[Curves](), list[Curves](), list[str]()
    for name, model in plan["models"].items():
        of_model, parts = [], plan.get("choosing", False)  # --choose draws prompts at random
        for task in plan["tasks"]:
            curves = equal_tokens.curves_in(folder / RUNS / name / task, model, task, parts=parts)
            if curves is None:
                remarks.append(f"{model}, {task}: there are no finished runs.")
                continue
            of_model.append(replace(curves, by=by))
            remarks += [f"{model}, {task}: {said}" for said in _remarks(curves, folder / RUNS / name / task)]
        if len(of_model) > 1:
            over.append(pooled(of_model))
        cells += of_model
    if plan.get("choosing"):
        remarks.append("--choose may stop early once it is certain. These tests do not correct for that.")
    if not cells:
        hint = f"Make them: redraft diagnose {folder} --tasks add --models default"
        if plan["tasks"]:
            hint = "Repeat the command that began the runs, with the same options."
        if any(folder.glob("seed-*")):
            hint = f"Give files in the folder: redraft diagnose {folder}/seed-*/revise-2.jsonl"
        raise UsageError(f"{folder} has no finished runs.", hint=hint)
    families = ([row for curves in each for row in _comparisons(curves)] for each in (over, cells))
    return Table([*over, *cells], [row for rows in families for row in corrected(rows)], remarks, by)


def _remarks(curves: Curves, runs: Path) -> Iterator[str]:
    if curves.left_out:
        yield f"{counted(curves.left_out, 'prompt')} not counted, because some run gave no answer."
    if curves.unfinished:
        yield f"UNFINISHED, so these seeds or ways are not counted: {', '.join(curves.unfinished)}."
    if 2 * curves.native >= curves.items:
        where = f"in {curves.native:,} of {counted(curves.items, 'prompt')}"
        yield f"{where}, the model saw no check's feedback, so `revise` equals `alone`."
    yield from cut_off(point.mean.cut for point in curves.points)
    if curves.trained:
        where = f"in {curves.trained:,} of {counted(curves.items, 'prompt')}"
        yield f"{where}, an adapter answered for other ways, but not for `one`: training may add gains."
    if name := leaked(runs.glob("seed-*/revise-*[0-9].jsonl")):
        yield f"{name} scores, but also told the model the wanted text. Guide revisions by another --check."
    own, told = (
        {(f.parent, c.id, c.steps[0].criticism) for f in files for c in chains_of(f) if c.revisions}
        for files in (runs.glob(f"seed-*/{kind}-2.jsonl") for kind in ("revise", "shuffled"))
    )
    if same := len(own & told):
        yield f"shuffled feedback equalled real feedback in {same:,} of {counted(len(told), 'chain')}."
    one, alone = (
        {(f.parent, c.id): c.steps[0].answer for f in files for c in chains_of(f) if c.steps}
        for files in (runs.glob(f"seed-*/{way}.jsonl") for way in ("plain", "alone-2"))
    )
    if not curves.trained and (apart := sum(one.get(key, first) != first for key, first in alone.items())):
        where = f"in {apart:,} of {counted(len(alone), 'chain')}"
        yield f"{where}, drafts of `alone` and `one` differ: only `one` reads demands. Try --no-tell-checks."
    steered = [*runs.glob("seed-*/steered-*[0-9].jsonl")]
    if steered and not any(step.steered for f in steered for made in chains_of(f) for step in made.steps):
        yield f"nothing was steered, so `steered` equals best of N. {_ENGINES}"


def pooled(each: Sequence[Curves]) -> Curves:
    """Combine the curves of a model's tasks, for the kinds of strategies that ran on every task.

    If a task lacks a size, such as best of 4, its next smaller size is used or, without one, its smallest.
    """
    kinds = set.intersection(*({point.way.kind for point in one.points} for one in each))
    ways = {point.way for one in each for point in one.points if point.way.kind in kinds}
    points = list[Point]()
    for way in sorted(ways, key=lambda way: way.place):
        runs = []
        for one in each:
            own = [point for point in one.points if point.way.kind == way.kind]
            fits = (point for point in own if point.way.texts <= way.texts)
            runs.append(max(fits, key=lambda point: point.way.texts, default=own[0]))
        spent = tuple(item for run in runs for item in run.spent)
        points.append(Point(way, spent, any(run.base for run in runs)))
    return Curves(each[0].model, ALL, tuple(points), min(one.seeds for one in each), by=each[0].by)


def _comparisons(curves: Curves) -> Iterator[Versus]:
    for ours in (kind for kind in REVISING if kind in curves.kinds):
        others = UNGUIDED if ours == "alone" else {*curves.kinds} - {"alone"}
        if ours in MODES:
            others = {*curves.kinds} - {*REVISING}
        twice = UNGUIDED if ours == "revise" and curves.native == curves.items else ()  # as for `alone`
        for other in curves.kinds:
            if other in others and other not in (ours, *twice):
                same = _of_one_model(curves, ours, other) if other in CONTROLS else curves
                if same.items:
                    yield same.against(ours, other)


def _of_one_model(curves: Curves, *kinds: str) -> Curves:
    """Keep the items that the base model answered equally often in all strategies of the given `kinds`."""
    answers = zip(*(point.spent for point in curves.points if point.way.kind in kinds), strict=True)
    same = [len({spent.base for spent in item}) == 1 for item in answers]
    points = (replace(each, spent=tuple(compress(each.spent, same)), base=False) for each in curves.points)
    return replace(curves, points=tuple(points))


def put_report(folder: Path, by: Cost = "tokens") -> Table:
    """Write the table and the page of a folder, and return the table."""
    if any(task["task"] == UNSCORED for task in read_plan(folder)["tasks"].values()):
        hint = f"To check the judge's choice: redraft diagnose {folder}.yaml --verify"
        found = f"a judge compared the answers in {folder}, so there are no scores for a table."
        raise UsageError(found, hint=hint)
    table = table_of(folder, by)
    if by != "tokens" and all(each.basis == "unknown" for each in table.comparisons):
        found = f"no ways in {folder} can be compared at equal {by}."
        hint = "Use --equal tokens. Money needs runs with --price IN,OUT or [prices] in the config file."
        raise UsageError(found, hint=hint)
    record = {"version": 1, "redraft": __version__, "files": hashes_of(folder), **without_nan(table)}
    write_file(folder / TABLE, f"{json.dumps(record, ensure_ascii=False, indent=1)}\n".encode())
    write_file(folder / PAGE, _page(table).encode())
    return table


def _page(table: Table) -> str:
    made = f"redraft {__version__} · redraft diagnose FOLDER --verify recomputes all figures"
    how = Part(notes=[each.format(by=table.by) for each in _HOW])
    parts = [*(Part(verdict=each) for each in sentences(table)), how]
    return render("Who should revise, when, and how?", "", [*parts, *parts_of(table, charts=True)], made)


def _lines(page: str) -> dict[str, str]:
    # The layout of a chart depends on the machine's fonts, so only its words are compared.
    text = _CHART.sub(lambda chart: "\n".join(_WORDS.findall(chart[0])), page)
    return {f"line {number}": line for number, line in enumerate(text.splitlines(), 1)}


def parts_of(table: Table, *, charts: bool = False) -> Iterator[Part]:
    """Yield the parts of the report: for the page if `charts`, otherwise for the terminal."""
    for each in table.cells:
        name = f"{each.model}, {each.task}"
        note = f"{counted(each.items, 'prompt')}, {counted(each.seeds, 'seed')}"
        note += f"; {each.settings}" * (charts and bool(each.settings))
        axis = "new tokens a prompt" if each.by == "tokens" else f"{each.by} a prompt"
        chart = drawn(equal_tokens.series(each), axis, "right answers, %") if charts else ""
        lines = [equal_tokens.point_line(point) for point in each.points]
        yield Part(name, note, lines=lines, chart=chart, claim=_best(each))
        if rows := [row for row in table.comparisons if (row.model, row.task) == (each.model, each.task)]:
            said = _verdict(each, [row for row in rows if row.ours == rows[0].ours]).partition(". ")[0]
            title = f"{name}, at equal {each.by}"
            title += " where possible" * any(row.basis != "equal" for row in rows)
            lines = [equal_tokens.versus_line(row) for row in rows]
            yield Part(title, "points ahead", lines=lines, claim=f"{said.removesuffix('.')}.")
    if table.remarks:
        yield Part("Keep this in mind", notes=table.remarks)


def _best(curves: Curves) -> str:
    points = [point for point in curves.points if not point.idle] or curves.points
    most = equal_tokens.point_line(max(points, key=lambda point: point.score.value))
    lines = map(equal_tokens.point_line, points)
    equal = [line.name.replace(",", " with") for line in lines if line.value == most.value]
    tested = "tested " * (len(points) < len(curves.points))
    said = f"No {tested}way has more right answers than {' or '.join(equal)}"
    if len(equal) == len(curves.points):
        said = "All ways have the same share of right answers"
    elif len(points) == 1:
        said = f"No other way than {equal[0]} was tested"
    return f"{said}, {most.value} ({most.interval})."


def sentences(table: Table, *, best: bool = False) -> Iterator[str]:
    """Yield conclusions on each model's revising strategies and, if `best`, on the best strategy."""
    for model in dict.fromkeys(each.model for each in table.cells):
        cells = [each for each in table.cells if each.model == model]
        for ours in REVISING:
            wanted = (model, cells[0].task, ours)  # ALL if several
            if rows := [row for row in table.comparisons if (row.model, row.task, row.ours) == wanted]:
                said = _verdict(cells[0], rows)
                if others := cells[0].items - min(row.decision.items for row in rows):
                    said += " Comparisons with blind retry and shuffled feedback leave out "
                    said += f"{counted(others, 'prompt')} where only one of the two ways used an adapter."
                yield f"{model}, {equal_tokens.named(ours)}: {said}"
        if best:
            yield f"{model}: {_best(cells[0])}"


def _verdict(curves: Curves, rows: Sequence[Versus]) -> str:
    own = [point.mean for point in curves.points if point.way.kind == rows[0].ours]
    lost = any(row.finding == "worse" for row in rows) and not all(each.cut for each in own)
    if lost or any(each.revised for each in own):
        return equal_tokens.verdict(rows)
    return "Not tested: no answer was revised."


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the hashes of the files from which a folder's figures are computed, by relative path."""
    files = [folder / PLAN, *folder.glob("tasks/*"), *(folder / RUNS).glob("*/*/seed-*/*.jsonl")]
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(files) if file.is_file()}


def verified(folder: Path, *, run_code: bool = False) -> tuple[list[str], str]:
    """Recompute a folder's figures. Return messages about faults, and a sentence that sums up the result.

    Raises:
        OutputError: The table is missing or damaged.
        UsageError: The folder does not exist, or a task runs a model's programs without `run_code`.
    """
    file, way = folder / TABLE, Path(f"{folder}.yaml")
    hint = f"If runs are unfinished, first repeat the --tasks command. Then: redraft diagnose {folder}"
    if way.exists():
        hint = f"Verify the way that was chosen: redraft diagnose {way} --verify"
    if not folder.exists():
        hint = "Give a folder that --tasks made, or a file that --choose wrote."
        raise UsageError(f"there is no file or folder {str(folder)!r:.200}.", hint=hint)
    if not file.exists():
        raise OutputError(f"{folder} contains no {TABLE}.", hint=hint)
    if (table := stored(file, "files")) is None:
        raise OutputError(f"{file} is not a table of redraft diagnose.", hint=hint)
    faults = changes(folder, table["files"])
    if gone := [fault for fault in faults if fault.endswith(" is gone.")]:
        return some(gone), "Not verified."  # all further differences follow from that
    answers, wrong = wrong_truths(folder, run_code=run_code)
    faults += some(wrong)
    try:
        by: Cost = next((cost for cost in get_args(Cost) if cost == table.get("by")), "tokens")
        now = json.loads(json.dumps(without_nan(again := table_of(folder, by))))
    except (RecordError, OutputError) as error:
        return [*faults, error.message], "The figures cannot be recomputed."
    faults += some(differences(TABLE, {name: table.get(name) for name in now}, now))
    page = folder / PAGE
    other = page.exists() and table.get("redraft") != __version__
    if not faults and not other and page.exists():
        faults = some(differences(PAGE, _lines(page.read_text("utf-8", "replace")), _lines(_page(again))))
    if faults:
        return faults, "Not verified."
    figures = sum(isinstance(value, int | float) for _, value in _leaves(now, ""))
    files, texts = counted(len(table["files"]), "file"), counted(answers, "answer")
    said = f"Verified: {figures:,} figures follow from {files}, and so do the scores of {texts}."
    said += " UNFINISHED runs are not counted." * any("finished" in each.lower() for each in again.remarks)
    return [], said + f" Another version of redraft made {PAGE}, so it was not compared." * other


def changes(folder: Path, before: Mapping[str, str]) -> list[str]:
    """Return a message for each file that was added, removed or changed since the hashes were stored."""
    hashes = hashes_of(folder)
    faults = [f"{name} was added afterwards." for name in hashes if name not in before]
    faults += [f"{name} is gone." for name in before if name not in hashes]
    changed = [name for name in hashes if before.get(name, hashes[name]) != hashes[name]]
    return [*faults, *(f"{name} was changed afterwards." for name in changed)]


def differences(name: object, told: Any, made: Any) -> list[str]:
    """Return a message for each value that differs between `told`, from the file `name`, and `made`."""
    before, now = ({place: repr(value) for place, value in _leaves(each, "")} for each in (told, made))
    faults = []
    for place in before | now:
        both = before.get(place, "not set"), now.get(place, "nothing")
        if both[0] != both[1]:
            start = max(len(commonprefix(both)) - 100, 0)  # noqa: RUF071  (texts, no paths)
            was, now_is = ("…" * (start > 0) + text[start : start + 200] for text in both)
            faults.append(f"{name}: {place} is {was}, but the records give {now_is}.")
    return faults


def some(faults: list[str]) -> list[str]:
    """Return the first messages, and a line with the number of omitted messages."""
    return [*faults[:_MOST], *[f"Differences not shown: {len(faults) - _MOST:,}."] * (len(faults) > _MOST)]


def wrong_truths(folder: Path, *, run_code: bool) -> tuple[int, list[str]]:
    """Check all answers again. Return their number, and a message for each chain with wrong results."""
    plan, count, faults = read_plan(folder), 0, list[str]()
    for name, task in plan["tasks"].items():
        if not (files := sorted((folder / RUNS).glob(f"*/{escape(name)}/seed-*/*.jsonl"))):
            continue  # its file may be deleted
        kind = task_of(task["task"], run_code=run_code)
        records = {each.id: each for each in asked(kind, read_records(folder / "tasks" / task["file"]))}
        for file in files:
            if "." in file.stem:
                continue
            for chain in chains_of(file):
                count += len(chain.steps) + len(chain.drafts)
                faults += _faults(chain, records.get(chain.id), task["task"], file.relative_to(folder))
    return count, faults


def _faults(chain: Chain, record: Chain | None, task: str, file: Path) -> Iterator[str]:
    if record is None or chain.prompt != record.prompt:
        yield f"{file}, {chain.id}: {'no' if record is None else 'another'} prompt of the task has this id."
        return
    bare = chain.model_copy(update={"meta": {k: v for k, v in chain.meta.items() if k != KEY}})
    now = asyncio.run(scored(bare, task, checks_of(task_of(task, run_code=True), record))).meta[KEY]
    if any(_passed(now, of) != _passed(chain.meta.get(KEY, {}), of) for of in ("steps", "drafts")):
        yield f"{file}, {chain.id}: the stored results disagree with the task's checks."


def _passed(truth: Mapping[str, Any], of: str) -> list[list[bool]]:
    return [[bool(check["passed"]) for check in checks] for checks in truth.get(of, ())]


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{place}.{name!s:.200}".lstrip("."))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{place}[{number}]")
    else:
        yield place, value
