"""Gold answers of a chain: what is right, and how one comes to it.

They are in `meta`: `reference`, and `rationale` where a record has one. What of them is compared or judged is
not known here.
"""

from __future__ import annotations

from typing import Any

from redraft.chain import Chain
from redraft.formats.read.tasks import boxed


def gold_answers(chain: Chain) -> list[str]:
    """The gold answers as they are: one, or one a turn. None of them is blank."""
    return _texts(chain.meta.get("reference"))


def rationales(chain: Chain) -> list[str]:
    """How one comes to the gold answers, likewise."""
    return _texts(chain.meta.get("rationale"))


def gold_text(chain: Chain) -> str:
    """The gold answer with the way to it, as a model would be trained to answer. Empty if there is none.

    Mathematics is learnt by its steps: the rationale comes first, and the gold answer is a paragraph behind
    it, so that all end alike; only a solution with the answer in a box is whole.
    """
    gold, way = gold_answers(chain)[:1], rationales(chain)[:1]
    if not gold or not way:
        return "".join(gold)
    return way[0] if boxed(way[0]) == gold[0].strip() else f"{way[0].rstrip()}\n\n{gold[0]}"


def answer_of(chain: Chain) -> str:
    """What a model would be trained to answer: the best answer, else the gold one with the way to it.

    Empty if there is neither.
    """
    return chain.answer if chain.answer.strip() else gold_text(chain)


def _texts(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text for text in several if isinstance(text, str) and text.strip()]
