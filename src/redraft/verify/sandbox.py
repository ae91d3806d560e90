"""A sandbox for programs that a model wrote: bubblewrap if it works here, else Linux namespaces.

Inside there are /usr and Python, read-only, an empty /tmp of 64 MB in memory, and nothing else: no network,
home, environment or /proc. The process gives up for good what it does not need (`inside.lockdown`), has
limits, and dies with redraft. A sandbox is tried before it is used. It protects neither from faults of the
kernel or the processor, nor hides the time, the kernel's version, or the software in /usr.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redraft.errors import CheckError, UsageError
from redraft.verify.base import turn
from redraft.verify.inside import lockdown, namespaces

Sandbox = Callable[..., list[str]]
"""Returns the command line that runs a program of the folder `inside` with arguments."""

TRY_SECONDS = 30  # longest try of a sandbox, and its limit of CPU time

_HINT = (
    "Install bubblewrap (Debian, Ubuntu: apt install bubblewrap), and in a container allow user namespaces."
    " Without a sandbox no program of a model is run."
)


START_SECONDS = 60.0  # longest start of the interpreters, which is no fault of a program

Job = dict[str, Any]
"""The work of `inside.referee`: `program`, `setup`, `imports`, and `tests`, each with the names it needs."""

Report = dict[str, Any]  # what happened in a test: `passed`, else also what `inside.referee` saw, or `late`


async def run_job(job: Job, seconds: float) -> list[Report]:
    """Load a program and run its tests, `seconds` each at most.

    Return a report on loading, and one on each test, up to the first in which the program hung or ended.
    """
    cpu = str(int(seconds * (len(job["tests"]) + 1)) + 5)
    async with turn():
        with contextlib.ExitStack() as stack:
            given = stack.enter_context(tempfile.TemporaryFile())
            given.write(json.dumps(job).encode() + b"\n")
            given.seek(0)
            with _pipe() as (asked, ask), _pipe() as (told, tell), _pipe() as (out, report):
                lines = asyncio.StreamReader()
                transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(os.dup(out), "rb", 0)
                )
                stack.callback(transport.close)
                stack.enter_context(_jailed(["player", cpu], asked, tell))
                command = ["referee", cpu, str(told), str(ask)]
                stack.enter_context(_jailed(command, given.fileno(), report, (told, ask)))
            if await _report(lines, START_SECONDS) != {"ready": True}:
                hint = "Is memory or a process limit used up?"
                raise CheckError("the sandbox of a code check did not start.", hint=hint)
            reports: list[Report] = []
            while len(reports) <= len(job["tests"]):
                reports.append(await _report(lines, seconds))
                if reports[-1].keys() & {"late", "ended"}:
                    break
            return reports


async def _report(lines: asyncio.StreamReader, seconds: float) -> Report:
    """Return the next line of the referee. What it was given to read may have used up its time or memory."""
    try:
        async with asyncio.timeout(seconds):
            line = await lines.readline()
    except TimeoutError:
        return {"passed": False, "late": True}
    except ValueError:  # longer than the reader takes
        line = b""
    report: Report = json.loads(line) if line.endswith(b"\n") else {"passed": False, "ended": True}
    return report


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextlib.contextmanager
def _jailed(command: list[str], stdin: int, stdout: int, pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    """Run a program of `inside` in the sandbox, and kill it at the end.

    It takes milliseconds. asyncio's own processes would wait for ever if they are cancelled while they start.
    """
    process = subprocess.Popen(  # noqa: S603
        find_sandbox()(*command),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env={},
        pass_fds=pass_fds,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # bwrap's own child too, which waits for it at the start
        process.wait()


@functools.cache
def find_sandbox() -> Sandbox:
    """Return the first sandbox that works on this machine."""
    if sys.platform != "linux" or platform.machine() not in lockdown.ARCHITECTURES:
        found = f"{sys.platform} on {platform.machine()}"
        raise UsageError(
            f"the sandbox for programs needs Linux on x86-64 or ARM64, and this is {found}.",
            hint="Run this step in Linux: in a container, a virtual machine, or WSL 2 (wsl --install).",
        )
    problems = []
    for name, sandbox in SANDBOXES.items():
        problem = try_sandbox(sandbox)
        if problem is None:
            return sandbox
        problems.append(f"{name}: {problem}")
    raise UsageError(f"no sandbox for programs works here ({'; '.join(problems)}).", hint=_HINT)


def try_sandbox(sandbox: Sandbox) -> str | None:
    """Run `inside.probe` in a sandbox. Return what is wrong with it, or None."""
    with tempfile.NamedTemporaryFile() as file:
        try:
            command = sandbox("probe", str(TRY_SECONDS), file.name)
            tried = subprocess.run(  # noqa: S603
                command, capture_output=True, env={}, timeout=TRY_SECONDS, check=False, start_new_session=True
            )
            found = json.loads(tried.stdout or b"null")
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            return str(error)
    if found is None:
        return (tried.stderr.decode(errors="replace").strip() or f"status {tried.returncode}").split("\n")[-1]
    return f"it lets through {', '.join(found)}" if found else None


def bubblewrap(name: str, *args: str) -> list[str]:
    """Return the command line for bubblewrap, version 0.8 or newer."""
    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError("bwrap is not installed")
    devices = [word for file in namespaces.DEVICES for word in ("--dev-bind", file, file)]
    folders = [word for source, target in _folders() for word in ("--ro-bind", source, target)]
    return [
        *(program, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--clearenv"),
        *("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"),  # until it is sealed
        *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
        *("--size", str(lockdown.DISK), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108
        *folders,
        *devices,
        *("--remount-ro", "/"),
        *(_python(), "-I", "-S", "-c", _START.format(name), *args),
    ]


def own_namespaces(name: str, *args: str) -> list[str]:
    """Return the command line for the sandbox of `inside.namespaces`."""
    return [_python(), "-I", "-S", namespaces.__file__, json.dumps(_folders()), name, *args]


SANDBOXES: dict[str, Sandbox] = {"bubblewrap": bubblewrap, "namespaces": own_namespaces}
"""In the order in which they are tried."""

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")

_START = (
    "import sys; sys.path.insert(0, '/sandbox'); from redraft.verify.inside import namespaces, {0}; "
    "namespaces.seal(); {0}.main()"
)


def _python() -> str:
    """Return the Python below a virtual environment: programs have the standard library alone."""
    return str(Path(sys.executable).resolve())


def _folders() -> list[tuple[str, str]]:
    """Return the folders of the sandbox, as they are called outside and inside. Outer folders come first."""
    here: list[str] = []
    for folder in (*_SYSTEM, sys.base_prefix, str(Path(_python()).parent)):
        if Path(folder).exists() and not any(Path(folder).is_relative_to(other) for other in here):
            here.append(folder)
    inside = str(Path(lockdown.__file__).parent)
    return [*((folder, folder) for folder in here), (inside, "/sandbox/redraft/verify/inside")]
