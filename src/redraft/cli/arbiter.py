"""`redraft arbiter`: models, tasks and ways to revise, compared at equal tokens, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import RunCode
from redraft.cli.shell import only_ours, write
from redraft.cli.verb import Verb
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.evaluation.diagnosis.matrix import Matrix
    from redraft.revision.settings import Settings

FLAGS = "redraft.evaluation.diagnosis.options:CompareOptions"

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of runs, table and page.")]


def compare(flags: Given, folder: Folder, run_code: RunCode = False) -> None:
    """Compare models, tasks and ways at equal tokens.

    Each model answers each task in each way, in several rounds. Resumable, and paired by prompt.

    Ways: one answer; revise, told by the task's checks; revise alone, by the model's own criticism; vote, by
    majority; best of N, chosen by the checks; auto, repair, steered, blind, shuffled. Only steered is
    steered, unless --steer.

    DIR gets a file of chains for each model, task, way and seed, table.json and index.html. The same command
    goes on after a stop; one with more models, tasks, ways or seeds adds to DIR. Without --tasks the page is
    made again from what is there.
    """
    from redraft.evaluation.diagnosis.arbiter import put_report

    status, settings = 0, fill_in(flags, FLAGS)
    if settings.values.models and not settings.values.tasks:
        raise UsageError(
            "--models was given without --tasks.", hint="Say what they answer: --tasks add,dates"
        )
    if settings.values.tasks:
        with only_ours():
            status, reached = _matrix(settings, folder).run(run_code=run_code)
        if reached:
            raise typer.Exit(status)
    with only_ours():
        said = put_report(folder)
    if not settings.values.quiet:
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


def _matrix(settings: Settings, folder: Path) -> Matrix:
    from redraft.evaluation.diagnosis.matrix import Matrix, TaskFile
    from redraft.revision.runs.plan import RunPlan

    told, plan = settings.values, RunPlan.of(folder, settings)
    models = _split(told.models or [settings.get("model") or "default"])
    tasks = [TaskFile.of(each) for each in _split(told.tasks)]
    return Matrix(settings, plan, models, tasks, _split([told.ways]), told.seeds, told.samples, told.limit)


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
