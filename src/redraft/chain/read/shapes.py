"""Recognise the shape of a record by the record's fields, and read the record as a chain.

The first match in `shapes()` is used. Plugins may add shapes. A record's fields become the prompt, the steps,
and the fields `reference` (the gold answer), `rationale`, `tests` and `lang` of `meta`. All other fields are
kept in `meta.source`. The readers in this module are for answers and prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import ValidationError

from redraft.chain import Chain, Prompt, Step, Stop, describe
from redraft.chain.read import conversations
from redraft.chain.read.fields import Fields, Format, Shape, answered, gold, task
from redraft.chain.read.logs import LOGS
from redraft.chain.selfee import judged, last_answer, parse
from redraft.errors import RecordError
from redraft.jobs.plugins import PluginError, load_all, plugins


def _selfee_chain(fields: Fields) -> Chain:
    prompt = Prompt(instruction=fields.text("instruction"), input=fields.text_or("input"))
    reference = fields.text("output") if "output" in fields.rest else None
    steps = []
    for i, item in enumerate(fields.items("outputs")):
        inner = fields.nested(f"outputs.{i}", item)
        steps.append(judged(inner.text("output"), inner.text_or("feedback") if "feedback" in item else None))
    cut = fields.rest.get("iteration_truncated") is True
    stop: Stop = "max_revisions" if len(steps) >= TEACHER_ANSWERS else "context" if cut else "ended"
    if steps and steps[-1].verdict == "accept":
        stop = "accepted"
    best, meta = last_answer(steps), gold(reference)
    return Chain(prompt=prompt, steps=tuple(steps), best=best, stop=stop, meta=meta)


TEACHER_ANSWERS = 5  # the most answers in a chain of SelFee's teacher (its data augmentation)


def _selfee_answer(fields: Fields) -> Chain:
    text, model = fields.text("text").strip(), fields.text_or("model_id") or None
    chain = parse(fields.text_or("whole_generation"))
    steps, best, stop = list(chain.steps), chain.best, chain.stop
    if not steps:
        return answered(chain.prompt, text, model)
    if not (same := [i for i, step in enumerate(steps) if step.answer == text]):
        fields.rest["text"] = text
    elif same[-1] < len(steps) - 1 and steps[-1].feedback is None:
        # The released models end with a feedback. This text was cut by the limit of 2,048 tokens.
        steps[-1] = steps[-1].model_copy(update={"finish": "max_tokens"})
        stop = "max_tokens"
    best, named = same[-1] if same else best, {"name": model} if model else {}
    return Chain(prompt=chain.prompt, steps=tuple(steps), best=best, stop=stop, model=named)


def _fastchat_answer(fields: Fields) -> Chain:
    if "choices" not in fields.rest:
        return answered(Prompt(), fields.text("text"), fields.text_or("model_id") or None)
    choices = fields.items("choices")
    turns = choices[0].get("turns") if choices else None
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        fields.fail("choices.0.turns", "should be a list of texts", turns)
    if len(turns) > 1 or len(choices) > 1:
        fields.rest["choices"] = choices
    return answered(Prompt(), turns[0], fields.text_or("model_id") or None)


def _sample(fields: Fields) -> Chain:
    prompt, text = Prompt(instruction=fields.text("prompt")), fields.text("answer")
    for name in ("tokens", "log_probs", "settings", "judge"):
        fields.rest.pop(name, None)
    cut = fields.rest.get("ended") is False
    return Chain(prompt=prompt, steps=(Step(answer=text, finish="max_tokens" if cut else "stop"),), best=0)


def _turns(fields: Fields) -> Chain:
    if not (turns := fields.items("turns", str)):
        fields.fail("turns", "is empty")
    if len(turns) > 1:
        fields.rest["turns"] = turns
    reference = fields.items("reference", str) if fields.rest.get("reference") else None
    return Chain(prompt=Prompt(instruction=turns[0]), meta=gold(reference))


def _prompt(fields: Fields) -> Chain:
    value = fields.rest["prompt"]
    if not isinstance(value, dict):
        given = fields.text("input") if isinstance(fields.rest.get("input"), str) else ""
        return task(fields.text("prompt"), fields.text_or("canonical_solution") or None, given)
    fields.rest.pop("prompt")
    try:
        return Chain(prompt=Prompt.model_validate(value))
    except ValidationError as error:
        raise RecordError(f"{fields.where}: prompt: {describe(error)}") from None


ANSWERS = Format(
    order=2,
    shapes=(
        *LOGS,
        Shape("SelFee training chain", {"outputs"}, _selfee_chain),
        Shape("SelFee answer", {"question_id", "whole_generation"}, _selfee_answer),
        Shape("FastChat answer", {"question_id", "answer_id"}, _fastchat_answer),
        Shape("FastChat answer", {"question_id", "choices"}, _fastchat_answer),
        Shape("answer of a policy", {"rollout", "row", "prompt", "answer", "reward"}, _sample),
        Shape("MT-bench question", {"question_id", "turns"}, _turns),
        Shape("question", {"question_id", "text"}, lambda f: task(f.text("text"), None)),
    ),
)
"""The shapes of records with a model's answer, or with a question of a benchmark."""

