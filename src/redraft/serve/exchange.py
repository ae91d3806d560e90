"""Answer one request to a model, streamed or not.

If the client disconnects, the chain and the engine's call are cancelled, but the usage is still recorded. A
stream's HTTP status is sent with the first piece. An error before the first piece has an error status.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from redraft.chain import Step, Usage
from redraft.errors import CheckError, EmptyReply, EngineError
from redraft.revision.api import make
from redraft.revision.cancel import CancelToken, Limit, OutOfTime
from redraft.revision.ops import Event, Finished
from redraft.serve.errors import Refusal, refusal_of, reply_of
from redraft.serve.gate import GRACE, Gate, down, ending
from redraft.serve.log import REQUEST, parent_of
from redraft.serve.replies import PING, Reply, allowed
from redraft.serve.requests import Accepted

_log = logging.getLogger(__name__)

SILENCE = 15.0  # seconds without a piece after which a comment is sent: proxies close quiet connections
CLIENT_SECONDS = 60.0  # time limit to read a piece. After that, the client counts as gone and loses its turn.

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes each piece on at once
]


class ClientGone(Exception):
    """Raised if the client closed the connection, or does not read the reply."""


class Exchange(Response):
    """Answers a checked request. `source` makes the answers, and yields (answer index, event) pairs."""

    def __init__(
        self,
        reply: Reply,
        gate: Gate,
        source: Callable[[Accepted, CancelToken], AsyncGenerator[tuple[int, Any], None]],
    ) -> None:
        super().__init__()
        self._reply, self._gate, self._asked, self._source = reply, gate, reply.asked, source
        self._sent, self._sending = 0, asyncio.Lock()
        self._cancel: CancelToken | None = None  # cancels the work, once it has begun
        self._gone = False
        left_out = ", ".join(self._asked.left_out).encode()[:500]  # a client may send many types
        self._left_out = [(b"x-redraft-left-out", left_out)] if left_out else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and record the usage."""
        scope["state"]["model"] = self._asked.model
        with parent_of(self._asked.options.trace, scope):
            try:
                await unless_gone(receive, self._answer(scope, receive, patient(send)), self._leave)
            except ClientGone:
                scope["state"]["error"] = "client_left"
            except asyncio.CancelledError:  # the server has ended
                if not self._gate.draining:
                    raise
        if self._cancel and self._cancel.cancelled and not self._gone:
            scope["state"].setdefault("error", "draining")
        messages = self._reply.messages
        scope["state"]["chains"] = [message.chain for message in messages if message.chain]
        scope["state"]["usage"] = sum((message.usage for message in messages), Usage())

    def _leave(self) -> bool:
        self._gone = True
        if self._cancel is not None:
            self._cancel.cancel()
        return self._cancel is not None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told() -> None:
            if self._asked.stream and (line := self._reply.waiting()):
                await self._send(send, line)

        try:
            async with self._gate.entered(self._asked.options.model, told, self._asked.model) as self._cancel:
                await (self._stream if self._asked.stream else self._whole)(scope, receive, send)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, the client gets a reply)
            refusal = refusal_of(error, self._reply.asked_in)
            if self._sent:
                scope["state"]["error"] = refusal.code
                await self._send(send, self._reply.failed(refusal), more=False)
            else:
                failed = isinstance(error, EngineError)
                stopped = down(self._asked.options.model, self._asked.model) if failed else None
                await reply_of(stopped or refusal, scope)(scope, receive, send)

    async def _events(self) -> AsyncGenerator[tuple[int, Any], None]:
        assert self._cancel is not None  # noqa: S101  (the gate was passed)
        async with aclosing(self._source(self._asked, self._cancel)) as events:
            async for index, event in events:
                messages = self._reply.messages
                last: Any = event.chain if isinstance(event, Finished) else messages[index]
                used = (each.usage.completion_tokens for each in (last, *messages))
                said = getattr(event, "text", "") or any(used)  # the text may have been held back
                if self._cancel.cancelled and not (self._gone or said):
                    deque(messages[index].take(event), 0)  # for the log
                    raise ending()  # an empty answer would pass for the model's own
                yield index, event

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events()) as events:
            async for index, event in events:
                for _ in self._reply.messages[index].take(event):
                    pass
        if self._gone:
            raise ClientGone
        reply = JSONResponse(self._reply.whole())
        reply.raw_headers += self._left_out
        await reply(scope, receive, send)

    async def _stream(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        ping = asyncio.ensure_future(self._ping(send))
        try:
            async with aclosing(self._events()) as events:
                async for index, event in events:
                    if lines := b"".join(self._reply.events(index, event)):
                        await self._send(send, lines)
        finally:
            await _ended(ping)
        if self._gone:
            raise ClientGone
        await self._send(send, b"".join(self._reply.end()), more=False)

    async def _ping(self, send: Send) -> None:
        while True:
            before = self._sent
            await asyncio.sleep(SILENCE)
            if self._sent == before:
                await self._send(send, PING)

    async def _send(self, send: Send, data: bytes, *, more: bool = True) -> None:
        async with self._sending:
            if self._gone:
                return
            try:
                if not self._sent:
                    headers = [*_HEADERS, *self._left_out]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                self._sent += 1
                await send({"type": "http.response.body", "body": data, "more_body": more})
            except ClientGone:
                self._leave()


async def chains(asked: Accepted, cancel: CancelToken) -> AsyncGenerator[tuple[int, Event], None]:
    """Make the chains in turn. Yield events, each with the index of an answer.

    An answer may be empty if `max_tokens` or a full context cut the reply, or if a model that does not revise
    wrote nothing. Any other empty reply raises `EmptyReply`.
    """
    for index, prompt in enumerate(asked.inputs):
        name = f"{REQUEST.get('')}/{index}" if index else REQUEST.get("")
        options = asked.options_at(index).model_copy(update={"cancel": cancel, "id": name})
        try:
            async with aclosing(make(prompt, options)) as events:
                async for event in events:
                    if isinstance(event, Finished) and (told := asked.count(event.chain)):
                        _log.warning(told)
                    if seen := allowed(event, asked):
                        yield index, seen
        except EmptyReply as error:
            if error.chain is None or not (error.cut or (asked.sure and error.by_itself)):
                raise
            empty = Step(answer="", usage=error.chain.usage, finish="max_tokens" if error.cut else "stop")
            ended = {"steps": (empty,), "stop": "max_tokens" if error.cut else "ended"}
            if seen := allowed(Finished(error.chain.model_copy(update=ended)), asked):
                yield index, seen
        except CheckError as error:  # the error may quote the answer
            if not asked.withheld:
                raise
            _log.warning("an answer is withheld: %s", error)
            message = "a check could not judge the answer."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "check_failed", message) from None


def patient(send: Send) -> Send:
    """Return a `send` that raises `ClientGone` if the client does not read."""
    limit = Limit()  # a timeout of asyncio for each piece would cost twice as much

    async def sending(message: Message) -> None:
        late = asyncio.get_running_loop().call_later(CLIENT_SECONDS, limit.end)
        try:
            with limit:
                await send(message)
        except OutOfTime:
            raise ClientGone from None
        finally:
            late.cancel()

    return sending


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, None], leave: Callable[[], bool]) -> None:
    """Await `work`. If the client disconnects, cancel `work` (up to `GRACE` s later if `leave()` is true).

    Raises:
        ClientGone: The client disconnected first.
    """

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            if leave():
                await asyncio.wait({doing}, timeout=GRACE)
            raise ClientGone
        doing.result()
    finally:
        await _ended(doing)
        await _ended(leaving)


async def _ended(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
