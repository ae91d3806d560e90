"""Start the llama.cpp process, send it requests, notice its death, and end it.

The HTTP client is minimal, for one known server on 127.0.0.1: a general client takes more time for a token
than this whole module. Each request has its own connection, so that closing it cancels the work, and so that
nothing is tied to an event loop. `engine` knows what the requests mean.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redraft.engines.base import Health
from redraft.engines.llamacpp.child import ChildSettings
from redraft.engines.retry import backoff
from redraft.errors import EngineCrash, EngineError, MissingExtra, ModelError

STDERR_KEPT = 4096
_REASON = re.compile(r"(?:error loading model|\bE srv .*?init: init): (.+)")
CLOSE_SECONDS = 5.0


TRIES = 5  # crashes in a row after which to give up

PAUSE = 0.5
"""Most seconds before the second restart in a row. The first comes at once, and later ones after more."""


class ChildRefusal(Exception):
    """A reply with another status than 200, with its error object."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", error)))
        self.status = status
        self.error = error


class Child:
    """A running model process. Make one with `start`.

    Attributes:
        replacing: Held while another process is started in place of this one, which died.
    """

    def __init__(self, model: Path, process: subprocess.Popen[bytes], key: str) -> None:
        self.model = model
        self._process = process
        self._key = key
        self._host, self._port = "", 0
        self._closed = False
        self.replacing = asyncio.Lock()
        self._stderr = bytearray()
        self._drain = threading.Thread(target=self._keep_stderr, daemon=True)
        self._drain.start()

    @classmethod
    async def start(cls, settings: ChildSettings) -> Child:
        """Start the process and wait until the model is loaded.

        Raises:
            ModelError: llama.cpp could not load the model; the message has its reason.
        """
        key = secrets.token_hex(16)
        command = [sys.executable, "-P", "-m", "redraft.engines.llamacpp.child"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(  # noqa: S603, ASYNC220  (our own module; a spawn takes a millisecond)
            command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        child = cls(Path(settings["model"]), process, key)
        try:
            await asyncio.to_thread(child._hand_over, {**settings, "key": key})
        except BaseException:
            await child.aclose()
            raise
        return child

    def _hand_over(self, settings: dict[str, Any]) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018  (both are pipes)
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(settings).encode() + b"\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            raise self._crash()
        reply = json.loads(line)
        if "error" in reply:
            if reply["error"].startswith("ModuleNotFoundError"):
                raise MissingExtra("A llama.cpp model", "local")
            found = _REASON.search(self._last_words())
            reason = found[1].strip() if found else reply["error"].removeprefix("RuntimeError: ")
            raise ModelError(f"llama.cpp could not load {self.model}: {reason}.")
        address = urlsplit(reply["address"])
        self._host, self._port = str(address.hostname), int(address.port or 0)

    def _keep_stderr(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  (it is a pipe)
        while piece := self._process.stderr.read1(STDERR_KEPT):  # type: ignore[attr-defined]
            self._stderr += piece
            del self._stderr[:-STDERR_KEPT]

    def _last_words(self) -> str:
        self._drain.join(1.0)
        return self._stderr.decode("utf-8", "replace").strip()

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON and return the JSON of the reply."""
        async with self._exchange(path, body) as reader:
            return json.loads(await reader.read())

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Send JSON and yield the objects of the event stream. Closing the stream cancels the work."""
        async with self._exchange(path, body) as reader:
            rest = b""
            while piece := await _chunk(reader):
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: {"):
                        yield json.loads(event[6:])

    @asynccontextmanager
    async def _exchange(self, path: str, body: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
        if self._closed:
            raise self._was_closed()
        content = json.dumps(body).encode()
        try:
            async with _connection(self._host, self._port) as (reader, writer):
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
                    f"Authorization: Bearer {self._key}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                writer.write(head.encode() + content)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                status = int(answer.split(None, 2)[1])
                if status != 200:
                    chunked = b"\r\ntransfer-encoding: chunked" in answer
                    raw = b"" if chunked else await reader.read()
                    while chunked and (piece := await _chunk(reader)):
                        raw += piece
                    try:
                        refused = error_of(json.loads(raw))
                    except (ValueError, KeyError, TypeError):
                        refused = {"message": raw.decode("utf-8", "replace")[:500]}
                    raise ChildRefusal(status, refused)
                yield reader
        except (OSError, EOFError) as error:
            if self._closed:
                raise self._was_closed() from None
            raise await asyncio.to_thread(self._crash) from error

    def _was_closed(self) -> EngineError:
        return EngineError(f"the engine of {self.model} was closed.", hint="Load the model again.")

    def _crash(self) -> EngineError:
        """Return the error for a broken connection, with the process's status and last output."""
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return EngineError(f"the process of {self.model} broke off a reply.", hint="Try again.")
        how = (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        )
        output = self._last_words().splitlines()[-3:]
        return EngineCrash(
            "\n    ".join([f"the process of {self.model} {how}.", *output]),
            hint="Check the file with its sha256, try a smaller --ctx, or --gpu-layers 0.",
        )

    async def aclose(self) -> None:
        """End the process and wait for its end. May be called twice.

        It starts no thread, because none can start while the interpreter exits.
        """
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None  # noqa: S101  (it is a pipe)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    while self._process.poll() is None:  # noqa: ASYNC110  (a process has no event for its end)
                        await asyncio.sleep(0.01)
        finally:
            self.bury()

    def bury(self) -> None:
        """Release what a process holds that has ended. One that has not is killed."""
        self._process.kill()  # no-op if it has ended
        self._process.wait()
        self._drain.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


@asynccontextmanager
async def _connection(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


def error_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the `error` of a record. It has a `message`, of the whole error if the server gave none."""
    error = record["error"]
    return {"message": str(error), **(error if isinstance(error, dict) else {})}


_log = logging.getLogger(__name__)


class KeptChild:
    """A model process, and the next one when it dies.

    The first restart comes at once, and later ones after growing pauses. After `TRIES` crashes in a row the
    error is raised; from then on a call tries one more start, and calls during the pause after that fail at
    once.
    """

    def __init__(self, child: Child, settings: ChildSettings) -> None:
        self.child, self._settings = child, settings
        self._restarts, self._crashes, self._not_before = 0, 0, 0.0
        self._trouble = ""
        self._closed = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def health(self) -> Health:
        """How the process is."""
        stalled = bool(self._trouble)
        return Health(self._restarts, self._trouble, down=stalled and self._resting, stalled=stalled)

    @property
    def _resting(self) -> bool:
        return self._crashes >= TRIES and time.monotonic() < self._not_before

    def _pause(self) -> float:
        return backoff(self._crashes - 1, PAUSE) if self._crashes > 1 else 0.0

    def worked(self) -> None:
        """Record that the process generated a token."""
        self._crashes = 0

    async def replace(self, dead: Child, crash: EngineCrash, crashes: int) -> None:
        """Start a process in place of one that died, unless another call has done so.

        If this call is cancelled, the start goes on: it may take minutes. The call has seen it crash
        `crashes` times without a new token. Raises if there were too many in a row.
        """
        if crashes >= TRIES:
            self._crashes = max(crashes, self._crashes)
            raise self._given_up(crash)
        async with dead.replacing:
            if self.child is not dead:
                return
            if self._starting is None or self._starting.done():
                self._starting = asyncio.ensure_future(self._start(crash))
                self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.wait({self._starting})
            if self._starting.cancelled():  # the engine was closed
                raise crash
            self._starting.result()

    async def _start(self, error: EngineError) -> None:
        while not self._closed:
            self._trouble = error.message.splitlines()[0]
            if self._resting:
                raise self._in_a_row(error)
            self._crashes += 1
            pause = self._pause() if self._crashes <= TRIES else 0
            _log.warning("%s It is started again%s.", self._trouble, f" in {pause:.1g} s" if pause else "")
            await asyncio.sleep(pause)
            self._not_before = time.monotonic() + self._pause()
            try:
                dead, self.child = self.child, await Child.start(self._settings)
            except EngineError as again:
                error = again
                if self._crashes >= TRIES:
                    raise self._given_up(error) from None
            else:
                self._restarts, self._trouble = self._restarts + 1, ""
                await asyncio.to_thread(dead.bury)
                return
        raise error

    def _given_up(self, error: EngineError) -> EngineError:
        self._trouble = error.message.splitlines()[0]
        self._not_before = time.monotonic() + self._pause()
        return self._in_a_row(error)

    def _in_a_row(self, error: EngineError) -> EngineError:
        first, *output = error.message.splitlines()
        message = "\n".join([f"{first.removesuffix('.')}, {self._crashes} times in a row.", *output])
        return type(error)(message, hint=error.hint)

    async def aclose(self) -> None:
        """End the process. May be called twice."""
        self._closed = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self.child.aclose()
