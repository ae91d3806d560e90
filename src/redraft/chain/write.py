"""Convert chains to the formats of other programs.

Reading a record back and converting the chain again yields the same record. Every format stores less than a
chain. Each function lists what is lost. Texts are unchanged. A chain without an answer is written with the
gold answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from redraft.chain import Chain, Feedback, Step, content_of, is_blank, meta_of
from redraft.chain.selfee import instruction_of
from redraft.chain.texts import answer_message, answer_of, asked_turns, gold_answers, shows, step_message
from redraft.jobs.formats import ExportFormat

Loss = Literal["turns", "tools", "fields", "answers"]
"""A part of a chain that a format cannot store: roles, tools, other fields of messages, or later answers."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Unfit:
    """The reason why a format cannot store a chain: a short name (`rule`) and an explanation (`reason`)."""

    rule: str
    reason: str


NO_QUESTION = Unfit("no-question", "there is no question")
NO_ANSWER = Unfit("no-answer", "there is no answer to write")
REJECTED = Unfit("rejected", "the best answer failed its checks, or its feedback asks for a revision")
NOT_TEXT = Unfit("not-text", "a message has more than text, such as an image or a tool call")

_SELFEE = ("iteration_truncated", "output", "instruction", "input", "iteration", "outputs", "dataset")
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


def to_selfee(chain: Chain) -> Record | Unfit:
    """Return a record in the format of SelFee's training data. Fields imported from SelFee are unchanged.

    Lost: the id, the roles of messages, the verdicts, the checks, the index of the best answer, cost,
    model, settings, and `meta` except data set and gold answer.
    """
    steps = chain.steps
    if all(is_blank(step.answer) for step in steps):
        steps = (Step(answer=answer_of(chain)),)
        if not steps[0].answer:
            return NO_ANSWER
    if _shows(chain):
        return NOT_TEXT
    outputs = [
        {"output": step.answer, **({"feedback": step.feedback.text} if step.feedback else {})}
        for step in steps
    ]
    dataset, reference = meta_of(chain, "origin").get("dataset"), chain.meta.get("reference")
    record = {
        "iteration_truncated": chain.stop in {"max_revisions", "context", "max_tokens", "budget"},
        "iteration": len(outputs),
        **({"dataset": dataset} if isinstance(dataset, str) else {}),
        **meta_of(chain, "source"),
        **({"output": reference} if isinstance(reference, str) else {}),
        "instruction": instruction_of(chain.prompt),
        "input": "" if chain.prompt.messages else chain.prompt.input,
        "outputs": outputs,
    }
    return {name: record[name] for name in _SELFEE if name in record}


def to_alpaca(chain: Chain) -> Record | Unfit:
    """Return an Alpaca record. The output is the best answer or, if missing, the gold answer.

    Lost: everything except the prompt and the output. The output is read back as a gold answer.
    """
    if not (output := _written(chain)):
        return NO_ANSWER
    if _shows(chain):
        return NOT_TEXT
    extra = "" if chain.prompt.messages else chain.prompt.input
    return {"instruction": instruction_of(chain.prompt), "input": extra, "output": output}


def to_sharegpt(chain: Chain) -> Record | Unfit:
    """Return a ShareGPT conversation that ends in the best answer or, if missing, in the gold answer.

    Lost: drafts, feedback, and everything else except the id and the texts of the turns. Instruction and
    input become one text. Conversations with tools or images are rejected.
    """
    turns = asked_turns(chain.prompt)
    if strange := next((turn.role for turn in turns if turn.role not in _SPEAKERS), None):
        return Unfit("role", f"a turn has the role {strange!r:.40}, which ShareGPT does not know")
    if not (answer := _written(chain)):
        return NO_ANSWER
    if _shows(chain):
        return NOT_TEXT
    asked = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in turns]
    return {"id": _id(chain), "conversations": [*asked, {"from": "gpt", "value": answer}]}


def to_messages(chain: Chain) -> Record | Unfit:
    """Return chat messages that end in the best answer or, if missing, in the gold answer.

    Lost: drafts, feedback, the division into instruction and input, cost, model, settings, and all of `meta`
    except the tools and the fields of the answer's message.
    """
    messages = _asked(chain)
    if not all(isinstance(message.get("role"), str) for message in messages):
        return Unfit("role", "a message has no role")
    last = answer_message(chain)
    return {"id": _id(chain), "messages": [*messages, last], **_tools(chain)} if last else NO_ANSWER


def to_preference(chain: Chain) -> Record | Unfit:
    """Return a preference pair: the first answer (rejected), and the correction judged best (chosen).

    A correction must be judged better than the first answer. Without any feedback, the best answer is chosen.
    `prompt`, `chosen` and `rejected` are lists of messages, as in TRL. Lost: the other answers, feedback,
    cost, model, settings and `meta`, except data set and licence.
    """
    if not chain.best or chain.steps[0].answer.strip() == chain.answer.strip():
        no_pair = Unfit("no-pair", "the best answer is the first one, or equals it")
        return no_pair if chain.steps else NO_ANSWER
    first, *corrections = chain.steps
    chosen: Step | None = chain.steps[chain.best]
    if any(step.feedback for step in chain.steps):
        whole = [step for step in corrections if step.complete and not step.echo]
        new = [step for step in whole if step.answer.strip() != first.answer.strip()]
        chosen = max((step for step in reversed(new) if _is_better(step, first)), key=_rank, default=None)
    if chosen is None:
        return Unfit("not-better", "no correction was judged better than the first answer")
    pair = {"chosen": [step_message(chosen)], "rejected": [step_message(first)]}
    origin = {name: of for name, of in meta_of(chain, "origin").items() if name in ("dataset", "licence")}
    named = {"origin": origin} if origin else {}
    return {"id": _id(chain), "prompt": _asked(chain), **pair, **_tools(chain), **named}


