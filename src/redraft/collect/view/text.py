"""What of a chain is compared, counted and judged: all that is said in it, its first question, its answer."""

from __future__ import annotations

from typing import Literal

from redraft.chain import Chain, content_of
from redraft.formats.gold import answer_of, gold_answers, rationales
from redraft.formats.turns import Turn, turns_of

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


def _replies(chain: Chain) -> list[str]:
    return [
        text for step in chain.steps for text in (step.answer, step.feedback.text if step.feedback else "")
    ]
