"""Serve `/v1/responses`, OpenAI's newer API: drafts and feedback are reasoning, and the answer is a message.

A response has every field that Open Responses requires (ResponseResource in openapi.json). Nothing is stored,
so each request contains the whole conversation. Tools are functions of the client.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, WithJsonSchema

from redraft.chain import Chain
from redraft.errors import shown
from redraft.revision.ops import Event, Finished
from redraft.revision.options import RevisionOptions
from redraft.serve import requests
from redraft.serve.bodies import Body, Checked, only, option
from redraft.serve.errors import Refusal, invalid
from redraft.serve.models import Models
from redraft.serve.reader import ServerLimits
from redraft.serve.replies import AnswerMessage, Piece, Reply, event_of, final_answer, usage_of

_TEXTS = ("input_text", "output_text", "text")  # types of the parts of a message that are text
_OF_FUNCTION = ("name", "description", "parameters", "strict")
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}  # by `finish_reason`
_INPUT = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}


def _tools(given: Any) -> Any:
    if type(given) is not list:
        raise ValueError(f" is {shown(given)}. It should be a list of tools.")
    for tool in given:
        kind = tool.get("type") if isinstance(tool, dict) else tool
        if kind != "function":
            raise ValueError(f" contains a tool of type {shown(kind)}, but only functions are supported.")
    tools = [{name: tool[name] for name in _OF_FUNCTION if name in tool} for tool in given]
    return option("tools", schema=requests.TOOLS).check(tools) or None


class TextFormat(Body):
    """The format of the answer's text."""

    format: Annotated[dict[str, Any] | None, WithJsonSchema(requests.FORMAT)] = None
    verbosity: Annotated[Any, only("medium")] = None


class Reasoning(Body):
    """The options for how much to reason, and how much reasoning to show."""

    effort: requests.Effort = None
    summary: Annotated[Any, only("auto")] = None


class ResponseRequest(requests.RevisedRequest):
    """A request for a response."""

    whole: ClassVar[str] = "a request for a response"
    never: ClassVar[tuple[str, ...]] = ("conversation", "max_tool_calls", "previous_response_id", "prompt")
    input: Annotated[str | list[Any], Field(description="a text or messages"), WithJsonSchema(_INPUT)]
    instructions: str | None = None
    temperature: Annotated[Any, option("temperature", requests.HOTTEST)] = None
    top_p: Annotated[Any, option("top_p")] = None
    max_output_tokens: Annotated[Any, option("max_tokens")] = None
    tools: Annotated[Any, Checked(_tools, requests.TOOLS, "tools")] = None
    text: TextFormat | None = None
    reasoning: Reasoning | None = None
    background: Annotated[Any, only(False)] = None  # noqa: FBT003
    include: Annotated[Any, only([], ["reasoning.encrypted_content"])] = None
    client_metadata: Any = None
    stream_options: requests.StreamOptions | None = None  # a reply always has the usage
    top_logprobs: Annotated[Any, only(0)] = None
    truncation: Annotated[Any, only("disabled")] = None
    _left_out: list[str] = PrivateAttr(default_factory=list)  # types of tools that are not functions
    _places: list[str] = PrivateAttr(default_factory=list)  # the paths of the functions in the request

    @classmethod
    def read(cls, given: Mapping[str, Any], models: Models) -> Self:
        """Return the checked body without tools that only OpenAI can run."""
        tools = given.get("tools")
        kinds = [t.get("type") if isinstance(t, dict) else "" for t in tools] if type(tools) is list else []
        others = [kind for kind in kinds if isinstance(kind, str) and kind.isidentifier() and kind.isascii()]
        others = [kind for kind in others if kind != "function"]
        if tools and others:
            kept = [tool for tool, kind in zip(tools, kinds, strict=True) if kind not in others]
            given = {**given, "tools": kept}
        found = super().read(given, models)
        found._left_out.extend(dict.fromkeys(others))  # noqa: SLF001  (its own)
        found._places.extend(f"tools[{n}]" for n, kind in enumerate(kinds) if kind not in others)  # noqa: SLF001
        return found

    def places_of_tools(self) -> list[str]:
        """Return the path of each function in the request."""
        return self._places

    def accept(self, models: Models, limits: ServerLimits) -> requests.Accepted:
        """Return the checked request, with the chain to make."""
        asked = self.text.format if self.text else None
        prompt = requests.prompt_in(self._messages(), "input")
        wanted, places = {"type": "text"} if asked is None else asked, ("text.format", "text.format.schema")
        made = self.accepted(models, limits, prompt, wanted, places)
        effort, model = self.reasoning and self.reasoning.effort, models.named(self.model)
        passed = {"reasoning_effort": effort} if effort else {}
        options = requests.with_passed(made.options, passed, model, "reasoning.effort")
        repeated = self._repeated(wanted, options)
        return replace(made, options=options, left_out=tuple(self._left_out), repeated=repeated)

    def _repeated(self, wanted: Mapping[str, Any], options: RevisionOptions) -> dict[str, Any]:
        of_schema = {"name": "response", "description": None, "schema": None, "strict": False}
        given = {name: value for name, value in wanted.items() if value is not None}
        own_text = (self.user, self.safety_identifier, self.prompt_cache_key)
        user, identifier, key = (value if isinstance(value, str) else None for value in own_text)
        beside, sampling = options.extra_body or {}, options.sampling
        own = requests.engine_of(options).info.own_sampling and "temperature" in sampling.left_out
        return {
            "instructions": self.instructions,
            "previous_response_id": None,
            "tool_choice": self.tool_choice or "auto",
            "truncation": "disabled",
            "text": {"format": {**(of_schema if wanted["type"] == "json_schema" else {}), **given}},
            "temperature": 1.0 if own else sampling.temperature,  # OpenAI's default, if ours is unknown
            "top_p": sampling.top_p,
            "presence_penalty": beside.get("presence_penalty", 0),
            "frequency_penalty": beside.get("frequency_penalty", 0),
            "top_logprobs": 0,
            "reasoning": self.reasoning and self.reasoning.model_dump(),
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": None,
            "store": False,
            "background": False,
            "service_tier": "default",
            "metadata": self.metadata if isinstance(self.metadata, dict) else {},
            "user": user,
            "safety_identifier": identifier,
            "prompt_cache_key": key,
        }

    def _messages(self) -> list[Any]:
        given = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        messages: list[Any] = [{"role": "system", "content": self.instructions}] if self.instructions else []
        kept = [item for item in given if not (isinstance(item, Mapping) and item.get("type") == "reasoning")]
        for message in map(_message, kept):
            last = messages[-1] if messages else None
            calls = isinstance(message, dict) and message.get("tool_calls")
            if calls and isinstance(last, dict) and last.get("role") == "assistant":
                last["tool_calls"] = [*last.get("tool_calls", ()), *calls]
            else:
                messages.append(message)
        return messages


