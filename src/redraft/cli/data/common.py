"""Flags, records and closing messages that the commands of `redraft data` share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, TypeVar

import typer

from redraft.cli.data.progress import Progress, shown, size_of
from redraft.cli.data.provenance import Making
from redraft.cli.shell import tell

if TYPE_CHECKING:
    from redraft.collect.clean.dropped import Drop, Dropped
    from redraft.formats.read.records import RawRecord

Source = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Records of any known shape, as JSON lines or a JSON array; '-' is stdin."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go; '-' is stdout.")]
Side = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Keep dropped records, with the reason.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", metavar="N", min=1, help="Processes.  [all cores]", show_default=False),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at a record that cannot be read.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and no counts at the end.")]

STDIO = Path("-")

T = TypeVar("T")


def processes(workers: int | None) -> int:
    """Return the number of processes: as requested, or one per core."""
    from redraft.parallel import all_cores

    return all_cores() if workers is None else workers


def not_twice(file: Path, against: Sequence[Path]) -> None:
    """Raise if standard input would be read twice."""
    from redraft.errors import UsageError

    if [file, *against].count(STDIO) > 1:
        raise UsageError("standard input can be read once, and '-' is given twice.", hint="Name a file.")


def not_the_same(outputs: Mapping[str, Path | None]) -> None:
    """Raise if two outputs would go to one file; `outputs` maps flags to paths."""
    from redraft.errors import UsageError

    flags: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is None:
            continue
        place = path if path == STDIO else path.resolve()
        other = flags.setdefault(place, flag)
        if other != flag:
            name = "standard output" if path == STDIO else path
            raise UsageError(
                f"{other} and {flag} both write to {name}.", hint=f"Name another file: {flag} FILE"
            )


def not_an_input(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise if an output would replace an input; `outputs` maps flags to paths."""
    from redraft.errors import UsageError

    read = {path.resolve() for path in inputs if path != STDIO}
    for flag, path in outputs.items():
        if path is not None and path.resolve() in read:
            raise UsageError(
                f"{flag} would replace the input {path}.", hint=f"Name another file: {flag} FILE"
            )


def lines_in(*paths: Path) -> Iterator[RawRecord]:
    """Read the records of several files, up to the damage in a damaged one.

    Raises:
        UsageError: Only `import` can read a path.
    """
    from redraft.collect.read.inputs import insist_on_records
    from redraft.formats.read.records import raw_records

    for path in paths:
        insist_on_records(path)
    return (line for path in paths for line in raw_records(path, damaged=True))


@dataclass
class Job:
    """The output and the counts of a running command.

    Attributes:
        sink: Receives kept records.
        gone: Counts dropped records, and writes them to the side file.
        kept: Number of kept records.
    """

    sink: IO[bytes]
    gone: Dropped
    progress: Progress
    kept: int = 0

    def passing(self, results: Iterable[T | Drop]) -> Iterator[T]:
        """Give kept records, and count kept and dropped ones."""
        for record in without_drops(results, self.gone):
            self.kept += 1
            yield record

    def counts(self) -> str:
        """Return the counts so far as text."""
        return f"{self.kept:,} kept, {self.gone.counts.total():,} dropped"


def without_drops(results: Iterable[T | Drop], gone: Dropped) -> Iterator[T]:
    """Give the results without the drops, which are counted."""
    from redraft.collect.clean.dropped import Drop

    for each in results:
        if isinstance(each, Drop):
            gone.add(each)
        else:
            yield each


@contextmanager
def at_work(
    making: Making,
    out: Path,
    side: Path | None,
    *,
    reads: Sequence[Path] | None = None,
    beside: Sequence[Path] = (),
    report: Path | None = None,
    force: bool,
    quiet: bool,
) -> Iterator[Job]:
    """Open a command's outputs, show its progress, and write the output's provenance at the end.

    Args:
        making: The provenance.
        out: Path of kept records.
        side: Path of dropped records.
        reads: All files that will be read; None for the provenance's source alone.
        beside: Further files that the output must not replace.
        report: Another output of the command.
        force: Replace existing files.
        quiet: Show nothing.
    """
    from redraft.collect.clean.dropped import Dropped
    from redraft.formats.read.files import open_output

    _insist_on_places(making, out, {"--dropped": side, "--report": report}, reads, beside)
    with ExitStack() as stack:
        progress = Progress(size_of([making.source or STDIO] if reads is None else reads))
        kept_aside = stack.enter_context(open_output(side, force=force)) if side else None
        gone = Dropped(kept_aside, None if quiet else progress.tell)
        job = Job(stack.enter_context(open_output(out, force=force)), gone, progress)
        progress.done, progress.ended = job.counts, making.ended
        stack.enter_context(shown(progress, out, quiet=quiet))
        yield job
        _insist_on_one(job)
    if out.is_file():
        making.write(out, kept=job.kept, dropped=gone.counts)
    if gone.untold() and not quiet:
        tell(f"… and {gone.untold():,} more that cannot be read")


def _insist_on_places(
    making: Making,
    out: Path,
    others: Mapping[str, Path | None],
    reads: Sequence[Path] | None,
    beside: Sequence[Path],
) -> None:
    """Raise if an output would replace another or an input. A single input may be replaced by its output."""
    record = None if out == STDIO else Path(f"{out}.run.json")
    not_the_same({"--out": out, "the record of --out": record, **others})
    source = [making.source] if making.source else []
    read = source if reads is None else [*reads]
    not_an_input(others, [*source, *read, *beside])
    [own] = source or read if len(source or read) == 1 else [STDIO]
    not_an_input({"--out": out}, [*beside, *(file for file in read if file.resolve() != own.resolve())])


def _insist_on_one(job: Job) -> None:
    """Raise if no record could be read."""
    from redraft.collect.clean.dropped import UNREADABLE
    from redraft.errors import RecordError

    if not job.kept and job.gone.counts.keys() == {UNREADABLE}:
        raise RecordError(
            "no record could be read.",
            hint="Read records of another shape with a field map: redraft data import FILE --map …",
        )


def say_counts(job: Job, *, quiet: bool) -> None:
    """Print the counts of kept records and of dropped ones by rule.

    Raises:
        RecordError: A file was damaged. The records before the damage are written.
    """
    from redraft.errors import RecordError

    if not quiet:
        tell(job.counts(), "\n".join(job.gone.lines()) or None)
    if job.gone.damage:
        raise RecordError("\n  ".join(job.gone.damage), hint="The other records are in the output.")


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, removing partial outputs."""
    import signal

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
