"""Read records with a user's map of fields.

`instruction=question,reference=answer` reads `question` as the instruction and `answer` as the gold answer.
Other fields stay in the chain's source. Nested fields cannot be named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from redraft.chain import Chain, Prompt
from redraft.errors import RecordError, UsageError
from redraft.formats.read.conversations import from_messages, message_list, preferred
from redraft.formats.read.fields import Fields, Parts, answered
from redraft.formats.read.shapes import chain_from

TARGETS = (
    "instruction",
    "input",
    "messages",
    "answer",
    "chosen",
    "rejected",
    "reference",
    "rationale",
    "tests",
    "id",
)
"""Targets of a field."""


@dataclass(frozen=True)
class FieldMap:
    """A map of fields.

    Attributes:
        fields: The record's field by its target, one of `TARGETS`.
    """

    fields: Mapping[str, str]

    def check(self, record: Any, where: str) -> None:
        """Check that the first record has all the fields.

        Raises:
            UsageError: It does not; the message suggests the nearest field.
        """
        found = list(record) if isinstance(record, dict) else []
        for name in self.fields.values():
            if name not in found:
                raise UsageError(
                    f"{where}: no field is called {name!r}.{nearest(name, found)}",
                    hint=f"Its fields: {' '.join(found[:20]) or 'none'}",
                )

    def read(self, record: Any, where: str) -> tuple[str, Chain]:
        """Return a record's id, or an empty text, and its chain without an id.

        Raises:
            RecordError: The record is not an object, has no prompt, or a field is wrong.
        """
        if not isinstance(record, dict):
            raise RecordError(f"{where}: should be an object (found {record!r:.60}).")
        values = {
            target: record[name] for target, name in self.fields.items() if record.get(name) is not None
        }
        taken = set(self.fields.values())
        rest = {name: value for name, value in record.items() if name not in taken}
        called = {target: f"{name} ({target})" for target, name in self.fields.items() if name != target}
        parts = self._parts(Fields(values, where, called))
        parts.meta |= {name: values[name] for name in ("rationale", "tests") if name in values}
        parts.reference = _as_text(values.get("reference"))
        return _as_text(values.get("id")) or "", chain_from(parts, rest)

    def _parts(self, fields: Fields) -> Parts:
        if "messages" in self.fields:
            parts = from_messages(fields, "messages", message_list(fields, "messages"))
        else:
            parts = Parts(Prompt(instruction=fields.text("instruction"), input=fields.text_or("input")))
        if "chosen" in self.fields:
            return preferred(parts.prompt, fields.text("rejected"), fields.text("chosen"))
        return answered(parts.prompt, fields.text("answer")) if "answer" in fields.rest else parts


def parse_map(texts: Iterable[str]) -> FieldMap:
    """Parse maps written as `target=field,target=field`.

    Raises:
        UsageError: A text is malformed, a target is unknown, or the prompt is missing.
    """
    fields: dict[str, str] = {}
    for pair in (pair.strip() for text in texts for pair in text.split(",") if pair.strip()):
        target, equals, name = (part.strip() for part in pair.partition("="))
        if not (equals and name):
            raise _wrong(f"the field map has {pair!r}, which is not target=field.")
        if target not in TARGETS:
            raise _wrong(f"a field cannot be {target!r}.{nearest(target, TARGETS)}")
        if target in fields:
            raise _wrong(f"the field map names {target} twice.")
        fields[target] = name
    if ("instruction" in fields) == ("messages" in fields):
        raise _wrong("the field map has to name the prompt: either instruction or messages.")
    if ("chosen" in fields) != ("rejected" in fields) or fields.keys() >= {"chosen", "answer"}:
        raise _wrong("the field map has to name chosen and rejected, or answer, or none of them.")
    return FieldMap(fields)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean …?" with the nearest known name, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _wrong(message: str) -> UsageError:
    return UsageError(
        message, hint=f"--map instruction=question,reference=answer; a field can be: {' '.join(TARGETS)}"
    )


def _as_text(value: Any) -> str | None:
    """Return a value as text: tables may have numbers. An empty cell is None."""
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)
