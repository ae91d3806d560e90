"""Tables as records: CSV, Parquet, and Arrow as the `datasets` library saves it.

Each row becomes a line of JSON, so that it goes the way of all other records. Rows come in batches, and no
more than a few are held. Dates become texts as ISO 8601 has them; bytes that are no text, such as pictures,
become null.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, time
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import IO, Any

from redraft.errors import MissingExtra, RecordError
from redraft.formats.files import insist_utf8, name_of, open_input, reading

Row = tuple[str, bytes | RecordError]
"""Where a record stands, and its JSON, or what is wrong with it."""

_BATCH = 256
_LONGEST = 1 << 28
"""Bytes of the longest line and of the longest cell, as for other records."""

_DELIMITERS = ",;\t|"


def read_csv(path: Path) -> Iterator[Row]:
    """The rows of a table with a header, whose cells are parted by commas, semicolons, tabs or bars.

    Raises:
        RecordError: The file cannot be read, or its header names a column twice.
    """
    csv.field_size_limit(_LONGEST)
    with reading(path), open_input(path) as file:
        lines = _decoded(path, file)
        first = next(lines, "")
        delimiter = max(_DELIMITERS, key=first.count)
        yield from _cells(name_of(path), chain([first], lines), delimiter)


def _decoded(path: Path, file: IO[bytes]) -> Iterator[str]:
    """Lines of text. Bytes that are not UTF-8 come through, to be found in the row that they are in."""
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b"")):
        if number == 0:
            insist_utf8(path, line)
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text


def _cells(name: str, lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        where = f"{name}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            fault = RecordError(f"{where}: not CSV: {error}.")
            if header is None:
                raise fault from None
            yield where, fault
            continue
        if cells is None:
            return
        if header is None:
            header = _header(name, cells)
        elif cells and len(cells) != len(header):
            yield where, RecordError(f"{where}: has {len(cells)} cells, and the header has {len(header)}.")
        elif cells:
            yield where, _json(dict(zip(header, cells, strict=True)))


def _header(name: str, cells: list[str]) -> list[str]:
    again = next((cell for cell in cells if cells.count(cell) > 1), None)
    if again is not None:
        raise RecordError(f"{name}:1: its header names the column {again!r} twice.")
    return cells


def read_parquet(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        RecordError: The file cannot be read.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _arrow("pyarrow.parquet")
    with _arrow_errors(path), parquet.ParquetFile(path, pre_buffer=False) as file:
        yield from _rows(path, file.iter_batches(_BATCH))


def read_arrow(path: Path) -> Iterator[Row]:
    """The rows of an Arrow file or stream. Its numbers are checked before they are used as places in memory.

    Raises:
        RecordError: The file cannot be read.
        MissingExtra: pyarrow is not installed.
    """
    arrow = _arrow("pyarrow")
    with _arrow_errors(path), arrow.memory_map(str(path)) as file:
        seekable = file.read(6) == b"ARROW1"
        file.seek(0)
        if seekable:
            whole = arrow.ipc.open_file(file)
            batches: Iterable[Any] = map(whole.get_batch, range(whole.num_record_batches))
        else:
            batches = arrow.ipc.open_stream(file)
        yield from _rows(path, _checked(batches))


def _checked(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        batch.validate(full=True)
        for start in range(0, batch.num_rows, _BATCH):
            yield batch.slice(start, _BATCH)


def _rows(path: Path, batches: Iterable[Any]) -> Iterator[Row]:
    name = name_of(path)
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    for number, row in enumerate(rows):
        yield f"{name}: row {number}", _json(row)


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, default=_plain).encode("utf-8", "surrogateescape")


def _plain(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _arrow(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise MissingExtra("a table of Parquet or Arrow", "data") from None


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Those of pyarrow are ValueErrors, OSErrors, and of a class of its own."""
    try:
        with reading(path):
            yield
    except (ValueError, _arrow("pyarrow").ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise RecordError(f"{name_of(path)}: cannot be read: {first:.200}") from None
