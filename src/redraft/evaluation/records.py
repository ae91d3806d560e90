"""Fields that records of several files share: the question's id, and the name of each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from redraft.chain import Chain, meta_of
from redraft.chain.read.files import name_of, stem_of

SAMPLE_OF = "sample_of"  # the field of `meta` with the id of the record that a chain answers once more


def question_id(chain: Chain) -> str:
    """Return the id of the question that a record asks or answers."""
    return text_in_source(chain, "question_id") or chain.id


def item_of(chain: Chain) -> str:
    """Return the item of a chain: runs and turns of one question are one item.

    It is the chain's id, with the `question_id` of its record if that has one. Further answers to a record
    (`redraft eval --samples`) belong to its item.
    """
    if of := chain.meta.get(SAMPLE_OF):
        return str(of)
    question = text_in_source(chain, "question_id")
    return chain.id if question is None else "/".join([*chain.id.split("/")[:-1], question])


def text_in_source(chain: Chain, name: str) -> str | None:
    """Return a field of the record that a chain was made from, as a text; None if it has none."""
    value = meta_of(chain, "source").get(name)
    return None if value is None else str(value)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of files: without folder and ending, if these differ."""
    stems = Counter(stem_of(path) for path in paths)
    return tuple(stem_of(path) if stems[stem_of(path)] == 1 else name_of(path) for path in paths)


def listed(ids: Sequence[str], most: int = 20) -> str:
    """Return the first ids as a text."""
    return ", ".join(ids[:most]) + " …" * (len(ids) > most)
