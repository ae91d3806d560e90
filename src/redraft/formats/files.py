"""Opens files of records: JSON lines or one JSON array, plain, `.gz` or `.zst`, a path or a standard stream.

Records come one at a time, those of an array too, so that memory does not grow with a file. A line that is
not JSON, or not UTF-8, is raised, or told to whoever counts such faults while reading goes on. After a fault
in an array nothing says where its next record begins, so there reading ends. Output is written aside, and
renamed when it is whole.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Literal, cast

from redraft.errors import MissingExtra, OutputError, RecordError

STDIO = "-"
"""The path that stands for standard input, or for standard output."""

Faulty = Callable[[RecordError], None]
"""Told of a record that cannot be read."""

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20
_ENDINGS = (".gz", ".zst")
_NOT_JSON = "Write one JSON object or text a line, or one array; a file of plain prompts ends in .txt."


def read_rows(path: Path, faulty: Faulty | None = None) -> Iterator[tuple[str, Any]]:
    """Where each record of a file stands, such as `a.jsonl:12`, and its decoded value.

    A `.txt` file (also `.txt.gz` and `.txt.zst`) has a text a line.

    Raises:
        RecordError: The file cannot be read, ends too early, or its array is damaged; and, without `faulty`,
            a line is not what it should be.
        MissingExtra: It is a `.zst`, and what reads those is not installed.
    """
    for where, line in read_lines(path):
        try:
            value = decode(line, where)
        except RecordError as error:
            if faulty is None:
                raise
            faulty(error)
        else:
            yield where, value


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Where each record of a file stands, and its JSON, undecoded: decoding is work for many processes.

    Records of an array, and texts of a `.txt` file, come as lines of JSON too.

    Raises:
        RecordError: The file cannot be read, ends too early, or its array is damaged.
        MissingExtra: It is a `.zst`, and what reads those is not installed.
    """
    try:
        with open_input(path) as file:
            yield from _lines(path, file)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordError(f"{name_of(path)}: cannot be read: {reason}.") from None


def name_of(path: Path) -> str:
    """What messages call a file."""
    return "standard input" if str(path) == STDIO else str(path)


def plain_name(path: Path) -> str:
    """The name of a file without the ending of a compression: `a.jsonl` of `data/a.jsonl.zst`."""
    return path.name.removesuffix(path.suffix) if path.suffix in _ENDINGS else path.name


@contextmanager
def open_input(path: Path) -> Iterator[IO[bytes]]:
    """A file or standard input, without compression."""
    if str(path) == STDIO:
        yield sys.stdin.buffer
        return
    with _opened(path, path.suffix, "rb") as file:
        yield file


@contextmanager
def open_output(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """A new file, or standard output. The file has its name only when all of it is on the disk.

    Raises:
        OutputError: It exists and `force` is not given, or it cannot be written.
    """
    if str(path) == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not force:
        raise OutputError(
            f"{path} exists.", hint="Write to another file with -o, or replace it with --force."
        )
    aside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(aside, path.suffix, "wb") as file:
            yield file
        _sync(aside)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        aside.unlink(missing_ok=True)


def to_line(record: Any) -> bytes:
    """A record as a line of JSON, UTF-8, with its line feed."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(data: bytes, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        RecordError: It is not UTF-8, not JSON, nested too deep, or holds half of a character.
    """
    text = _text(data, where)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise RecordError(
            f"{where}: not JSON: {error.msg} at {line}character {error.colno}.", hint=_NOT_JSON
        ) from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: not JSON that can be read: {error}.") from None
    return _whole_characters(value, where) if b"\\ud" in data or b"\\uD" in data else value


@contextmanager
def _opened(path: Path, ending: str, mode: Literal["rb", "wb"]) -> Iterator[IO[bytes]]:
    if ending == ".zst":
        with _zstd().open(path, mode) as file:
            yield file
        return
    with path.open(mode) as raw:
        if ending == ".gz":
            # Without a name and a time: the same records give the same bytes.
            with gzip.GzipFile("", mode, fileobj=raw, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield raw


def _zstd() -> Any:
    """Zstandard: of the standard library from Python 3.14 on, before that of its official backport."""
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ModuleNotFoundError:
        raise MissingExtra("a .zst file", "data") from None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _lines(path: Path, file: Any) -> Iterator[tuple[str, bytes]]:
    start = file.peek(_CHUNK).removeprefix(_BOM).lstrip()
    if plain_name(path).endswith(".txt"):
        yield from ((where, to_line(_text(line, where))) for where, line in _cut(path, file))
    elif start.startswith(b"["):
        yield from ((where, to_line(value)) for where, value in _array(path, file))
    elif start.startswith((b"{\n", b"{\r")):
        yield f"{name_of(path)}: record 0", file.read().removeprefix(_BOM)
    else:
        yield from _cut(path, file)


def _cut(path: Path, file: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(file, start=1):
        if stripped := line.removeprefix(_BOM).strip():
            yield f"{name_of(path)}:{number}", stripped


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: not UTF-8: {error.reason} at byte {error.start + 1}.") from None


def _array(path: Path, file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """The records of an array, of which no more than one and a chunk are held."""
    text = _Text(path, file)
    text.skip("[")
    index = 0
    while not text.at("]"):
        where = f"{name_of(path)}: record {index}"
        yield where, text.value(where)
        index += 1
        if not text.at("]"):
            text.skip(",")


class _Text:
    """A position in a stream of JSON text."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._buffer, self._at, self._over = "", 0, False

    def at(self, mark: str) -> bool:
        """Whether that is the next character but for blanks."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at] == mark
            if not self._more():
                raise RecordError(f"{name_of(self._path)}: ends inside its array.", hint=_NOT_JSON)

    def skip(self, mark: str) -> None:
        if not self.at(mark):
            found = self._buffer[self._at]
            raise RecordError(
                f"{name_of(self._path)}: not JSON: {found!r} in its array where {mark!r} should be.",
                hint=_NOT_JSON,
            )
        self._at += 1

    def value(self, where: str) -> Any:
        """The next value. Text is added until it is whole, twice as much each time."""
        self.at("")
        while True:
            try:
                value, self._at = self._json.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error) or not self._more():
                    raise RecordError(f"{where}: not JSON: {error.msg}.", hint=_NOT_JSON) from None
            except (ValueError, RecursionError) as error:
                raise RecordError(f"{where}: not JSON that can be read: {error}.") from None
            else:
                return _whole_characters(value, where)

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the text may only be cut off: the fault is at its end, or in a string that has no end."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - 16

    def _more(self) -> bool:
        if self._over:
            return False
        rest = self._buffer[self._at :]
        raw = self._file.read(max(_CHUNK, len(rest)))
        self._over = not raw
        try:
            self._buffer, self._at = rest + self._decoder.decode(raw, final=self._over), 0
        except UnicodeDecodeError as error:
            raise RecordError(f"{name_of(self._path)}: not UTF-8: {error.reason}.") from None
        return not self._over


def _whole_characters(value: Any, where: str) -> Any:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RecordError(f"{where}: holds half of a character, a \\ud… without its other half.") from None
    return value
