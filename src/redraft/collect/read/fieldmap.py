"""A map of fields: what the fields of any record are in a chain, as the user says it.

`instruction=question,reference=answer` reads `question` as the instruction and `answer` as the gold answer.
The other fields stay in the chain's source. A field inside another cannot be named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from redraft.chain import Chain, Prompt
from redraft.errors import RecordError, UsageError
from redraft.formats.read.conversations import from_messages, message_list
from redraft.formats.read.fields import Fields, Parts, answered
from redraft.formats.read.pairs import preferred
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
"""What a field can be."""


@dataclass(frozen=True)
class FieldMap:
    """What each field is.

    Attributes:
        fields: The record's field by its target, one of `TARGETS`.
    """

    fields: Mapping[str, str]

    def insist(self, record: Any, where: str) -> None:
        """Sees to it that a record has all the fields. To be asked of the first record alone.

        Raises:
            UsageError: It has not; the message names the nearest field.
        """
        found = list(record) if isinstance(record, dict) else []
        for name in self.fields.values():
            if name not in found:
                raise UsageError(
                    f"{where}: no field is called {name!r}.{nearest(name, found)}",
                    hint=f"Its fields: {' '.join(found[:20]) or 'none'}",
                )

    def read(self, record: Any, where: str) -> tuple[str, Chain]:
        """The id that a record has, or an empty text, and the record as a chain without an id.

        Raises:
            RecordError: It is no object, has no prompt, or a field is not what it should be.
        """
        if not isinstance(record, dict):
            raise RecordError(f"{where}: should be an object (found {record!r:.60}).")
        said = {target: record[name] for target, name in self.fields.items() if record.get(name) is not None}
        taken = set(self.fields.values())
        rest = {name: value for name, value in record.items() if name not in taken}
        called = {target: f"{name} ({target})" for target, name in self.fields.items() if name != target}
        parts = self._parts(Fields(said, where, called))
        parts.meta |= {name: said[name] for name in ("rationale", "tests") if name in said}
        parts.reference = _in_words(said.get("reference"))
        return _in_words(said.get("id")) or "", chain_from(parts, rest)

    def _parts(self, said: Fields) -> Parts:
        if "messages" in self.fields:
            parts = from_messages(said, "messages", message_list(said, "messages"))
        else:
            parts = Parts(Prompt(instruction=said.text("instruction"), input=said.text_or("input")))
        if "chosen" in self.fields:
            return preferred(parts.prompt, said.text("rejected"), said.text("chosen"))
        return answered(parts.prompt, said.text("answer")) if "answer" in said.rest else parts


def parse_map(texts: Iterable[str]) -> FieldMap:
    """The map that is written as `target=field,target=field`, in one text or several.

    Raises:
        UsageError: It is written wrongly, names a target that there is not, or has no prompt.
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
    """A question that names the nearest of what there is, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _wrong(message: str) -> UsageError:
    return UsageError(
        message, hint=f"--map instruction=question,reference=answer; a field can be: {' '.join(TARGETS)}"
    )


def _in_words(value: Any) -> str | None:
    """A number as a text: tables have numbers where other files have texts. An empty cell says nothing."""
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)
