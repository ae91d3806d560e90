"""Read any supported file, table, folder or hub dataset as lines of JSON.

Files in a folder are read in the order of file names, so a folder always yields the same records. Licences,
redraft's `*.run.json` and other files without records are ignored.

Each row of a table becomes a line of JSON. Dates become ISO 8601 strings. Bytes that are not UTF-8, such as
images, become null.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from datetime import date, time
from itertools import chain as joined
from pathlib import Path
from typing import Any, NamedTuple

from redraft.chain import Chain
from redraft.chain.read import files
from redraft.chain.read.records import Damage, read_records
from redraft.errors import MissingExtra, RecordError, UsageError
from redraft.jobs import hub
from redraft.jobs.counting import counted
from redraft.jobs.licences import UNKNOWN, licence_in
from redraft.jobs.provenance import licences_beside

InputRow = tuple[str, bytes | RecordError]  # a record's location, and its JSON or its error

_BATCH = 256
_LONGEST = 1 << 28  # bytes of the longest line and of the longest cell, as for other records


def read_csv(path: Path) -> Iterator[InputRow]:
    """Read the rows of a table with a header. Commas, semicolons, tabs or vertical bars divide the cells."""
    csv.field_size_limit(_LONGEST)
    with files.reading(path), files.open_input(path) as file:
        start = file.readline(_LONGEST)
        files.check_utf8(path, start)
        # Bytes that are not UTF-8 are kept, so that they are reported with their row.
        first = start.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        rest = iter(lambda: file.readline(_LONGEST).decode("utf-8", "surrogateescape"), "")
        is_tsv = files.plain_name(path).lower().endswith(".tsv") and "\t" in first
        delimiter = "\t" if is_tsv else max(",;\t|", key=first.count)
        yield from _cells(path, csv.reader(joined([first], rest), delimiter=delimiter, strict=True))


def _cells(path: Path, reader: Any) -> Iterator[InputRow]:
    name, header, ended = files.name_of(path), list[str](), False
    while not ended:
        where, fault = f"{name}:{reader.line_num + 1}", ""
        try:
            cells = next(reader, None)
            ended = cells is None
        except csv.Error as error:
            cells, fault = None, f"this is not CSV: {error}"
            ended = "unexpected end" in fault
        if cells and header and len(cells) != len(header):
            fault = f"the row has {counted(len(cells), 'cell')}, but the header has {len(header)}"
        if fault and not header:
            raise RecordError(f"{where}: {fault}.")
        if fault and ended:
            yield where, Damage(f"{where}: a quote in this line is never closed.")
        elif fault:
            yield where, RecordError(f"{where}: {fault}.")
        elif cells and header:
            yield where, _json(dict(zip(header, cells, strict=True)))
        elif cells:
            if again := next((cell for cell in cells if cells.count(cell) > 1), None):
                raise RecordError(f"{name}:1: the header names the column {again!r} twice.")
            header = cells


def read_parquet(path: Path) -> Iterator[InputRow]:
    """Read the rows of a Parquet file."""
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise MissingExtra("reading a Parquet table", "data") from None
    try:
        with files.reading(path), parquet.ParquetFile(path, pre_buffer=False) as file:
            rows = joined.from_iterable(batch.to_pylist() for batch in file.iter_batches(_BATCH))
            for number, row in enumerate(rows, start=1):
                yield f"{files.name_of(path)}: row {number}", _json(row)
    except (ValueError, ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise RecordError(f"{files.name_of(path)} cannot be read: {first:.200}") from None


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, default=_plain).encode("utf-8", "surrogateescape")


def _plain(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value.isoformat() if isinstance(value, date | time) else str(value)


_TABLES = {".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet}


class Input(NamedTuple):
    """A file of records."""

    path: Path
    name: str  # name in the provenance: the file's name, or its path in the given folder
    stem: str  # prefix of its records' ids
    dataset: str  # default name of the data set: the name of the file, the folder or the hub dataset
    licence: str | None = None
    revision: str | None = None
    offline: bool = False  # whether it comes from the cache because the hub could not be reached

    def rows(self) -> Iterator[InputRow]:
        """Yield the records of the file."""
        return _TABLES.get(files.ending_of(self.path), files.read_lines)(self.path)


def inputs_of(path: Path) -> list[Input]:
    """Return the input files at a path: a file, a folder, a hub dataset or standard input."""
    if str(path) == files.STDIO:
        return [Input(path, files.name_of(path), "stdin", "stdin")]
    if not path.exists():
        return _of_the_hub(path)
    if not path.is_dir():
        stem = _stem(Path(path.name))
        return [Input(path, files.name_of(Path(path.name)), stem, stem)]
    found: list[Path] = []
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        names = [each for each in names if not each.endswith(".run.json")]
        plain = (Path(parent, each) for each in sorted(names) if not each.startswith("."))
        found += [each for each in plain if files.ending_of(each) in files.ENDINGS]
    if not found:
        hint = f"File names must end in one of: {' '.join(files.ENDINGS)}, or the same with .gz."
        raise UsageError(f"the folder {files.name_of(path)} contains no file to read.", hint=hint)
    root = path.resolve().name
    return [_within(path, each, root) for each in found]


def _of_the_hub(path: Path) -> list[Input]:
    if (named := files.named_on_hub(path)) is None:
        hides = hub.is_dataset_name(str(path)) and path.suffix not in files.OF_FILES
        hint = f"redraft does not look on the hub, because a folder {path.parts[0]} exists here."
        raise UsageError(f"there is no file or folder {files.name_of(path)}.", hint=hint if hides else None)
    name, inside = named
    endings = [ending + packed for ending in files.ENDINGS for packed in ("", ".gz")]
    found = hub.fetch_dataset(name, inside, endings)
    inputs = [_within(found.folder, found.folder / file, name.partition("/")[2]) for file in found.files]
    return [
        each._replace(dataset=name, licence=found.licence, revision=found.revision, offline=found.offline)
        for each in inputs
    ]


def _within(folder: Path, path: Path, root: str) -> Input:
    place, root = path.relative_to(folder), files.name_of(Path(root))
    return Input(path, files.name_of(place), f"{root}/{_stem(place)}", root)


def _stem(path: Path) -> str:
    return files.name_of(path.parent / Path(files.plain_name(path)).stem)


def licensed_records(
    file: Path, limit: int | None = None, *, wanted: Callable[[str], bool] | None = None
) -> Iterator[Chain]:
    """Read records as `read_records` does. Records without a licence get the licences in `FILE.run.json`."""
    licences = [name for name in licences_beside(file) if name != UNKNOWN]
    for chain in read_records(file, limit, wanted=wanted):
        origin = chain.meta.get("origin")
        if licences and licence_in(origin) == UNKNOWN:
            known = {**(origin if isinstance(origin, dict) else {}), "licence": licences}
            chain = chain.model_copy(update={"meta": {**chain.meta, "origin": known}})
        yield chain
