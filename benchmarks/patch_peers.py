"""Objects mended by instructor's retry and by trustcall's patch, with a scripted model.

Both get the draft as the model's first reply, and ask for what they need then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, create_model

KINDS: dict[str, Any] = {
    "count": int,
    "price": float,
    "open": bool,
    "day": Literal["Monday", "Friday"],
    "city": str,
}
NAME = "Record"
URL = "http://server/v1"

Body = dict[str, Any]


@dataclass
class Told:
    """What an able model says: without a fault, and no more than it is asked for."""

    right: Mapping[str, Any]
    values: Mapping[str, Any]
    said: list[str] = field(default_factory=list, init=False)

    def redraft(self, request: str) -> str:
        """Return the values at pointers, or the whole object."""
        parts = {f"/{name}": value for name, value in self.right.items()}
        return self._say(parts if "by their JSON pointers" in request else {**self.values, **self.right})

    def peer(self, body: Body) -> str:
        """Return a JSON Patch if there is a tool for that, or the whole object."""
        if all(tool["function"]["name"] == NAME for tool in body.get("tools", ())):
            return self._say({**self.values, **self.right})
        edits = [{"op": "add", "path": f"/{name}", "value": value} for name, value in self.right.items()]
        plan = f"Set {', '.join(self.right)}."
        return self._say({"json_doc_id": "call_1", "planned_edits": plan, "patches": edits})

    def _say(self, value: Any) -> str:
        self.said.append(json.dumps(value))
        return self.said[-1]


@dataclass
class Drafted(httpx.BaseTransport):
    """Answers the first request with the draft, and the others as an able model does."""

    draft: str
    told: Told

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        body, draft, self.draft = json.loads(request.read()), self.draft, ""
        said = draft or self.told.peer(body)
        message: Body = {"role": "assistant", "content": said}
        if body.get("tools"):
            function = {"name": body["tools"][0]["function"]["name"], "arguments": said}
            calls = [{"id": "call_1", "type": "function", "function": function}]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "able"}
        return httpx.Response(200, json={**about, "choices": [choice]})


def model_of(names: list[str]) -> type[BaseModel]:
    """Return the pydantic model of a record."""
    fields: Any = {name: (KINDS[name.partition("_")[0]], ...) for name in names}
    return create_model(NAME, __config__=ConfigDict(strict=True, extra="forbid"), **fields)


def by_instructor(prompt: str, names: list[str], draft: str, told: Told) -> str:
    """Mend a draft by instructor's one retry. Empty if it fails."""
    import instructor
    from instructor.core.exceptions import InstructorError
    from openai import OpenAI

    api = OpenAI(base_url=URL, api_key="-", http_client=httpx.Client(transport=Drafted(draft, told)))
    client = instructor.from_openai(api, mode=instructor.Mode.JSON_SCHEMA)
    messages: Any = [{"role": "user", "content": prompt}]
    try:
        made = client.chat.completions.create(
            model="able", messages=messages, response_model=model_of(names), max_retries=1
        )
    except InstructorError:
        return ""
    return str(made.model_dump_json())


def by_trustcall(prompt: str, names: list[str], draft: str, told: Told) -> str:
    """Mend a draft by trustcall's one patch. Empty if it fails."""
    from langchain_openai import ChatOpenAI
    from trustcall import create_extractor

    http: Any = {"http_client": httpx.Client(transport=Drafted(draft, told)), "base_url": URL}
    model = ChatOpenAI(model="able", api_key="-", max_retries=0, **http)
    extractor = create_extractor(model, tools=[model_of(names)], tool_choice=NAME)
    made = extractor.invoke({"messages": [("user", prompt)]}, {"configurable": {"max_attempts": 2}})
    return made["responses"][0].model_dump_json() if made["responses"] else ""


Mend = Callable[[str, list[str], str, Told], str]
PEERS: dict[str, Mend] = {"instructor's retry": by_instructor, "trustcall's patch": by_trustcall}
