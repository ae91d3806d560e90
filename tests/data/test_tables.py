"""Tables: CSV and Parquet, whole and damaged."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from redraft.chain.read.files import decode
from redraft.chain.read.inputs import read_csv, read_parquet
from redraft.errors import RecordError


def rows(read: Any, path: Path) -> tuple[list[Any], list[str]]:
    values, faults = [], []
    for where, data in read(path):
        try:
            if isinstance(data, RecordError):
                raise data
            values.append(decode(data, where))
        except RecordError as error:
            faults.append(error.message.removeprefix(str(path)))
    return values, faults


class TestCsv:
    def written(self, path: Path, content: str | bytes) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def table(self, path: Path, content: str | bytes) -> tuple[list[Any], list[str]]:
        return rows(read_csv, self.written(path, content))

    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    def test_what_parts_the_header_parts_the_cells(self, tmp_path: Path, mark: str) -> None:
        content = f'\ufeffq{mark}a\r\n"x{mark} ""y""\r\nz"{mark}\r\n\r\nb{mark}c'
        values, faults = self.table(tmp_path / "x.csv", content)
        assert values == [{"q": f'x{mark} "y"\r\nz', "a": ""}, {"q": "b", "a": "c"}]
        assert faults == []

    def test_rows_that_are_none_are_told_and_passed(self, tmp_path: Path) -> None:
        values, faults = self.table(tmp_path / "x.csv", b'q,a\n1\n1,2,3\n"x"y,2\n\xe9,2\n3,\x00\n5,6\n')
        assert values == [{"q": "3", "a": "\0"}, {"q": "5", "a": "6"}]
        way_out = "If it is Latin-1: iconv -f LATIN1 -t UTF-8 FILE > NEW"
        assert faults == [
            ":2: the row has 1 cell, but the header has 2.",
            ":3: the row has 3 cells, but the header has 2.",
            ":4: this is not CSV: ',' expected after '\"'.",
            f":5: this is not UTF-8: invalid continuation byte at byte 8. {way_out}",
        ]

    def test_a_quote_that_is_never_closed_is_damage(self, tmp_path: Path) -> None:
        values, faults = self.table(tmp_path / "x.csv", 'q,a\n1,2\n3,"4\n5,6\n7,8\n')
        assert values == [{"q": "1", "a": "2"}]
        [said] = faults
        assert said.startswith(":3: a quote in this line is never closed.")

    @pytest.mark.parametrize(
        "cell",
        [
            "Dear reader,\n\nthis has a line, and more.\n\n" + "Yes, it has.\n" * 8 + "Bye.",
            "def f(a, b):\n    return a, b, 1\n" * 20,
            "Here is the table:\n\n" + "\n".join(f"{n},{n * n}" for n in range(40)),
            "name,age\n" + "\n".join(f"{n},{n * n}" for n in range(8)),
        ],
    )
    def test_an_answer_of_several_lines_is_one_cell(self, tmp_path: Path, cell: str) -> None:
        values, faults = self.table(tmp_path / "x.csv", f'q,a\n1,"{cell}"\n2,b\n')
        assert (values, faults) == ([{"q": "1", "a": cell}, {"q": "2", "a": "b"}], [])

    @pytest.mark.parametrize(
        ("name", "content", "found"),
        [
            ("x.csv", "q\na\nb\n", [{"q": "a"}, {"q": "b"}]),
            ("x.tsv", "q, long, longer\ta\n1,2\t3\n", [{"q, long, longer": "1,2", "a": "3"}]),
            ("x.csv", f"q\n{'x' * 1_000_000}\n", [{"q": "x" * 1_000_000}]),
            ("x.csv", "", []),
            ("x.csv", "q,a\n", []),
            ("x.csv", gzip.compress(b"q,a\n1,2\n", mtime=0), [{"q": "1", "a": "2"}]),
        ],
        ids=["a column", "tabs", "long", "empty", "a header", "packed"],
    )
    def test_tables_of_other_forms(self, tmp_path: Path, name: str, content: Any, found: Any) -> None:
        assert self.table(tmp_path / name, content) == (found, [])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"q,a,q\n1,2,3\n", ":1: the header names the column 'q' twice"),
            (b'"q"x,a\n1,2\n', ":1: this is not CSV: ',' expected"),
            (b'"q,a\n1,2\n', ":1: this is not CSV: unexpected end"),
            (b"\0\x8b" + gzip.compress(b"q,a\n" * 999, mtime=0)[2:], "not CSV"),
            ("q,a\n".encode("utf-16"), "is UTF-16"),
        ],
    )
    def test_a_file_that_is_no_table_is_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        with pytest.raises(RecordError, match=message):
            self.table(tmp_path / "x.csv", content)

    def test_a_cut_off_compression_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="cannot be read: Compressed file ended"):
            self.table(tmp_path / "x.csv.gz", gzip.compress(b"q,a\n" * 999, mtime=0)[:-9])

    @given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2)))
    def test_what_python_writes_is_read(self, tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["q", "a"], *table])
        path = tmp_path_factory.getbasetemp() / "any.csv"
        assert self.table(path, text.getvalue()) == ([{"q": q, "a": a} for q, a in table], [])


MANY = [{"q": f"question {n}", "n": n, "m": {"role": "user", "tags": ["a", str(n)]}} for n in range(1000)]


class TestParquet:
    def test_rows_are_records(self, tmp_path: Path) -> None:
        parquet.write_table(pa.Table.from_pylist(MANY), tmp_path / "x.parquet", row_group_size=300)
        assert rows(read_parquet, tmp_path / "x.parquet") == (MANY, [])

    def test_dates_numbers_and_bytes_become_json(self, tmp_path: Path) -> None:
        when = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
        row = {
            "d": date(2026, 1, 2), "t": when, "x": Decimal("1.50"), "b": b"text", "p": b"\xff\xd8", "n": None,
        }  # fmt: skip
        parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
        assert rows(read_parquet, tmp_path / "x.parquet")[0] == [
            {"d": "2026-01-02", "t": when.isoformat(), "x": "1.50", "b": "text", "p": None, "n": None}
        ]

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        parquet.write_table(pa.Table.from_pylist(MANY), path)
        whole = path.read_bytes()
        for content in (b"", b"PAR1 is not one", whole[:-9], b"PAR1" + b"\xff" * 500 + whole[504:]):
            path.write_bytes(content)
            with pytest.raises(RecordError, match=r"x\.parquet cannot be read: "):
                rows(read_parquet, path)


def test_rows_say_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('q\n"a\nb"\nc\n')
    parquet.write_table(pa.Table.from_pylist(MANY[:2]), tmp_path / "x.parquet")
    assert [where for where, _ in read_csv(tmp_path / "x.csv")] == [
        f"{tmp_path / 'x.csv'}:{n}" for n in (2, 4)
    ]
    names = [where for where, _ in read_parquet(tmp_path / "x.parquet")]
    assert names == [f"{tmp_path / 'x.parquet'}: row {n}" for n in (1, 2)]
