"""`redraft eval`: answer a task whose truth can be checked, and score the answers.

`cli.answer` does the work. This module adds the task: its prompts and its checks (`evaluate.tasks`), and the
table of scores (`evaluate.tally`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.answer import (
    Form,
    Making,
    Out,
    Parallel,
    Quiet,
    RetryFailed,
    answer_file,
    parallel_of,
)
from redraft.cli.batching import BatchFlag, Batching, PauseOption
from redraft.cli.options import (
    CacheFile,
    FlagGroup,
    LimitSeconds,
    LimitTokens,
    LimitUsd,
    fill_in,
    takes,
)
from redraft.options import EvalFlags

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.jobs.harness import JobResult

FLAGS = FlagGroup(EvalFlags)


def evaluate(
    flags: EvalFlags,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="gsm8k, aqua, math, humaneval, mbpp, ifeval, json-repair or checks."
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="RECORDS", help="The task's file, as it is published.")],
    out: Out,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N records.", show_default=False),
    ] = None,
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON, and nothing else.")
    ] = False,
    parallel: Parallel = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", metavar="FILE", help="Store replies: none is paid for twice.", show_default=False
        ),
    ] = None,
    cache: CacheFile = None,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
    batch: BatchFlag = False,
    pause: PauseOption = None,
    limit_usd: LimitUsd = None,
    limit_tokens: LimitTokens = None,
    limit_seconds: LimitSeconds = None,
) -> None:
    """Score a model on a task whose truth can be checked.

    The model answers each record and revises its answers as in `redraft answer`; --max-revisions 0 scores
    plain answers. Prints the share of right answers with its 95 % interval, in all and by group.

    --check guides revising, and does not score. The task's own checks score, and do not guide unless --guided
    is given: then the score is no measure of what revising is worth without the truth.

    FILE gets the chain of each record, with the truth about each answer in `eval` of its `meta`. After any
    stop, the same command resumes. A low score is no failure: the exit status is 0. An empty answer is
    wrong, and tried again by the same command; other failures are listed, and do not count.

    Records of the task `checks` have a prompt and their own checks: {"prompt": "Describe rain.", "checks":
    ["words<=50"]}.
    """
    from redraft.evaluate.tally import Tally
    from redraft.evaluate.tasks import task_of

    task_of(task, run_code=run_code)
    settings, tally = fill_in(flags, FLAGS), Tally(task=task)
    guided = bool(settings.get("guided"))
    if guided:
        given = tuple(settings.get("check") or ())
        settings = replace(settings, stand_ins={"checks": (*given, "words>=1")})
    making = _making(task, tally, settings.get("check") or (), guided=guided, limit=limit)
    answer_file(
        source,
        out,
        settings,
        form=Form("chain", None),
        parallel=parallel_of(parallel, batch=batch),
        limits=(limit_usd, limit_tokens, limit_seconds),
        batching=Batching(out, batch, pause),
        journal=journal,
        cache=cache,
        retry_failed=retry_failed,
        quiet=quiet or as_json,
        making=replace(making, said=partial(_said, source, making, tally, as_json)),
    )


def _said(source: Path, making: Making, tally: Any, as_json: bool, result: JobResult, text: str) -> str:
    """Return what is printed at the end: the scores, with the empty replies among them."""
    from redraft.evaluate.tasks import unanswered

    empty = _empty(result.out)
    for record in making.records(source) if empty and making.scored else ():
        if record.id in empty:
            tally.add(asyncio.run(making.scored(unanswered(record), record)))
    if as_json:
        failed = {"failed": dict(result.causes)}
        return json.dumps({**tally.record(), **failed}, ensure_ascii=False, indent=1)
    return "\n".join([*tally.table(), "", text]) if text and tally.chains else text


def _empty(out: Path) -> set[str]:
    """Return the ids of the records to which the model gave an empty answer."""
    file = out.with_name(f"{out.name}.errors.jsonl")
    lines = map(json.loads, file.read_bytes().splitlines()) if file.exists() else ()
    return {line["id"] for line in lines if line["error"] == "EmptyReply"}


def _making(name: str, tally: Any, given: Any, *, guided: bool, limit: int | None) -> Making:
    """Return what records give to their chains, and how these are scored."""
    from redraft.evaluate.tasks import TASKS, asked, checks_of, scored
    from redraft.formats.read.records import read_records

    task = TASKS[name]

    def records(file: Path) -> Iterator[Chain]:
        return asked(task, read_records(file), limit)

    async def truth(chain: Chain, record: Chain) -> Chain:
        return await scored(chain, name, checks_of(task, record))

    return Making(
        f"eval {name}",
        FLAGS,
        records,
        lambda record: {"checks": (*given, *checks_of(task, record))} if guided else {},
        scored=truth,
        summary=tally,
        must_pass=False,
    )


evaluate = takes(evaluate, FLAGS)
