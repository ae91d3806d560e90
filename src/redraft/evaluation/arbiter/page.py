"""Write the figures and the page of a folder; verify them by making every figure again from the records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from redraft import __version__
from redraft.chain import Chain
from redraft.chain.read.records import read_records
from redraft.errors import OutputError, RecordError
from redraft.evaluation.arbiter.matrix import PLAN, RUNS, read_plan
from redraft.evaluation.arbiter.table import ALL, REVISING, Comparison, Table, table_of
from redraft.evaluation.diagnosis.equal_tokens import named, verdict, versus_line
from redraft.evaluation.diagnosis.truth import chains_of
from redraft.evaluation.pages.charts import intervals
from redraft.evaluation.pages.page import Card, Part, render
from redraft.evaluation.tables import Line, p_value, percent, tokens_text
from redraft.evaluation.tasks.tasks import KEY, asked, checks_of, scored, task_of
from redraft.jobs.counting import counted
from redraft.jobs.files import sha256_of, write_file

TABLE, PAGE = "table.json", "index.html"
_MOST = 20  # differing figures to list
_HOW = """\
Each way may spend as many new tokens as revising did: best of N and a vote draw as many answers as fit. \
≠ marks a way without a run of that many tokens; its nearest run is shown.
One answer, a vote and revising alone see no checks. The other ways see the checks that score. Revising \
alone is compared only with ways that see none.
Intervals are at 95 %, paired by prompt. Holm's procedure corrects p: once for all comparisons over all \
tasks, and once for all within tasks.""".splitlines()
_FINDINGS = {"for": "better", "against": "worse", "open": "open", "none": "not comparable"}


def put_report(folder: Path) -> str:
    """Write the table and the page of a folder. Return the sentences that the page begins with."""
    table = table_of(folder)
    record = {"version": 1, "redraft": __version__, "files": _hashes(folder), **table.record()}
    write_file(folder / TABLE, f"{json.dumps(record, ensure_ascii=False, indent=1)}\n".encode())
    below = (
        f"{counted(len(table.models), 'model')}, {counted(len(table.tasks), 'task')}, "
        f"{counted(len({run.way for run in table.runs}), 'way')}, {counted(table.seeds, 'seed')}"
    )
    made = f"redraft {__version__} · redraft arbiter verify {folder.name} recomputes all figures"
    title = "Who should revise, when, and how?"
    write_file(folder / PAGE, render(title, below, [*parts_of(table)], made).encode())
    return "\n".join([*sentences(table), *table.remarks, f"page        {folder / PAGE}"])


def parts_of(table: Table) -> Iterator[Part]:
    """Yield the sections of the page."""
    whole = [each for each in table.comparisons if each.task == ALL]
    within = [each for each in table.comparisons if each.task != ALL]
    yield Part(verdict=" ".join(sentences(table)), notes=_HOW, cards=[*_cards(whole or within)])
    prompts = ", ".join(f"{task} {count}" for task, count in table.items.items())
    yield Part(
        "Right answers, with the tokens that revising took",
        note=f"prompts of each task: {prompts}; {counted(table.seeds, 'seed')}",
        table=[*_levels(table)],
    )
    for title, rows in (("Over all tasks", whole), ("Within each task", within)):
        if rows:
            note = "points by which the way is ahead of the other"
            yield Part(title, note=note, lines=[_compared(each) for each in rows])
    head = ["model", "task", "way", "texts", "right", "new tokens", "prompt tokens"]
    runs = []
    for run in table.runs:
        right = "{} ({})".format(*percent(run.right, 1))
        costs = (tokens_text(run.tokens), f"{run.prompts:,.0f}")
        runs.append([run.model, run.task, named(run.way), f"{run.texts}", right, *costs])
    yield Part("What each way took per prompt", table=[head, *runs])
    if table.remarks:
        yield Part("To keep in mind", notes=table.remarks)


def sentences(table: Table) -> Iterator[str]:
    """Yield what the comparisons show, for each model and each way to revise."""
    over = {each.model: each.task for each in reversed(table.comparisons)}  # its first task: ALL if several
    for model, task in reversed(over.items()):
        for ours in REVISING:
            rows = [each for each in table.comparisons if (each.model, each.ours) == (model, ours)]
            if rows:
                yield f"{model}, {named(ours)}: {verdict([each for each in rows if each.task == task])}"
                yield from _when([each for each in rows if each.task not in (task, ALL)])


def _when(rows: Sequence[Comparison]) -> Iterator[str]:
    """Yield in which tasks a way is shown to do better or worse than another."""
    for finding, word in (("for", "better"), ("against", "worse")):
        found = [each for each in rows if each.finding == finding]
        if found:
            where = "; ".join(f"{each.task} (than {named(each.kind)})" for each in found)
            yield f"Within tasks, it does {word} in {where}."


def _levels(table: Table) -> Iterator[list[str]]:
    kinds = list(dict.fromkeys(each.way for each in table.levels))
    yield ["model", "task", *map(named, kinds)]
    for model, task in dict.fromkeys((each.model, each.task) for each in table.levels):
        found = {each.way: each for each in table.levels if (each.model, each.task) == (model, task)}
        cells = []
        for kind in kinds:
            level = found.get(kind)
            shown = "{} ({})".format(*percent(level.right, 1)) if level else "–"
            cells.append(shown + " ≠" * (level is not None and not level.equal))
        yield [model, task, *cells]


