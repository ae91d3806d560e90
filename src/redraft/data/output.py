"""Run the commands of `redraft data`: write, drop, count and report records.

A command passes records to a `DataOutput`. The records go to a temporary file, which is renamed to the
output's name when complete. `OUT.run.json` then describes how the output was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from inspect import signature
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypedDict, TypeVar

from redraft.chain import Chain
from redraft.chain.read.files import NOT_JSON, REPLACE, STDIO, decode, open_output, to_line
from redraft.chain.read.records import Damage, RawRecord, raw_records
from redraft.errors import OutputError, RecordError, UsageError, nearest, path_of, shown
from redraft.jobs.counting import tell
from redraft.jobs.files import not_an_input
from redraft.jobs.licences import UNKNOWN
from redraft.jobs.machine import all_cores
from redraft.jobs.parallel import spread
from redraft.jobs.provenance import Provenance, RunFile, fingerprint, licences_beside, now
from redraft.jobs.stores import Store, here, url_of

if TYPE_CHECKING:
    from redraft.jobs.progress import RecordProgress

L = TypeVar("L")
R = TypeVar("R")
T = TypeVar("T")

_STREAM = Path(STDIO)

UNREADABLE = "unreadable"  # the rule that drops unreadable records
DAMAGED = "damaged"  # the rule for the rest of a damaged file, which cannot be read
# Beginnings of error messages that name no field.
_OF_THE_WHOLE = re.compile("this |it has|the record (?:should be|is) ")
_SHOWN = 5  # unreadable records to report one by one; all are counted and written to --dropped


@dataclass(frozen=True)
class Drop:
    """A dropped record, or the lost rest of a damaged file."""

    rule: str  # the rule's name, such as `short`
    reason: str
    where: str  # the record's location, such as `a.jsonl:12`
    id: str = ""
    record: Any = None  # bytes for an unreadable line; None for the rest of a damaged file


def chain_or_drop(raw: RawRecord, *, strict: bool) -> Chain | Drop:
    """Return a record's chain. For an unreadable record, return a `Drop` or, with `strict`, raise."""
    try:
        return raw.chain()
    except RecordError as error:
        if strict:
            raise
        return unread(error, raw.where, raw.data)


def unread(error: RecordError, where: str, data: bytes | None) -> Drop:
    """Return the `Drop` for an unreadable record, or for the lost rest of a damaged file."""
    if isinstance(error, Damage):
        return Drop(DAMAGED, error.message, where)
    return Drop(UNREADABLE, error.message, where, record=data)


def _worked(work: Callable[[Chain, str], R], raw: RawRecord, *, strict: bool) -> R | Drop:
    chain = chain_or_drop(raw, strict=strict)
    return chain if isinstance(chain, Drop) else work(chain, raw.where)


