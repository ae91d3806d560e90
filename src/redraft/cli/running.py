"""Define flags that several commands share, and print the results of long runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from redraft.cli.shell import only_ours, setting, switch, tell, write
from redraft.errors import UsageError
from redraft.jobs.counting import counted

if TYPE_CHECKING:
    from redraft.data.generate.instructions.run import Generated
    from redraft.jobs.harness import JobResult
    from redraft.revision.runs.plan import RunResult

Out = Annotated[Path, setting("FILE", "Where the chains go.", "--out", "-o")]
AsJson = Annotated[bool, switch("Print JSON instead of a table.", "--json")]
ReplacePage = Annotated[bool, switch("Replace the page if it exists.", "--force")]


def print_result(run: Callable[[], RunResult | Generated], *, quiet: bool) -> NoReturn:
    """Call `run`, print the summary of the result (if `quiet`, only the number of failures), and exit."""
    with only_ours():
        result = run()
    if quiet:
        tell_failures(result.job)
    else:
        write(str(result), table=True)
    raise typer.Exit(result.exit_status)


def tell_failures(job: JobResult) -> None:
    """Print the number of items that failed in this run, if any."""
    if failed := job.counts.failed:
        tell(f"{counted(failed, 'item')} failed: see {job.out}.errors.jsonl.")


def check_files(out: Path, example: str, source: Path | None = None) -> None:
    """Raise `UsageError` for a path '-'. The hint shows `example`."""
    if str(out) == "-":
        hint = f"A stopped run resumes from its output file. Write {example}"
        raise UsageError("the output has to be a file, not '-'.", hint=hint)
    if str(source) == "-":
        hint = "A resumed run reads its input again. Write the input into a file first."
        raise UsageError("the input has to be a file, not '-'.", hint=hint)
