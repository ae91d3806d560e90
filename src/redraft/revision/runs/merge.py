"""Merge the outputs of shares (`--shard`): each record once, in the order of the source.

The function is `merge`, and the command `redraft merge`. The result equals the output of one machine,
including journal, failures and run record, so the job can resume in shares or whole. An existing OUT counts
as a part. OUT is replaced only at the end, so after any stop the same command starts over.

A table in memory finds each line by a 64-bit hash of its id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from redraft.chain.read.records import ids_of, sample_id
from redraft.errors import OutputError, RecordError, UsageError
from redraft.jobs.counting import counted
from redraft.jobs.files import lock, replacing
from redraft.jobs.ids import digest_of
from redraft.jobs.journal import Journal
from redraft.jobs.ledger import being_written, failures, id_in
from redraft.jobs.lines import parse_line
from redraft.jobs.provenance import RunFile, differences, united
from redraft.jobs.stores import Store, here, matching, url_of

_IDS = ("review_id", "id", "question_id")  # fields with the id of a line; the first that exists counts
_COSTS = {"usage", "usage_by_role", "prompt_tokens", "completion_tokens", "cost_usd"}
"""Fields that are ignored when two answers are compared."""


@dataclass(frozen=True)
class MergeResult:
    """The counts of a merge."""

    path: str
    records: int  # lines in the output
    again: int  # lines that repeat an earlier line of any part
    missing: int  # records of the source that have no line; 0 if the source is missing
    source: str | None  # the file that sets the order of the lines, if it exists

    def __str__(self) -> str:
        order = f"in the order of {self.source}" if self.source else "in the order of the parts"
        rows = [f"merged     {counted(self.records, 'record')} in {self.path}, {order}"]
        if self.again:
            rows.append(f"skipped    {counted(self.again, 'line')} that were already there")
        if self.missing:
            left = counted(self.missing, "record")
            rows.append(f"missing    {left}: run the shares again, or the whole job on OUT")
        return "\n".join(rows)


@dataclass(frozen=True)
class Part:
    """The output of one share of a run, open for reading."""

    path: Path
    file: IO[bytes]
    run: dict[str, Any]  # its run record

    def line(self, offset: int) -> bytes:
        """Return the line that begins at an offset."""
        self.file.seek(offset)
        return self.file.readline()

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the number (from 1), the offset and the bytes of each complete line."""
        self.file.seek(0)
        offset = 0
        for number, line in enumerate(self.file, start=1):
            if not line.endswith(b"\n"):
                return
            yield number, offset, line
            offset += len(line)