def _compared(each: Comparison) -> Line:
    line = versus_line(each)
    name = f"{each.model}, {each.task}: {named(each.ours)} less {line.name}"
    return line._replace(
        name=name, note=f"{_FINDINGS[each.finding]}, corrected p {p_value(each.p)}; {line.note}"
    )


def _cards(rows: Sequence[Comparison]) -> Iterator[Card]:
    """Draw how far each way to revise is ahead of the other ways, a card for each model."""
    note = "points, with 95 % intervals; right of the line, {} is ahead"
    for model, ours in dict.fromkeys((each.model, each.ours) for each in rows):
        drawn = []
        for each in rows:
            if (each.model, each.ours) == (model, ours):
                gain = each.decision.gain.times(100)
                name = named(each.kind) if each.task == ALL else f"{each.task}: {named(each.kind)}"
                drawn.append((name, gain.value, gain.low, gain.high, f"{gain.value:+.1f}"))
        yield Card(f"{model}, {named(ours)}", note.format(named(ours)), intervals(drawn, 0.0))


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that figures come from."""
    files = [folder / PLAN, *(folder / "tasks").iterdir(), *(folder / RUNS).glob("*/*/seed-*/*.jsonl")]
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(files)}


def verified(folder: Path, *, run_code: bool = False) -> tuple[list[str], str]:
    """Return the faults of a folder, and a sentence on the whole.

    Raises:
        OutputError: There is no table, or it is damaged.
        UsageError: A task runs a model's programs, and `run_code` was not given.
    """
    stored = _stored(folder)
    hashes, before = _hashes(folder), stored["files"]
    faults = [f"{name}: was added after the table was made." for name in hashes if name not in before]
    faults += [f"{name}: is gone." for name in before if name not in hashes]
    changed = [name for name in hashes if before.get(name, hashes[name]) != hashes[name]]
    faults += [f"{name}: was changed after the table was made." for name in changed]
    answers, wrong = _wrong_truths(folder, run_code=run_code)
    faults += _some(wrong)
    try:
        now = json.loads(json.dumps(table_of(folder).record()))
    except (RecordError, OutputError) as error:
        return [*faults, error.message], "The figures cannot be recomputed."
    told, made = (dict(_leaves(values, "")) for values in ({name: stored.get(name) for name in now}, now))
    faults += _some(
        [
            f"{TABLE}: {place} is {told.get(place)!r:.60}, and the records give {made.get(place)!r:.60}."
            for place in (told | made)
            if told.get(place) != made.get(place)
        ]
    )
    if faults:
        return faults, "Not verified."
    figures = sum(isinstance(value, int | float) for value in made.values())
    files = counted(len(hashes), "file")
    return [], f"Verified: {figures:,} figures from {files}, and the truth of {counted(answers, 'answer')}."


def _some(faults: list[str]) -> list[str]:
    return [*faults[:_MOST], *[f"{len(faults) - _MOST:,} more differ."] * (len(faults) > _MOST)]


def _stored(folder: Path) -> dict[str, Any]:
    file = folder / TABLE
    hint = f"Make it: redraft arbiter {folder}"
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise OutputError(f"{folder} has no {TABLE}.", hint=hint) from None
    except ValueError:
        raise OutputError(f"{file} cannot be read.", hint=hint) from None
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise OutputError(f"{file} is no table of the arbiter.", hint=hint)
    return found


def _wrong_truths(folder: Path, *, run_code: bool) -> tuple[int, list[str]]:
    """Check the answers of all chains again. Return their number, and where the records disagree."""
    plan, count, faults = read_plan(folder), 0, list[str]()
    for name, task in plan["tasks"].items():
        kind = task_of(task["task"], run_code=run_code)
        records = {each.id: each for each in asked(kind, read_records(folder / "tasks" / task["file"]))}
        for file in sorted((folder / RUNS).glob(f"*/{name}/seed-*/*.jsonl")):
            if "." in file.stem:
                continue
            for chain in chains_of(file):
                count += len(chain.steps) + len(chain.drafts)
                faults += _faults(chain, records.get(chain.id), task["task"], file.relative_to(folder))
    return count, faults


def _faults(chain: Chain, record: Chain | None, task: str, file: Path) -> Iterator[str]:
    if record is None or chain.prompt != record.prompt:
        yield f"{file}, {chain.id}: " + ("is not in the task." if record is None else "has another prompt.")
        return
    bare = chain.model_copy(update={"meta": {k: v for k, v in chain.meta.items() if k != KEY}})
    now = asyncio.run(scored(bare, task, checks_of(task_of(task, run_code=True), record))).meta[KEY]
    told = chain.meta.get(KEY, {})
    if any(_passed(now, of) != _passed(told, of) for of in ("steps", "drafts")):
        yield f"{file}, {chain.id}: its record disagrees with its task's checks."


def _passed(truth: Mapping[str, Any], of: str) -> list[list[bool]]:
    return [[bool(check["passed"]) for check in checks] for checks in truth.get(of, ())]


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield each value that holds no others, with where it is in the table."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{place}[{number}]")
    else:
        yield place, value
