"""Fields of a request that are passed on as they are, to engines that take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from redraft.engines.base import OF_TEMPLATE, SAMPLING_FIELDS, Engine
from redraft.errors import shown
from redraft.revision.options import Options
from redraft.serve.errors import invalid
from redraft.serve.models import Model

_RANGES: Mapping[str, tuple[float, float]] = {
    "top_k": (0, 2**31 - 1),
    "min_p": (0, 1),
    "repeat_penalty": (0.01, 10),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
"""OpenAI's own ranges for its two penalties."""

_MOST_BIASES = 1024
_NEUTRAL: Mapping[str, Any] = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}
"""Values that ask for what happens anyway: clients send them to every server."""

EFFORT = "reasoning_effort"
OF_CHAT = (*sorted(SAMPLING_FIELDS), OF_TEMPLATE, EFFORT)
OF_COMPLETIONS = tuple(sorted(SAMPLING_FIELDS))

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"type": "number", "minimum": low, "maximum": high} for name, (low, high) in _RANGES.items()},
    "top_k": {"type": "integer", "minimum": 0},
    "logit_bias": {
        **_OBJECT,
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        "maxProperties": _MOST_BIASES,
    },
    OF_TEMPLATE: _OBJECT,
    EFFORT: _TEXT,
}
"""The JSON Schema of each, for the description of the API."""


def with_passed(
    options: Options, body: Mapping[str, Any], model: Model, names: Sequence[str], place: str = ""
) -> Options:
    """Return the options with the fields that go to the model's engine.

    Args:
        options: Those so far.
        body: The request.
        model: Its model.
        names: The fields.
        place: Where the client has the one field, if it is called something else there.

    Raises:
        Refusal: A value is wrong, or the engine does not take the field.
    """
    found = {name: body[name] for name in names if name in body}
    for name, value in found.items():
        if (fault := _fault(name, value)) is not None:
            raise invalid(f"{place or name} {_found(value)}. It should be {fault}.", place or name)
    asked = {name: value for name, value in found.items() if name not in _NEUTRAL or value != _NEUTRAL[name]}
    info = cast("Engine", model.options["model"]).info
    for name in asked:
        if not (info.any_request or name in info.fields):
            takes = f" It takes {', '.join(sorted(info.fields))}." if info.fields else ""
            lacks = f"which takes no {place or name}.{takes} Leave it out."
            message = f"the model {model.name!r} runs on {info.engine}, {lacks}"
            raise invalid(message, place or name, code="unsupported")
    if not asked:
        return options
    return {**options, "extra_body": {**(options.get("extra_body") or {}), **asked}}


def _fault(name: str, value: Any) -> str | None:
    """Return what the value should be, if it is not that."""
    if name in _RANGES:
        low, high = _RANGES[name]
        kind: Any = int if name == "top_k" else int | float
        fits = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"a {'whole ' * (kind is int)}number from {low:,} to {high:,}"
    if name == "logit_bias":
        fits = isinstance(value, dict) and len(value) <= _MOST_BIASES and all(map(_is_bias, value.items()))
        what = f"an object of up to {_MOST_BIASES:,} token ids, each with a number from -100 to 100"
        return None if fits else what
    if name == OF_TEMPLATE:
        fits = isinstance(value, dict) and isinstance(value.get("enable_thinking", True), bool)
        return None if fits else "an object, with enable_thinking true or false if it has that"
    return None if isinstance(value, str) and len(value) <= 40 else "a text, such as 'low'"


def _found(value: Any) -> str:
    """Say what a wrong value is, or which part of it is wrong."""
    parts = value.items() if isinstance(value, dict) and len(value) <= _MOST_BIASES else ()
    wrong = (item for item in parts if item[0] == "enable_thinking" or not _is_bias(item))
    return next((f"has {shown(key)}: {shown(part)}" for key, part in wrong), f"is {shown(value)}")


def _is_bias(item: tuple[str, Any]) -> bool:
    """Return whether a token id stands before a number in OpenAI's own range."""
    token, bias = item
    known = token.isascii() and token.isdecimal() and len(token) < 10
    return known and type(bias) in (int, float) and -100 <= bias <= 100
