"""The shapes of records that others publish, each as the parts of a chain.

A shape is known by its fields, the first in `SHAPES` that fits. What a record gives goes to

- the prompt, and a gold answer to `reference`, where the record is a task with its solution;
- the steps, where it is an answer, a pair of answers, a conversation's last reply, or a chain;
- `rationale`, `tests` and `lang` of `meta`, where it has them;
- `source`, all other fields unchanged, so that nothing of a record is lost.

The readers are here for chains and answers, in `formats.tasks` for problems, in `formats.talks` for
conversations, and in `formats.pairs` for preferences. Files, lines and ids are the business of
`formats.records`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from redraft.chain import Chain, Feedback, Prompt, Step, Stop, describe
from redraft.errors import RecordError
from redraft.formats.read import conversations, pairs, tasks
from redraft.formats.read.fields import Fields, Parts, answered, task
from redraft.formats.selfee import last_answer, parse, verdict_of


def _selfee_chain(fields: Fields) -> Parts:
    prompt = Prompt(instruction=fields.text("instruction"), input=fields.text_or("input"))
    reference = fields.text("output") if "output" in fields.rest else None
    steps = []
    for i, item in enumerate(fields.items("outputs")):
        inner = fields.nested(f"outputs.{i}", item)
        steps.append(_judged(inner.text("output"), inner.text_or("feedback") if "feedback" in item else None))
    return Parts(prompt, steps, last_answer(steps), _teacher_stop(steps, fields), reference)


def _judged(answer: str, feedback: str | None) -> Step:
    if feedback is None:
        return Step(answer=answer)
    return Step(answer=answer, feedback=Feedback(text=feedback, verdict=verdict_of(feedback)))


TEACHER_ANSWERS = 5
"""At so many answers the teacher's loop ended (reference: SelFee's data augmentation)."""


def _teacher_stop(steps: Sequence[Step], fields: Fields) -> Stop | None:
    """Why the loop that made the training data ended."""
    last = steps[-1].feedback if steps else None
    if last and last.verdict == "accept":
        return "accepted"
    if len(steps) >= TEACHER_ANSWERS:
        return "max_revisions"
    return "context" if fields.rest.get("iteration_truncated") is True else "ended"


def _selfee_answer(fields: Fields) -> Parts:
    """The released `text` says which answer is the best.

    The released models end after a feedback, so a revision without feedback that is not the released answer
    was cut by the limit of 2,048 tokens.
    """
    text, model = fields.text("text").strip(), fields.text_or("model_id") or None
    chain = parse(fields.text_or("whole_generation"))
    steps, best, stop = list(chain.steps), chain.best, chain.stop
    if not steps:
        return answered(chain.prompt, text, model)
    same = [i for i, step in enumerate(steps) if step.answer == text]
    if not same:
        fields.rest["text"] = text
    elif same[-1] < len(steps) - 1 and steps[-1].feedback is None:
        steps[-1] = steps[-1].model_copy(update={"finish": "max_tokens"})
        stop = "max_tokens"
    return Parts(chain.prompt, steps, same[-1] if same else best, stop, model=model)


def _fastchat_answer(fields: Fields) -> Parts:
    if "choices" not in fields.rest:
        return answered(Prompt(), fields.text("text"), fields.text_or("model_id") or None)
    choices = fields.items("choices")
    turns = choices[0].get("turns") if choices else None
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        fields.fail("choices.0.turns", "should be a list of texts", turns)
    if len(turns) > 1 or len(choices) > 1:
        fields.rest["choices"] = choices
    return answered(Prompt(), turns[0], fields.text_or("model_id") or None)


def _turns(fields: Fields) -> Parts:
    turns = fields.items("turns", str)
    if not turns:
        fields.fail("turns", "is empty")
    if len(turns) > 1:
        fields.rest["turns"] = turns
    reference = fields.items("reference", str) if fields.rest.get("reference") else None
    return Parts(Prompt(instruction=turns[0]), reference=reference)


def _prompt(fields: Fields) -> Parts:
    value = fields.rest["prompt"]
    if isinstance(value, dict):
        fields.rest.pop("prompt")
        return Parts(_prompt_record(value, fields))
    return task(fields.text("prompt"), fields.text_or("canonical_solution") or None)


def _prompt_record(value: dict[str, Any], fields: Fields) -> Prompt:
    try:
        return Prompt.model_validate(value)
    except ValidationError as error:
        raise RecordError(f"{fields.where}: prompt: {describe(error)}") from None


@dataclass(frozen=True)
class Shape:
    """A shape: the fields that it is known by, and how it is read.

    Attributes:
        refused: What a record of it is, where only prompts, answers and chains are read.
    """

    name: str
    needs: Set[str]
    read: Callable[[Fields], Parts]
    refused: str = ""


_PAIR = "a pair of answers for preference training"

SHAPES = (
    Shape("chosen and rejected", {"chosen"}, pairs.chosen_rejected, _PAIR),
    Shape("SHP", {"human_ref_A"}, pairs.shp, _PAIR),
    Shape("DrRepair", {"code_lines"}, tasks.repair, "a program to repair"),
    Shape("SelFee training chain", {"outputs"}, _selfee_chain),
    Shape("SelFee answer", {"question_id", "whole_generation"}, _selfee_answer),
    Shape("FastChat answer", {"question_id", "answer_id"}, _fastchat_answer),
    Shape("FastChat answer", {"question_id", "choices"}, _fastchat_answer),
    Shape("MT-bench question", {"question_id", "turns"}, _turns),
    Shape("CoNaLa", {"intent", "snippet"}, tasks.conala),
    Shape("question", {"question_id", "text"}, lambda f: task(f.text("text"), None)),
    Shape("ShareGPT conversation", {"conversations"}, conversations.conversation),
    Shape("messages", {"messages"}, conversations.messages),
    Shape("OASST1 tree", {"message_tree_id", "prompt"}, conversations.best_path),
    Shape("AQuA", {"question", "options"}, tasks.aqua),
    Shape("OpenOrca", {"system_prompt", "question", "response"}, tasks.with_system),
    Shape("GSM8K", {"question"}, tasks.question),
    Shape("MATH", {"problem", "solution"}, tasks.math),
    Shape("MBPP", {"text", "code"}, tasks.mbpp),
    Shape("MBPP", {"prompt", "code", "test_list"}, tasks.mbpp),
    Shape("CodeContests", {"description", "public_tests"}, tasks.code_contests),
    Shape("FLAN", {"inputs", "targets"}, lambda f: task(f.text("inputs"), f.text("targets"))),
    Shape("Self-Instruct task", {"instruction", "instances"}, tasks.instances),
    Shape("Alpaca", {"instruction"}, tasks.alpaca),
    Shape(
        "GPT4All",
        {"prompt", "response"},
        lambda f: answered(Prompt(instruction=f.text("prompt")), f.text("response")),
    ),
    Shape("prompt and completion", {"prompt", "completion"}, tasks.completion),
    Shape("prompt", {"prompt"}, _prompt),
)
"""In the order in which they are tried: the first whose fields are all there."""


def is_chain(record: Mapping[str, Any]) -> bool:
    """Whether a record is a chain of redraft's own."""
    return "version" in record and "steps" in record