def to_every_eval_ever(chain: Chain) -> Record | Unfit:
    """Convert a chain scored by `redraft eval` to an instance of Every Eval Ever's schema 0.3.0.

    Lost: other answers, feedback, settings, and the checks' messages.
    """
    truth, place = meta_of(chain, "eval"), chain.best or 0
    try:
        task, results, step = str(truth["task"]), truth["steps"][place], chain.steps[place]
        checks, passed = ", ".join(each["name"] for each in results), [each["passed"] for each in results]
    except (LookupError, TypeError):
        return Unfit("no-truth", "nothing says whether the answer is right: score it with redraft eval first")
    answers = chain.best is not None and not step.echo and not is_blank(step.answer)
    right = answers and bool(passed) and all(passed)
    model = str(chain.model.get("name") or truth.get("model") or "unknown")
    used, new = chain.usage, chain.usage.completion_tokens
    tokens = {"input_tokens": used.prompt_tokens, "output_tokens": new}
    extracted = {"turn_idx": 0, "source": "output.raw", "extracted_value": step.answer, "is_terminal": True}
    return {
        "schema_version": "0.3.0",
        "evaluation_id": f"{task}/{model}",
        "model_id": model,
        "evaluation_name": task,
        "sample_id": chain.id,
        "interaction_type": "single_turn",
        "input": {"raw": chain.prompt.text, "reference": [*gold_answers(chain)]},
        "output": {"raw": [step.answer]},
        "answer_attribution": [{**extracted, "extraction_method": checks}],
        "evaluation": {"score": float(right), "is_correct": right},
        "token_usage": {**tokens, "total_tokens": used.prompt_tokens + new} if new else None,
    }


def _written(chain: Chain) -> str:
    return answer_of(chain) if is_blank(chain.answer) else chain.steps[chain.best or 0].written


def _is_better(chosen: Step, rejected: Step) -> bool:
    checked = (chosen.score, rejected.score)
    for one, other in (checked, (teacher_score(chosen.feedback), teacher_score(rejected.feedback))):
        if one is not None and other is not None:
            return (bool(chosen.passed), one) > (bool(rejected.passed), other)
    return chosen.verdict == "accept" and rejected.verdict != "accept"


def _rank(step: Step) -> tuple[bool, bool, float]:
    score = step.score if step.checks else teacher_score(step.feedback)
    return bool(step.passed), step.verdict == "accept", 0.0 if score is None else score


def teacher_score(feedback: Feedback | None) -> float | None:
    """Return the score from 0 to 10 that a teacher gave (the feedback's extra field `score`), or None."""
    score = getattr(feedback, "score", None)
    return score if isinstance(score, int | float) and not isinstance(score, bool) else None


MAKERS: dict[ExportFormat, Callable[[Chain], Record | Unfit]] = {
    "selfee": to_selfee,
    "alpaca": to_alpaca,
    "sharegpt": to_sharegpt,
    "messages": to_messages,
    "preference": to_preference,
    "every-eval-ever": to_every_eval_ever,
}

ARRAYS: frozenset[ExportFormat] = frozenset({"alpaca", "sharegpt"})
"""Formats that are one JSON array, as in the published data. Other formats are JSON Lines."""

_LOSSES: dict[ExportFormat, frozenset[Loss]] = {
    "selfee": frozenset({"turns", "tools", "fields"}),
    "alpaca": frozenset({"turns", "tools", "fields", "answers"}),
    "sharegpt": frozenset({"tools", "fields", "answers"}),
    "messages": frozenset({"answers"}),
    "preference": frozenset({"fields"}),
    "every-eval-ever": frozenset({"turns", "tools", "fields", "answers"}),
}
"""The parts that each format cannot store."""


def losses(chain: Chain, to: ExportFormat) -> frozenset[Loss]:
    """Return the parts of a chain that a format loses."""
    asked = chain.prompt.messages or ()
    texts_only = () if to == "preference" else asked  # a pair contains the prompt's whole messages
    written = [each for message in (*texts_only, answer_message(chain)) for each in message.items()]
    found: dict[Loss, bool] = {
        "turns": len(asked) > 1,
        "tools": bool(_tools(chain)),
        "fields": any(name not in ("role", "content") and value not in (None, "") for name, value in written),
        "answers": len(chain.steps) > (chain.best or 0) + 1 or len(gold_answers(chain)) > 1,
    }
    return frozenset(part for part in _LOSSES[to] if found[part])


def _asked(chain: Chain) -> list[Record]:
    if chain.prompt.messages is None:
        return [{"role": "user", "content": chain.prompt.text}] if chain.prompt.text else []
    return [
        message
        if isinstance(message.get("content"), str | list | None)
        else {**message, "content": content_of(message)}
        for message in chain.prompt.messages
    ]


def _shows(chain: Chain) -> bool:
    return any(map(shows, (*(chain.prompt.messages or ()), answer_message(chain))))


def _tools(chain: Chain) -> Record:
    tools = meta_of(chain, "source").get("tools")
    return {"tools": tools} if tools else {}


def _id(chain: Chain) -> str | int:
    own = meta_of(chain, "source").get("id")
    if isinstance(own, bool) or not isinstance(own, str | int) or own == "":
        return chain.id
    return own if chain.id.endswith(f"/{own}") else chain.id