class Dropped:
    """Count dropped records, write each to `side`, and report the first unreadable records by `tell`."""

    def __init__(self, side: IO[bytes] | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.damage: list[str] = []  # error messages of damaged files
        self._unread: list[str] = []  # the first reasons why records could not be read
        self._side, self._tell = side, tell

    def add(self, drop: Drop) -> None:
        """Count and write a dropped record."""
        reason = drop.reason.removeprefix(drop.where).lstrip(": ")
        self.counts[drop.rule] += 1
        if drop.rule == DAMAGED:
            self.damage.append(f"{drop.where}: {reason}")
        if drop.rule == UNREADABLE and self.counts[UNREADABLE] <= _SHOWN:
            self._unread.append(reason)
            if self._tell:
                self._tell(f"{drop.where}: {reason}")
        if not self._side:
            return
        line = drop.record if isinstance(drop.record, bytes) else None
        values = {entry.name: getattr(drop, entry.name) for entry in fields(drop)} | {"reason": reason}
        try:
            written = to_line(values if line is None else values | {"record": decode(line, drop.where)})
        except (ValueError, RecursionError, RecordError):
            text = None if line is None else line.decode("utf-8", "backslashreplace")
            written = to_line(values | {"record": text})
        self._side.write(written)

    def without(self, results: Iterable[T | Drop]) -> Iterator[T]:
        """Yield the results, except `Drop` objects, which are counted."""
        for each in results:
            if isinstance(each, Drop):
                self.add(each)
            else:
                yield each

    def advice(self, by_map: str) -> str | None:
        """Return a hint on unreadable records, or None. `by_map` is the hint if field names may be wrong."""
        if not all(map(_OF_THE_WHOLE.match, self._unread)) or not self._unread:
            return by_map
        broken = ("this is not JSON", "this cannot be read as JSON")
        return NOT_JSON if any(reason.startswith(broken) for reason in self._unread) else None

    def lines(self) -> list[str]:
        """Return a line per rule with the number of dropped records, most frequent first."""
        width = max((len(rule) for rule in self.counts), default=0)
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [f"{rule:{width}}  {count:>9,}" for rule, count in ordered]


class DataOptions(TypedDict, total=False):
    """The options of every function that writes records."""

    dropped: str | Path | None  # a file for the dropped records, with the reasons
    workers: int | None  # processes, 1 by default; None for one per core. Each imports the calling script.
    strict: bool  # raise for a record that cannot be read, instead of dropping it
    force: bool  # replace the output if it exists
    quiet: bool  # show no progress and no counts


@dataclass(frozen=True)
class DataResult:
    """The result of a run."""

    path: Path
    kept: int
    dropped: Counter[str]
    counts: Mapping[str, int] = field(default_factory=dict)  # other counts by name, such as `with HTML left`
    exit_status: int = 0  # the command's exit status: 1 if hardly any record is left


@dataclass(frozen=True)
class DataRun:
    """The settings of a run: the output and the `DataOptions`."""

    out: Path
    dropped: Path | None = None
    workers: int | None = 1
    strict: bool = False
    force: bool = False
    quiet: bool = False
    store: Store | None = None  # the store that the output goes to; `out` is then a local copy

    @classmethod
    def of(cls, out: str | Path, options: DataOptions, verb: Callable[..., Any]) -> Self:
        """Check the options of a function, and return the run."""
        given: dict[str, Any] = {**options}
        of = signature(verb).parameters.values()
        known = [*(each.name for each in of if each.kind == each.KEYWORD_ONLY), *DataOptions.__annotations__]
        for name in sorted(given.keys() - known):
            hint = nearest(name, known) or f"Options: {', '.join(known)}"
            raise UsageError(f"there is no option {name!r:.80}.", hint=hint)
        out, side = path_of(out), given.pop("dropped", None)
        side = None if side is None else Path(side)
        if (url := url_of(out)) is not None:
            given["store"] = store = Store(url)
            if store.exists() and not options.get("force"):
                raise OutputError(f"{url} exists.", hint=REPLACE.format("-o"))
            out = store.copy
            out.unlink(missing_ok=True)
        run = cls(out, side, **given)
        count = run.workers
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise UsageError(f"workers is {shown(count)}.", hint="Give None or a whole number above 0.")
        return run

    def provenance(self, command: str, source: str | Path, **config: Any) -> Provenance:
        """Return the provenance of an output made from one file, which may be in an object store."""
        return Provenance(command, {**config, "strict": self.strict}, here(source), url_of(source))

    @staticmethod
    def lines(*paths: str | Path) -> Iterator[RawRecord]:
        """Yield the records of files. After a damaged file, yield a record that has the error as `damage`."""
        return (line for file in map(here, paths) for line in raw_records(file, damaged=True))

    @property
    def processes(self) -> int:
        """The number of worker processes."""
        return all_cores() if self.workers is None else self.workers

    @property
    def disk(self) -> Path | None:
        """The folder for large temporary files, or None for the system's default."""
        return None if self.out == _STREAM else self.out.parent

    def tell(self, text: str, hint: str | None = None) -> None:
        """Write a message, unless the run is quiet."""
        if not self.quiet:
            tell(text, hint)


def one_of(name: str, value: object, known: Sequence[object]) -> None:
    """Raise a UsageError if a value is not in `known`."""
    if value not in known:
        allowed = ", ".join("None" if each is None else str(each) for each in known)
        raise UsageError(f"{name} is {shown(value)}.", hint=f"It should be one of: {allowed}.")


def paths_beside(source: str | Path, paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return `paths` as a list. Raise if `source` and `paths` name standard input more than once."""
    others = [path_of(paths)] if isinstance(paths, str | Path) else [*map(path_of, paths)]
    not_twice(path_of(source), others)
    return others


@dataclass
class DataOutput:
    """The output and the counts of a run."""

    run: DataRun
    sink: IO[bytes]
    gone: Dropped
    progress: RecordProgress
    kept: int = 0

    def spread(
        self, work: Callable[[Chain, str], R], lines: Iterable[RawRecord], *, strict: bool | None = None
    ) -> Iterator[R | Drop]:
        """Yield `work(chain, where)` for each record in order, or a `Drop` for an unreadable record."""
        read = partial(_worked, work, strict=self.run.strict if strict is None else strict)
        return spread(read, self.watch(lines), self.run.processes)

    def watch(self, lines: Iterable[L]) -> Iterator[L]:
        """Yield the records, and advance the progress display by each record's size."""
        for line in lines:
            data = getattr(line, "data", b"")
            self.progress.advance(len(data) + 1 if isinstance(data, bytes) else 0)
            yield line

    def passing(self, results: Iterable[T | Drop]) -> Iterator[T]:
        """Yield the kept records, and count kept and dropped records."""
        for record in self.gone.without(results):
            self.kept += 1
            yield record

    def tell_counts(self) -> None:
        """Report how many records were kept and dropped. Then raise if a file was damaged."""
        self.run.tell(self.counts(), "\n".join(self.gone.lines()) or None)
        if self.gone.damage:
            raise RecordError("\n  ".join(self.gone.damage), hint="The other records are in the output.")

    def counts(self) -> str:
        """Return the current counts in words."""
        return f"{self.kept:,} kept, {self.gone.counts.total():,} dropped"

    def result(self, counts: Mapping[str, int] | None = None, *, exit_status: int = 0) -> DataResult:
        """Return the result of the run. Warn if no record is left and `exit_status` is 0."""
        if not (self.kept or exit_status):
            tell("no record is left.")
        return DataResult(self.run.out, self.kept, self.gone.counts.copy(), counts or {}, exit_status)


@contextmanager
def writing(
    provenance: Provenance,
    run: DataRun,
    *,
    reads: Sequence[Path] | None = None,
    against: Sequence[Path] = (),
    beside: Sequence[Path] = (),
    about: Callable[[], dict[str, Any]] = dict,
) -> Iterator[DataOutput]:
    """Open a run's outputs, show progress, and write the provenance of the output at the end.

    `reads` are the files that will be read, by default the provenance's source. `beside` and `against` are
    further inputs. The output may replace the source or, if there is no source, a single file in `reads`, but
    no other input. The provenance lists `against` and the result of `about`, called before the replacement.
    """
    from redraft.jobs.progress import RecordProgress, size_of  # imports rich, which no worker process needs

    out, source, started = run.out, provenance.source, now()
    _check_places(source, out, run.dropped, reads, [*beside, *against])
    is_file = out != _STREAM and (out.is_file() or not out.exists())
    size = size_of([source or _STREAM] if reads is None else reads)
    with open_output(out, force=run.force) as sink:
        with ExitStack() as stack:
            side = run.dropped and open_output(run.dropped, force=run.force, flag="--dropped")
            gone = Dropped(stack.enter_context(side) if side else None, None if run.quiet else tell)
            progress = stack.enter_context(RecordProgress(size, out, quiet=run.quiet))
            output = DataOutput(run, sink, gone, progress)
            progress.results = output.counts
            yield output
            if not output.kept and gone.counts.keys() == {UNREADABLE}:
                way = "If the fields have other names, map them: redraft data import FILE --map …"
                raise RecordError("no record could be read.", hint=gone.advice(way))
        if is_file:
            read = fingerprint([source], provenance.name) if source else None
            others = {"against": [fingerprint([path]) for path in against]} if against else {}
            more = {**others, **about(), "dropped": dict(sorted(gone.counts.items()))}
            more |= _licences(more.get("licences"), [source] if source and reads is None else reads or ())
    if is_file:
        RunFile(out).put(provenance, source=read, about=more, started=started, records=output.kept)
    if run.store:
        run.store.close()
    if (untold := gone.counts[UNREADABLE] - _SHOWN) > 0:
        run.tell(f"… and {untold:,} more that cannot be read")


def _licences(found: Mapping[str, int] | None, reads: Iterable[Path]) -> dict[str, Any]:
    inherited = dict.fromkeys(name for path in reads for name in licences_beside(path))
    if found is None and not inherited:
        return {}
    own = dict(found or {})
    return {"licences": {**dict.fromkeys(inherited, own.pop(UNKNOWN, 0) if inherited else 0), **own}}


def not_twice(file: Path, against: Sequence[Path]) -> None:
    """Raise if standard input would be read twice."""
    if [file, *against].count(_STREAM) > 1:
        raise UsageError("standard input can be read only once, but '-' is given twice.", hint="Name a file.")


def _check_places(
    source: Path | None, out: Path, dropped: Path | None, reads: Sequence[Path] | None, beside: Sequence[Path]
) -> None:
    record = None if out == _STREAM else Path(f"{out}.run.json")
    if dropped and any(path and path.resolve() == dropped.resolve() for path in (out, record)):
        name = "standard output" if dropped == _STREAM else str(dropped)
        message = f"the dropped records cannot go to {name}: the output or its .run.json goes there."
        raise UsageError(message, hint="Name another file: --dropped FILE")
    sources = [source] if source else []
    read = sources if reads is None else [*reads]
    not_an_input({"the record of --out": record, "--dropped": dropped}, [*sources, *read, *beside])
    [own] = sources or read if len(sources or read) == 1 else [_STREAM]
    not_an_input({"--out": out}, [*beside, *(file for file in read if file.resolve() != own.resolve())])
