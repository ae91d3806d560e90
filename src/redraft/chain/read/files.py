"""Read and write JSON Lines and JSON arrays, plain or gzipped. `-` is standard input or output.

Records are read one at a time, so memory does not grow with the file. In a damaged array, reading ends at the
damage, because nothing marks the start of the next record. Output goes to a temporary file, which is renamed
when complete. Only pipes and other special files are written directly.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from glob import has_magic
from pathlib import Path
from typing import IO, Any, Literal, cast

from pydantic_core import from_json

from redraft.errors import OutputError, RecordError, UsageError, fault_of
from redraft.jobs.counting import counted, tell
from redraft.jobs.files import replacing

STDIO = "-"  # the path of standard input or output

TABLES = (".csv", ".tsv", ".parquet")
ENDINGS = (".json", ".jsonl", ".ndjson", *TABLES)
OF_FILES = (*ENDINGS, ".txt", ".gz", ".yaml", ".yml")
"""Endings of local files. Paths with these endings are never looked up on the hub."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # faster than `json.dumps`
_CHUNK = 1 << 20
_LONGEST = 1 << 28  # bytes of the longest record, 256 MiB: a file without line ends must not fill the memory
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # the first bytes of compressed files
_INSIDE = re.compile(rb'\{[ \t]*"(\w+)"\s*:\s*\[(?=\s*\n)')
"""Matches the start of an object whose first field is a list with one record per line."""
_INSPECT = re.compile(rb'\{\s*"version": \d+,\s*"status": "\w+",\s*"eval": \{')  # the start of inspect's logs
_PATTERN = "Check the pattern, and leave out any quotation marks around it."

REPLACE = "Name another ({}), or replace it (--force; in Python, force=True)."  # with the option's name
NOT_JSON = "Write one JSON object or text per line, or one array. A file of plain prompts must end in .txt."
BROKEN = (
    "Correct or delete that record. For prompts, conversations and chains, "
    "redraft data import FILE -o OTHER.jsonl leaves it out."
)


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each record's location and undecoded JSON.

    The items of an array are records. The lines of a `.txt` file become JSON strings.
    """
    check_records(path)
    with reading(path), open_input(path) as file:
        yield from _lines(path, file)


def check_records(path: Path) -> None:
    """Raise an error for a path that only `redraft data import` can read: a table, folder or hub dataset."""
    if str(path) == STDIO:
        return
    if (path / "runs.json").exists():
        raise UsageError(f"{path} is a folder of runs, not a file.", hint=f"View it: redraft diagnose {path}")
    kind = "is a folder" if path.is_dir() else "is a table" if ending_of(path) in TABLES else ""
    command = f"redraft data import {name_of(path)} -o {Path(plain_name(path)).stem}.jsonl"
    if not path.exists() and named_on_hub(path):
        hint = f"Check the path. If it names a dataset on the hub, import it first: {command}"
        raise UsageError(f"{name_of(path)} is not a file here.", hint=hint)
    if kind:
        raise UsageError(f"{name_of(path)} {kind}. Import it first.", hint=command)


def named_on_hub(path: Path) -> tuple[str, str] | None:
    """Split a path into a hub dataset and a path in the dataset. Return None if the path must be local."""
    from redraft.jobs.hub import is_dataset_name  # imported here, because few paths need it

    name, inside = "/".join(path.parts[:2]), "/".join(path.parts[2:])
    if not is_dataset_name(name) or Path(path.parts[0]).exists() or ".." in path.parts:
        return None
    return None if not inside and path.suffix in OF_FILES else (name, inside)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of decompression into a RecordError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = f"{name_of(path)} cannot be read: {reason.removesuffix('.')}."
        pattern = isinstance(error, FileNotFoundError) and has_magic(str(path))
        raise RecordError(message, hint=_PATTERN if pattern else None) from None


def name_of(path: Path) -> str:
    """Return a file's name for messages."""
    return "standard input" if str(path) == STDIO else os.fsencode(path).decode(errors="replace")


def check_utf8(path: Path, start: bytes) -> None:
    """Raise one error for a UTF-16 file, instead of an error for each line."""
    name = name_of(path)
    if start.startswith(_UTF16):
        raise RecordError(f"{name} is UTF-16, not UTF-8.", hint=f"iconv -f UTF-16 -t UTF-8 {name} > NEW")
    if len(start) > 1 and any(start[:8:2]) != any(start[1:8:2]):  # without a BOM: every second byte is zero
        kind = "UTF-16LE" if start[0] else "UTF-16BE"
        message = f"{name} looks like UTF-16, not UTF-8: it has NUL bytes."
        raise RecordError(message, hint=f"iconv -f {kind} -t UTF-8 {name} > NEW")


