"""Flags, records and closing messages that the commands of `redraft data` share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from redraft.cli.shell import tell, with_options

if TYPE_CHECKING:
    from redraft.collect.output import Drop, Dropped
    from redraft.formats.read.records import RawRecord
    from redraft.jobs.progress import RecordProgress
    from redraft.jobs.provenance import Provenance

Source = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="Records of any known shape, as JSON lines or a JSON array; '-' is stdin."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-j", metavar="N", min=1, help="Processes.  [all cores]", show_default=False),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at a record that cannot be read.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]

STDIO = Path("-")

L = TypeVar("L")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Flags:
    """The options of every command that writes chains."""

    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go; '-' is stdout.")
    ] = STDIO
    dropped: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep dropped records, with the reason.", show_default=False),
    ] = None
    workers: Workers = None
    strict: Strict = False
    force: Force = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and no counts at the end.")] = (
        False
    )


def takes_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Flags`, which it receives as `flags`."""
    hints = get_type_hints(Flags, include_extras=True)
    options = [p.replace(annotation=hints[p.name]) for p in inspect.signature(Flags).parameters.values()]
    return with_options(command, options, lambda given: Flags(**given))


def processes(workers: int | None) -> int:
    """Return the number of processes: as requested, or one per core."""
    from redraft.machine import all_cores

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
    from redraft.collect.read.inputs import check_records
    from redraft.formats.read.records import raw_records

    for path in paths:
        check_records(path)
    return (line for path in paths for line in raw_records(path, damaged=True))


@dataclass
class DataOutput:
    """The output and the counts of a running command.

    Attributes:
        sink: Receives kept records.
        gone: Counts dropped records, and writes them to the side file.
        progress: Shows how far the command is.
        source: The only file of records, if there is one.
        flags: The command's options.
        lengths: Bytes of each file that were read.
        kept: Number of kept records.
    """

    sink: IO[bytes]
    gone: Dropped
    progress: RecordProgress
    source: Path | None
    flags: Flags
    lengths: dict[Path, int | None] = field(default_factory=dict)
    kept: int = 0

    def spread(self, work: Callable[[L], R], lines: Iterable[L]) -> Iterator[R]:
        """Give the results for watched records, in order, from as many processes as the flags ask for."""
        from redraft.parallel import spread

        return spread(work, self.watch(lines), processes(self.flags.workers))

    def watch(self, lines: Iterable[L]) -> Iterator[L]:
        """Yield records, and count them by the length of their `data`. At the end, note the source's."""
        for line in lines:
            data = getattr(line, "data", b"")
            self.progress.advance(len(data) + 1 if isinstance(data, bytes) else 0)
            yield line
        if self.source:
            self.note_length(self.source)

    def note_length(self, path: Path) -> None:
        """Note the length of a file, all of which was read. It may grow later."""
        if path.is_file():
            self.lengths[path] = path.stat().st_size

    def passing(self, results: Iterable[T | Drop]) -> Iterator[T]:
        """Give kept records, and count kept and dropped ones."""
        for record in without_drops(results, self.gone):
            self.kept += 1
            yield record

    def tell(self, text: str, hint: str | None = None) -> None:
        """Print a message, unless the command is quiet."""
        if not self.flags.quiet:
            tell(text, hint)

    def tell_counts(self) -> None:
        """Print the counts of kept records and of dropped ones by rule.

        Raises:
            RecordError: A file was damaged. The records before the damage are written.
        """
        from redraft.errors import RecordError

        self.tell(self.counts(), "\n".join(self.gone.lines()) or None)
        if self.gone.damage:
            raise RecordError("\n  ".join(self.gone.damage), hint="The other records are in the output.")

    def counts(self) -> str:
        """Return the counts so far as text."""
        return f"{self.kept:,} kept, {self.gone.counts.total():,} dropped"

    def fingerprint(self, files: Sequence[Path], name: str | None = None) -> dict[str, Any]:
        """Return the fingerprint of files as they were read, and tell which have grown since."""
        from redraft.formats.read.files import name_of
        from redraft.jobs.provenance import fingerprint

        for path in files:
            length = self.lengths.get(path)
            if length is not None and (now := path.stat().st_size) > length:
                grew = f"grew from {length:,} to {now:,} bytes after it was read"
                tell(f"{name_of(path)} {grew}: the rest is not in.")
        return fingerprint(files, name, self.lengths)


