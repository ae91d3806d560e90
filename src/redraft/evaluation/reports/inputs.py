"""Tell which kind of records a file has by its first one, so that a report knows what to describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

from redraft.errors import RecordError, UsageError, shown
from redraft.formats.read.files import decode, name_of
from redraft.formats.read.records import RawRecord, raw_records
from redraft.formats.read.shapes import is_chain

Kind = Literal["reviews", "grades", "chains", "scores"]
"""Judged pairs, grades of single answers, chains, or the scores of a task."""

_HINT = (
    "A report is on reviews or grades (redraft judge), chains (redraft answer, redraft eval), or scores "
    "(redraft eval --json)."
)


T = TypeVar("T")
Found = TypeVar("Found")


@dataclass
class BadFiles:
    """The files that a report leaves out: one that cannot be read does not stop the others.

    Attributes:
        strict: Leave none out, and raise.
        reasons: What is wrong with each.
    """

    strict: bool = False
    reasons: list[RecordError] = field(default_factory=list)

    def read(self, files: Iterable[T], read: Callable[[T], Found]) -> list[Found]:
        """Return what is found in each file that can be read.

        Raises:
            RecordError: What is wrong with the first, if none can be read.
        """
        found = []
        for file in files:
            try:
                found.append(read(file))
            except RecordError as error:
                if self.strict:
                    raise
                self.reasons.append(error)
        if self.reasons and not found:
            raise self.reasons[0]
        return found


class Input(NamedTuple):
    """A file with its records, and their kind by the first one; None for a file without records."""

    path: Path
    records: Iterable[RawRecord]
    kind: Kind | None


def opened(path: Path) -> Input:
    """Return a file with its kind. It may be standard input, which is read once.

    Raises:
        RecordError: The file cannot be read, or its first record is of no kind that a report describes.
    """
    records = raw_records(path)
    first = next(records, None)
    if first is None:
        return Input(path, (), None)
    return Input(path, chain([first], records), record_kind(decode(first.data, first.where), first.where))


def record_kind(record: Any, where: str) -> Kind:
    """Return the kind of a file by its first record.

    Raises:
        RecordError: It is none that a report describes.
    """
    if not isinstance(record, Mapping):
        raise RecordError(f"{where}: is {shown(record)}, nothing that a report describes.", hint=_HINT)
    if record.keys() >= {"files", "comparisons"} or record.keys() & {"runs", "grades"}:
        raise RecordError(f"{where}: is a report, and no input of one.", hint="Give it with --against FILE")
    if "g1_winner" in record or "answer1_id" in record:
        return "reviews"
    if "judgment" in record and "model" in record:
        return "grades"
    if is_chain(record):
        return "chains"
    if is_result(record):
        return "scores"
    if "question_id" in record and record.keys() & {"score", "winner"}:
        return "reviews"  # with fields missing, which the reader names
    fields = ", ".join(list(map(str, record))[:6]) or "none"
    raise RecordError(f"{where}: is nothing that a report describes; its fields are {fields}.", hint=_HINT)


_REPORTS: Mapping[str, str] = {"chains": "runs", "scores": "runs"}


def is_result(record: Mapping[str, Any]) -> bool:
    """Whether a record is what `redraft eval --json` prints."""
    return record.keys() >= {"task", "score", "right", "wrong"}


def kind_of(inputs: Sequence[Input]) -> Literal["reviews", "grades", "runs"]:
    """Return what the report is on. Chains and scores are both runs.

    Raises:
        RecordError: There is no record.
        UsageError: The files differ; the message says which is which.
    """
    found: dict[str, Input] = {}
    for each in inputs:
        if each.kind:
            found.setdefault(_REPORTS.get(each.kind, each.kind), each)
    if not found:
        names = ", ".join(name_of(each.path) for each in inputs)
        raise RecordError(f"there is no review in {names}, nor anything else.", hint=_HINT)
    if len(found) > 1:
        which = "; ".join(f"{name_of(each.path)} has {each.kind}" for each in found.values())
        raise UsageError(
            f"a report is on one kind of records: {which}.", hint="Give each kind its own report."
        )
    [kind] = found
    return cast('Literal["reviews", "grades", "runs"]', kind)
