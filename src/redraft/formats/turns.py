"""A chain as the turns of a talk, and back: what cleaning, splitting and comparing look at.

Only the best answer is a turn; drafts and feedback stay in the chain's steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

from redraft.chain import Chain, Prompt, Step, content_of

Role = Literal["system", "user", "assistant", "tool"]


FOLLOWS = {
    "": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Who may speak after whom, and who first. A system message may stand before them all."""


class Turn(NamedTuple):
    """Who says what.

    Attributes:
        message: The message that it is in the prompt, if it is one, with what that has beside a text.
    """

    role: Role
    text: str
    message: Mapping[str, Any] | None = None

    @property
    def is_text(self) -> bool:
        """Whether there is nothing but a text."""
        said = self.message
        return said is None or (said.keys() <= {"role", "content"} and isinstance(said.get("content"), str))


def turns_of(chain: Chain) -> tuple[Turn, ...]:
    """The prompt's messages, or its instruction and input as one, then the best answer if there is one."""
    if chain.prompt.messages is None:
        said = [Turn("user", chain.prompt.text)] if chain.prompt.text else []
    else:
        said = [
            Turn(cast(Role, str(each.get("role", "user"))), content_of(each), each)
            for each in chain.prompt.messages
        ]
    return (*said, Turn("assistant", chain.answer)) if chain.steps else tuple(said)


def with_turns(chain: Chain, turns: Sequence[Turn]) -> Chain:
    """The chain with some of its turns. If they are all of them, it is returned as it is.

    An answer that ends the talk becomes the best one: in its place where the chain has steps, else as the
    only one. Without such an answer the chain has no steps.
    """
    if tuple(turns) == turns_of(chain):
        return chain
    answered = bool(turns) and turns[-1].role == "assistant"
    asked = turns[:-1] if answered else turns
    if len(asked) == 1 and asked[0].role == "user" and asked[0].is_text:
        same = chain.prompt.messages is None and asked[0].text == chain.prompt.text
        prompt = chain.prompt if same else Prompt(instruction=asked[0].text)
    else:
        prompt = Prompt(messages=tuple(map(_message, asked)))
    if not answered:
        return chain.model_copy(update={"prompt": prompt, "steps": (), "best": None, "stop": None})
    steps, best = _answered(chain, turns[-1].text)
    return chain.model_copy(update={"prompt": prompt, "steps": steps, "best": best})


def _message(turn: Turn) -> dict[str, Any]:
    return dict(turn.message or {"role": turn.role, "content": turn.text})


def _answered(chain: Chain, answer: str) -> tuple[tuple[Step, ...], int]:
    if chain.best is None:
        return (Step(answer=answer),), 0
    steps = list(chain.steps)
    steps[chain.best] = steps[chain.best].model_copy(update={"answer": answer})
    return tuple(steps), chain.best
