"""Build requests and read replies of the OpenAI protocol, without I/O.

Servers differ in details, so `read_chunk` is lenient. Reasoning resets time-outs, but is not part of the
answer. Only the first choice is read.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from math import ceil
from typing import Any

from redraft.chain import Finish, content_of, whole
from redraft.engines.base import Likeliest, Message, PromptText, Sampling, first_stop, held_back
from redraft.engines.messages import folded

Body = dict[str, Any]

_FINISHES: dict[str, Finish] = {"length": "max_tokens", "max_tokens": "max_tokens"}
_FINISHES |= {"content_filter": "filtered", "abort": "error", "error": "error"}


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of one call: prompt, cached part of the prompt (None if unknown), completion."""

    prompt: int
    cached: int | None
    completion: int
    estimated: bool = False

    @property
    def total(self) -> int:
        """Tokens of prompt and completion."""
        return self.prompt + self.completion


BYTES = 3
"""UTF-8 bytes per token, for estimates. An English token has four to five, a token of code or numbers about
three, and a Chinese character has three. So estimates are rather high, and no limit is exceeded."""

PER_MESSAGE = 4  # tokens that a chat's template puts around a message


def estimated_counts(body: Body, written: int, least: float = 0) -> TokenCounts:
    """Estimate a call's token counts for a server that reports no counts. Images are not counted.

    The model generated `written` bytes, reasoning included, and at least `least` tokens.
    """
    messages, prompt, tools = body.get("messages", ()), body.get("prompt", ""), body.get("tools")
    read = 0 if isinstance(prompt, str) else len(prompt)
    texts = [prompt if isinstance(prompt, str) else "", *map(content_of, messages)]
    texts += [json.dumps(part) for part in (tools, *(m.get("tool_calls") for m in messages)) if part]
    read += PER_MESSAGE * len(messages) + ceil(sum(map(_bytes, texts)) / BYTES)
    return TokenCounts(read, None, ceil(max(written / BYTES, least)), estimated=True)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class CallPiece:
    """A piece of a tool call. All pieces of a call have the same index. The id and the name come once."""

    index: int
    id: str
    name: str
    arguments: str
    placed: bool = field(default=True, compare=False)  # whether the server gave the index


@dataclass(frozen=True)
class Chunk:
    """One parsed event of a streamed reply."""

    text: str = ""
    generated: bool = False  # whether the model generated anything, reasoning included
    finish: Finish | None = None
    # The stop string that ended the text, where the server sends it (vLLM, SGLang, llama.cpp).
    stop_text: str | None = None
    counts: TokenCounts | None = None
    thought: str = ""
    calls: tuple[CallPiece, ...] = ()
    refusal: str = ""  # the reason for a refusal, which OpenAI sends in its own field
    logprobs: tuple[float, ...] = ()
    likeliest: tuple[Likeliest, ...] = ()
    size: int = field(default=0, compare=False)  # bytes of all that was generated, in UTF-8


def sampling_fields(sampling: Sampling, stop: Sequence[str]) -> Body:
    """Return the request fields for sampling, without parameters that the server chooses."""
    fields: Body = {"stream": True, "stream_options": {"include_usage": True}}
    for name in ("temperature", "top_p", "max_tokens"):
        if name not in sampling.left_out:
            fields[name] = getattr(sampling, name)
    if sampling.seed is not None:
        fields["seed"] = sampling.seed
    if stop:
        fields["stop"] = list(stop)
    return fields