def plain_name(path: Path) -> str:
    """Return a file's name without the ending `.gz`: `a.jsonl` for `data/a.jsonl.gz`."""
    return path.name.removesuffix(path.suffix) if path.suffix.lower() == ".gz" else path.name


def ending_of(path: Path) -> str:
    """Return a file's ending in lower case, ignoring `.gz`."""
    return Path(plain_name(path)).suffix.lower()


def stem_of(path: Path) -> str:
    """Return the prefix of the record ids of a file: `a` for `data/a.jsonl.gz`."""
    return "stdin" if str(path) == STDIO else name_of(Path(Path(plain_name(path)).stem))


@contextmanager
def open_input(path: Path) -> Iterator[IO[bytes]]:
    """Open a file or standard input, and decompress gzip."""
    with nullcontext(sys.stdin.buffer) if str(path) == STDIO else path.open("rb") as raw:
        packed = path.suffix.lower() == ".gz" or cast(io.BufferedReader, raw).peek(2).startswith(_GZIP)
        with _packed(raw, "rb", packed=packed) as file:
            yield file


@contextmanager
def open_output(path: Path, *, force: bool = False, flag: str = "-o") -> Iterator[IO[bytes]]:
    """Open a new file, or standard output. A temporary file is renamed to `path` when complete.

    Special files, such as named pipes, are written directly. Errors name the option `flag`.
    """
    if str(path) == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder, but the output must be a file.", hint=f"{flag} {path}/NAME")
    if path.exists() and not force and path.is_file():
        raise OutputError(f"{path} exists.", hint=REPLACE.format(flag))
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("wb") if path.exists() and not path.is_file() else replacing(path)
        with opened as raw, _packed(raw, "wb", packed=path.suffix.lower() == ".gz") as file:
            yield file


def to_line(record: Any) -> bytes:
    """Return a record as a line of JSON in UTF-8, with a line feed."""
    return _compact(record).encode() + b"\n"


def decode(data: bytes, where: str) -> Any:
    """Decode a JSON text. NaN and Infinity are accepted.

    Raises:
        RecordError: The text is not UTF-8 or not JSON, is nested too deeply, or has a lone surrogate.
    """
    try:
        return from_json(data)  # four times as fast as json.loads, and equal where it succeeds
    except ValueError:
        return _decoded(data, where)


