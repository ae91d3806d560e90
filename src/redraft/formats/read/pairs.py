"""Read preference pairs (HH-RLHF, SHP, and those of preference training) and critiques.

A pair is a chain of two steps, the rejected and the chosen answer; the second is the best. `preference` in
`meta` distinguishes it from a revision. A critique is a chain of one answer with its feedback.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from redraft.chain import Feedback, Prompt, Step, Verdict, content_of
from redraft.formats.read.conversations import asked, message_list
from redraft.formats.read.fields import Fields, Format, Parts, Shape

_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def preferred(prompt: Prompt, rejected: str, chosen: str) -> Parts:
    """Return a pair."""
    steps = (Step(answer=rejected), Step(answer=chosen))
    return Parts(prompt, steps, best=1, meta={"preference": True})


def chosen_rejected(fields: Fields) -> Parts:
    """Read `chosen` and `rejected`: two HH-RLHF dialogues, two message lists, or two answers to `prompt`."""
    if isinstance(fields.rest["chosen"], list):
        return _message_lists(fields)
    chosen, rejected = fields.text("chosen"), fields.text("rejected")
    if "prompt" in fields.rest:
        return preferred(_prompt(fields), rejected, chosen)
    return _dialogues(fields, chosen, rejected)


def shp(fields: Fields) -> Parts:
    """Read SHP: two comments on a post. If `labels` is 1, A is preferred."""
    a, b, label = fields.text("human_ref_A"), fields.text("human_ref_B"), fields.number("labels")
    if label not in (0, 1):
        fields.fail("labels", "should be 0 or 1", label)
    rejected, chosen = (b, a) if label else (a, b)
    return preferred(Prompt(instruction=fields.text("history")), rejected, chosen)


def critique(fields: Fields) -> Parts:
    """Read `prompt`, `answer`, `feedback`, `verdict` and perhaps `score`, as `redraft data export` writes."""
    prompt, answer, text = _prompt(fields), fields.text("answer"), fields.text("feedback")
    verdict = fields.text("verdict")
    if verdict not in get_args(Verdict):
        fields.fail("verdict", f"should be one of {', '.join(get_args(Verdict))}", verdict)
    score = {"score": fields.rest.pop("score")} if "score" in fields.rest else {}
    feedback = Feedback.model_validate({"text": text, "verdict": verdict, **score})
    return Parts(prompt, (Step(answer=answer, feedback=feedback),), best=0)


def _prompt(fields: Fields) -> Prompt:
    if isinstance(fields.rest["prompt"], list):
        return asked(message_list(fields, "prompt"))
    return Prompt(instruction=fields.text("prompt"))


def _message_lists(fields: Fields) -> Parts:
    before = message_list(fields, "prompt") if isinstance(fields.rest.get("prompt"), list) else []
    chosen, rejected = message_list(fields, "chosen"), message_list(fields, "rejected")
    if "prompt" in fields.rest and chosen[:1] != [_question(fields.rest["prompt"])]:
        before = [_question(fields.text("prompt"))]
    same = _shared(chosen, rejected)
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns) != same + 1 or turns[-1]["role"] != "assistant":
            fields.fail(name, f"should end in one answer of the assistant after {same} shared messages")
    return preferred(asked([*before, *chosen[:same]]), content_of(rejected[-1]), content_of(chosen[-1]))


def _question(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _dialogues(fields: Fields, chosen: str, rejected: str) -> Parts:
    """Split two dialogues into their common prompt and the two answers.

    An answer is mostly one turn. Sampled answers sometimes speak for both sides; they stay one text, as they
    were judged.
    """
    ours, theirs = _turns(fields, "chosen", chosen), _turns(fields, "rejected", rejected)
    same = _shared([turn for turn, _ in ours], [turn for turn, _ in theirs])
    for name, turns in (("chosen", ours), ("rejected", theirs)):
        if turns[same][0]["role"] != "assistant":
            fields.fail(name, "parts from the other dialogue in a turn that is not the assistant's")
    prompt = asked([turn for turn, _ in ours[:same]])
    return preferred(prompt, rejected[theirs[same][1] :].strip(), chosen[ours[same][1] :].strip())


def _turns(fields: Fields, name: str, text: str) -> list[tuple[dict[str, Any], int]]:
    marks = list(_SPEAKER.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        fields.fail(name, r"should be a dialogue of '\n\nHuman: ' and '\n\nAssistant: '", text)
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        ({"role": _ROLES[mark[1]], "content": text[mark.end() : end].strip()}, mark.end())
        for mark, end in zip(marks, ends, strict=True)
    ]


def _shared(ours: Sequence[Any], theirs: Sequence[Any]) -> int:
    """Count common first turns, without the last turn of the shorter dialogue."""
    most = min(len(ours), len(theirs)) - 1
    return next((i for i in range(max(most, 0)) if ours[i] != theirs[i]), max(most, 0))


_PAIR = "a pair of answers for preference training"

PAIRS = Format(
    order=1,
    shapes=(
        Shape("chosen and rejected", {"chosen"}, chosen_rejected, _PAIR),
        Shape("SHP", {"human_ref_A"}, shp, _PAIR),
        Shape("critique", {"prompt", "answer", "feedback", "verdict"}, critique),
    ),
)
