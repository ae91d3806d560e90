from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redraft.chain.read import files
from redraft.chain.read.files import STDIO, decode, name_of, open_output, read_lines, stem_of, to_line
from redraft.errors import OutputError, RecordError

PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def rows(path: Path, content: bytes) -> tuple[list[Any], list[str]]:
    path.write_bytes(content)
    values, faults = [], []
    for where, line in read_lines(path):
        try:
            values.append(decode(line, where))
        except RecordError as error:
            faults.append(error.message.removeprefix(str(path)))
    return values, faults


def values_of(path: Path) -> Iterator[Any]:
    return (decode(line, where) for where, line in read_lines(path))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK", 7)


class TestLines:
    @pytest.mark.parametrize("ending", PACKERS)
    def test_a_line_that_is_not_json_is_told_with_its_number(self, tmp_path: Path, ending: str) -> None:
        content = b'{"a": 1}\n{"a": \n\n[3\n{"a": 2}\n'
        values, faults = rows(tmp_path / f"x.jsonl{ending}", PACKERS[ending](content))
        assert values == [{"a": 1}, {"a": 2}]
        assert faults == [
            ":2: this is not JSON: Expecting value at character 6.",
            ":4: this is not JSON: Expecting ',' delimiter at character 3.",
        ]
        assert rows(tmp_path / "y.jsonl", b'{"a": "b')[1] == [
            ":1: this is not JSON: Unterminated string starting at character 7."
        ]

    def test_bytes_of_another_encoding_are_told_and_passed(self, tmp_path: Path) -> None:
        mixed = '"é"\n'.encode() + '"é"\n'.encode("latin-1") + '"日"\n'.encode() + '"“"\n'.encode("cp1252")
        values, faults = rows(tmp_path / "x.jsonl", mixed)
        assert values == ["é", "日"]
        way_out = "If it is Latin-1: iconv -f LATIN1 -t UTF-8 FILE > NEW"
        assert faults == [
            f":2: this is not UTF-8: invalid continuation byte at byte 2. {way_out}",
            f":4: this is not UTF-8: invalid start byte at byte 2. {way_out}",
        ]

    def test_a_mark_of_the_byte_order_and_dos_ends_of_lines_are_passed_over(self, tmp_path: Path) -> None:
        content = codecs.BOM_UTF8 + b'{"a": "x\\r\\n"}\r\n\r\n{"a": 2}\r\n'
        assert rows(tmp_path / "x.jsonl", content) == ([{"a": "x\r\n"}, {"a": 2}], [])

    @pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_utf_16_is_named(self, tmp_path: Path, codec: str) -> None:
        mark = "" if codec == "utf-16" else "\ufeff"
        with pytest.raises(RecordError, match="is UTF-16, not UTF-8") as caught:
            rows(tmp_path / "x.jsonl", (mark + '"a"\n').encode(codec))
        assert caught.value.hint == f"iconv -f UTF-16 -t UTF-8 {tmp_path / 'x.jsonl'} > NEW"

    def test_half_characters_are_told_and_nul_is_a_character(self, tmp_path: Path) -> None:
        content = b'{"a": "\\ud83d"}\n{"\\udc00": 1}\n{"a": "\\u0000"}\n{"a": "\x00"}\n"\\ud83d\\ude00"\n'
        values, faults = rows(tmp_path / "x.jsonl", content)
        assert values == [{"a": "\0"}, "😀"]
        assert [fault[:28] for fault in faults] == [
            ":1: it has a lone surrogate:",
            ":2: it has a lone surrogate:",
            ":4: this is not JSON: Invali",
        ]

    def test_deep_nesting_is_told_and_passed(self, tmp_path: Path) -> None:
        values, faults = rows(tmp_path / "x.jsonl", b'"a"\n' + b'{"a":' * 100_000 + b'\n"b"\n')
        assert values == ["a", "b"]
        assert faults[0].startswith(":2: this cannot be read as JSON: ")

    def test_a_record_of_50_megabytes_is_read(self, tmp_path: Path) -> None:
        values, faults = rows(
            tmp_path / "x.jsonl", to_line({"a": 1}) + to_line({"a": "x" * 50_000_000}) + to_line({"a": 2})
        )
        assert [len(str(value["a"])) for value in values] == [1, 50_000_000, 1]
        assert faults == []

    @pytest.mark.parametrize("content", [b'"a"\n"%s"\n', b'["a", "%s"]', b'{\n"a": "%s"}'])
    def test_a_record_without_an_end_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
    ) -> None:
        monkeypatch.setattr(files, "_LONGEST", 1 << 20)
        monkeypatch.setattr(files, "_CHUNK", 1 << 16)
        with pytest.raises(RecordError, match=r"x\.json: a record has more than 1 MiB"):
            rows(tmp_path / "x.json", content % (b"x" * (5 << 20)))


