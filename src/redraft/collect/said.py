"""What of a chain is compared with others: all that is said in it, its first question, or its instruction."""

from __future__ import annotations

from typing import Any, Literal

from redraft.chain import Chain, content_of
from redraft.collect.turns import turns_of

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


def _texts(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text for text in several if isinstance(text, str) and text.strip()]


def _replies(chain: Chain) -> list[str]:
    return [
        text for step in chain.steps for text in (step.answer, step.feedback.text if step.feedback else "")
    ]
