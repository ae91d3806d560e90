"""Read fields that several kinds of records have, such as the question's id. Make short names of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from redraft.chain import Chain, meta_of
from redraft.chain.read.files import name_of, stem_of

SAMPLE_OF = "sample_of"  # the field of `meta` with the id of the record that a chain answers again


def question_id(chain: Chain) -> str:
    """Return the id of the question that a record asks or answers."""
    return text_in_source(chain, "question_id") or chain.id


def item_of(chain: Chain) -> str:
    """Return the id of a chain's item. All runs and turns of a question are one item.

    For a further sample of a record (`redraft eval --samples`), return the record's id. Otherwise, return the
    chain's id, in which the source record's `question_id`, if any, replaces all after the last `/`.
    """
    if of := chain.meta.get(SAMPLE_OF):
        return str(of)
    question = text_in_source(chain, "question_id")
    return chain.id if question is None else "/".join([*chain.id.split("/")[:-1], question])


def text_in_source(chain: Chain, name: str) -> str | None:
    """Return a field of a chain's source record as text, or None if the field is missing."""
    value = meta_of(chain, "source").get(name)
    return None if value is None else str(value)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a name for each file: the stem if unique, otherwise the full name."""
    stems = Counter(stem_of(path) for path in paths)
    return tuple(stem_of(path) if stems[stem_of(path)] == 1 else name_of(path) for path in paths)


def listed(ids: Sequence[str], most: int = 20) -> str:
    """Join the first `most` ids with commas, and add `…` if ids are left out."""
    return ", ".join(ids[:most]) + " …" * (len(ids) > most)
