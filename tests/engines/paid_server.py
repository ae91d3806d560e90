"""A stand-in for a server that is paid: it refuses, asks for keys, and keeps an account.

    with PaidServer(plan={2: BROKEN}, keys={"sk-a": 3}) as server:
        redraft("answer", "prompts.jsonl", "-o", "out.jsonl", "-m", server.model)
        assert not server.twice

What it says depends on the messages alone, so that runs can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    Request,
    chat_event,
    error_reply,
    models_reply,
    sse_reply,
    usage_event,
)

MODEL = "gull"
TOKENS = (10, 7)  # of a prompt, and of its reply

CUT = sse_reply(chat_event("A"), cut=True)
BROKEN = sse_reply(b'data: {"choices\n\n', DONE)
DOWN = error_reply(500, "Out of luck.")

Messages = list[dict[str, Any]]


def said(messages: Messages) -> str:
    before = sum(message["role"] == "assistant" for message in messages)
    if before % 2:
        return f"Draft {before} is too dull for thing {messages[0]['content']}. Revision is needed."
    return f"Version {before} of a fine gull over the sea for {messages[0]['content']}"


class PaidServer(FakeServer):
    """A server that counts the replies (`paid`) and refusals (`turned_away`) of each list of messages.

    A reply pauses for `seconds`. `plan` maps the number of a call, from 1, to another reply. `refuses` maps
    a part of messages to a refusal, and `keys` a key to its number of calls; if empty, no key is needed.
    """

    def __init__(
        self,
        says: Callable[[Messages], str] = said,
        *,
        port: int = 0,
        seconds: float = 0.0,
        plan: Mapping[int, Reply] | None = None,
        refuses: Mapping[str, Reply] | None = None,
        keys: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(port)
        self.says, self.seconds, self.plan = says, seconds, plan or {}
        self.refuses, self.keys = refuses or {}, keys or {}
        self.messages: list[Messages] = []
        self.calls, self.statuses = Counter[str](), Counter[int]()
        self.paid, self.turned_away = Counter[str](), Counter[str]()

    @property
    def port(self) -> int:
        return self._port

    @property
    def model(self) -> str:
        return f"{self.url}#{MODEL}"

    @property
    def twice(self) -> list[str]:
        return [messages for messages, times in self.paid.items() if times > 1]

    def _next(self, request: Request) -> Reply:
        if request.method == "GET":
            return models_reply(MODEL)
        reply = self._reply(request)
        self.statuses[reply.status] += 1
        return reply

    def _reply(self, request: Request) -> Reply:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        messages = request.json["messages"]
        asked = str(messages)
        self.calls[key] += 1
        self.messages.append(messages)
        if self.keys and self.calls[key] > self.keys.get(key, 0):
            return error_reply(401, "Incorrect API key provided.")
        for part, refusal in self.refuses.items():
            if part in asked:
                self.turned_away[asked] += 1
                return refusal
        if len(self.messages) in self.plan:
            return self.plan[len(self.messages)]
        self.paid[asked] += 1
        text = self.says(messages)
        first, rest = chat_event(text[:1]), chat_event(text[1:])
        return sse_reply(first, self.seconds, rest, chat_event("", "stop"), usage_event(*TOKENS), DONE)
