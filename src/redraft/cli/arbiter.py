"""`redraft arbiter`: models, tasks and ways to revise, compared at equal tokens, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import LimitSeconds, LimitTokens, LimitUsd, Parallel, Quiet, RunCode, parallel_of
from redraft.cli.shell import flag, only_ours, tell, write
from redraft.cli.verb import Verb
from redraft.errors import UsageError
from redraft.evaluation.diagnosis import SAMPLES, SEEDS

FLAGS = FlagGroup("redraft.options:Flags", {"max_revisions": 1})

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of runs, table and page.")]


@dataclass(frozen=True)
class MatrixFlags:
    """What is compared, and up to which limits."""

    models: Annotated[
        list[str] | None, flag("MODEL,…", "The models, with commas or repeated.  [--model]")
    ] = None
    tasks: Annotated[
        list[str] | None,
        flag("TASK,…", "TASK:FILE, a file of prompts with checks, or add, sort … (docs/arbiter.md)."),
    ] = None
    ways: Annotated[str, flag("WAY,…", "The ways.  [one,revise,alone,vote,best]")] = (
        "one,revise,alone,vote,best"
    )
    seeds: Annotated[int, flag("N", f"Rounds over the prompts.  [{SEEDS}]", min=1)] = SEEDS
    samples: Annotated[int, flag("N", f"Most answers of best of N and a vote.  [{2 * SAMPLES}]", min=2)] = (
        2 * SAMPLES
    )
    limit: Annotated[int | None, flag("N", "Only the first N prompts of each task.", min=1)] = None
    parallel: Parallel = None
    quiet: Quiet = False
    limit_usd: LimitUsd = None
    limit_tokens: LimitTokens = None
    limit_seconds: LimitSeconds = None


def compare(flags: Given, folder: Folder, run_code: RunCode = False, *, making: MatrixFlags) -> None:
    """Compare models, tasks and ways at equal tokens.

    Each model answers each task in each way, in several rounds. Resumable, and paired by prompt.

    Ways: one answer; revise, told by the task's checks; revise alone, by the model's own criticism; vote, by
    majority; best of N, chosen by the checks; auto, repair, steered, blind, shuffled. Vote and best of N draw
    as many answers as fit into the tokens that revising took. Only steered is steered, unless --steer.

    DIR gets a file of chains for each model, task, way and seed, table.json and index.html. After any
    stop, the same command goes on; one with more models, tasks, ways or seeds adds to DIR. Without --tasks
    the page is made again from what is there. redraft arbiter verify DIR recomputes every figure.
    """
    from redraft.evaluation.diagnosis.arbiter import put_report

    status = 0
    if making.models and not making.tasks:
        raise UsageError(
            "--models was given without --tasks.", hint="Say what they answer: --tasks add,count"
        )
    if making.tasks:
        with only_ours():
            status, reached = _matrix(flags, folder, making).run(run_code=run_code)
        if reached:
            raise typer.Exit(status)
    with only_ours():
        said = put_report(folder)
    if not making.quiet:
        write(said)
    raise typer.Exit(status)


def verify(folder: Folder, run_code: RunCode = False) -> None:
    """Recompute every figure from the records.

    The figures of DIR/table.json come from the chains in DIR/runs, and the truth of each answer there from
    the checks of DIR/tasks. Both are made again, and compared. The exit status is 1 if something is not as it
    was.
    """
    from redraft.evaluation.diagnosis.arbiter import verified

    with only_ours():
        faults, said = verified(folder, run_code=run_code)
    write("\n".join([*faults, said]))
    raise typer.Exit(1 if faults else 0)


def _matrix(flags: Given, folder: Path, making: MatrixFlags) -> Any:
    from redraft.evaluation.diagnosis.matrix import Matrix, TaskFile
    from redraft.jobs.limits import Limits
    from redraft.revision.runs.plan import RunPlan

    settings = fill_in(flags, FLAGS)
    limits = Limits(making.limit_usd, making.limit_tokens, making.limit_seconds)
    plan = RunPlan(folder, parallel_of(making.parallel), limits, quiet=making.quiet, tell=tell)
    models = _split(making.models or [settings.get("model") or "default"])
    tasks = [TaskFile.of(each) for each in _split(making.tasks or [])]
    ways = _split([making.ways])
    return Matrix(settings, plan, models, tasks, ways, making.seeds, making.samples, making.limit)


def _split(texts: list[str]) -> list[str]:
    """Return the parts between commas, each once."""
    return list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))


class _Group(TyperGroup):
    """`redraft arbiter DIR` is `redraft arbiter compare DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. What is no command begins those of `compare`."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["compare", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Compare models, tasks and ways to revise at equal tokens.",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("compare", cls=Verb)(takes(compare, FLAGS))
app.command("verify", cls=Verb)(verify)
