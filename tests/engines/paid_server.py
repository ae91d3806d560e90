"""A stand-in for a server that is paid: it limits, refuses, asks for keys, and keeps an account.

    with PaidServer(plan={2: BROKEN}, keys={"sk-a": 3}) as server:
        redraft("answer", "prompts.jsonl", "-o", "out.jsonl", "-m", server.model)
        assert not server.twice

What it says depends on the messages alone, so that runs can be compared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    Request,
    chat_event,
    chat_reply,
    error_reply,
    models_reply,
    sse_reply,
    usage_event,
)

MODEL = "gull"
TOKENS = (10, 7)  # of a prompt, and of its reply

EMPTY = chat_reply("")
CUT = sse_reply(chat_event("A"), cut=True)
BROKEN = sse_reply(b'data: {"choices\n\n', DONE)
DOWN = error_reply(500, "Out of luck.")

Messages = list[dict[str, Any]]


def said(messages: Messages) -> str:
    """Criticism after each answer; it depends on the prompt and on the number of the call in its chain."""
    before = sum(message["role"] == "assistant" for message in messages)
    if before % 2:
        return f"Draft {before} is too dull for thing {messages[0]['content']}. Revision is needed."
    return f"Version {before} of a fine gull over the sea for {messages[0]['content']}"


class PaidServer(FakeServer):
    """The server.

    Args:
        says: Returns the text of a reply.
        port: 0 for any that is free.
        seconds: Of silence in the middle of each reply.
        plan: Number of a call, from 1 -> what it gets instead.
        refuses: Part of messages -> what they get instead.
        keys: Key -> how many calls it is good for. Empty: no key is asked for.
        rpm: Requests that are let in within `window` seconds; 0 for any number.
        tpm: Tokens within them.
        tells: Whether it sends `retry-after` with a 429.

    Attributes:
        messages: Of all calls.
        calls: Calls by key, and `statuses` by what they got.
        paid: Messages -> how many replies they got; `turned_away` how many refusals.
        let_in: When calls were let in; `limited` when not.
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
        rpm: int = 0,
        tpm: int = 0,
        window: float = 60.0,
        tells: bool = False,
    ) -> None:
        super().__init__(port)
        self.says, self.seconds, self.plan = says, seconds, plan or {}
        self.refuses, self.keys, self.tells = refuses or {}, keys or {}, tells
        self._windows = {"requests": Window(rpm, window), "tokens": Window(tpm, window)}
        self.messages: list[Messages] = []
        self.calls, self.statuses = Counter[str](), Counter[int]()
        self.paid, self.turned_away = Counter[str](), Counter[str]()
        self.let_in: list[float] = []
        self.limited: list[float] = []

    @property
    def port(self) -> int:
        return self._port

    @property
    def model(self) -> str:
        return f"{self.url}#{MODEL}"

    @property
    def twice(self) -> list[str]:
        """What was paid for more than once."""
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
        if wait := max(window.wait(amount) for window, amount in self._amounts()):
            self.limited.append(time.monotonic())
            told = {"Retry-After": f"{wait:.3f}"} if self.tells else None
            return error_reply(429, "Rate limit reached.", headers=told)
        for window, amount in self._amounts():
            window.taken.append((time.monotonic(), amount))
        self.let_in.append(time.monotonic())
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

    def _amounts(self) -> list[tuple[Window, int]]:
        return [(self._windows["requests"], 1), (self._windows["tokens"], sum(TOKENS))]


class Window:
    """A sliding window over what was let in."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self.taken: list[tuple[float, int]] = []

    def wait(self, amount: int) -> float:
        """Return the seconds until there is room for an amount: 0 if there is now."""
        now = time.monotonic()
        self.taken = [each for each in self.taken if each[0] > now - self.seconds]
        over = sum(taken for _, taken in self.taken) + amount - self.most
        if not self.most or over <= 0:
            return 0.0
        for at, taken in self.taken:
            over -= taken
            if over <= 0:
                return at + self.seconds - now
        raise AssertionError("an amount that never fits")
