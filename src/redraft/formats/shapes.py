"""The shapes of records that others publish, each as the parts of a chain.

A shape is known by its fields, the first in `SHAPES` that fits. What a record gives goes to

- the prompt, and a gold answer to `reference`, where the record is a task with its solution;
- the steps, where it is an answer, a conversation's last reply, or a chain;
- `source`, all other fields unchanged, so that nothing of a record is lost.

Files, lines and ids are the business of `formats.records`. Pairs for preference training, reviews and
programs to repair are none of these, and are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from redraft.chain import Chain, Feedback, Prompt, Step, Stop, content_of, describe
from redraft.errors import RecordError
from redraft.formats.selfee import last_answer, parse, verdict_of

Messages = tuple[dict[str, Any], ...]


@dataclass
class Fields:
    """The fields of one record, taken one by one. What was not taken is left in `rest`.

    Attributes:
        where: What errors call the record.
    """

    rest: dict[str, Any]
    where: str

    def text(self, name: str) -> str:
        """Takes a text that must be there."""
        if name not in self.rest:
            self.fail(name, "is missing")
        value = self.rest.pop(name)
        if not isinstance(value, str):
            self.fail(name, "should be a text", value)
        return value

    def text_or(self, name: str, default: str = "") -> str:
        """Takes a text that may be missing or null."""
        if self.rest.get(name) is None:
            self.rest.pop(name, None)
            return default
        return self.text(name)

    def items(self, name: str, kind: type = dict) -> list[Any]:
        """Takes a list of objects, or of another kind."""
        value = self.rest.pop(name)
        if not isinstance(value, list):
            self.fail(name, "should be a list", value)
        for i, item in enumerate(value):
            if not isinstance(item, kind):
                self.fail(f"{name}.{i}", f"should be {_KINDS[kind]}", item)
        return value

    def nested(self, name: str, value: Any) -> Fields:
        """The fields of an object inside this record."""
        if not isinstance(value, dict):
            self.fail(name, "should be an object", value)
        return Fields(dict(value), f"{self.where}: {name}")

    def fail(self, name: str, problem: str, *found: Any) -> NoReturn:
        """Raises the error for a field."""
        shown = f" (found {found[0]!r:.60})" if found else ""
        raise RecordError(f"{self.where}: {name} {problem}{shown}.")


_KINDS: dict[type, str] = {dict: "an object", str: "a text"}


@dataclass
class Parts:
    """What a record gives to a chain.

    Attributes:
        reference: A gold answer: a text, or a list of one text a turn.
        model: Name of the model that answered.
    """

    prompt: Prompt = field(default_factory=Prompt)
    steps: Sequence[Step] = ()
    best: int | None = None
    stop: Stop | None = None
    reference: str | list[str] | None = None
    model: str | None = None


def _answered(prompt: Prompt, answer: str, model: str | None = None) -> Parts:
    return Parts(prompt, (Step(answer=answer),), best=0, model=model)


def _task(instruction: str, reference: str | None, extra: str = "") -> Parts:
    return Parts(Prompt(instruction=instruction, input=extra), reference=reference)


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
        return _answered(chain.prompt, text, model)
    same = [i for i, step in enumerate(steps) if step.answer == text]
    if not same:
        fields.rest["text"] = text
    elif same[-1] < len(steps) - 1 and steps[-1].feedback is None:
        steps[-1] = steps[-1].model_copy(update={"finish": "max_tokens"})
        stop = "max_tokens"
    return Parts(chain.prompt, steps, same[-1] if same else best, stop, model=model)


def _fastchat_answer(fields: Fields) -> Parts:
    if "choices" not in fields.rest:
        return _answered(Prompt(), fields.text("text"), fields.text_or("model_id") or None)
    choices = fields.items("choices")
    turns = choices[0].get("turns") if choices else None
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        fields.fail("choices.0.turns", "should be a list of texts", turns)
    if len(turns) > 1 or len(choices) > 1:
        fields.rest["choices"] = choices
    return _answered(Prompt(), turns[0], fields.text_or("model_id") or None)


def _turns(fields: Fields) -> Parts:
    turns = fields.items("turns", str)
    if not turns:
        fields.fail("turns", "is empty")
    if len(turns) > 1:
        fields.rest["turns"] = turns
    reference = fields.items("reference", str) if fields.rest.get("reference") else None
    return Parts(Prompt(instruction=turns[0]), reference=reference)


_ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
}
"""Who speaks, as ShareGPT's records and OASST's name them, and as the OpenAI protocol does."""


def _role(fields: Fields, name: str) -> str:
    said = fields.text(name)
    if said not in _ROLES:
        fields.fail(name, f"should be one of {', '.join(_ROLES)}", said)
    return _ROLES[said]


def _conversation(fields: Fields) -> Parts:
    messages = []
    for i, item in enumerate(fields.items("conversations")):
        turn = fields.nested(f"conversations.{i}", item)
        messages.append({"role": _role(turn, "from"), "content": turn.text("value"), **turn.rest})
    return _talk(fields, "conversations", messages)


def _messages(fields: Fields) -> Parts:
    messages = fields.items("messages")
    for i, message in enumerate(messages):
        inner = fields.nested(f"messages.{i}", message)
        inner.text("role")
        if not isinstance(message.get("content"), str | list | None):
            inner.fail("content", "should be a text", message["content"])
    return _talk(fields, "messages", messages)


def _talk(fields: Fields, name: str, messages: Sequence[dict[str, Any]]) -> Parts:
    """A talk is a prompt, and an answer if the assistant has the last word."""
    if not messages:
        fields.fail(name, "is empty")
    if messages[-1]["role"] == "assistant":
        return _answered(_asked(messages[:-1]), content_of(messages[-1]))
    return Parts(_asked(messages))


def _asked(messages: Sequence[dict[str, Any]]) -> Prompt:
    if len(messages) == 1 and messages[0]["role"] == "user" and isinstance(messages[0]["content"], str):
        return Prompt(instruction=messages[0]["content"])
    return Prompt(messages=tuple(messages)) if messages else Prompt()


def _tree(fields: Fields) -> Parts:
    """The best path of an OASST tree: from the root, the best reply to each message, down to an answer."""
    path: list[dict[str, Any]] = []
    node: Any = fields.rest.pop("prompt")
    while node is not None:
        inner = fields.nested(f"prompt{'.replies' * len(path)}", node)
        path.append({"role": _role(inner, "role"), "content": inner.text("text")})
        node = _best_reply(inner)
    while len(path) > 1 and path[-1]["role"] == "user":
        path.pop()
    return _talk(fields, "prompt", path)


def _best_reply(fields: Fields) -> dict[str, Any] | None:
    """The reply with the lowest rank; those without one come last, and of equals the first counts."""
    replies = fields.items("replies") if fields.rest.get("replies") else []
    kept = [reply for reply in replies if not reply.get("deleted")]
    return min(kept, key=_rank, default=None)


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return rank if isinstance(rank, int) else float("inf")


def _conala(fields: Fields) -> Parts:
    intent = fields.text("intent")
    rewritten = fields.text_or("rewritten_intent")
    if rewritten:
        fields.rest["intent"] = intent
    return _task(rewritten or intent, fields.text("snippet"))


def _aqua(fields: Fields) -> Parts:
    """A question with its options, one a line. The reference is the letter."""
    options = fields.items("options", str)
    fields.rest["options"] = options
    return _task("\n".join([fields.text("question"), *options]), fields.text("correct"))


def _question(fields: Fields) -> Parts:
    answer = "answer" if "answer" in fields.rest else "ground_truth"
    return _task(fields.text("question"), fields.text_or(answer) or None)


def _math(fields: Fields) -> Parts:
    """The reference is the final answer where the record has it apart, else the whole solution."""
    return _task(fields.text("problem"), fields.text("answer" if "answer" in fields.rest else "solution"))


def _instances(fields: Fields) -> Parts:
    """The first instance. All of them stay in `source` where there are several."""
    instances = fields.items("instances")
    if not instances:
        return _task(fields.text("instruction"), None)
    first = fields.nested("instances.0", instances[0])
    if len(instances) > 1:
        fields.rest["instances"] = instances
    return _task(fields.text("instruction"), first.text("output"), first.text_or("input"))


def _alpaca(fields: Fields) -> Parts:
    return _task(fields.text("instruction"), fields.text_or("output") or None, fields.text_or("input"))


def _prompt(fields: Fields) -> Parts:
    value = fields.rest["prompt"]
    if isinstance(value, dict):
        fields.rest.pop("prompt")
        return Parts(_prompt_record(value, fields))
    return _task(fields.text("prompt"), fields.text_or("canonical_solution") or None)


def _prompt_record(value: dict[str, Any], fields: Fields) -> Prompt:
    try:
        return Prompt.model_validate(value)
    except ValidationError as error:
        raise RecordError(f"{fields.where}: prompt: {describe(error)}") from None


@dataclass(frozen=True)
class Shape:
    """A shape: the fields that it is known by, and how it is read."""

    name: str
    needs: Set[str]
    read: Callable[[Fields], Parts]


SHAPES = (
    Shape("SelFee training chain", {"outputs"}, _selfee_chain),
    Shape("SelFee answer", {"question_id", "whole_generation"}, _selfee_answer),
    Shape("FastChat answer", {"question_id", "answer_id"}, _fastchat_answer),
    Shape("FastChat answer", {"question_id", "choices"}, _fastchat_answer),
    Shape("MT-bench question", {"question_id", "turns"}, _turns),
    Shape("CoNaLa", {"intent", "snippet"}, _conala),
    Shape("question", {"question_id", "text"}, lambda f: _task(f.text("text"), None)),
    Shape("ShareGPT conversation", {"conversations"}, _conversation),
    Shape("messages", {"messages"}, _messages),
    Shape("OASST1 tree", {"message_tree_id", "prompt"}, _tree),
    Shape("AQuA", {"question", "options"}, _aqua),
    Shape("GSM8K", {"question"}, _question),
    Shape("MATH", {"problem", "solution"}, _math),
    Shape("MBPP", {"text", "code"}, lambda f: _task(f.text("text"), f.text("code"))),
    Shape("CodeContests", {"description", "public_tests"}, lambda f: _task(f.text("description"), None)),
    Shape("FLAN", {"inputs", "targets"}, lambda f: _task(f.text("inputs"), f.text("targets"))),
    Shape("Self-Instruct task", {"instruction", "instances"}, _instances),
    Shape("Alpaca", {"instruction"}, _alpaca),
    Shape(
        "GPT4All",
        {"prompt", "response"},
        lambda f: _answered(Prompt(instruction=f.text("prompt")), f.text("response")),
    ),
    Shape("prompt", {"prompt"}, _prompt),
)
"""In the order in which they are tried: the first whose fields are all there."""


NOT_READ = {
    "review_id": "a review",
    "chosen": "a pair of answers for preference training",
    "human_ref_A": "a pair of answers for preference training",
    "code_lines": "a program to repair",
}
"""Fields that tell of other records, which would be misread as prompts or not at all."""


def is_chain(record: Mapping[str, Any]) -> bool:
    """Whether a record is a chain of redraft's own."""
    return "version" in record and "steps" in record


