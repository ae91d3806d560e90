"""Read tables: CSV, Parquet, and Arrow as the `datasets` library saves it.

Each row becomes a line of JSON, like other records. Rows are read in batches. Dates become ISO 8601 texts;
bytes that are not text, such as images, become null.

A stray quote in a CSV file turns all lines up to the next quote into one cell. Such a row is damage if its
quote is never closed, or if nearly all of its lines would be complete rows. Other cells of several lines are
read.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, time
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import IO, Any

from redraft.counting import counted
from redraft.errors import MissingExtra, RecordError
from redraft.formats.read.files import check_utf8, name_of, open_input, plain_name, reading
from redraft.formats.read.records import Damage

Row = tuple[str, bytes | RecordError]  # a record's place, and its JSON or its error

_BATCH = 256
_LONGEST = 1 << 28  # bytes of the longest line and of the longest cell, as for other records

_DELIMITERS = ",;\t|"
_SWALLOWED = 10
"""Fewest delimiters in a cell that comes from a stray quote, if its lines look like rows.

That is 10 lines of a table with two columns, and 5 of one with three.
"""
_FEWEST = 3
_OF_LINES = 0.99  # share of a cell's lines that must look like rows


def read_csv(path: Path) -> Iterator[Row]:
    """Read the rows of a table with a header and cells separated by commas, semicolons, tabs or bars.

    Raises:
        RecordError: The file cannot be read, or its header repeats a column.
    """
    csv.field_size_limit(_LONGEST)
    with reading(path), open_input(path) as file:
        lines = _decoded(path, file)
        first = next(lines, "")
        is_tsv = plain_name(path).lower().endswith(".tsv") and "\t" in first
        delimiter = "\t" if is_tsv else max(_DELIMITERS, key=first.count)
        yield from _cells(path, _Lines(chain([first], lines), delimiter))


def _decoded(path: Path, file: IO[bytes]) -> Iterator[str]:
    """Decode lines. Bytes that are not UTF-8 are kept, to be reported with their row."""
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b"")):
        if number == 0:
            check_utf8(path, line)
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text


class _Lines:
    """The lines of a CSV file, with counts for the current row.

    Attributes:
        over: The reader asked for a line after the last one.
        widths: Lines of the current row by their number of delimiters, ignoring quotes.
    """

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self._lines, self.delimiter = lines, delimiter
        self.over = False
        self.widths: Counter[int] = Counter()

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.widths[line.count(self.delimiter)] += 1
            yield line
        self.over = True

    def look_like_rows(self, width: int) -> bool:
        """Whether the lines of the current row would be rows without the quotes."""
        lines = self.widths.total()
        many = lines >= _FEWEST and lines * (width - 1) >= _SWALLOWED
        return many and self.widths[width - 1] >= lines * _OF_LINES


def _cells(path: Path, lines: _Lines) -> Iterator[Row]:
    name, header = name_of(path), list[str]()
    reader = csv.reader(lines, delimiter=lines.delimiter, strict=True)
    while not lines.over:
        lines.widths.clear()
        number = reader.line_num + 1
        where, fault = f"{name}:{number}", ""
        try:
            cells = next(reader, [])
        except csv.Error as error:
            cells, fault = [], f"not CSV: {error}"
            if not header:
                raise RecordError(f"{where}: {fault}.") from None
        if header and cells and len(cells) != len(header):
            fault = f"has {len(cells)} cells, and the header has {len(header)}"
        if (fault and lines.over) or lines.look_like_rows(len(header)):
            yield where, _damage(path, number, lines)
        elif fault:
            taken = lines.widths.total()
            over = f", in a row of {taken:,} lines" if taken > 1 else ""
            yield where, RecordError(f"{where}: {fault}{over}.")
        elif header and cells:
            yield where, _json(dict(zip(header, cells, strict=True)))
        elif cells:
            again = next((cell for cell in cells if cells.count(cell) > 1), None)
            if again is not None:
                raise RecordError(f"{name}:1: its header names the column {again!r} twice.")
            header = cells


def _damage(path: Path, number: int, lines: _Lines) -> Damage:
    name, taken = name_of(path), lines.widths.total() - 1
    typed = shlex.quote(name)
    behind = counted(taken, "line")
    closed = "is never closed" if lines.over else f"is closed {behind} later"
    lost = f": {behind} after it became part of one cell and are lost" if taken else ""
    hint = f"sed -n {number}p {typed} shows the line; sed -i '{number}s/\"//g' {typed} removes its quotes."
    way = hint if plain_name(path) == path.name else "Remove the quote, or double it."
    return Damage(f"{name}:{number}: a quote in this line {closed}{lost}. {way}")


def read_parquet(path: Path) -> Iterator[Row]:
    """Read the rows of a Parquet file.

    Raises:
        RecordError: The file cannot be read.
        MissingExtra: pyarrow is not installed.
    """
    parquet = _arrow("pyarrow.parquet")
    with _arrow_errors(path), parquet.ParquetFile(path, pre_buffer=False) as file:
        yield from _rows(path, file.iter_batches(_BATCH))


def read_arrow(path: Path) -> Iterator[Row]:
    """Read the rows of an Arrow file or stream. Offsets are validated before use.

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
    try:
        with reading(path):
            yield
    except (ValueError, _arrow("pyarrow").ArrowException) as error:
        first = str(error).partition("\n")[0]
        raise RecordError(f"{name_of(path)}: cannot be read: {first:.200}") from None
