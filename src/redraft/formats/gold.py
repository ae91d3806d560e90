"""A chain's gold answers (`reference` in `meta`) and their rationales (`rationale`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from redraft.chain import Chain
from redraft.formats.read.tasks import boxed


def gold_answers(chain: Chain) -> list[str]:
    """Return the gold answers that are not blank: one, or one per turn."""
    return _texts(chain.meta.get("reference"))


def rationales(chain: Chain) -> list[str]:
    """Return the rationales that are not blank: one, or one per turn."""
    return _texts(chain.meta.get("rationale"))


def gold_texts(chain: Chain) -> list[str]:
    """Return all texts that give a gold answer away: answers, rationales, and other answers of the source."""
    source = chain.meta.get("source")
    kept = [source.get(name) for name in ("answer", "answers")] if isinstance(source, Mapping) else []
    return [*gold_answers(chain), *rationales(chain), *_texts_in(kept)]


def gold_text(chain: Chain) -> str:
    """Return the gold answer with its rationale, as a model would be trained to answer, or an empty text.

    Mathematics is learned by its steps, so the rationale comes first and the gold answer is its own paragraph
    at the end. A solution with the answer in a box stays as it is.
    """
    gold, way = gold_answers(chain)[:1], rationales(chain)[:1]
    if not gold or not way:
        return "".join(gold)
    return way[0] if boxed(way[0]) == gold[0].strip() else f"{way[0].rstrip()}\n\n{gold[0]}"


def answer_of(chain: Chain) -> str:
    """Return the best answer, else the gold one with its rationale, else an empty text."""
    return chain.answer if chain.answer.strip() else gold_text(chain)


def _texts(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text for text in several if isinstance(text, str) and text.strip()]


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in nested lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(part)
