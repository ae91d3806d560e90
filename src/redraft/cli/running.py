"""The flags of a long run: how many requests at once, through batches, up to which limits.

A verb takes `run: RunFlags`, and `WithOptions` shows each of its fields as a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from redraft.cli.shell import only_ours, tell
from redraft.counting import counted
from redraft.errors import UsageError

if TYPE_CHECKING:
    from redraft.runs.answers import FileResult
    from redraft.runs.plan import RunPlan

PARALLEL = 4  # default number of chains at once. More is faster on a GPU or a server.

_LIMITS = "Limits of this run"
_BATCHES = "Batches of a server"


def _limit(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=_LIMITS, show_default=False)


def _journal(text: str) -> Any:
    return typer.Option("--journal", metavar="FILE", help=text, show_default=False)


Parallel = Annotated[
    int | None,
    typer.Option(
        "--parallel", "-j", metavar="N", help=f"How many to make at once.  [{PARALLEL}]", show_default=False
    ),
]
LimitUsd = Annotated[float | None, _limit("USD", "money; needs a price")]
LimitTokens = Annotated[int | None, _limit("N", "generated tokens")]
LimitSeconds = Annotated[float | None, _limit("S", "wall-clock time")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go.")]
BatchFlag = Annotated[
    bool,
    typer.Option("--batch", help="Use the server's batches: cheaper, in hours.", rich_help_panel=_BATCHES),
]
PauseOption = Annotated[
    float | None,
    typer.Option(
        "--pause",
        metavar="S",
        help="Longest pause between two looks at a batch.  [60]",
        show_default=False,
        rich_help_panel=_BATCHES,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
First = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Only the first N records.", show_default=False),
]
RunCode = Annotated[
    bool, typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ReplacePage = Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Only what failed before.")]
Journal = Annotated[Path | None, _journal("Store replies: none is paid for twice.")]
OwnJournal = Annotated[Path | None, _journal("Where replies are stored.  [FILE.journal.db]")]


@dataclass(frozen=True)
class RunFlags:
    """What a user said of a run. None stands for the default."""

    parallel: Parallel = None
    quiet: Quiet = False
    batch: BatchFlag = False
    pause: PauseOption = None
    limit_usd: LimitUsd = None
    limit_tokens: LimitTokens = None
    limit_seconds: LimitSeconds = None

    def plan(self, out: Path, **more: Any) -> RunPlan:
        """Return the plan of a run with this output. Where no flag was given, the config file says.

        Args:
            out: The output.
            more: Further fields of the plan.
        """
        from redraft.config import load_config
        from redraft.jobs.limits import Limits
        from redraft.runs.plan import RunPlan

        return RunPlan(
            out,
            parallel=parallel_of(self.parallel, batch=self.batch),
            limits=Limits(self.limit_usd, self.limit_tokens, self.limit_seconds),
            batch=self.batch,
            pause=self.pause,
            quiet=self.quiet or bool(load_config().defaults.get("quiet", False)),
            tell=tell,
            **more,
        )


def parallel_of(given: int | None, *, batch: bool = False) -> int:
    """Return how many chains to make at once: as given, many in batches, or as the config file says."""
    from redraft.config import load_config
    from redraft.runs.options import IN_BATCHES

    if given is not None:
        return given
    found: int = IN_BATCHES if batch else load_config().defaults.get("parallel", PARALLEL)
    return found


def print_result(run: Callable[[], FileResult], *, quiet: bool) -> NoReturn:
    """Make a file of chains, print the summary, and exit. Prints of others go to standard error."""
    with only_ours():
        result = run()
    if quiet:
        tell_failures(result)
    else:
        typer.echo(str(result))
    raise typer.Exit(result.exit_status)


def tell_failures(result: FileResult) -> None:
    """Tell, where no summary does, that items failed in this run."""
    if failed := result.job.counts.failed:
        tell(f"{counted(failed, 'prompt')} failed: see {result.path}.errors.jsonl.")


def check_out(out: Path, example: str) -> None:
    """Refuse standard output, because a stopped run resumes from its file.

    Raises:
        UsageError: The output is '-'.
    """
    if str(out) == "-":
        hint = f"A stopped run resumes from it. Write {example}"
        raise UsageError("the output has to be a file, not '-'.", hint=hint)
