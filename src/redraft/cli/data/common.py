"""What the verbs of `redraft data` share: their flags, their records, and what they say at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import tell

if TYPE_CHECKING:
    from redraft.collect.dropped import Dropped

Source = Annotated[Path, typer.Argument(metavar="FILE", help="Records of any known shape; '-' is stdin.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go; '-' is stdout.")]
Side = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Keep what is dropped, with the reason.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", metavar="N", help="Processes.  [all cores]", show_default=False),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at a record that cannot be read.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No counts at the end.")]

STDIO = Path("-")


def processes(workers: int | None) -> int:
    """How many processes to use: as many as asked for, or as there are cores."""
    from redraft.collect.work import all_cores

    return all_cores() if workers is None else max(workers, 1)


def not_twice(file: Path, against: Sequence[Path]) -> None:
    """Refuses to read standard input for two things: the second would find nothing."""
    from redraft.errors import UsageError

    if [file, *against].count(STDIO) > 1:
        raise UsageError("standard input can be read once, and '-' is given twice.", hint="Name a file.")


@contextmanager
def dropping(side: Path | None, *, force: bool) -> Iterator[Dropped]:
    """Counts what is dropped, and keeps it in the side file if there is to be one."""
    from redraft.collect.dropped import Dropped
    from redraft.formats.files import open_output

    with ExitStack() as stack:
        yield Dropped(stack.enter_context(open_output(side, force=force)) if side else None)


def say_counts(kept: int, dropped: Dropped, *, quiet: bool) -> None:
    """Says on standard error how many records were kept, and how many dropped by which rule."""
    if quiet:
        return
    gone = sum(dropped.counts.values())
    tell(f"{kept:,} kept, {gone:,} dropped", "\n".join(dropped.lines()) or None)
