"""Checks that are programs: `command:pytest -q tests`. Exit status 0 passes; else the output is the feedback.

The program reads the answer on standard input, without a shell, with all rights of the user. A `supervisor`
kills it and every process that it started when it is done, when the time is up, and when redraft dies. On
Windows, what the program started ends only when the time is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import dataclass
from typing import Self

from redraft.chain import Prompt
from redraft.checks import supervisor
from redraft.checks.base import Outcome, failed, passed, turn
from redraft.errors import CheckError, CheckSyntaxError

COMMAND_SECONDS = 30.0  # the default time limit
KEPT = 2000  # characters of output in the feedback, from the end, where programs sum up

_HINT = "Write command:PROGRAM ARGS, with quotes as in a shell, and command[10s]: for a time limit."
_SIGNALS = {each.value: each.name for each in signal.Signals}  # without most real-time signals
_NOT_RUN = {126, 127}  # env, sh and others return these for a program that is missing or cannot run


@dataclass(frozen=True)
class Command:
    """`command:PROGRAM ARGS`: a program that reads the answer exits with 0."""

    line: str
    seconds: float = COMMAND_SECONDS

    @classmethod
    def of(cls, line: str, seconds: float = COMMAND_SECONDS) -> Self:
        """Parse a command line."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise CheckSyntaxError(f"command:{line}: {str(error).lower()}.", hint=_HINT) from None
        if not words or shutil.which(words[0]) is None:
            program = words[0] if words else ""
            raise CheckSyntaxError(f"command:{line}: there is no program {program!r}.", hint=_HINT)
        return cls(line, seconds)

    @property
    def name(self) -> str:
        """The short form."""
        limit = "" if self.seconds == COMMAND_SECONDS else f"[{self.seconds!r}".removesuffix(".0") + "s]"
        return f"command{limit}:{self.line}"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Run the program. The message has its exit status and the end of its output."""
        status, output = await self.run(answer)
        if status is None:
            limit = f"{self.seconds:g} s"
            return failed(f"The check command was stopped: it took longer than {limit} on this answer.")
        printed = f":\n{output}" if output else ", and it printed nothing."
        if status == 0:
            return passed(f"The check command passed{printed}" if output else "The check command passed.")
        if status in _NOT_RUN:
            raise CheckError(
                f"the check {self.name!r} could not be run (exit status {status}){printed}", hint=_HINT
            )
        by = _SIGNALS.get(-status, f"signal {-status}")
        how = f"exit status {status}" if status > 0 else f"ended by {by}"
        return failed(f"The check command failed ({how}){printed}")

    async def run(self, answer: str) -> tuple[int | None, str]:
        """Run the program. Return its exit status, or None if it was stopped, and the end of its output."""
        if not hasattr(os, "killpg"):
            return await self._run_without_groups(answer)
        output = _Output()
        async with turn():
            with tempfile.TemporaryFile() as given, contextlib.closing(output):
                given.write(answer.encode("utf-8", "replace"))
                given.seek(0)
                out, into = os.pipe()
                try:
                    loop = asyncio.get_running_loop()
                    await loop.connect_read_pipe(lambda: output, os.fdopen(out, "rb", 0))
                    process = await asyncio.create_subprocess_exec(
                        *(sys.executable, "-I", "-S", supervisor.__file__, str(given.fileno())),
                        *shlex.split(self.line),
                        stdin=PIPE,
                        stdout=PIPE,
                        stderr=into,
                        pass_fds=[given.fileno()],
                        start_new_session=True,
                    )
                finally:
                    os.close(into)
                assert process.stdin is not None  # noqa: S101  (both are pipes)
                assert process.stdout is not None  # noqa: S101
                try:
                    async with asyncio.timeout(self.seconds):
                        result = (await process.stdout.read()).decode().split()
                except TimeoutError:
                    return None, str(output)
                finally:
                    process.stdin.close()  # this ends the supervisor
                    await process.wait()
                    await output.end()
            if result[:1] != ["exit"]:
                reason = os.strerror(int(result[1])) if result else "its supervisor was killed"
                message = f"the check {self.name!r} could not be started: {reason}."
                raise CheckError(message, hint=_HINT)
            return int(result[1]), str(output)

    async def _run_without_groups(self, answer: str) -> tuple[int | None, str]:
        output = _Output()
        async with turn():
            with tempfile.TemporaryFile() as given:
                given.write(answer.encode("utf-8", "replace"))
                given.seek(0)
                words = shlex.split(self.line)
                process = await asyncio.create_subprocess_exec(
                    *words, stdin=given, stdout=PIPE, stderr=STDOUT
                )
            assert process.stdout is not None  # noqa: S101  (it is a pipe)
            try:
                async with asyncio.timeout(self.seconds):
                    while piece := await process.stdout.read(KEPT):
                        output.data_received(piece)
                    return await process.wait(), str(output)
            except TimeoutError:
                return None, str(output)
            finally:
                if process.returncode is None:
                    _end_tree(process.pid)
                    await process.wait()


def _end_tree(pid: int) -> None:
    """End a process and, on Windows, those below it."""
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(pid)]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    else:
        os.kill(pid, signal.SIGKILL)


class _Output(asyncio.Protocol):
    """Keeps the end of a program's output. All of it is read, so that the program never blocks."""

    def __init__(self) -> None:
        self._kept = b""
        self._closed = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-(4 * KEPT + 1) :]

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._closed.set()

    async def end(self) -> None:
        """Wait shortly for the end of the pipe, which an escaped process may hold open."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), 0.5)

    def close(self) -> None:
        """Close the pipe. A check that is cancelled closes it too."""
        if self._transport:
            self._transport.close()

    def __str__(self) -> str:
        text = self._kept.decode("utf-8", "replace").strip()
        return text if len(text) <= KEPT else "…" + text[-KEPT:]