PROMPTS = Format(order=5, shapes=(Shape("prompt", {"prompt"}, _prompt),))
"""The shape of a record that has a prompt but matches no other shape."""


@cache
def shapes() -> tuple[Shape, ...]:
    """Return the shapes of all plugins of `redraft.formats`, in order of precedence."""
    found = sorted(load_all("redraft.formats", Format).items(), key=lambda item: (item[1].order, item[0]))
    known = plugins("redraft.formats")
    return tuple(
        replace(shape, read=known[name].guarded(shape.read, Chain, (ValidationError,)))
        for name, each in found
        for shape in each.shapes
    )


def is_chain(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a chain in redraft's format."""
    return "version" in record and "steps" in record


def shape_of(record: Mapping[str, Any]) -> Shape | None:
    """Return the first shape whose fields a record has, or None."""
    names = frozenset(record)
    return next((shape for shape in shapes() if shape.needs <= names), None)


def known_shape(record: Mapping[str, Any], where: str) -> Shape:
    """Return a record's shape. Raise a RecordError if no shape is known."""
    if "review_id" in record:
        raise _refused("a review", where)
    if shape := shape_of(record):
        return shape
    fault = f"the record has no known shape; its fields: {names(record)}"
    for name, value in record.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            way = "name it 'messages'" if name == "message" else f"jq -c '.[{json.dumps(name)}][]' FILE"
            fault += f"; {name!r:.60} is a list of objects: {way}"
            break
    hint = _HINT
    if "text" in record:
        way = "jq -c '{prompt: .text}' FILE"
        hint += f"\nA field 'text' is read as a question only if there is a 'question_id'. Otherwise: {way}"
    raise RecordError(f"{where}: {fault}.", hint=hint)


def read_shape(record: Mapping[str, Any], where: str) -> Chain:
    """Read a record as a chain without an id. Raise if the record is no prompt, answer or chain."""
    shape = known_shape(record, where)
    if shape.refused:
        raise _refused(shape.refused, where)
    return read_as(shape, record, where)


def read_as(shape: Shape, record: Mapping[str, Any], where: str) -> Chain:
    """Read a record of the given shape as a chain without an id."""
    fields = Fields(dict(record), where)
    try:
        return _with_source(shape.read(fields), fields)
    except PluginError as error:
        raise RecordError(f"{where}: {error.message}", hint=error.hint) from error
    except ValidationError as error:
        raise RecordError(f"{where}: the record does not fit {shape.name!r}: {describe(error)}") from None


def read_tree(record: Mapping[str, Any], where: str) -> Iterator[tuple[str, Chain]]:
    """Yield the id of the last message, and a chain without an id, for each path of an OASST1 tree."""
    fields = Fields(dict(record), where)
    for leaf, chain in conversations.every_path(fields):
        yield leaf, _with_source(chain, fields)


def names(record: Mapping[str, Any]) -> str:
    """Return the names of a record's first fields, for error messages."""
    return ", ".join(f"{name!r:.60}" for name in list(record)[:8]) or "none"


def _with_source(chain: Chain, fields: Fields) -> Chain:
    if not fields.rest:
        return chain
    meta = dict(chain.meta)
    if meta.get("preference") and isinstance(fields.rest.get("origin"), dict):  # as `data export` writes it
        meta["origin"] = fields.rest.pop("origin")
    if fields.rest:
        meta["source"] = fields.rest
    return chain.model_copy(update={"meta": meta})


def _refused(what: str, where: str) -> RecordError:
    return RecordError(f"{where}: the record is {what}, not a prompt, an answer or a chain.", hint=_HINT)


_HINT = (
    'A prompt is a text, {"prompt": "…"} or {"instruction": "…", "input": "…"}, one per line. '
    'A prompt with an answer is {"instruction": "…", "output": "…"} or {"messages": […]}.'
)
