"""Read tool calls that a model wrote as text, for servers that do not parse tool calls.

Formats: `<tool_call>{…}</tool_call>` (Qwen, Hermes), `[TOOL_CALLS][{…}]` and `[TOOL_CALLS]name{…}` (Mistral),
`<|python_tag|>{…}` (Llama), and a reply that is only such JSON. After a marker, a call may have any name, so
that a wrong name gets feedback. Calls in XML or Python stay text. JSON without a marker stays text, too,
unless the JSON names an offered tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from redraft.engines.base import Delta, Replies, held_back
from redraft.engines.remote.wire import CallPiece, tool_calls

_MARKS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
_MARK = re.compile("|".join(map(re.escape, _MARKS)))
_KEYS = ('{"name"', '{"type":"function"', '{"function"')
_BARE = [begun + key for begun in ("", "[", "```", "```[", "```json", "```json[") for key in _KEYS]
"""The beginnings, without white space, of replies that may consist only of calls."""
_FENCE, _NAME = r"```\w*+\s*+\[?", r"([\w.-]++)(?:\[CALL_ID\]\w++)?(?:\[ARGS\])?"
_BEFORE = re.compile(rf"[\s,;\[]*+(?:{_FENCE})?\s*+(?:{_NAME})?\s*+(?=\{{)")
_BEHIND = re.compile(r"(?:\s*+(?:</tool_call>|```|\]))*")


async def calls_apart(deltas: Replies, tools: Sequence[Mapping[str, Any]], *, bare: bool = True) -> Replies:
    """Move tool calls from the text of a chat's deltas to `tool_calls`. Text that may be a call is held back.

    Without `bare`, only JSON after a marker, such as `<tool_call>`, is a call.
    """
    names = {str((tool.get("function") or tool).get("name")) for tool in tools}
    held, said, text = list[Delta](), "", ""
    async with aclosing(deltas):
        async for delta in deltas:
            held.append(delta)
            text += delta.text
            if not delta.finish and names and _may_call(text, bare=bare):
                continue
            if delta.finish and names and not delta.tool_calls:
                held = _with_calls(held, said, text, names, bare=bare)
            bare = bare and not text.strip()
            for each in held:
                yield each
            held, said, text = [], said + text, ""


def _may_call(text: str, *, bare: bool) -> bool:
    begun = "".join(text[:80].split()) if bare else ""
    opens = begun and any(each[: len(begun)] == begun[: len(each)] for each in _BARE)
    return bool(opens or _MARK.search(text) or held_back(text, _MARKS))


def _with_calls(held: list[Delta], said: str, text: str, names: Container[str], *, bare: bool) -> list[Delta]:
    found, rest, end, last = list[tuple[str, str]](), "", 0, held[-1]
    while mark := _MARK.search(text, end):
        before = said + text[: mark.start()]
        line, fences = before.rpartition("\n")[2], before.count("```") % 2
        shown = bool(before[: before.index("```")].strip()) if fences else line.count("`") % 2 == 1
        calls, behind = ([], mark.end()) if shown else calls_at(text, None, mark.end())
        rest += text[end : mark.start() if calls else behind]
        found, end = [*found, *calls], behind
    rest += text[end:]
    if bare and not end:
        found, end = calls_at(text, names)
        rest = text[end:]
    if not found or (bare and not _MARK.search(text) and rest.strip()):
        return held
    if last.finish != "stop":  # a call that was cut off is not part of the text
        rest = _MARK.split(rest)[0]
    thought = "".join(delta.thought for delta in held)
    return [replace(last, text=rest, thought=thought, tool_calls=joined(found))]


def calls_at(text: str, names: Container[str] | None, start: int = 0) -> tuple[list[tuple[str, str]], int]:
    """Return the consecutive calls from `start` on, and the position after the last call.

    A call is a pair of a tool's name and the arguments as JSON. `names` limits the tools; None allows all.
    """
    found, end, decode = list[tuple[str, str]](), start, json.JSONDecoder(strict=False).raw_decode
    with suppress(ValueError, RecursionError):
        while before := _BEFORE.match(text, end):
            value, stop = decode(text, before.end())
            inner = value["function"] if isinstance(value.get("function"), Mapping) else value
            name = before[1] or inner.get("name")
            plain = None if "description" in inner else inner.get("parameters")  # or it defines a tool
            given = value if before[1] else inner.get("arguments", plain)
            if not isinstance(name, str) or given is None or (names is not None and name not in names):
                break
            found.append((name, given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)))
            end = behind.end() if (behind := _BEHIND.match(text, stop)) else stop
    return found, end


def joined(calls: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], ...]:
    """Return calls in the form of a message's `tool_calls`, each with an id."""
    return tool_calls(CallPiece(number, "", *call) for number, call in enumerate(calls))