class TestDamagedFiles:
    @pytest.mark.parametrize("array", [False, True])
    def test_a_file_that_was_cut_off_is_an_error(self, tmp_path: Path, array: bool) -> None:
        records = [json.dumps({"n": n, "text": f"{n * 7919 % 10007:x}" * 5}) for n in range(5000)]
        content = f"[{','.join(records)}]" if array else "\n".join(records)
        packed = gzip.compress(content.encode())
        (tmp_path / "x.json.gz").write_bytes(packed[: len(packed) // 2])
        read: list[Any] = []
        with pytest.raises(RecordError, match=r"cannot be read: .*end"):
            read.extend(values_of(tmp_path / "x.json.gz"))
        assert len(read) < 5000
        assert [value["n"] for value in read] == list(range(len(read)))

    def test_a_pattern_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="Check the pattern, and leave out any quotation marks"):
            list(values_of(tmp_path / "*.jsonl"))

    def test_what_is_not_compressed_so_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match=r"x\.jsonl\.gz cannot be read: "):
            rows(tmp_path / "x.jsonl.gz", b'"plain"\n')


class TestArrays:
    @example([[0.00390625], 0.0], 1, False)
    @given(st.lists(json_values, max_size=5), st.sampled_from([None, 1]), st.booleans())
    @pytest.mark.usefixtures("small_chunks")
    def test_any_array_is_read_as_json_reads_it(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        values: list[Any],
        indent: int | None,
        ascii_only: bool,
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any.json"
        content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert rows(path, content) == (values, [])

    def test_one_broken_record_of_an_array_does_not_end_the_reading(self, tmp_path: Path) -> None:
        values, faults = rows(tmp_path / "x.json", b'[{"a": 1}, {"a": "\xe9"}, {"a": "\\ud83d"}, {"a": 2}]')
        assert values == [{"a": 1}, {"a": 2}]
        assert faults[0].startswith(": record 2: this is not UTF-8: ")
        assert faults[1].startswith(": record 3: it has a lone surrogate")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'["a", "b"', "x.json: the file ends inside its array."),
            (b'["a", ', "x.json: the file ends inside its array."),
            (b'["a", {"b": ', "x.json: record 2: this is not JSON: Expecting value."),
            (b'["a" "b"]', "x.json: this is not JSON: its array has '\"' where ',' should be."),
            (b'["a", nothing]', "x.json: record 2: this is not JSON: Expecting value."),
            (b'["a"]\n["b"]', "x.json: text follows the end of its array."),
            (b'["a"],', "x.json: text follows the end of its array."),
        ],
    )
    def test_damage_between_records_ends_the_reading(
        self, tmp_path: Path, content: bytes, message: str
    ) -> None:
        (tmp_path / "x.json").write_bytes(content)
        read = values_of(tmp_path / "x.json")
        assert next(read) == "a"
        with pytest.raises(RecordError, match=re.escape(message)):
            list(read)

    def test_an_array_of_50_megabytes_is_streamed(self, tmp_path: Path) -> None:
        record = b'{"id": 1, "instruction": "%s"}' % (b"Describe rain in one line. " * 200)
        path = tmp_path / "x.json"
        path.write_bytes(b"[" + record + (b",\n" + record) * 10_000 + b"]")
        assert path.stat().st_size > 50_000_000
        command = [sys.executable, "-c", GROWTH, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, grown = map(int, done.stdout.split())
        assert count == 10_001
        assert grown < 20_000_000


GROWTH = """
import resource, sys
from pathlib import Path
from redraft.chain.read.files import read_lines
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read_lines(Path(sys.argv[1])))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""
"""How many records a file has, and by how many bytes the process grew while it read them."""


def test_a_name_that_is_not_utf_8_can_be_said() -> None:
    assert name_of(Path("a\udcff.jsonl")) == "a\ufffd.jsonl"
    assert name_of(STDIO_PATH) == "standard input"


STDIO_PATH = Path(STDIO)


class TestStandardStreams:
    def test_records_come_from_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b'"a"\n{\n"b"\n'))))
        lines = dict(read_lines(STDIO_PATH))
        assert lines == {"standard input:1": b'"a"', "standard input:2": b"{", "standard input:3": b'"b"'}

    @pytest.mark.parametrize("ending", PACKERS)
    def test_what_is_packed_is_unpacked(self, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
        packed = io.BufferedReader(io.BytesIO(PACKERS[ending](b'"a"\n"b"\n')))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(packed))
        assert [*values_of(STDIO_PATH)] == ["a", "b"]


class TestEndings:
    def test_they_are_of_any_case(self, tmp_path: Path) -> None:
        path = tmp_path / "x.TXT.GZ"
        with open_output(path) as file:
            file.write(b"a b\n")
        assert path.read_bytes() != b"a b\n"
        assert ([*values_of(path)], stem_of(path)) == (["a b"], "x")


class TestOutput:
    @pytest.mark.parametrize("ending", PACKERS)
    def test_what_is_written_is_read_back(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / "new" / f"x.jsonl{ending}"
        for _ in range(2):
            with open_output(path, force=True) as file:
                file.writelines(map(to_line, ["é", {"a": None}]))
        assert [*values_of(path)] == ["é", {"a": None}]
        assert [each.name for each in path.parent.iterdir()] == [path.name]

    def test_nothing_is_replaced_unasked(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("before")
        with pytest.raises(OutputError, match=r"exists.*\n.*--force"), open_output(tmp_path / "x"):
            pass
        assert (tmp_path / "x").read_text() == "before"

    @pytest.mark.parametrize("force", [True, False])
    def test_a_pipe_is_written_to_and_stays(self, tmp_path: Path, force: bool) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with open_output(pipe, force=force) as file:
            file.write(b"a")
        assert os.read(reader, 9) == b"a"
        os.close(reader)
        assert pipe.is_fifo()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
    @pytest.mark.parametrize("size", [1, 1 << 20])
    def test_what_has_no_room_is_named(self, size: int) -> None:
        with (
            pytest.raises(OutputError, match="/dev/full cannot be written: No space left on device"),
            open_output(Path("/dev/full")) as file,
        ):
            file.write(b"a" * size)

    @pytest.mark.parametrize("name", ["", ".", ".."])
    def test_a_folder_is_no_output(self, tmp_path: Path, name: str) -> None:
        with (
            pytest.raises(OutputError, match="is a folder, but the output must be a file"),
            open_output(tmp_path / name, force=True),
        ):
            pass


_PIECES = (
    *('{"a":', '"a":', '"b":', "{", "}", "[", "]", ",", '"x"', '"\\u0000"', '"\\ud83d\\ude00"', '"\\ud83d"'),
    *("1", "-0", "-0.0", "01", "1.", "0.1", "1e400", "1E-5", "12345678901234567890", "9" * 4301, "true"),
    *(
        "NaN", "-Infinity", "-NaN", "null", " ", "\n", "\x0b", "\x00", "\ufeff", '"\x7f\u2028\ufffe"',
        '"\x01"',
    ),
)  # fmt: skip
_NUMBERS = st.floats().map(repr) | st.decimals(allow_nan=False).map(str)


@given(st.lists(st.sampled_from(_PIECES) | _NUMBERS, max_size=8).map("".join) | json_values.map(json.dumps))
@example('{"a":' + "[" * 500 + "]" * 500 + "}")
def test_records_are_what_json_makes_of_them(text: str) -> None:
    try:
        whole = json.dumps(json.loads(text), ensure_ascii=False).encode().decode()
    except (ValueError, RecursionError):
        with pytest.raises(RecordError):
            decode(text.encode(), "x")
    else:
        # By their texts: NaN is not itself, 1 is 1.0 and True, and objects have an order.
        assert json.dumps(decode(text.encode(), "x"), ensure_ascii=False) == whole


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_packed_file_without_records_is_whole(name: str, tmp_path: Path) -> None:
    with open_output(tmp_path / name):
        pass
    assert list(values_of(tmp_path / name)) == []
    assert bool((tmp_path / name).stat().st_size) == (name != "x.jsonl")


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(BrokenPipeError), open_output(path):
        raise BrokenPipeError
    assert list(tmp_path.iterdir()) == []
    with open_output(path) as file:
        file.write(b"1\n")
        assert not path.exists()
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"1\n", [path])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a":1}\r{"a":2}\r', "Extra data at character 9; jq -c . x.jsonl puts each record on a line."),
        (b'{\n"a":1}\n{\n"a":2}\n', "Extra data at line 3, character 1; jq -c . x.jsonl"),
        (b'{"a":"caf\xe9"}\n', "at byte 10. If it is Latin-1: iconv -f LATIN1 -t UTF-8 FILE > NEW"),
        ('{"a":1}\n'.encode("utf-16-le"), "looks like UTF-16, not UTF-8: it has NUL bytes."),
        (b"PAR1\0\0...", "is a Parquet table, not JSON."),
        (b"\x28\xb5\x2f\xfd...", "is compressed with Zstandard, which redraft does not read."),
        (b'{"data": [\n{"a":1}\n]}', "is one object with its records in the field 'data'."),
        (b'{"a":"x\ty"}\n', "Invalid control character at character 8."),
    ],
)
def test_what_is_something_else_is_told_with_a_way_out(content: bytes, said: str, here: Path) -> None:
    (here / "x.jsonl").write_bytes(content)
    with pytest.raises(RecordError) as error:
        list(values_of(Path("x.jsonl")))
    assert said in error.value.message


def test_one_record_over_many_lines_is_no_object_of_records(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{\n "messages": [\n  {"role": "user", "content": "Why?"}\n ]\n}\n')
    [value] = values_of(tmp_path / "x.json")
    assert list(value) == ["messages"]
