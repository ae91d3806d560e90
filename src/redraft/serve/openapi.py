"""The requests in OpenAPI, from the same options that check them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redraft.engines.messages import ROLES
from redraft.options import PlainOptions, json_schema_of
from redraft.serve import completions, embeddings, responses
from redraft.serve.limits import Limits
from redraft.serve.logprobs import MOST_LIKELY
from redraft.serve.passed import EFFORT, OF_CHAT, OF_COMPLETIONS, SCHEMAS
from redraft.serve.requests import OPTIONS, REVISION, UNSUPPORTED, WITHOUT_EFFECT

_LIMITS = Limits()
_MOST = {
    "max_tokens": _LIMITS.tokens,
    "max_revisions": _LIMITS.revisions,
    "min_revisions": _LIMITS.revisions,
}


def _properties(names: Mapping[str, str]) -> dict[str, Any]:
    """Return the schemas of fields that are options, within the limits of a server."""
    known = json_schema_of(PlainOptions)["properties"]
    found = {name: dict(known.get(option, {})) for name, option in names.items()}
    for name, option in names.items():
        found[name].pop("default", None)  # that of the model may be another
        if option in _MOST:
            found[name]["maximum"] = _MOST[option]
    return found


def _unsupported(names: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {name: {"enum": list(neutral)} for name, neutral in names.items() if neutral}


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    """Return the schema of an object that has no other fields. Those that are not required may be null."""
    parts = {
        name: part if name in required or not part else {"anyOf": [part, {"type": "null"}]}
        for name, part in properties.items()
    }
    found: dict[str, Any] = {"type": "object", "properties": parts, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


_TEXTS = {"type": "array", "items": {"type": "string", "minLength": 1}}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"enum": list(ROLES)}, "content": {"type": ["string", "array", "null"]}},
}
_BUDGET = {
    "tokens": {"type": "integer", "exclusiveMinimum": 0},
    "seconds": {"type": "number", "exclusiveMinimum": 0},
    "usd": {"type": "number", "exclusiveMinimum": 0},
}
_REVISION = _object(
    {
        **_properties(REVISION),
        "checks": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": _LIMITS.check},
            "maxItems": _LIMITS.checks,
        },
        "budget": _object(_BUDGET),
    }
)
_ALWAYS: dict[str, Any] = {
    **{name: {} for name in WITHOUT_EFFECT},
    "model": {"type": "string"},
    "stream": {"type": "boolean"},
}
_SHARED = {
    **_ALWAYS,
    "revision": _REVISION,
    "redraft": {"type": "boolean"},
}
_TOOLS = {
    "tools": {"type": "array", "items": {"type": "object"}},
    "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]}, {"type": "object"}]},
    "parallel_tool_calls": {"type": "boolean"},
}
_STREAM_OPTIONS = _object(
    {"include_usage": {"type": "boolean"}, "include_obfuscation": {}},
)
_STOP = {"anyOf": [{"type": "string", "minLength": 1}, {**_TEXTS, "maxItems": _LIMITS.stops}]}
_COUNT = {"type": "integer", "minimum": 1, "maximum": _LIMITS.answers}
_ALTERNATIVES = {"type": "integer", "minimum": 0, "maximum": MOST_LIKELY}
_FORMAT = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
}

_CHAT = _object(
    {
        **_properties(OPTIONS),
        **{name: SCHEMAS[name] for name in OF_CHAT},
        **_unsupported(UNSUPPORTED),
        **_SHARED,
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        "stream_options": _STREAM_OPTIONS,
        "n": _COUNT,
        "stop": _STOP,
        **_TOOLS,
        "logprobs": {"type": "boolean"},
        "top_logprobs": _ALTERNATIVES,
        "response_format": _FORMAT,
    },
    "model",
    "messages",
)

_COMPLETIONS = _object(
    {
        **_properties(completions.NAMES),
        **{name: SCHEMAS[name] for name in OF_COMPLETIONS},
        **_unsupported(completions.UNSUPPORTED),
        **_ALWAYS,
        "prompt": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {**_TEXTS, "minItems": 1, "maxItems": _LIMITS.answers},
            ]
        },
        "stream_options": _STREAM_OPTIONS,
        "n": _COUNT,
        "stop": _STOP,
        "logprobs": _ALTERNATIVES,
    },
    "model",
    "prompt",
)

_RESPONSES = _object(
    {
        **_properties(responses.OPTIONS),
        **_unsupported(responses.UNSUPPORTED),
        **_SHARED,
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "instructions": {"type": "string"},
        **_TOOLS,
        "reasoning": _object({"effort": SCHEMAS[EFFORT], "summary": {"enum": ["auto"]}}),
        "text": _object({"format": _FORMAT, "verbosity": {"enum": ["medium"]}}),
    },
    "model",
    "input",
)

_EMBEDDINGS = _object(
    {
        **{name: {} for name in WITHOUT_EFFECT},
        "model": {"type": "string"},
        "input": {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {**_TEXTS, "minItems": 1, "maxItems": _LIMITS.texts},
            ]
        },
        "encoding_format": {"enum": list(embeddings.FORMATS)},
    },
    "model",
    "input",
)

_ERROR_BODY = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


ERROR = {"description": "An error.", "content": {"application/json": {"schema": _ERROR_BODY}}}
"""The description of an error on any route."""


def _described(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what FastAPI adds to its description of a route."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {
                "description": "The reply; a stream of events if `stream` is true.",
                "content": {"application/json": {}, "text/event-stream": {}},
            },
        },
    }


CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = map(_described, (_CHAT, _COMPLETIONS, _EMBEDDINGS, _RESPONSES))
"""The descriptions of the routes that ask models."""
