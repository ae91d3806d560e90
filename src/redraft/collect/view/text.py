"""Return the texts of a chain to compare, count and judge."""

from __future__ import annotations

from typing import Literal

from redraft.chain import Chain, content_of
from redraft.formats.gold import answer_of, gold_answers, rationales
from redraft.formats.turns import Turn, turns_of

Part = Literal["all", "query", "instruction"]
"""All texts, the first user turn, or that turn without its input."""


def text_of(chain: Chain, part: Part) -> str:
    """Return a part of a chain as one text, or an empty text."""
    if part == "all":
        return "\n".join(texts_in(chain))
    if part == "instruction" and chain.prompt.messages is None:
        return chain.prompt.instruction
    return next((turn.text for turn in turns_of(chain) if turn.role == "user"), "")


def texts_in(chain: Chain) -> list[str]:
    """Return all nonblank texts: the prompt's turns, answers, feedbacks, gold answers and rationales."""
    return [text for text in (*asked_in(chain), *_replies(chain), *gold_of(chain)) if text.strip()]


def asked_in(chain: Chain) -> list[str]:
    """Return the texts of the prompt's turns; an instruction and its input are one."""
    if chain.prompt.messages is None:
        return [chain.prompt.text]
    return [content_of(message) for message in chain.prompt.messages]


def gold_of(chain: Chain) -> list[str]:
    """Return the gold answers and rationales."""
    return gold_answers(chain) + rationales(chain)


def is_answered(chain: Chain) -> bool:
    """Whether a chain has an assistant's turn or a gold answer."""
    spoke = any(message.get("role") == "assistant" for message in chain.prompt.messages or ())
    return bool(chain.steps) or spoke or bool(gold_answers(chain))


def answered_turns(chain: Chain) -> tuple[Turn, ...]:
    """Return the turns; a gold answer is the last turn if the assistant has not answered.

    So an Alpaca record is judged like the same texts in a conversation.
    """
    turns = turns_of(chain)
    gold = "" if chain.steps else answer_of(chain)
    return (*turns, Turn("assistant", gold)) if gold else turns


def _replies(chain: Chain) -> list[str]:
    return [
        text for step in chain.steps for text in (step.answer, step.feedback.text if step.feedback else "")
    ]
