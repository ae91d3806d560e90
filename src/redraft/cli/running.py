"""Flags that several verbs share, and the prompts and the result of a long run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from redraft.cli.shell import flag, only_ours, tell
from redraft.errors import RedraftError, UsageError
from redraft.jobs.counting import counted

if TYPE_CHECKING:
    from redraft.revision.runs.answers import FileResult

PARALLEL = 4  # default number of chains at once. More is faster on a GPU or a server.

_LIMITS = "Limits of this run"

Parallel = Annotated[int | None, flag("N", f"How many to make at once.  [{PARALLEL}]", "--parallel", "-j")]
LimitUsd = Annotated[float | None, flag("USD", "money; needs a price", rich_help_panel=_LIMITS)]
LimitTokens = Annotated[int | None, flag("N", "generated tokens", rich_help_panel=_LIMITS)]
LimitSeconds = Annotated[float | None, flag("S", "wall-clock time", rich_help_panel=_LIMITS)]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
RunCode = Annotated[
    bool, typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ReplacePage = Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")]


def parallel_of(given: int | None) -> int:
    """Return how many chains to make at once: as given, or as the config file says."""
    from redraft.engines.config import load_config

    return int(load_config().defaults.get("parallel", PARALLEL)) if given is None else given


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
    """Refuse standard output, because a stopped run resumes from its file."""
    if str(out) == "-":
        hint = f"A stopped run resumes from it. Write {example}"
        raise UsageError("the output has to be a file, not '-'.", hint=hint)


STDIN = "standard input"  # the name of its copy, in messages and in the provenance record


@contextmanager
def prompts_file(prompts: Path) -> Iterator[tuple[Path, str]]:
    """Give the prompts as a file that can be read twice, and its name: standard input is copied."""
    if str(prompts) != "-":
        yield prompts, str(prompts)
        return
    import shutil
    import tempfile
    from codecs import BOM_UTF8

    from redraft.chain.read.files import open_input, reading

    if sys.stdin.isatty():
        raise UsageError("there are no prompts.", hint="redraft answer prompts.jsonl -o out.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            with reading(copy), open_input(copy) as given:
                start = given.read(1 << 16).removeprefix(BOM_UTF8).lstrip()
            copy = copy.rename(copy.with_suffix(".jsonl" if start[:1] in (b"{", b"[", b'"') else ".txt"))
            yield copy, STDIN
        except RedraftError as error:
            error.message = error.message.replace(str(copy), STDIN)
            raise
