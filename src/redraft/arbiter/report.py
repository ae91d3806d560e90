"""Write the figures and the page of a folder; verify them by making every figure again from the records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redraft import __version__
from redraft.arbiter.matrix import PLAN, RUNS, read_plan
from redraft.arbiter.page import html, markdown, sentences
from redraft.arbiter.table import table_of
from redraft.chain import Chain
from redraft.counting import counted
from redraft.errors import OutputError, RecordError
from redraft.evaluation.diagnosis.truth import chains_of
from redraft.evaluation.tasks.tasks import KEY, asked, checks_of, scored, task_of
from redraft.files import sha256_of, write_file
from redraft.formats.read.records import read_records

TABLE, PAGE, MARKDOWN = "table.json", "index.html", "page.md"
_MOST = 20  # faults of one kind to list


def put_report(folder: Path) -> str:
    """Write the table and the pages of a folder. Return the sentences that they begin with."""
    table = table_of(folder)
    made = f"redraft {__version__} · redraft arbiter verify {folder.name} recomputes all figures"
    record = {"version": 1, "redraft": __version__, "files": _hashes(folder), **table.record()}
    text = json.dumps(record, ensure_ascii=False, indent=1)
    for name, content in ((TABLE, f"{text}\n"), (PAGE, html(table, made)), (MARKDOWN, markdown(table, made))):
        write_file(folder / name, content.encode())
    return "\n".join([*sentences(table), *table.remarks, f"page        {folder / PAGE}"])


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
    faults += _some(wrong, "records")
    try:
        now = json.loads(json.dumps(table_of(folder).record()))
    except (RecordError, OutputError) as error:
        return [*faults, error.message], "The figures cannot be recomputed."
    faults += _some([*_differences({name: stored.get(name) for name in now}, now, "")], "figures")
    figures = sum(1 for _ in _leaves(now))
    if faults:
        return faults, "Not verified."
    files = counted(len(hashes), "file")
    return [], f"Verified: {figures:,} figures from {files}, and the truth of {counted(answers, 'answer')}."


def _some(faults: list[str], noun: str) -> list[str]:
    """Return the first faults, and how many more there are."""
    more = len(faults) - _MOST
    return [*faults[:_MOST], f"{more:,} more {noun} differ."] if more > 0 else faults


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
    if any(
        _passed(now, of) != _passed(told, of) for of in ("steps", "drafts") if of in told or of == "steps"
    ):
        yield f"{file}, {chain.id}: its record disagrees with its task's checks."


def _passed(truth: Mapping[str, Any], of: str) -> list[list[bool]]:
    """Return which checks answers pass. Older records have no truth for drafts that were not chosen."""
    return [[bool(check["passed"]) for check in checks] for checks in truth.get(of, ())]


def _differences(before: Any, now: Any, place: str) -> Iterator[str]:
    """Yield the figures that differ, with where they are in the table."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(name), now.get(name), f"{place}.{name}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, f"{place}[{number}]")
    elif before != now:
        yield f"{TABLE}: {place} is {_brief(before)}, and the records give {_brief(now)}."


def _brief(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{json.dumps(value)!s:.60}"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    elif isinstance(value, int | float):
        yield value
