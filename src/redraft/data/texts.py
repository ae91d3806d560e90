"""Return or change the texts of a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from redraft.chain import Chain, Prompt, Step, meta_of
from redraft.chain.texts import Turn, answer_of, asked_turns, gold_answers, rationales, turns_of

Part = Literal["all", "query", "instruction"]
"""The part of a chain to compare: all texts, the first user turn, or the instruction without the input."""


def text_of(chain: Chain, part: Part) -> str:
    """Return a part of a chain as one text, or an empty text if the chain lacks the part."""
    if part == "all":
        return "\n".join(texts_in(chain))
    if part == "instruction" and chain.prompt.messages is None:
        return chain.prompt.instruction
    return next((turn.text for turn in turns_of(chain) if turn.role == "user"), "")


def texts_in(chain: Chain) -> list[str]:
    """Return a chain's texts that are not blank, with gold answers and rationales last."""
    asked = (turn.text for turn in asked_turns(chain.prompt))
    replies = (text for step in chain.steps for text in (step.answer, step.criticism))
    return [*filter(str.strip, (*asked, *replies)), *gold_of(chain)]


def gold_of(chain: Chain) -> list[str]:
    """Return the gold answers and rationales of a chain."""
    return gold_answers(chain) + rationales(chain)


def is_answered(chain: Chain) -> bool:
    """Return whether a chain contains an assistant turn or a gold answer."""
    spoke = any(message.get("role") == "assistant" for message in chain.prompt.messages or ())
    return bool(chain.steps) or spoke or bool(gold_answers(chain))


def answered_turns(chain: Chain) -> tuple[Turn, ...]:
    """Return a chain's turns. If it has no steps, the gold answer is added as the last assistant turn."""
    turns, gold = turns_of(chain), "" if chain.steps else answer_of(chain)
    return (*turns, Turn("assistant", gold)) if gold else turns


GOLD_LENGTH = 8  # fewest characters of a gold answer to search in feedback: shorter ones match by chance


def leaking(chain: Chain) -> tuple[int, int]:
    """Count the steps whose feedback quotes a gold answer, and those whose own answer does not contain it."""
    golds = [gold.strip() for gold in gold_answers(chain) if len(gold.strip()) >= GOLD_LENGTH]
    told = [step for step in chain.steps if any(gold in step.criticism for gold in golds)]
    return len(told), sum(not any(gold in step.answer for gold in golds) for step in told)


def generated(chain: Chain, name: str) -> bool:
    """Return whether `redraft generate chains` recorded `name`, such as `leaks`, in the chain's `meta`."""
    return bool(meta_of(chain, "generated").get(name))


Record = TypeVar("Record", bound=BaseModel)
_Speaker = Literal["user", "assistant"]
_Change = Callable[[_Speaker, str], str]
"""Returns the changed text of a speaker. System messages are changed like user messages."""

GOLD = ("reference", "rationale")
"""Fields of `meta` that contain texts of the assistant: one text, or a list with one per turn."""


def with_texts(chain: Chain, change: _Change) -> Chain:
    """Change all texts: prompt, answers, feedback and gold texts. If nothing changes, return `chain`."""
    prompt, steps = _prompt(chain.prompt, change), tuple(_step(step, change) for step in chain.steps)
    gold = {name: chain.meta[name] for name in GOLD if name in chain.meta}
    for name, value in gold.items():
        if isinstance(value, str):
            gold[name] = change("assistant", value)
        elif isinstance(value, list):
            gold[name] = [change("assistant", each) if isinstance(each, str) else each for each in value]
    return _with(chain, prompt=prompt, steps=steps, meta=chain.meta | gold)


def spoken_texts(chain: Chain) -> list[tuple[_Speaker, str]]:
    """Return the texts that `with_texts` passes to `change`, as pairs of speaker and text."""
    found: list[tuple[_Speaker, str]] = []

    def collect(speaker: _Speaker, text: str) -> str:
        found.append((speaker, text))
        return text

    with_texts(chain, collect)
    return found


def _with(record: Record, **values: Any) -> Record:
    own = ((getattr(record, name), value) for name, value in values.items())
    return record if all(old is new or old == new for old, new in own) else record.model_copy(update=values)


def _prompt(prompt: Prompt, change: _Change) -> Prompt:
    if prompt.messages is not None:
        return _with(prompt, messages=tuple(_message(each, change) for each in prompt.messages))
    return _with(prompt, **{name: change("user", getattr(prompt, name)) for name in ("instruction", "input")})


def _step(step: Step, change: _Change) -> Step:
    answer, feedback = change("assistant", step.answer), step.feedback
    if feedback:
        feedback = _with(feedback, text=change("assistant", feedback.text))
    return _with(step, answer=answer, feedback=feedback)


def _message(message: dict[str, Any], change: _Change) -> dict[str, Any]:
    speaker: _Speaker = "assistant" if message.get("role") == "assistant" else "user"
    content = new = message.get("content")
    if isinstance(content, str):
        new = change(speaker, content)
    elif isinstance(content, list):
        new = [
            {**part, "text": change(speaker, part["text"])}
            if isinstance(part, Mapping) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]
    return message if new == content else {**message, "content": new}