@dataclass
class Table:
    """Finds the line of each id in all parts."""

    parts: Sequence[Part]
    # By a digest of the id: the part's number, and the offset in it.
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    again: int = 0

    def add(self, part: int) -> int:
        """Add the lines of a part. Return the number of new ids."""
        before = len(self.places)
        for number, offset, line in self.parts[part].lines():
            name = _id_of(line, self.parts[part].path, number)
            place = self.places.setdefault(digest_of(name), (part, offset))
            if place != (part, offset):
                self._compare(name, place, line, f"{self.parts[part].path}:{number}")
                self.again += 1
        return len(self.places) - before

    def taken(self, ids: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield each given id with its line, then each other id in the table with its line.

        If no part has a given id, the line is None. The given ids are removed from the table.
        """
        for name in ids:
            place = self.places.pop(digest_of(name), None)
            yield name, None if place is None else self.parts[place[0]].line(place[1])
        for part, offset in self.places.values():
            line = self.parts[part].line(offset)
            yield _id_of(line, self.parts[part].path, 0), line

    def _compare(self, name: str, place: tuple[int, int], line: bytes, where: str) -> None:
        part, offset = self.parts[place[0]], place[1]
        before = part.line(offset)
        if line == before or _said(from_json(line)) == _said(from_json(before)):
            return
        first = next(number for number, at, _ in part.lines() if at == offset)
        hint = "Remove one of the two lines, or merge without one of the files."
        raise RecordError(f"{name} has two different answers: {part.path}:{first} and {where}.", hint=hint)


def merge(out: str | Path, parts: Iterable[str | Path]) -> MergeResult:
    """Merge the outputs of shares, with their journals, failures and run records.

    Args:
        out: The merged output. An existing file counts as a part.
        parts: Outputs of shares.

    Raises:
        UsageError: There is no part, or a part cannot be read.
        RecordError: Two parts have different answers for one id, or a line is not a result.
        OutputError: A part is being written or belongs to another job, or `out` cannot be written.
    """
    store = Store(url) if (url := url_of(out)) else None
    out = _copy_of(store) if store else Path(out)
    given = [path for part in parts for path in matching(Path(part))]
    paths = [
        *([out] if out.exists() else []),
        *(_copy_of(Store(at)) if (at := url_of(path)) else path for path in given),
    ]
    if not (paths := list({path.resolve(): path for path in paths}.values())):
        raise UsageError("there is no part to merge.", hint="redraft merge out.jsonl out-*-of-00008.jsonl")
    with ExitStack() as stack:
        found = [_opened(path, stack) for path in paths]
        first = found[0]
        known = (part.run.get("source") or {} for part in found)
        files = (here(source["path"]) for source in known if "sha256" in source)
        origin = next(filter(Path.is_file, files), None)
        for part in found:
            if unlike := next(differences(first.run, part.run, origin), None):
                hint = "Merge only parts of one job, which have the same command, settings and input."
                raise OutputError(
                    f"{part.path} and {first.path} belong to different jobs: {unlike}.", hint=hint
                )
        table = Table(found)
        new = [part for number, part in enumerate(found) if table.add(number) or number == 0]
        sources = [source for part in found if (source := part.run.get("source"))]
        named = sources[0]["path"] if origin else None
        records = len(table.places)
        missing = _write(out, table, origin, new)
    if store:
        store.close()
    return MergeResult(url or str(out), records, table.again, missing if origin else 0, named)


def _copy_of(store: Store) -> Path:
    store.pull()
    return store.copy


def _id_of(line: bytes, path: Path, number: int) -> str:
    try:
        record = from_json(line)
    except ValueError:
        record = parse_line(line)
    name = next((name for name in _IDS if name in record), "id") if isinstance(record, dict) else "id"
    return id_in(record if isinstance(record, dict) else None, path, number, lambda each: str(each[name]))


def _said(record: Any) -> Any:
    if isinstance(record, dict):
        return {name: _said(value) for name, value in record.items() if name not in _COSTS}
    return [_said(value) for value in record] if isinstance(record, list) else record


def _opened(path: Path, stack: ExitStack) -> Part:
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        hint = "Give the output file of each share: out-00000-of-00008.jsonl …"
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint=hint) from None
    run = RunFile(path)
    if not lock(file.fileno(), shared=True):
        raise being_written(path, run)
    if (record := run.read()) is None:
        hint = f"Restore {run.path.name}. Or give only the output files of shares: out-*-of-00008.jsonl"
        raise OutputError(f"{path} is not a part of a job: {run.path.name} is missing or damaged.", hint=hint)
    if path.with_name(f"{path.name}.batches.jsonl").exists():
        hint = "Run this share again with --batch to get the replies."
        raise OutputError(f"{path} still waits for batches.", hint=hint)
    return Part(path, file, record)


def _ids(parts: Sequence[Part], origin: Path | None) -> Iterator[str]:
    config = parts[0].run.get("config") or {}
    if origin is None:
        return iter(())
    samples = range(1, (config.get("samples") or 1) + 1)
    return (sample_id(name, number) for name in ids_of(origin) for number in samples)


def _write(out: Path, table: Table, origin: Path | None, new: Sequence[Part]) -> int:
    try:
        journals = [part.path.with_name(f"{part.path.name}.journal.db") for part in table.parts]
        _unite_journals(out.with_name(f"{out.name}.journal.db"), journals)
        failed = {name: record for part in table.parts for name, record in failures(part.path).items()}
        with replacing(out) as file:
            missing = 0
            for name, line in table.taken(_ids(table.parts, origin)):
                if line is None:
                    missing += 1
                    continue
                file.write(line)
                failed.pop(name, None)
            left = [json.dumps(record, ensure_ascii=False) for record in failed.values()]
            errors = out.with_name(f"{out.name}.errors.jsonl")
            if left:
                with replacing(errors) as beside:
                    beside.writelines(f"{line}\n".encode() for line in left)
            else:
                errors.unlink(missing_ok=True)
            RunFile(out).write(united([part.run for part in table.parts], [part.run for part in new]))
    except OSError as error:
        hint = "Free some space, or choose another place. The parts are unchanged."
        raise OutputError(f"cannot write {out}: {error.strerror or error}.", hint=hint) from None
    return missing


def _unite_journals(out: Path, files: Iterable[Path]) -> None:
    if not (journals := [file for file in files if file.exists()]):
        return
    aside = out.with_name(f"{out.name}.part")
    aside.unlink(missing_ok=True)
    with Journal(aside) as journal:
        for file in journals:
            journal.add_all(file)
    aside.replace(out)
