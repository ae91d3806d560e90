"""The texts of a chain to compare, count, judge and change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from redraft.chain import Chain, Prompt, content_of
from redraft.chain.texts import Turn, answer_of, gold_answers, rationales, turns_of

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
    """Return all nonblank texts."""
    replies = (text for step in chain.steps for text in (step.answer, step.criticism))
    return [text for text in (*asked_in(chain), *replies, *gold_of(chain)) if text.strip()]


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
    """Return the turns; a gold answer is the last turn if the assistant has not answered."""
    turns = turns_of(chain)
    gold = "" if chain.steps else answer_of(chain)
    return (*turns, Turn("assistant", gold)) if gold else turns


GOLD_LENGTH = 8  # fewest characters of a gold answer to search in feedback: shorter ones match by chance


def leaking(chain: Chain) -> tuple[int, int]:
    """Count the feedbacks that quote a gold answer, and how many of them judge an answer without it."""
    golds = [gold.strip() for gold in gold_answers(chain) if len(gold.strip()) >= GOLD_LENGTH]
    told = [step for step in chain.steps if any(gold in step.criticism for gold in golds)]
    return len(told), sum(not any(gold in step.answer for gold in golds) for step in told)


def generated(chain: Chain, name: str) -> bool:
    """Whether `redraft generate chains` marked a chain in its `meta`, such as for `leaks`."""
    about = chain.meta.get("generated")
    return isinstance(about, dict) and bool(about.get(name))


_Speaker = Literal["user", "assistant"]
_Change = Callable[[_Speaker, str], str]
"""Returns a changed text. System messages count as the user's: the model reads both."""

GOLD = ("reference", "rationale")
"""Fields of `meta` with the assistant's texts: one, or a list of one per turn."""


def with_texts(chain: Chain, change: _Change) -> Chain:
    """Change every text: prompt, answers, feedbacks and gold ones. An unchanged chain is returned itself."""
    prompt = _prompt(chain.prompt, change)
    steps = []
    for step in chain.steps:
        update: dict[str, Any] = {"answer": change("assistant", step.answer)}
        same = update["answer"] == step.answer
        if step.feedback and (text := change("assistant", step.feedback.text)) != step.feedback.text:
            same, update["feedback"] = False, step.feedback.model_copy(update={"text": text})
        steps.append(step if same else step.model_copy(update=update))
    gold = {name: chain.meta[name] for name in GOLD if name in chain.meta}
    for name, value in gold.items():
        if isinstance(value, str):
            gold[name] = change("assistant", value)
        elif isinstance(value, list):
            gold[name] = [change("assistant", each) if isinstance(each, str) else each for each in value]
    same = prompt is chain.prompt and all(new is old for new, old in zip(steps, chain.steps, strict=True))
    if same and all(chain.meta[name] == value for name, value in gold.items()):
        return chain
    return chain.model_copy(update={"prompt": prompt, "steps": tuple(steps), "meta": chain.meta | gold})


def spoken_texts(chain: Chain) -> list[tuple[_Speaker, str]]:
    """Return the texts that `with_texts` would change."""
    found: list[tuple[_Speaker, str]] = []

    def collect(speaker: _Speaker, text: str) -> str:
        found.append((speaker, text))
        return text

    with_texts(chain, collect)
    return found


def _prompt(prompt: Prompt, change: _Change) -> Prompt:
    if prompt.messages is None:
        new: dict[str, Any] = {
            "instruction": change("user", prompt.instruction),
            "input": change("user", prompt.input),
        }
        same = (new["instruction"], new["input"]) == (prompt.instruction, prompt.input)
    else:
        messages = tuple(_message(each, change) for each in prompt.messages)
        new = {"messages": messages}
        same = all(new is old for new, old in zip(messages, prompt.messages, strict=True))
    return prompt if same else prompt.model_copy(update=new)


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
