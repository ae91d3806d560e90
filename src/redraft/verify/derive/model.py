"""Checks from a prompt, by a model: what the rules do not find, and the prompt says for certain.

The model names a demand in the prompt's own words, and the check. It is kept only if these words are in the
prompt, and hold what the check holds: its number, or its text. So a model that makes demands up adds none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redraft.chain import whole
from redraft.engines.base import Engine, Message, Sampling
from redraft.errors import CheckSyntaxError
from redraft.verify.derive import READ, checks_in, consistent
from redraft.verify.derive.amounts import NUMBER, number
from redraft.verify.json_reading import NotJson, read_json
from redraft.verify.parse import parse_checks

COUNTED = tuple(
    f"{unit}{op}"
    for unit in ("words", "sentences", "paragraphs", "lines", "bullets", "headings")
    for op in ("<=", ">=", "==")
)
TEXTS = ("contains:", "lacks:", "starts:", "ends:", "keys:")
KINDS = (*COUNTED, *TEXTS)
"""What the model may name. The rest, such as a language, is left to the rules."""

SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "maxItems": 12,
    "items": {
        "type": "object",
        "properties": {
            "demand": {"type": "string"},
            "check": {"enum": list(KINDS)},
            "value": {"type": "string"},
        },
        "required": ["demand", "check", "value"],
        "additionalProperties": False,
    },
}

_ASKED = """\
Below, between two lines of ===, is a request to a writer. Do not answer it. List what it demands of the \
form of the answer, as JSON: a list of objects with "demand", the words of the request that say so, copied, \
"check", one of {kinds}, and "value", a number or a text. "Use the word rain, in at most 40 words" gives \
[{{"demand": "Use the word rain", "check": "contains:", "value": "rain"}}, \
{{"demand": "in at most 40 words", "check": "words<=", "value": "40"}}]. A request that demands nothing of \
the kind gives [].

===
{prompt}
===
"""
_SAMPLING = Sampling(temperature=0.0, max_tokens=600, schema=SCHEMA)


async def checks_by(prompt: str, engine: Engine) -> tuple[str, ...]:
    """Return what a prompt demands as checks: what the rules find, and what a model names beside it.

    Raises:
        EngineError: The model failed. What it writes may be no JSON: then the rules stand alone.
    """
    prompt = whole(prompt)[:READ]
    asked: Message = {"role": "user", "content": _ASKED.format(kinds=", ".join(KINDS), prompt=prompt)}
    reply = "".join([delta.text async for delta in engine.chat([asked], _SAMPLING)])
    ruled = checks_in(prompt)
    named = [check for each in _read(reply) if (check := _certain(each, prompt)) is not None]
    sorts = {_sort(check) for check in ruled}
    return tuple(
        consistent([*ruled, *(check for check in dict.fromkeys(named) if _sort(check) not in sorts)])
    )


def _read(reply: str) -> list[Any]:
    try:
        found, _ = read_json(reply)
    except NotJson:
        return []
    return found if isinstance(found, list) else []


def _certain(named: Any, prompt: str) -> str | None:
    """Return the check that a model named, if the words that it gives as a demand are there and say it."""
    if not isinstance(named, Mapping) or named.get("check") not in KINDS:
        return None
    kind, demand, value = (str(named.get(part, "")).strip() for part in ("check", "demand", "value"))
    said = _plain(demand)
    if not said or said not in _plain(prompt):
        return None
    if kind in COUNTED:
        numbers = {number(each) for each in re.findall(rf"(?<!\w){NUMBER}(?!\w)", said)}
        if not value.isascii() or not value.isdigit() or int(value) not in numbers:
            return None
    elif not _plain(value) or not all(_plain(part) in said for part in _parts(kind, value)):
        return None
    try:
        parse_checks([f"{kind}{value}"])
    except CheckSyntaxError:
        return None
    return f"{kind}{value}"


def _parts(kind: str, value: str) -> list[str]:
    return value.split(",") if kind == "keys:" else [value]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _sort(check: str) -> str:
    """Return what a check is about: its unit, or its kind and text. A rule that found that goes before."""
    return re.split("[<>=]", check)[0] if re.match(r"[a-z]+[<>=]", check) else check.lower()