def shape_of(record: Mapping[str, Any]) -> Shape | None:
    """The shape that a record has by its fields, if it is a known one."""
    return next((shape for shape in SHAPES if record.keys() >= shape.needs), None)


def known_shape(record: Mapping[str, Any], where: str) -> Shape:
    """The shape of a record.

    Raises:
        RecordError: No shape fits, or it is a review.
    """
    if "review_id" in record:
        raise _refused("a review", where)
    shape = shape_of(record)
    if shape is None:
        inside = _inside(record)
        raise RecordError(
            f"{where}: no known kind of record; its fields: {names(record)}{inside}.", hint=_HINT
        )
    return shape


def _inside(record: Mapping[str, Any]) -> str:
    """Return how to get at records that a field holds, or nothing."""
    for name, value in record.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            return f"; {name!r:.60} holds {len(value):,} objects: jq -c '.[{json.dumps(name)}][]' FILE"
    return ""


def read_shape(record: Mapping[str, Any], where: str) -> Chain:
    """A prompt, an answer or a chain of a known shape as a chain without an id.

    Raises:
        RecordError: No shape fits, it is something else, or a field is wrong.
    """
    shape = known_shape(record, where)
    if shape.refused:
        raise _refused(shape.refused, where)
    return read_as(shape, record, where)


def read_as(shape: Shape, record: Mapping[str, Any], where: str) -> Chain:
    """A record of a given shape, whatever that is, as a chain without an id.

    Raises:
        RecordError: A field is wrong.
    """
    fields = Fields(dict(record), where)
    return chain_from(shape.read(fields), fields.rest)


def read_tree(record: Mapping[str, Any], where: str) -> Iterator[tuple[str, Chain]]:
    """Every path of an OASST1 tree as a chain without an id, each with the id of its last message.

    Raises:
        RecordError: A field is wrong.
    """
    fields = Fields(dict(record), where)
    for leaf, parts in conversations.every_path(fields):
        yield leaf, chain_from(parts, fields.rest)


def names(record: Mapping[str, Any]) -> str:
    """The first fields of a record, as messages name them."""
    return ", ".join(f"{name!r:.60}" for name in list(record)[:8]) or "none"


def chain_from(parts: Parts, rest: dict[str, Any]) -> Chain:
    """The chain without an id that parts make; `rest` is its source."""
    meta: dict[str, Any] = {} if parts.reference is None else {"reference": parts.reference}
    return Chain(
        prompt=parts.prompt,
        steps=tuple(parts.steps),
        best=parts.best,
        stop=parts.stop,
        model={"name": parts.model} if parts.model else {},
        meta={**meta, **parts.meta, **({"source": rest} if rest else {})},
    )


def _refused(what: str, where: str) -> RecordError:
    return RecordError(f"{where}: is {what}, not a prompt, an answer or a chain.", hint=_HINT)


_HINT = (
    'A prompt is a text, {"prompt": "…"} or {"instruction": "…", "input": "…"}, one a line; with the answer '
    'to learn it is {"instruction": "…", "output": "…"} or {"messages": […]}.'
)
