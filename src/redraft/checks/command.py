"""Checks that run programs: `command:pytest -q tests`. If the exit status is not 0, the output is feedback.

The program runs without a shell, with all rights of the user, and reads the answer on standard input. The
process group is killed when the program ends, when the time is up, or when the check is cancelled.
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
from dataclasses import dataclass
from typing import IO, Self

from redraft.chain import Prompt
from redraft.checks.base import Outcome, failed, passed, turn
from redraft.errors import CheckError, CheckSyntaxError
from redraft.jobs.signals import in_daemon_thread

COMMAND_SECONDS = 30.0  # the default time limit
KEPT = 2000  # most characters of output in the feedback, from its end, where programs sum up

_HINT = "Write command:PROGRAM ARGS, quoted as in a shell, or command[10s]:… for a time limit."
_SIGNALS = {each.value: each.name for each in signal.Signals}  # without most real-time signals
_NOT_RUN = {126, 127}  # env, sh and others return these for a program that is missing or cannot run


@dataclass(frozen=True)
class Command:
    """`command:PROGRAM ARGS`: a program reads the answer and exits with 0."""

    line: str
    seconds: float = COMMAND_SECONDS

    @classmethod
    def of(cls, line: str, seconds: float = COMMAND_SECONDS) -> Self:
        """Parse a command line."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise CheckSyntaxError(f"command:{line} has {str(error).lower()}.", hint=_HINT) from None
        if not words or shutil.which(words[0]) is None:
            program = words[0] if words else ""
            raise CheckSyntaxError(f"command:{line}: there is no program {program!r}.", hint=_HINT)
        return cls(line, seconds)

    @property
    def name(self) -> str:
        """The check as written: `command:pytest -q`."""
        limit = "" if self.seconds == COMMAND_SECONDS else f"[{self.seconds!r}".removesuffix(".0") + "s]"
        return f"command{limit}:{self.line}"

    async def check(self, answer: str, prompt: Prompt) -> Outcome:  # noqa: ARG002  (every check takes the prompt)
        """Pass if the program exits with 0. The message has the end of the output."""
        status, output = await self.run(answer)
        if status is None:
            limit = f"{self.seconds:g} s"
            return failed(f"The check command was stopped: it took longer than {limit} on this answer.")
        printed = f":\n{output}" if output else ", and it printed nothing."
        if status == 0:
            return passed(f"The check command passed{printed}" if output else "The check command passed.")
        if status in _NOT_RUN:
            message = f"the check {self.name!r} could not be run (exit status {status}){printed}"
            raise CheckError(message, hint=_HINT)
        by = _SIGNALS.get(-status, f"signal {-status}")
        how = f"exit status {status}" if status > 0 else f"ended by {by}"
        return failed(f"The check command failed ({how}){printed}")

    async def run(self, answer: str) -> tuple[int | None, str]:
        """Run the program. Return the exit status (None after a timeout) and the end of the output."""
        async with turn():
            with tempfile.TemporaryFile() as given:
                given.write(answer.encode("utf-8", "replace"))
                given.seek(0)
                process = self._started(given)
            output = _Output(process)
            read = in_daemon_thread(output.read)
            status: int | None = None
            try:
                async with asyncio.timeout(self.seconds):
                    status = await in_daemon_thread(process.wait)
            except TimeoutError:
                pass
            finally:
                _end(process)
                with contextlib.suppress(TimeoutError):  # a process that escaped may hold the pipe open
                    await asyncio.wait_for(asyncio.shield(read), 0.5)
            return status, str(output)

    def _started(self, given: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603
                shlex.split(self.line),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": "1", **os.environ},  # several programs run at once
                start_new_session=True,
            )
        except OSError as error:
            message = f"the check {self.name!r} could not be started: {error.strerror}."
            raise CheckError(message, hint=_HINT) from None


def _end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    elif hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


class _Output:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._kept = process, b""

    def read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  (it is a pipe)
        with self._process.stdout as pipe:
            while piece := os.read(pipe.fileno(), 1 << 16):
                self._kept = (self._kept + piece)[-(4 * KEPT + 1) :]

    def __str__(self) -> str:
        text = self._kept.decode("utf-8", "replace").strip()
        return text if len(text) <= KEPT else "…" + text[-KEPT:]
