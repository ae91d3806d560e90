"""Send requests to the OpenVINO process over its standard input, and hand its events to their streams.

A thread writes and a thread reads, so no event loop waits for a pipe, and streams of any loop share them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import suppress
from typing import Any

from redraft.engines.openvino.child import Event, Request
from redraft.engines.process import ModelProcess

_Inbox = asyncio.Queue[Event | None]  # the events of a stream; None when the process has ended
_Stream = tuple[asyncio.AbstractEventLoop, _Inbox]


class Child(ModelProcess):
    """A running OpenVINO process. Make one with `start`."""

    module = "redraft.engines.openvino.child"
    library = "OpenVINO"
    extra = "cpu"
    hint = "Check the file with its sha256, try a smaller --ctx, or --engine llamacpp."

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._numbers = itertools.count()
        self._streams: dict[int, _Stream] = {}
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ended = False

    def _opened(self, reply: Mapping[str, Any]) -> None:  # noqa: ARG002  (it says nothing)
        for work in (self._write, self._read):
            threading.Thread(target=work, name="redraft-openvino", daemon=True).start()

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        """Send a request and yield its events. Closing the stream cancels the work."""
        number, inbox = next(self._numbers), _Inbox()
        self._streams[number] = asyncio.get_running_loop(), inbox
        self._send({"id": number, **request})
        try:
            while not (self._ended and inbox.empty()):
                event = await inbox.get()
                if event is not None:
                    if event[3]:
                        del self._streams[number]
                    yield event
            raise self._was_closed() if self._closed else await asyncio.to_thread(self._crash)
        finally:
            if self._streams.pop(number, None):
                self._send({"id": number})

    def _send(self, line: Mapping[str, Any]) -> None:
        self._outbox.put(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  (it is a pipe)
        with suppress(OSError, ValueError):  # the process has ended, or was closed
            while line := self._outbox.get():
                stdin.write(line)
                stdin.flush()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  (it is a pipe)
        with suppress(ValueError):  # it was closed
            for line in stdout:
                self._deliver((event[0], event) for event in json.loads(line))
        self._ended = True
        self._deliver((number, None) for number in list(self._streams))

    def _deliver(self, events: Iterable[tuple[int, Event | None]]) -> None:
        """Hand events to their streams, with one call for each event loop."""
        of_loops: dict[asyncio.AbstractEventLoop, list[tuple[_Inbox, Event | None]]] = {}
        for number, event in events:
            if stream := self._streams.get(number):
                of_loops.setdefault(stream[0], []).append((stream[1], event))
        for loop, found in of_loops.items():
            with suppress(RuntimeError):  # the loop is closed, and nobody reads the streams
                loop.call_soon_threadsafe(_put, found)

    def bury(self) -> None:
        """Release what a process holds that has ended. One that has not is killed."""
        self._outbox.put(b"")
        super().bury()


def _put(events: Iterable[tuple[_Inbox, Event | None]]) -> None:
    for inbox, event in events:
        inbox.put_nowait(event)
