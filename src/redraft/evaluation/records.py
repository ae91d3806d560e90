"""What the records of several files have in common: the question's id, the name of each file, and a cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from redraft.chain import Chain, Usage
from redraft.formats.read.files import name_of, stem_of


def question_id(chain: Chain) -> str:
    """Return the id of the question that a record asks or answers."""
    return text_in_source(chain, "question_id") or chain.id


def item_of(chain: Chain) -> str:
    """Return what a chain is drawn with: runs and turns of one question are one item, not several.

    It is the chain's id, with the `question_id` of its record if that has one.
    """
    question = text_in_source(chain, "question_id")
    return chain.id if question is None else "/".join([*chain.id.split("/")[:-1], question])


def text_in_source(chain: Chain, name: str) -> str | None:
    """Return a field of the record that a chain was made from, as a text; None if it has none."""
    source = chain.meta.get("source")
    value = source.get(name) if isinstance(source, Mapping) else None
    return None if value is None else str(value)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of files: without folder and ending, if these differ."""
    stems = Counter(stem_of(path) for path in paths)
    return tuple(stem_of(path) if stems[stem_of(path)] == 1 else name_of(path) for path in paths)


def listed(ids: Sequence[str], most: int = 20) -> str:
    """Return the first ids as a text."""
    return ", ".join(ids[:most]) + " …" * (len(ids) > most)


class JudgeUsage(Usage):
    """What reviews or grades cost, as far as they say it.

    Attributes:
        records: How many there are.
        counted: How many of them say their tokens.
        priced: How many of them say their cost.
    """

    records: int = 0
    counted: int = 0
    priced: int = 0
