"""The criticism of a teacher: a text, a score and a verdict. It is JSON if the engine keeps to schemas.

In other replies, the score is the last `8/10` or `8 out of 10`, and the verdict is a phrase of `VERDICTS`. If
JSON was cut, the criticism is read up to the cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redraft.chain import Verdict, whole
from redraft.chain.selfee import score_of, verdict_of
from redraft.checks.json_reading import NotJson, json_so_far, read_json
from redraft.checks.structure import demand_of_schema
from redraft.revision.prompts import VERDICTS

MOST = 10  # the best score (reference/selfee.md)

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "feedback": {"type": "string"},
        "score": {"type": "integer", "minimum": 0, "maximum": MOST},
        "revision_needed": {"type": "boolean"},
    },
    "required": ["feedback", "score", "revision_needed"],
    "additionalProperties": False,
}
IN_JSON = demand_of_schema(SCHEMA)
IN_WORDS = (
    f"Then give the answer a score from 0 to {MOST}, written as 7/{MOST}. End with the words "
    f"'{VERDICTS[0]}.' if it should be corrected, or with the words '{VERDICTS[1]}.' if it can stay as it is."
)
AGAIN = f"Decide now. Say '{VERDICTS[0]}.' or '{VERDICTS[1]}.', and nothing else."
"""Asks for a verdict that a criticism lacks."""

AGAIN_TOKENS = 32  # room for it

_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|\Z)[^.!?\n]*)*[.!?]?\s*")
_JSON = re.compile(r"\s*(?:```\w*\s*)?\{\s*(?:\"|\Z)")  # the beginning of an object in JSON


@dataclass(frozen=True)
class Critique:
    """A criticism: its text, which says the verdict too, and a score from 0 to 10 if one was given."""

    text: str
    verdict: Verdict
    score: float | None = None


def read_critique(reply: str, accept_score: float | None) -> Critique:
    """Read a reply, JSON or text. With an `accept_score` the score decides: that or more accepts."""
    found, verdict = _of_json(reply), verdict_of(reply)
    if found is None:
        broken = verdict == "unknown" and _JSON.match(reply)
        found = Critique("", verdict) if broken else Critique(reply, verdict, score_of(reply))
    verdict = found.verdict
    if accept_score is not None and found.score is not None:
        verdict = "accept" if found.score >= accept_score else "revise"
    return Critique(saying(found.text, verdict), verdict, found.score)


def saying(text: str, verdict: Verdict) -> str:
    """Return a criticism that says this verdict, without the sentences that say the other one."""
    if verdict == "unknown" or verdict_of(text) == verdict:
        return text
    agrees = ("unknown", verdict)
    text = _SENTENCE.sub(lambda found: found[0] if verdict_of(found[0]) in agrees else "", text).rstrip()
    phrase = f"{VERDICTS[verdict == 'accept']}."
    said = f"{text} {phrase}".strip()
    return said if verdict_of(said) == verdict else f"{text}. {phrase}"  # it was cut after a "no"


def _of_json(reply: str) -> Critique | None:
    try:
        value, _ = read_json(reply)
    except NotJson:
        # One that was not cut is broken: an inner quote would pass for the end of the text.
        value = json_so_far(reply) if _JSON.match(reply) and not reply.rstrip().endswith("}") else None
    if not isinstance(value, dict) or not isinstance(value.get("feedback"), str):
        return None
    needed, score = value.get("revision_needed"), value.get("score")
    text = whole(value["feedback"].strip())
    known = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= MOST
    verdict = verdict_of(text) if not isinstance(needed, bool) else "revise" if needed else "accept"
    return Critique(text, verdict, score if known else None)