def shape_of(record: Mapping[str, Any]) -> Shape | None:
    """The shape that a record has by its fields, if it is a known one."""
    return next((shape for shape in SHAPES if record.keys() >= shape.needs), None)


def read_shape(record: Mapping[str, Any], where: str) -> Chain:
    """A record of a known shape as a chain without an id.

    Raises:
        RecordError: No shape fits, or a field is wrong.
    """
    other = next((what for name, what in NOT_READ.items() if name in record), None)
    if other:
        raise RecordError(f"{where}: is {other}, not a prompt, an answer or a chain.", hint=_HINT)
    shape = shape_of(record)
    if shape is None:
        found = ", ".join(repr(name) for name in list(record)[:8]) or "none"
        raise RecordError(f"{where}: no known kind of record; its fields: {found}.", hint=_HINT)
    fields = Fields(dict(record), where)
    parts = shape.read(fields)
    meta: dict[str, Any] = {} if parts.reference is None else {"reference": parts.reference}
    return Chain(
        prompt=parts.prompt,
        steps=tuple(parts.steps),
        best=parts.best,
        stop=parts.stop,
        model={"name": parts.model} if parts.model else {},
        meta={**meta, "source": fields.rest} if fields.rest else meta,
    )


_HINT = 'A prompt is a text, {"prompt": "…"} or {"instruction": "…", "input": "…"}, one a line.'
