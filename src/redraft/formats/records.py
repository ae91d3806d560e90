"""Files of records: any published shape in, chains out; and chains as SelFee and FastChat write them.

The kind of a file is read from the file: JSON lines or one JSON array, plain or gzipped; a `.txt` has one
prompt a line. The kind of a record is read from its fields (`formats.shapes`). Lines are read one at a time,
so memory stays flat; an array is loaded whole, which is why large files should be lines.

Every chain gets an id that is unique in its file and the same from run to run: `vicuna_80/12` is record 12 of
`vicuna_80.jsonl` by its own id, or by its place in the file (from 0) where it has none. Cleaning is not done
here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from redraft.chain import VERSION, Chain
from redraft.errors import RecordError
from redraft.formats.selfee import instruction_of, render
from redraft.formats.shapes import is_chain, read_shape

ID_FIELDS = ("question_id", "id", "task_id", "key", "unique_id", "message_tree_id")


def read_records(path: Path) -> Iterator[Chain]:
    """Reads a file of any known shape, record by record.

    Raises:
        RecordError: The file cannot be read, or a record is not one; the message names file, line and field.
    """
    stem, used = Path(path.name.removesuffix(".gz")).stem, set[str]()
    for index, (where, record) in enumerate(_records(path)):
        chain = chain_of(record, where)
        name = _unique(chain.id or _id_of(record, stem, index), used)
        yield chain if chain.id == name else chain.model_copy(update={"id": name})


def chain_of(record: Any, where: str = "record") -> Chain:
    """One decoded record as a chain. Its id is empty unless it is a chain already.

    Args:
        record: A text, which is a prompt, or an object of a known shape.
        where: What to call it in an error, such as `questions.jsonl:12`.

    Raises:
        RecordError: It is neither, or a field is wrong.
    """
    if isinstance(record, str):
        record = {"prompt": record}
    if not isinstance(record, dict):
        raise RecordError(f"{where}: should be an object or a text (found {record!r:.60}).")
    if record.keys() >= {"id", "error", "message", "chain"}:
        return _failed(record, where)
    if is_chain(record):
        return Chain.from_json(json.dumps(record), where=where)
    return read_shape(record, where)


def _failed(record: dict[str, Any], where: str) -> Chain:
    """What was made of a prompt until it failed, from a line of OUT.errors.jsonl; why is in `meta`."""
    begun = record["chain"] or {"version": VERSION, "stop": "error"}
    chain = Chain.from_json(json.dumps(begun | {"id": record["id"]}), where=where)
    failure = {name: record.get(name) for name in ("error", "message", "hint")}
    return chain.model_copy(update={"meta": {**chain.meta, "failure": failure}})


def _id_of(record: Any, stem: str, index: int) -> str:
    own = _own_id(record) if isinstance(record, dict) else None
    name = str(index if own is None else own)
    return name if name.startswith(f"{stem}/") else f"{stem}/{name}"


def _own_id(record: dict[str, Any]) -> str | int | None:
    values = (record.get(name) for name in ID_FIELDS)
    return next((v for v in values if isinstance(v, str | int) and not isinstance(v, bool) and v != ""), None)


def _unique(name: str, used: set[str]) -> str:
    """The name, or the first of `name~2`, `name~3`… that no record before has."""
    tried, number = name, 1
    while tried in used:
        number += 1
        tried = f"{name}~{number}"
    used.add(tried)
    return tried


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each record stands, and the record."""
    try:
        with _open(path) as file:
            yield from _decoded(path, file)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecordError(f"{path}: cannot be read: {reason}.") from None


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _decoded(path: Path, file: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    rows = ((f"{path}:{n}", line.removeprefix(_BOM).strip()) for n, line in enumerate(file, start=1))
    lines = ((where, line) for where, line in rows if line)
    if path.name.removesuffix(".gz").endswith(".txt"):
        yield from ((where, _text(line, where)) for where, line in lines)
        return
    for number, (where, line) in enumerate(lines):
        if number == 0 and (line.startswith(b"[") or line == b"{"):
            rest = b"\n".join(line for _, line in lines)
            yield from _whole(path, line + b"\n" + rest)
            return
        yield where, _json(line, where)


_BOM = b"\xef\xbb\xbf"


def _whole(path: Path, data: bytes) -> Iterator[tuple[str, Any]]:
    """The records of a file that is one JSON value: an array of them, or a single one."""
    value = _json(data, str(path))
    for index, record in enumerate(value if isinstance(value, list) else [value]):
        yield f"{path}: record {index}", record


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: not UTF-8: {error.reason} at byte {error.start + 1}.") from None


def _json(data: bytes, where: str) -> Any:
    try:
        value = json.loads(_text(data, where))
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise RecordError(
            f"{where}: not JSON: {error.msg} at {line}character {error.colno}.", hint=_NOT_JSON
        ) from None
    except UnicodeEncodeError:
        raise RecordError(f"{where}: holds half of a character, a \\ud… without its other half.") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: not JSON that can be read: {error}.") from None
    return value


_NOT_JSON = "Write one JSON object or text a line, or one array; a file of plain prompts ends in .txt."


def to_selfee_answer(chain: Chain, model_id: str) -> dict[str, Any]:
    """The chain as SelFee's inference writes it: `text` is the best answer, `whole_generation` all of it."""
    return {
        "question_id": _question_id(chain),
        "text": chain.answer,
        "whole_generation": render(chain),
        "answer_id": _answer_id(chain, model_id),
        "model_id": model_id,
        "metadata": {},
    }


def to_fastchat_answer(chain: Chain, model_id: str) -> dict[str, Any]:
    """The best answer as FastChat's judge reads it.

    `tstamp`, in seconds since 1970, is `created` of the chain's `meta` where it has that, else 0.
    """
    return {
        "question_id": _question_id(chain),
        "answer_id": _answer_id(chain, model_id),
        "model_id": model_id,
        "choices": [{"index": 0, "turns": [chain.answer]}],
        "tstamp": chain.meta.get("created", 0.0),
    }


def to_selfee_chain(chain: Chain) -> dict[str, Any]:
    """The chain as a record of SelFee's training data. An answer without feedback has no `feedback`."""
    outputs = [
        {"output": step.answer, **({"feedback": step.feedback.text} if step.feedback else {})}
        for step in chain.steps
    ]
    reference = chain.meta.get("reference")
    return {
        "iteration_truncated": chain.stop in {"max_revisions", "context", "max_tokens", "budget"},
        "iteration": len(outputs),
        **_source(chain),
        **({"output": reference} if isinstance(reference, str) else {}),
        "instruction": instruction_of(chain.prompt),
        "input": "" if chain.prompt.messages else chain.prompt.input,
        "outputs": outputs,
    }


def _source(chain: Chain) -> dict[str, Any]:
    source = chain.meta.get("source")
    return source if isinstance(source, dict) else {}


def _question_id(chain: Chain) -> str | int:
    """The question's own id, or the last part of the chain's; a number where it is one."""
    own = _own_id(_source(chain))
    name = chain.id.rpartition("/")[2] if own is None else own
    return int(name) if isinstance(name, str) and name.isascii() and name.isdecimal() else name


def _answer_id(chain: Chain, model_id: str) -> str:
    """Made of what it names, so that writing twice gives the same. As long as FastChat's: 22 characters."""
    content = json.dumps([chain.id, model_id, chain.answer])
    return hashlib.sha256(content.encode()).hexdigest()[:22]