def _message(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    kind = item.get("type", "message")
    if kind == "function_call":
        function = {name: _text_in(item, name) for name in ("name", "arguments")}
        call = {"id": _text_in(item, "call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        content = _content(item.get("output"))
        return {"role": "tool", "tool_call_id": _text_in(item, "call_id"), "content": content}
    if kind != "message":
        known = "messages, function_call and function_call_output"
        raise invalid(f"input has an item of unknown type {shown(kind)}. Known types: {known}.", "input")
    return {"role": item.get("role"), "content": _content(item.get("content"))}


def _text_in(item: Mapping[str, Any], name: str) -> str:
    if not isinstance(text := item.get(name), str):
        raise invalid(f"input has a {item['type']} whose {name} is {shown(text)}, not a text.", "input")
    return text


def _content(given: Any) -> Any:
    return [_part(part) for part in given] if isinstance(given, list) else given


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Mapping) and part.get("type") in _TEXTS and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    kind = part.get("type") if isinstance(part, Mapping) else part
    if isinstance(part, Mapping) and kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if isinstance(part.get("detail"), str) else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    known = "input_text, output_text, and input_image with an image_url"
    raise invalid(f"a part in input has the unknown type {shown(kind)}. Known types: {known}.", "input")


class ResponseReply(Reply):
    """Builds the reply to one request to `/v1/responses`, whole or streamed."""

    asked_in = "input"
    messages: Sequence[AnswerMessage]

    def __init__(self, asked: requests.Accepted) -> None:
        message = AnswerMessage(asked.sure, asked.begins, bool(asked.options.checks))
        super().__init__(asked, [message], "resp_")
        self._items: list[dict[str, Any]] = []
        self._open: Piece | None = None
        self._number = 0

    def whole(self) -> dict[str, Any]:
        """Return the whole reply."""
        message = self.messages[0]
        texts = [("reasoning_content", message.reasoning), ("content", final_answer(message.finished))]
        calls = [_call(call) for call in message.tool_calls]
        said = [_item(field, text) for field, text in texts if text or (field == "content" and not calls)]
        self._items = [*said, *calls]
        if said and message.finish_reason in _CUT:
            said[-1]["status"] = "incomplete"
        return self._response(message.finished)

    def events(self, _index: int, event: Event) -> Iterator[bytes]:
        """Process an event of the chain, and yield the server-sent events."""
        if not self._number:
            yield self._event("response.created", response=self._response(None))
            yield self._event("response.in_progress", response=self._response(None))
        for piece in self.messages[0].streamed(event):
            yield from self._add(piece)
        if isinstance(event, Finished):
            calls = self.messages[0].tool_calls
            if not calls and (self._open is None or self._open.field != "content"):
                yield from self._add(Piece("content", ""))
            yield from self._close("incomplete" if self.messages[0].finish_reason in _CUT else "completed")
            for call in map(_call, calls):
                yield from self._called(call)
            response = self._response(event.chain)
            yield self._event(f"response.{response['status']}", response=response)

    def end(self) -> Iterator[bytes]:
        """Yield nothing, because the last event of the chain ends the stream."""
        return iter(())

    def failed(self, refusal: Refusal) -> bytes:
        """Return the event of an error in a stream that has begun."""
        error = refusal.body["error"]  # SDKs raise the event's `error` object
        return self._event("error", **{**error, "type": "error"}, error=error)

    def _add(self, piece: Piece) -> Iterator[bytes]:
        if self._open is None or self._open.field != piece.field:
            yield from self._close()
            item = {**_item(piece.field, ""), "status": "in_progress"}
            self._items.append(item)
            self._open = piece
            empty = {**item, "content": []} if piece.field == "content" else {**item, "summary": []}
            yield self._event("response.output_item.added", output_index=len(self._items) - 1, item=empty)
            yield self._of_part("part.added", part=_part_of(item))
        if piece.text:
            _part_of(self._items[-1])["text"] += piece.text
            yield self._of_part("delta", delta=piece.text)

    def _called(self, item: dict[str, Any]) -> Iterator[bytes]:
        self._items.append(item)
        number = len(self._items) - 1
        where = {"item_id": item["id"], "output_index": number}
        begun = {**item, "status": "in_progress", "arguments": ""}
        kind, arguments = "response.function_call_arguments", item["arguments"]
        yield self._event("response.output_item.added", output_index=number, item=begun)
        yield self._event(f"{kind}.delta", **where, delta=arguments)
        yield self._event(f"{kind}.done", **where, name=item["name"], arguments=arguments)
        yield self._event("response.output_item.done", output_index=number, item=item)

    def _close(self, status: str = "completed") -> Iterator[bytes]:
        if self._open is None:
            return
        item = self._items[-1]
        item["status"] = status
        yield self._of_part("done", text=_part_of(item)["text"])
        yield self._of_part("part.done", part=_part_of(item))
        yield self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)
        self._open = None

    def _of_part(self, what: str, **more: Any) -> bytes:
        item = self._items[-1]
        answers, of_part = item["type"] == "message", what.startswith("part.")
        kinds = ("content_", "output_text.") if answers else ("reasoning_summary_", "reasoning_summary_text.")
        index = "content_index" if answers else "summary_index"
        where = {"item_id": item["id"], "output_index": len(self._items) - 1, index: 0}
        more |= {"logprobs": []} if answers and not of_part else {}
        return self._event(f"response.{kinds[0] if of_part else kinds[1]}{what}", **where, **more)

    def _response(self, chain: Chain | None) -> dict[str, Any]:
        message = self.messages[0]
        cut = _CUT.get(message.finish_reason) if chain else None
        more = {"redraft": json.loads(chain.to_json())} if chain and self.asked.with_chain else {}
        options = self.asked.options
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if chain and not cut else None,
            "status": ("incomplete" if cut else "completed") if chain else "in_progress",
            "error": None,
            "incomplete_details": {"reason": cut} if cut else None,
            "model": self.asked.model,
            "output": self._items,
            "parallel_tool_calls": (options.extra_body or {}).get("parallel_tool_calls", True),
            "tools": [
                {"type": "function", **dict.fromkeys(_OF_FUNCTION), **tool["function"]}
                for tool in options.tools
            ],
            "usage": self._usage() if chain else None,
            **self.asked.repeated,
            **(message.unmet if chain else {}),
            **more,
        }

    def _usage(self) -> dict[str, Any]:
        usage = usage_of(self.messages)
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {**usage["prompt_tokens_details"], "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": usage["completion_tokens_details"],
            "total_tokens": usage["total_tokens"],
        }

    def _event(self, kind: str, **more: Any) -> bytes:
        record = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return f"event: {kind}\n".encode() + event_of(record)


def _item(field: str, text: str) -> dict[str, Any]:
    if field == "content":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        message = {"id": _id("msg"), "type": "message", "status": "completed", "role": "assistant"}
        return {**message, "content": [part]}
    part = {"type": "summary_text", "text": text}
    return {"id": _id("rs"), "type": "reasoning", "status": "completed", "summary": [part]}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    named = {"call_id": call["id"], "name": function["name"], "arguments": function["arguments"]}
    return {"id": _id("fc"), "type": "function_call", "status": "completed", **named}


def _part_of(item: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = item["content" if item["type"] == "message" else "summary"][0]
    return part


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
