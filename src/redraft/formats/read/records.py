"""Files of records: any published shape in, chains out; and chains as SelFee and FastChat write them.

How a file is opened and cut into records is in `formats.files`; the kind of a record is read from its fields
(`formats.shapes`).

Every chain gets an id that is unique in its file and the same from run to run: `vicuna_80/12` is record 12 of
`vicuna_80.jsonl` by its own id, or by its place in the file (from 0) where it has none. Cleaning is not done
here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from redraft.chain import VERSION, Chain
from redraft.errors import RecordError
from redraft.formats.read.files import read_rows, stem_of
from redraft.formats.read.shapes import is_chain, read_shape
from redraft.formats.selfee import instruction_of, render

ID_FIELDS = ("question_id", "id", "task_id", "key", "unique_id", "message_tree_id")


def read_records(path: Path) -> Iterator[Chain]:
    """Reads a file of any known shape, record by record.

    Raises:
        RecordError: The file cannot be read, or a record is not one; the message names file, line and field.
    """
    stem, used = stem_of(path), Ids()
    for index, (where, record) in enumerate(read_rows(path)):
        chain = chain_of(record, where)
        name = used.new(chain.id or id_of(record, stem, index))
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
        return Chain.from_json(to_json(record), where=where)
    return read_shape(record, where)


def _failed(record: dict[str, Any], where: str) -> Chain:
    """What was made of a prompt until it failed, from a line of OUT.errors.jsonl; why is in `meta`."""
    begun = record["chain"] or {"version": VERSION, "stop": "error"}
    if not isinstance(begun, dict):
        raise RecordError(f"{where}: chain should be an object (found {begun!r:.60}).")
    chain = Chain.from_json(json.dumps(begun | {"id": record["id"]}), where=where)
    failure = {name: record.get(name) for name in ("error", "message", "hint")}
    return chain.model_copy(update={"meta": {**chain.meta, "failure": failure}})


def id_of(record: Any, stem: str, index: int) -> str:
    """The id of a record that is no chain: its own, or its place in the file, behind the file's name."""
    own = _own_id(record) if isinstance(record, dict) else None
    name = str(index if own is None else own)
    return name if name.startswith(f"{stem}/") else f"{stem}/{name}"


def _own_id(record: dict[str, Any]) -> str | int | None:
    values = (record.get(name) for name in ID_FIELDS)
    return next((v for v in values if isinstance(v, str | int) and not isinstance(v, bool) and v != ""), None)


class Ids:
    """The ids given so far, as hashes of 8 bytes: about 80 bytes of memory an id.

    Two ids with one hash would only cost the second a needless `~2`.
    """

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._repeats: dict[int, int] = {}

    def new(self, name: str) -> str:
        """The name, or the first of `name~2`, `name~3`… that was not given before."""
        key = tried = _hash(name)
        new, number = name, self._repeats.get(key, 1)
        while tried in self._used:
            number += 1
            new = f"{name}~{number}"
            tried = _hash(new)
        self._used.add(tried)
        if number > 1:
            self._repeats[key] = number
        return new


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


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
