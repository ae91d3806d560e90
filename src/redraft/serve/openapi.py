"""The requests in OpenAPI, from the same options that check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redraft.options import PlainOptions, json_schema_of
from redraft.serve import responses
from redraft.serve.requests import OPTIONS, REVISION, WITHOUT_EFFECT


def _properties(names: Mapping[str, str]) -> dict[str, Any]:
    """Return the schemas of fields that are options. Those that only Python has are left open."""
    known = json_schema_of(PlainOptions)["properties"]
    return {name: known.get(option, {}) for name, option in names.items()}


_TEXTS = {"type": "array", "items": {"type": "string"}}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"type": "string"}, "content": {}},
}

_REVISION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {**_properties(REVISION), "checks": _TEXTS, "budget": {"type": "object"}},
}

_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        **_properties(OPTIONS),
        **{name: {} for name in WITHOUT_EFFECT},
        "model": {"type": "string"},
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        "stream": {"type": "boolean"},
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "n": {"type": "integer", "minimum": 1},
        "stop": {"anyOf": [{"type": "string"}, _TEXTS]},
        "response_format": {"type": "object"},
        "revision": _REVISION,
        "redraft": {"type": "boolean"},
    },
}

_RESPONSES = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        **_properties(responses.OPTIONS),
        **{name: {} for name in responses.WITHOUT_EFFECT},
        "model": {"type": "string"},
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "instructions": {"type": "string"},
        "stream": {"type": "boolean"},
        "text": {"type": "object"},
        "revision": _REVISION,
        "redraft": {"type": "boolean"},
    },
}

_ERROR = {
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


def _described(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what FastAPI adds to its description of a route."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {
                "description": "The reply; a stream of events if `stream` is true.",
                "content": {"application/json": {}, "text/event-stream": {}},
            },
            "default": {"description": "An error.", "content": {"application/json": {"schema": _ERROR}}},
        },
    }


CHAT, RESPONSES = _described(_CHAT), _described(_RESPONSES)
"""The descriptions of the two routes that ask models."""
