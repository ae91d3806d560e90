"""Correct objects by redraft, instructor's retry and trustcall's patch, with a scripted model.

The peers get the draft as the model's first reply, and then request a correction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import httpx
from pydantic import ConfigDict, create_model

import redraft
from measure import Figure, Goal, Row
from patch_material import flat
from redraft.engines.load import load_engine

HOW = (
    "{} drafts. A scripted model gives every requested correction without a fault; tokens are the default "
    "model's. patch: mode `auto`. full: mode `verified`. The peers get the draft as the first reply: "
    "instructor requests the whole object again, with the error, and trustcall a JSON Patch. An object is "
    "right if all its values are right."
)
TYPES = {"integer": int, "number": float, "boolean": bool, "string": str}
LONGEST = 10_000  # characters, which are the tokens of a scripted model


@dataclass
class Able(httpx.BaseTransport):
    """A model without faults, which returns only requested parts. As a server, it first returns the draft."""

    draft: Any
    said: list[str] = field(default_factory=list)
    begun: bool = False

    def say(self, value: Any) -> str:
        self.said.append(json.dumps(value))
        return self.said[-1]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        tools = [tool["function"]["name"] for tool in json.loads(request.read()).get("tools", ())]
        old, right = flat(json.loads(self.draft.answer)), self.draft.right
        ops = {path: "replace" if path in old else "add" for path in right}
        edits = [{"op": ops[path], "path": path, "value": each} for path, each in right.items()]
        plan = f"Set {', '.join(self.draft.right)}."
        patch = {"json_doc_id": "call_1", "planned_edits": plan, "patches": edits}
        value = patch if {*tools} - {"Record"} else self.draft.whole
        text, self.begun = self.say(value) if self.begun else self.draft.answer, True
        function = {"name": "".join(tools[:1]), "arguments": text}
        calls = [{"id": "call_1", "type": "function", "function": function}]
        message = {"role": "assistant", "content": text, **({"tool_calls": calls} if tools else {})}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        about = {"id": "1", "object": "chat.completion", "created": 0, "model": "able"}
        return httpx.Response(200, json={**about, "choices": [choice]})


def by_redraft(mode: Any, able: Able) -> str:
    def say(messages: Any) -> str:
        return able.say(
            able.draft.right if "by their JSON pointers" in messages[-1]["content"] else able.draft.whole
        )

    given: dict[str, Any] = {"given": able.draft.answer, "checks": able.draft.checks, "max_tokens": LONGEST}
    return redraft.revise(able.draft.prompt, model=redraft.ScriptedEngine(say), mode=mode, **given).answer


def kind_of(schema: dict[str, Any]) -> Any:
    if properties := schema.get("properties"):
        fields: Any = {name: (kind_of(each), ...) for name, each in properties.items()}
        return create_model("Record", __config__=ConfigDict(strict=True, extra="forbid"), **fields)
    if items := schema.get("items"):
        return list[kind_of(items)]  # type: ignore[misc]  # made as it runs
    return Literal[tuple(schema["enum"])] if "enum" in schema else TYPES[schema["type"]]


def by_peer(name: str, able: Able) -> str:
    record = kind_of(json.loads(Path(able.draft.checks[0].partition(":")[2]).read_text("utf-8")))
    api: Any = {"base_url": "http://able/v1", "api_key": "-", "http_client": httpx.Client(transport=able)}
    asked: Any = [{"role": "user", "content": able.draft.prompt}]
    if name == "instructor":
        import instructor
        from openai import OpenAI

        client = instructor.from_openai(OpenAI(**api), mode=instructor.Mode.JSON_SCHEMA).chat.completions
        made: Any = client.create(model="able", messages=asked, response_model=record, max_retries=1)
        return str(made.model_dump_json())
    from langchain_openai import ChatOpenAI
    from trustcall import create_extractor

    extractor = create_extractor(ChatOpenAI(model="able", **api), tools=[record], tool_choice="Record")
    found = extractor.invoke({"messages": asked}, {"configurable": {"max_attempts": 2}})
    return found["responses"][0].model_dump_json()


WAYS = {
    "patch": partial(by_redraft, "auto"),
    "full revision": partial(by_redraft, "verified"),
    "instructor's retry": partial(by_peer, "instructor"),
    "trustcall's patch": partial(by_peer, "trustcall"),
}


async def row(drafts: Sequence[Any]) -> Row:
    engine, figures = await load_engine("default"), list[Figure]()
    for way, mend in WAYS.items():
        ables, goals = [*map(Able, drafts)], [Goal("≥", 100.0), Goal("≤", 60.0)] * (way == "patch")
        right = [json.loads(mend(able)) == able.draft.whole for able in ables]
        figures.append(Figure(f"are right, {way}", (100 * fmean(right),), "%", *goals[:1]))
        tokens = [float(sum([len(await engine.encode(text)) for text in able.said])) for able in ables]
        figures.append(Figure(f"new tokens, {way}", tuple(tokens), "tokens", *goals[1:]))
    await engine.aclose()
    return Row("patch: objects, an able model", HOW.format(len(drafts)), tuple(figures))
