"""Return and replace the texts of a chain: the turns of the conversation, and the gold answers.

The last turn is the best answer. Other answers and feedback are not turns. `meta.reference` has the gold
answers, `meta.rationale` the derivations. `is_refusal` recognises refusals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from redraft.chain import THOUGHTS, Chain, Prompt, Step, calls_of, content_of, is_blank, meta_of, other_parts
from redraft.chain.read.tasks import boxed
from redraft.errors import RecordError

Speaker = Literal["system", "user", "assistant", "tool"]
_UNANSWERED = Step(answer="")

FOLLOWS = {
    "": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""The roles that may follow each role, or start a conversation (""). A system message may come first."""

_CANNOT = r"\b(?:cannot|can ?not|can'?t|won'?t|will not|unable|not able|not possible)\b"
_REFUSAL = re.compile(
    r"\W*(?:unfortunately,? )?"
    rf"(?:(?:(?:i'?m|i am) (?:really |very |so )?(?:sorry|afraid)|sorry|my apologies|i apologi[sz]e)\b"
    rf"[^.!?\n]{{0,60}}{_CANNOT}|i(?: am|'m)? {_CANNOT} (?:to )?(?:help|assist|do|provide|answer|comply"
    r"|fulfil|generate|create|write|access|complete|perform|give|offer|support|engage|discuss|open"
    r"|judge|evaluate|assess|rate|review|critici[sz]e|critique|score"
    r"|see (?!any|an? |no |what |why |how |where ))"
    r"|as an? (?:ai|artificial|large language|language) ?(?:intelligence|model|assistant)?\b)",
    re.IGNORECASE,
)


class Turn(NamedTuple):
    """A turn of a conversation."""

    role: Speaker
    text: str
    message: Mapping[str, Any] | None = None  # with all its fields, if it is one of the prompt's messages

    @property
    def told(self) -> dict[str, Any]:
        """The turn as a message with `role` and `content`."""
        return {"role": self.role, "content": self.text}

    @property
    def is_text(self) -> bool:
        """Whether the turn contains only text."""
        own = self.message
        return own is None or (own.keys() <= {"role", "content"} and isinstance(own.get("content"), str))


def answer_message(chain: Chain) -> dict[str, Any]:
    """Return the answer (`answer_of`) as a message with all fields, or {} without an answer."""
    step = chain.steps[-1 if chain.best is None else chain.best] if chain.steps else _UNANSWERED
    message = {**meta_of(chain, "message"), **step_message(step)}
    calls, text = calls_of(message), answer_of(chain)
    message["content"] = text or (None if calls else "")
    return message if text or calls else {}


def step_message(step: Step) -> dict[str, Any]:
    """Return an answer as a message, with thoughts and tool calls."""
    parts = {"tool_calls": list(step.tool_calls), THOUGHTS[0]: step.reasoning}
    named = {name: part for name, part in parts.items() if part}
    return {"role": "assistant", "content": step.answer, **named}


def shows(message: Mapping[str, Any]) -> bool:
    """Return whether a message contains more than text, such as an image or a tool call."""
    return bool(calls_of(message) or other_parts(message))


def tools_of(chain: Chain) -> list[dict[str, Any]]:
    """Return the tools of a chain, from the field `tools` or OpenAI's older field `functions`.

    Raises:
        RecordError: The tools are neither a list of objects nor a JSON text of such a list.
    """
    source = meta_of(chain, "source")
    found = source.get("tools") or source.get("functions") or []
    if isinstance(found, str):
        with suppress(ValueError):
            found = json.loads(found)
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise RecordError("the tools are not a list of objects")
    return [{"type": "function", "function": tool} if "name" in tool else tool for tool in found]


def asked_turns(prompt: Prompt) -> tuple[Turn, ...]:
    """Return the messages of a prompt as turns, or instruction and input as one turn."""
    if prompt.messages is None:
        return (Turn("user", prompt.text),) if prompt.text else ()
    return tuple(
        Turn(str(message.get("role", "user")), content_of(message), message)  # type: ignore[arg-type]
        for message in prompt.messages
    )


def turns_of(chain: Chain) -> tuple[Turn, ...]:
    """Return the turns of the prompt, and the best answer, if any, as the last turn."""
    asked = asked_turns(chain.prompt)
    return (*asked, Turn("assistant", chain.answer)) if chain.steps else asked


def with_turns(chain: Chain, turns: Sequence[Turn]) -> Chain:
    """Return the chain with new turns.

    If the last turn is the assistant's, the turn replaces the best answer or, without a best answer, becomes
    the only step. Otherwise the new chain has no steps.
    """
    if tuple(turns) == turns_of(chain):
        return chain
    answered = bool(turns) and turns[-1].role == "assistant"
    asked = turns[:-1] if answered else turns
    if len(asked) == 1 and asked[0].role == "user" and asked[0].is_text:
        same = chain.prompt.messages is None and asked[0].text == chain.prompt.text
        prompt = chain.prompt if same else Prompt(instruction=asked[0].text)
    else:
        prompt = Prompt(messages=tuple(dict(turn.message or turn.told) for turn in asked))
    if not answered:
        return chain.model_copy(update={"prompt": prompt, "steps": (), "best": None, "stop": None})
    steps, best = list(chain.steps), chain.best
    if best is None:
        steps, best = [Step(answer=turns[-1].text)], 0
    else:
        steps[best] = steps[best].model_copy(update={"answer": turns[-1].text})
    return chain.model_copy(update={"prompt": prompt, "steps": tuple(steps), "best": best})


def gold_answers(chain: Chain) -> list[str]:
    """Return the gold answers that are not blank. A chain has one gold answer, or one per turn."""
    return _texts(chain.meta.get("reference"))


def rationales(chain: Chain) -> list[str]:
    """Return the rationales that are not blank. A chain has one rationale, or one per turn."""
    return _texts(chain.meta.get("rationale"))


def gold_texts(chain: Chain) -> list[str]:
    """Return all texts that reveal a gold answer: gold answers, rationales, and answers in `meta.source`."""
    source = meta_of(chain, "source")
    kept = [source.get(name) for name in ("answer", "answers")]
    return [*gold_answers(chain), *rationales(chain), *texts_in(kept)]


def gold_text(chain: Chain) -> str:
    """Return the gold answer as training text, or an empty text without a gold answer.

    A rationale comes first. If the rationale contains the boxed answer, nothing follows.
    """
    gold, way = gold_answers(chain)[:1], rationales(chain)[:1]
    if not gold or not way:
        return "".join(gold)
    return way[0] if boxed(way[0]) == gold[0].strip() else f"{way[0].rstrip()}\n\n{gold[0]}"


def answer_of(chain: Chain) -> str:
    """Return the best answer or, if blank, the gold answer with the rationale (`gold_text`)."""
    return gold_text(chain) if is_blank(chain.answer) else chain.answer


def _texts(value: Any) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [text for text in several if isinstance(text, str) and not is_blank(text)]


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value, except the names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(part)


def is_refusal(text: str) -> bool:
    """Return whether a text begins like an English refusal."""
    return bool(_REFUSAL.match(text.replace("’", "'")))