def without_drops(results: Iterable[T | Drop], gone: Dropped) -> Iterator[T]:
    """Give the results without the drops, which are counted."""
    from redraft.collect.output import Drop

    for each in results:
        if isinstance(each, Drop):
            gone.add(each)
        else:
            yield each


@contextmanager
def writing(
    provenance: Provenance,
    flags: Flags,
    *,
    reads: Sequence[Path] | None = None,
    inputs: Mapping[str, Sequence[Path]] | None = None,
    beside: Sequence[Path] = (),
    report: Path | None = None,
    about: Callable[[], dict[str, Any]] = dict,
) -> Iterator[DataOutput]:
    """Open a command's outputs, show its progress, and write the output's provenance at the end.

    Args:
        provenance: How the output is made. Its source is the file of records, if there is only one.
        flags: The outputs, and how to write them.
        reads: All files that will be read; None for the provenance's source alone.
        inputs: Further inputs, by their field of the record.
        beside: Further files that the output must not replace.
        report: Another output of the command.
        about: Returns more fields of the record. Called at the end, before the output replaces its input.
    """
    from redraft.collect.output import Dropped
    from redraft.formats.read.files import open_output
    from redraft.jobs.progress import RecordProgress, size_of
    from redraft.jobs.provenance import RunFile, now

    out, source, started, inputs = flags.out, provenance.source, now(), inputs or {}
    beside = [*beside, *(path for paths in inputs.values() for path in paths)]
    _check_places(source, out, {"--dropped": flags.dropped, "--report": report}, reads, beside)
    is_file = out != STDIO and (out.is_file() or not out.exists())
    size = size_of([source or STDIO] if reads is None else reads)
    with open_output(out, force=flags.force) as sink:
        with ExitStack() as stack:
            aside = (
                open_output(flags.dropped, force=flags.force, flag="--dropped")
                if flags.dropped
                else nullcontext()
            )
            gone = Dropped(stack.enter_context(aside), None if flags.quiet else tell)
            progress = stack.enter_context(RecordProgress(size, out, quiet=flags.quiet))
            output = DataOutput(sink, gone, progress, source, flags)
            progress.results = output.counts
            yield output
            _check_one(output)
        if is_file:
            read = output.fingerprint([source], provenance.name) if source else None
            others = {name: [output.fingerprint([path]) for path in paths] for name, paths in inputs.items()}
            more = {**others, **about(), "dropped": dict(sorted(gone.counts.items()))}
            more |= _licences(more.get("licences"), [source] if source and reads is None else reads or ())
    if is_file:
        RunFile(out).put(provenance, source=read, about=more, started=started, records=output.kept)
    if gone.untold():
        output.tell(f"… and {gone.untold():,} more that cannot be read")


def _licences(found: Mapping[str, int] | None, reads: Iterable[Path]) -> dict[str, Any]:
    """Return the field with the licences of an output, if its records do not say all of them.

    Args:
        found: Its records by licence, if its format has no place for one.
        reads: Its inputs, whose records may have their licences beside them.
    """
    from redraft.jobs.provenance import licences_beside
    from redraft.licences import UNKNOWN

    inherited = dict.fromkeys(name for path in reads for name in licences_beside(path))
    if found is None and not inherited:
        return {}
    own = dict(found or {})
    lacking = own.pop(UNKNOWN, 0) if inherited else 0
    return {"licences": {**dict.fromkeys(inherited, lacking), **own}}


def _check_places(
    source: Path | None,
    out: Path,
    others: Mapping[str, Path | None],
    reads: Sequence[Path] | None,
    beside: Sequence[Path],
) -> None:
    """Raise if an output would replace another or an input. A single input may be replaced by its output."""
    record = None if out == STDIO else Path(f"{out}.run.json")
    not_the_same({"--out": out, "the record of --out": record, **others})
    sources = [source] if source else []
    read = sources if reads is None else [*reads]
    not_an_input(others, [*sources, *read, *beside])
    [own] = sources or read if len(sources or read) == 1 else [STDIO]
    not_an_input({"--out": out}, [*beside, *(file for file in read if file.resolve() != own.resolve())])


def _check_one(output: DataOutput) -> None:
    """Raise if no record could be read."""
    from redraft.collect.output import UNREADABLE
    from redraft.errors import RecordError

    if not output.kept and output.gone.counts.keys() == {UNREADABLE}:
        raise RecordError(
            "no record could be read.",
            hint="Read records of another shape with a field map: redraft data import FILE --map …",
        )