def chat_body(model: str, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str]) -> Body:
    """Return a request to `/chat/completions`."""
    body = {"model": model, "messages": list(messages), **sampling_fields(sampling, stop)}
    if sampling.schema is not None:
        json_schema = {"name": "answer", "schema": sampling.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    if sampling.tools:
        body["tools"] = list(sampling.tools)
    if sampling.logprobs:
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs
    return body


GRAMMARS = frozenset({"grammar", "ebnf", "structured_outputs", "guided_grammar"})
"""Request fields for a grammar: llama.cpp's, SGLang's, and vLLM's since 0.11.0 and before 0.11.0."""


def completion_body(model: str, prompt: PromptText, sampling: Sampling, stop: Sequence[str]) -> Body:
    """Return a request to `/completions`."""
    # Servers end a raw text after 16 tokens if no length is given.
    fields = sampling_fields(replace(sampling, unset=sampling.unset - {"max_tokens"}), stop)
    body = {"model": model, "prompt": prompt, **fields}
    # Here, `logprobs` is the number of alternatives. llama.cpp reads 0 as no log-probabilities at all.
    return {**body, "logprobs": max(1, sampling.top_logprobs)} if sampling.logprobs else body


def read_chunk(record: Mapping[str, Any]) -> Chunk:
    """Read one record: a piece of a stream, or a whole reply. Raise `ValueError` for malformed records."""
    choices = [] if record.get("choices", "") is None else record.get("choices")
    if not isinstance(choices, list):
        raise ValueError("it has no choices")  # noqa: TRY004  (a wrong shape of data, not of a call)
    # Several choices (`n` in `extra_body`) come mixed. A choice without an index is the only one.
    choice = next((choice for choice in map(_table, choices) if choice.get("index") in (None, 0)), {})
    message = _table(choice.get("delta") or choice.get("message") or choice)
    text = whole(_text(message.get("content", message.get("text"))))
    thought = _text(message.get("reasoning_content") or message.get("reasoning"))
    old = message.get("function_call")  # the older field, for a single call
    called = _list(message.get("tool_calls")) or ([{"function": old}] if old else ())
    calls = tuple(_call_piece(n, call) for n, call in enumerate(map(_table, called)) if call)
    refusal = _text(message.get("refusal"))
    reason = choice.get("finish_reason")
    chances = _chances(_table(choice.get("logprobs")))
    # The matched stop string of vLLM, of SGLang and of llama.cpp. Numbers are token ids.
    verbose = _table(record.get("__verbose"))
    stops = (choice.get("stop_reason"), choice.get("matched_stop"), verbose.get("stopping_word"))
    return Chunk(
        text=text,
        generated=bool(text or thought or calls or refusal),
        thought=thought,
        calls=calls,
        refusal=refusal,
        finish=_FINISHES.get(str(reason), "stop") if reason else None,
        stop_text=next((each for each in stops if isinstance(each, str) and each), None),
        counts=_counts(record.get("usage")),
        logprobs=tuple(number for number, _ in chances),
        likeliest=tuple(each for _, each in chances) if any(each for _, each in chances) else (),
        size=sum(map(_bytes, (text, thought, refusal, *(c.name + c.arguments for c in calls)))),
    )


def _call_piece(place: int, call: Mapping[str, Any]) -> CallPiece:
    function, index = _table(call.get("function")), call.get("index")
    arguments = function.get("arguments")
    return CallPiece(
        index=index if isinstance(index, int) else place,
        id=_text(call.get("id")),
        name=_text(function.get("name")),
        arguments=json.dumps(arguments) if isinstance(arguments, dict | list) else _text(arguments),
        placed=isinstance(index, int),
    )


def tool_calls(pieces: Iterable[CallPiece]) -> tuple[Body, ...]:
    """Join the pieces of tool calls."""
    # Some servers repeat names, or give all calls one index or no index.
    calls: list[list[CallPiece]] = []
    at_index: dict[int, tuple[list[CallPiece], str]] = {}  # the latest call, with its arguments so far
    for piece in pieces:
        call, said = at_index.get(piece.index, ([], ""))
        if not call or _begins(piece, call, said):
            call, said = [], ""
            calls.append(call)
        call.append(piece)
        at_index[piece.index] = call, said + piece.arguments
    found, index, ids = list[Body](), -1, set[str]()
    for parts in calls:
        name = ""
        for part in parts:
            name += part.name if part.name != name else ""
        arguments = whole("".join(part.arguments for part in parts))
        function = {"name": whole(name).strip(), "arguments": arguments}
        same = parts[0].index == index and not (parts[0].id or arguments)
        if same and found[-1]["function"]["name"] == function["name"]:
            continue  # the name of the previous call, repeated
        index, call_id = parts[0].index, whole(parts[0].id)
        if not call_id or call_id in ids:  # results refer to their call by its id
            call_id = f"call_{secrets.token_hex(12)}"
        ids.add(call_id)
        found.append({"id": call_id, "type": "function", "function": function})
    return tuple(found)


def _begins(piece: CallPiece, call: Sequence[CallPiece], said: str) -> bool:
    if piece.id or not piece.name:
        return bool(piece.id) and piece.id != call[0].id
    begun = said[:1] == "{" and said[-1:] not in "} \n\r\t"  # surely incomplete, so it need not be parsed
    try:
        json.loads("" if begun else said)
    except (ValueError, RecursionError):
        return not piece.placed and call[0].name not in ("", piece.name)
    return True


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = [part for part in map(_table, content) if part.get("type") == "text"]
        return "".join(_text(part.get("text")) for part in parts)
    return content if isinstance(content, str) else ""


def _chances(found: Mapping[str, Any]) -> list[tuple[float, Likeliest]]:
    listed = [_table(each) for each in _list(found.get("content"))]
    numbers = [each.get("logprob") for each in listed] or _list(found.get("token_logprobs"))
    tops: list[Any] = [
        [(_table(top).get("token"), _table(top).get("logprob")) for top in _list(each.get("top_logprobs"))]
        for each in listed
    ] or [list(_table(each).items()) for each in _list(found.get("top_logprobs"))]
    places: Iterable[Any] = zip_longest(numbers, tops[: len(numbers)], fillvalue=())
    return [
        (float(number), tuple((token, log) for token, log in top if isinstance(token, str) and _is_log(log)))
        for number, top in places
        if _is_log(number)
    ]


def _is_log(number: Any) -> bool:
    return isinstance(number, int | float) and abs(number) < _MOST


def _counts(usage: Any) -> TokenCounts | None:
    prompt, completion = _whole(usage, "prompt_tokens"), _whole(usage, "completion_tokens")
    if prompt is None or completion is None:
        return None
    cached = _whole(_table(usage).get("prompt_tokens_details"), "cached_tokens")
    cached = _whole(usage, "prompt_cache_hit_tokens") if cached is None else cached
    return TokenCounts(prompt, cached, completion)


_MOST = 2**53  # counts from here on are errors of the server


def _whole(table: Any, name: str) -> int | None:
    value = _table(table).get(name)
    return value if isinstance(value, int) and 0 <= value < _MOST else None


@dataclass(frozen=True)
class Complaint:
    """An error message of a server."""

    message: str
    code: str = ""  # its code or type, such as `model_not_found`; may be empty
    prompt_tokens: int | None = None  # length of a prompt that is too long, or None
    at_least: bool = False  # whether the prompt may be longer than that
    context: int | None = None  # length of the context that is too short, in tokens

    @property
    def about_model(self) -> bool:
        """Whether the model does not exist on the server."""
        return "model_not_found" in self.code or bool(_NO_MODEL.search(self.message))

    @property
    def about_request(self) -> bool:
        """Whether the request is at fault, so that repeating the request would fail."""
        return bool(_OF_REQUEST.search(self.message))


_NO_MODEL = re.compile(r"(?is)\bmodel\b.*\b(not exist|not found|no such|unknown)|\bno (such )?model\b")
_OF_REQUEST = re.compile(
    r"\bnot supported\b|\bunsupported\b|\binvalid\b|\bmust be\b|\btemplate\b|\bjinja\b", re.I
)
"""llama.cpp uses status 500 for faults of a request too: an image for a model without vision, or roles that
the chat template does not support."""
_CONTEXT = re.compile(r"(?:maximum )?context (?:length|size|window)\D{0,12}(\d{1,9})\b", re.I)
_PROMPT = re.compile(
    r"(at least )?\b(\d{1,9}) (?:input tokens|in (?:the|your) (?:messages|prompt))"
    r"|resulted in (\d{1,9}) tokens"
    r"|request \((\d{1,9}) tokens\)"
    r"|(\d{1,9}) tokens from the input",
    re.I,
)


def read_complaint(record: Any) -> Complaint | None:
    """Read an error record. Return None for records of an unknown shape. The known shapes are:

    `{"error": {"message", "type", "code"}}` (OpenAI, llama.cpp), `{"error": "…"}`, `{"object": "error",
    "message": …}` (older vLLM) and `{"detail": …}` (FastAPI).
    """
    if not isinstance(record, dict):
        return None
    error = record.get("error") or (record if record.get("object") == "error" else None)
    if error is None and "detail" in record:
        error = str(record["detail"])
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return None
    message = str(error.get("message") or error)
    prompt, context = _PROMPT.search(message), _CONTEXT.search(message)
    length = int(prompt[prompt.lastindex or 0]) if prompt else None
    return Complaint(
        message=message,
        code=" ".join(str(error[name]) for name in ("code", "type") if error.get(name)),
        prompt_tokens=_whole(error, "n_prompt_tokens") or length,
        at_least=bool(prompt and prompt[1]),
        context=_whole(error, "n_ctx") or (int(context[1]) if context else None),
    )


def in_dialect(body: Body, refused: Collection[str]) -> Body:
    """Return a request without refused fields. A refused `max_tokens` becomes `max_completion_tokens`."""
    length = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    renamed = {length if name == "max_tokens" else name: value for name, value in body.items()}
    return {name: value for name, value in renamed.items() if name not in refused}


def adapted(body: Body, complaint: Complaint) -> Body | None:
    """Return a changed request that the server may accept, or None if no change is known to help."""
    given = body.get("messages", ())
    if _OF_TURNS.search(complaint.message) and (together := list(folded(given))) != list(given):
        return {**body, "messages": together}
    if "response_format" in body and _OF_SCHEMA.search(complaint.message):
        return in_dialect(body, {"response_format"})
    if GRAMMARS & body.keys() and is_about_grammar(complaint):
        return in_dialect(body, GRAMMARS)
    for extra in ("stream_options", "top_logprobs", "logprobs"):
        if extra in body and extra in complaint.message:
            return in_dialect(body, {extra})
    if "max_tokens" in body and "max_completion_tokens" in complaint.message and complaint.context is None:
        return in_dialect(body, {"max_tokens"})
    name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
    if complaint.context is None or complaint.prompt_tokens is None:
        return None
    # vLLM may state only a lower bound of the prompt's length ("at least"): then half of `asked` is tried.
    room, asked = complaint.context - complaint.prompt_tokens, body.get(name, 0)
    room = min(room, asked // 2) if complaint.at_least else room
    return {**body, name: room} if _LEAST_ROOM <= room < asked else None


def is_about_grammar(complaint: Complaint) -> bool:
    """Return whether a server complains about a grammar."""
    return bool(_OF_GRAMMAR.search(complaint.message))


_OF_TURNS = re.compile(r"jinja|chat.?template|\brole", re.I)
_OF_GRAMMAR = re.compile(r"grammar|ebnf|structured|guided", re.I)
_OF_SCHEMA = re.compile(r"response_format|json.?schema|\bschema\b|grammar|structured", re.I)
_LEAST_ROOM = 16  # with room for fewer tokens than this, the context counts as full


_LINE_END = re.compile(rb"\r\n|\n|\r")  # httpx's line splitting would also split at a raw U+2028 inside JSON


class EventParser:
    """Extracts the data of server-sent events from a stream of bytes. Other fields are ignored."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []  # pieces of a line, joined at its end: a long line is not scanned again
        self._return = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of the events that `piece` completes."""
        buffer = self._return + piece
        # A CR at the end may be half of a CRLF, so its line waits for the next piece.
        self._return = b"\r" * buffer.endswith(b"\r")
        first, *lines = _LINE_END.split(buffer.removesuffix(b"\r"))
        self._begun.append(first)
        if not lines:
            return []
        whole, self._begun = b"".join(self._begun), [lines.pop()]
        events = []
        for line in [whole, *lines]:
            if not line and self._data:
                events.append(b"\n".join(self._data).decode("utf-8", errors="replace"))
                self._data.clear()
            name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
        return events

    def close(self) -> list[str]:
        """Return the data of the last event, if no empty line ended the event."""
        return self.feed(b"\n\n")


@dataclass
class Stops:
    """Ends a stream of text at the first stop string, even if the server ignores stop strings."""

    stop: tuple[str, ...]
    found: str = ""  # the stop string that was found; empty for none
    _held: str = ""

    def add(self, text: str) -> str:
        """Add text. Return the text that is now final; a possible beginning of a stop string is held back."""
        text = self._held + text
        if found := first_stop(text, self.stop):
            at, self.found = found
            return text[:at]
        final = len(text) - held_back(text, self.stop)
        self._held = text[final:]
        return text[:final]

    def end(self) -> str:
        """At the end of the stream, return the text that was held back."""
        return "" if self.found else self._held
