"""What of a chain is compared, counted and judged: all that is said in it, its first question, its answer."""

from __future__ import annotations

from typing import Any, Literal

from redraft.chain import Chain, content_of
from redraft.collect.turns import Turn, turns_of
from redraft.formats.tasks import boxed

Part = Literal["all", "query", "instruction"]
"""Everything said, the first user turn, or that turn without its input."""


def text_of(chain: Chain, part: Part) -> str:
    """That part of a chain as one text, empty where the chain has none of it."""
    if part == "all":
        return "\n".join(said_in(chain))
    if part == "instruction" and chain.prompt.messages is None:
        return chain.prompt.instruction
    return next((turn.text for turn in turns_of(chain) if turn.role == "user"), "")


def said_in(chain: Chain) -> list[str]:
    """Each text of a chain: the prompt's turns, every answer and feedback, the gold answer, its rationale."""
    return [text for text in (*asked_in(chain), *_replies(chain), *gold_of(chain)) if text.strip()]


def asked_in(chain: Chain) -> list[str]:
    """The turns of the prompt, whoever's they are; an instruction and its input are one."""
    if chain.prompt.messages is None:
        return [chain.prompt.text]
    return [content_of(message) for message in chain.prompt.messages]


def gold_of(chain: Chain) -> list[str]:
    """The gold answers, and the rationale."""
    return gold_answers(chain) + rationales(chain)


def gold_answers(chain: Chain) -> list[str]:
    """The gold answers as they are: one, or one a turn. None of them is blank."""
    return _texts(chain.meta.get("reference"))


def rationales(chain: Chain) -> list[str]:
    """How one comes to the gold answers, likewise."""
    return _texts(chain.meta.get("rationale"))


def answer_of(chain: Chain) -> str:
    """What a model would be trained to answer: the best answer, else the gold one with the way to it.

    Mathematics is learnt by its steps: the rationale comes first, and the gold answer is a paragraph behind
    it, so that all end alike; only a solution with the answer in a box is whole. Empty if there is neither.
    """
    if chain.answer.strip():
        return chain.answer
    gold, way = gold_answers(chain)[:1], rationales(chain)[:1]
    if not gold or not way:
        return "".join(gold)
    return way[0] if boxed(way[0]) == gold[0].strip() else f"{way[0].rstrip()}\n\n{gold[0]}"


def is_answered(chain: Chain) -> bool:
    """Whether an assistant says anything in it, or a gold answer would."""
    said = any(message.get("role") == "assistant" for message in chain.prompt.messages or ())
    return bool(chain.steps) or said or bool(gold_answers(chain))


def talk_of(chain: Chain) -> tuple[Turn, ...]:
    """The turns, and where the assistant has not answered, its gold answer as the last one.

    So a record of Alpaca's is judged as the same texts are in a conversation.
    """
    turns = turns_of(chain)
    gold = "" if chain.steps else answer_of(chain)
    return (*turns, Turn("assistant", gold)) if gold else turns


def _texts(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text for text in several if isinstance(text, str) and text.strip()]


def _replies(chain: Chain) -> list[str]:
    return [
        text for step in chain.steps for text in (step.answer, step.feedback.text if step.feedback else "")
    ]