def _decoded(data: bytes, where: str) -> Any:
    text = _text(data, where)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        file = where.rpartition(":")[0].replace(name_of(Path(STDIO)), "") or "FILE"
        fault = f"this is not JSON: {error.msg.removesuffix(' at')} at {line}character {error.colno}"
        # Records that span lines cause this error, and so do carriage returns as line ends.
        if error.msg == "Extra data":
            fault += f"; jq -c . {file} puts each record on a line"
        hint = f"{NOT_JSON}\n{BROKEN.replace('FILE', file)}"
        raise RecordError(f"{where}: {fault}.", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: this cannot be read as JSON: {fault_of(error)}.") from None
    if b"\\ud" in data or b"\\uD" in data:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            half = "a lone surrogate: \\ud… without its other half"
            raise RecordError(f"{where}: it has {half}.") from None
    return value


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the process that read the pipe ended
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _packed(raw: IO[bytes], mode: Literal["rb", "wb"], *, packed: bool) -> AbstractContextManager[Any]:
    # Without name and time, the same records give the same bytes.
    return gzip.GzipFile("", mode, fileobj=raw, mtime=0) if packed else nullcontext(raw)


def _lines(path: Path, file: Any) -> Iterator[tuple[str, bytes]]:
    name, start = name_of(path), file.peek(_CHUNK)
    check_utf8(path, start)
    start = start.removeprefix(_BOM).lstrip()
    if start.startswith(_ZSTD):
        hint = f"zstd -d {name} unpacks it."
        raise RecordError(f"{name} is compressed with Zstandard, which redraft does not read.", hint=hint)
    if start.startswith(b"PK\x03\x04"):
        hint = f"If it is a log of Inspect, convert it: inspect log dump {name} > log.json"
        raise RecordError(f"{name} is an archive, not JSON.", hint=hint)
    if start.startswith(b"PAR1"):
        hint = "Give the file a name that ends in .parquet. Then type: redraft data import NAME.parquet"
        raise RecordError(f"{name} is a Parquet table, not JSON.", hint=hint)
    if found := _INSIDE.match(start):
        field = found[1].decode(errors="replace")
        message = f"{name} is one object with its records in the field {field!r}."
        raise RecordError(message, hint=f"jq -c '.{field}[]' {name} gives one record per line.")
    if plain_name(path).lower().endswith(".txt"):
        yield from ((where, to_line(_text(line, where))) for where, line in _cut(path, file))
    elif start.startswith(b"["):
        yield from _array(path, file)
    elif start.startswith((b"{\n", b"{\r")):
        whole = _bounded(path, file.read(_LONGEST + 1)).removeprefix(_BOM)
        log = _INSPECT.match(start)
        yield from _samples(decode(whole, name), name) if log else [(f"{name}: record 1", whole)]
    else:
        yield from _cut(path, file)


def _samples(log: dict[str, Any], name: str) -> Iterator[tuple[str, bytes]]:
    samples, about = log.get("samples") or [], log["eval"]
    if not isinstance(samples, list) or not all(isinstance(each, dict) for each in [about, *samples]):
        raise RecordError(f"{name}: eval should be an object, and samples should be a list of objects.")
    known = [one for one in enumerate(samples, start=1) if one[1].get("scores") or not one[1].get("error")]
    if failed := len(samples) - len(known):
        tell(f"{name}: left out {counted(failed, 'sample')} that failed.")
    for number, sample in known:
        own = {"scores": sample.get("scores") or {}, "task": about.get("task", "inspect")}
        yield f"{name}: sample {number}", to_line(sample | own)


def _cut(path: Path, file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    name, lines = name_of(path), iter(lambda: file.readline(_LONGEST + 1), b"")
    # A generator expression would keep the raw line, which may have 256 MiB.
    stripped = map(lambda line: _bounded(path, line).removeprefix(_BOM).strip(), lines)  # noqa: C417
    for number, line in enumerate(stripped, start=1):
        if line:
            yield f"{name}:{number}", line


def _bounded(path: Path, record: Sized) -> Any:
    if len(record) > _LONGEST:
        raise RecordError(f"{name_of(path)}: a record has more than {_LONGEST >> 20} MiB.")
    return record


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if b"\0" in line:
            raise RecordError(f"{where}: this is not text: it has NUL bytes, as binary files do.") from None
        raise RecordError(
            f"{where}: this is not UTF-8: {error.reason} at byte {error.start + 1}. "
            "If it is Latin-1: iconv -f LATIN1 -t UTF-8 FILE > NEW"
        ) from None


def _array(path: Path, file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    text, index = _Text(path, file), 0
    text.skip("[")
    while text.next() != "]":
        if index:
            text.skip(",")
        where = f"{name_of(path)}: record {index + 1}"
        yield where, text.value(where).encode("utf-8", "surrogateescape")
        index += 1
    text.skip("]")
    if text.next():
        raise RecordError(f"{name_of(path)}: text follows the end of its array.", hint=NOT_JSON)


_BLANKS = re.compile(r"[ \t\r\n]*")
_AFTER = (",", "]", " ", "\t", "\r", "\n")  # characters that follow a complete value of an array


class _Text:
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        # Bytes that are not UTF-8 are kept, so that `decode` can report them with their record.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder()
        self._buffer, self._at, self._over = "", 0, False

    def next(self) -> str:
        while True:
            self._at = _BLANKS.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def skip(self, mark: str) -> None:
        if (found := self.next()) != mark:
            problem = f"this is not JSON: its array has {found!r} where {mark!r} should be"
            raise self._error(problem if found else "the file ends inside its array")
        self._at += 1

    def _error(self, problem: str) -> RecordError:
        return RecordError(f"{name_of(self._path)}: {problem}.", hint=NOT_JSON)

    def value(self, where: str) -> str:
        if not self.next():
            raise self._error("the file ends inside its array")
        while True:
            near_end = len(self._buffer) - 16
            try:
                _, end = self._json.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= near_end
                if not cut or not self._more():
                    raise RecordError(f"{where}: this is not JSON: {error.msg}.", hint=NOT_JSON) from None
            except (ValueError, RecursionError) as error:
                raise RecordError(f"{where}: this cannot be read as JSON: {fault_of(error)}.") from None
            else:
                length = end - self._at
                # If the buffer ends after the 0 of `0.5`, only the 0 is read.
                if self._buffer[end : end + 1] in _AFTER or end < near_end or not self._more():
                    self._at += length
                    return self._buffer[self._at - length : self._at]

    def _more(self) -> bool:
        if self._over:
            return False
        rest = _bounded(self._path, self._buffer[self._at :])
        raw = self._file.read(max(_CHUNK, len(rest)))
        self._over = not raw
        self._buffer, self._at = rest + self._decoder.decode(raw, final=self._over), 0
        return not self._over
