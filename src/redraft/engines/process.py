"""Run a model in a separate process, and restart the process after a crash.

After a crash in native code, a new process continues the reply.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import signal
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from redraft.engines.base import Delta, EngineInfo, Health, Replies, Sampling, Tokens
from redraft.engines.local import LocalEngine, Room
from redraft.engines.retry import backoff
from redraft.errors import EngineCrash, EngineError, MissingExtra, ModelError
from redraft.jobs.machine import lacks_avx2

STDERR_KEPT = 4096
CLOSE_SECONDS = 5.0
TRIES = 5  # number of crashes in a row after which the error is raised

PAUSE = 0.5
"""Upper limit of the pause before a second restart in a row, in seconds. Each further restart doubles it."""

_log = logging.getLogger(__name__)


class ModelProcess:
    """A running model process. Create one with `start`.

    The process reads the settings from standard input, as a line of JSON. After loading the model, it writes
    a JSON object in a line, with `error` if loading failed. It ends when standard input ends.
    """

    module: ClassVar[str]  # the module that runs in it
    library: ClassVar[str]  # the library's name in messages
    extra: ClassVar[str]  # the extra that installs it
    hint: ClassVar[str]  # the hint after a crash

    def __init__(self, model: Path, process: subprocess.Popen[bytes], key: str) -> None:
        self.model, self._process, self._key, self.poll = model, process, key, process.poll
        self._closed = False
        self.replacing = asyncio.Lock()  # held while a replacement is started
        self._stderr = bytearray()
        self._drain = threading.Thread(target=self._keep_stderr, daemon=True)
        self._drain.start()

    @classmethod
    async def start(cls, settings: Mapping[str, Any]) -> Self:
        """Start the process and wait until the model is loaded.

        Raises:
            ModelError: The library could not load the model.
        """
        key = secrets.token_hex(16)
        pipe = subprocess.PIPE
        process = subprocess.Popen(  # noqa: S603, ASYNC220  (our own module; a spawn takes a millisecond)
            [sys.executable, "-P", "-m", cls.module],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
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
        if not (line := stdout.readline()):
            raise self._crash()
        reply = json.loads(line)
        if "error" in reply:
            if reply["error"].startswith("ModuleNotFoundError"):
                raise MissingExtra(f"running {self.library}", self.extra)
            reason = self._reason(reply["error"].removeprefix("RuntimeError: "))
            raise ModelError(f"{self.library} could not load {self.model}: {reason}.")
        self._opened(reply)

    @abstractmethod
    def _opened(self, reply: Mapping[str, Any]) -> None:
        """Handle the JSON object that the process writes after loading the model."""

    def _reason(self, error: str) -> str:
        return error

    def _keep_stderr(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  (it is a pipe)
        while piece := self._process.stderr.read1(STDERR_KEPT):  # type: ignore[attr-defined]
            self._stderr += piece
            del self._stderr[:-STDERR_KEPT]

    def _last_words(self) -> str:
        self._drain.join(1.0)
        return self._stderr.decode("utf-8", "replace").strip()

    def _was_closed(self) -> EngineError:
        return EngineError(f"the engine of {self.model} was closed.", hint="Load the model again.")

    def _crash(self) -> EngineError:
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return EngineError(f"the process of {self.model} cut off a reply.", hint="Try again.")
        how = (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        )
        output = self._last_words().splitlines()[-3:]
        message = "\n    ".join([f"the process of {self.model} {how}.", *output])
        lacks = (
            "The processor lacks AVX2, which this engine needs. Use a server: --model http://host/v1#model"
        )
        return EngineCrash(message, hint=lacks if lacks_avx2() else self.hint)

    async def aclose(self) -> None:
        """End the process, and wait until it has ended. May be called twice."""
        # No thread waits here, because none can start while the interpreter exits.
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
        """Kill the process if it still runs, and release its resources."""
        self._process.kill()  # no-op if it has ended
        self._process.wait()
        self._drain.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


P = TypeVar("P", bound=ModelProcess)


class KeptProcess(Generic[P]):
    """A model process that is restarted after a crash.

    The first restart is immediate, and later restarts follow growing pauses. After `TRIES` crashes in a
    row, calls raise the error until a pause is over. The first call after the pause tries one restart.
    """

    def __init__(self, child: P, settings: Mapping[str, Any]) -> None:
        self.child, self._settings = child, settings
        self._restarts, self._crashes, self._not_before = 0, 0, 0.0
        self._trouble = ""
        self._closed = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def health(self) -> Health:
        """The health of the process."""
        ended = not self._closed and self.child.poll() is not None
        trouble = self._trouble or f"the process of {self.child.model} ended." * ended
        down = bool(self._trouble) and self._crashes >= TRIES
        return Health(self._restarts, trouble, down, down and self._resting)

    @property
    def _resting(self) -> bool:
        return self._crashes >= TRIES and time.monotonic() < self._not_before

    def _pause(self) -> float:
        return backoff(self._crashes - 1, PAUSE) if self._crashes > 1 else 0.0

    def worked(self) -> None:
        """Record that the process generated a token."""
        self._crashes = 0

    async def replace(self, dead: P, crash: EngineCrash, crashes: int) -> None:
        """Start a new process, unless another call has replaced `dead`. Cancelling does not stop the start.

        `crashes` counts the crashes since the caller's last token. `TRIES` or more crashes raise the error.
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
                dead, self.child = self.child, await type(self.child).start(self._settings)
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


class ProcessEngine(LocalEngine, Generic[P]):
    """An engine whose model runs in a process that is restarted after a crash."""

    def __init__(self, info: EngineInfo, context: int, trained: int | None, kept: KeptProcess[P]) -> None:
        super().__init__(info, context, trained)
        self._kept = kept

    @property
    def health(self) -> Health:
        """The health of the process."""
        return self._kept.health

    async def aclose(self) -> None:
        """End the process. May be called twice."""
        await self._kept.aclose()

    @abstractmethod
    def _once(self, child: P, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room) -> Replies:
        """Continue token ids in the process `child`."""

    async def _continue(self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room) -> Replies:
        said: list[int] = []
        crashes, unsteered = 0, False
        while room.tokens > len(said):
            before = len(said)
            child, left = self._kept.child, room._replace(tokens=room.tokens - before)
            try:
                async with aclosing(self._once(child, (*prompt, *said), sampling, stop, left)) as deltas:
                    async for delta in deltas:
                        crashes = 0
                        self._kept.worked()
                        delta = replace(delta, unsteered=True) if unsteered else delta
                        if delta.finish and before:  # the first tokens came from another process
                            yield replace(
                                delta,
                                prompt_tokens=(delta.prompt_tokens or 0) - before,
                                cached_tokens=min(delta.cached_tokens or 0, len(prompt)),
                                completion_tokens=(delta.completion_tokens or 0) + before,
                            )
                        else:
                            yield delta
                        if delta.finish:
                            return
                        said += delta.tokens
            except EngineCrash as crash:
                crashes += 1
                await self._kept.replace(child, crash, crashes)
                # A grammar cannot start in the middle of a text.
                if said and sampling.schema is not None:
                    crash.passing = crash.ready = True
                    raise
                if said and sampling.form is not None:
                    sampling, unsteered = replace(sampling, form=None), True
        yield Delta(finish=room.limit, prompt_tokens=len(prompt), completion_tokens=len(said))
