"""Run a model's programs in a sandbox: bubblewrap, which hides almost all of this machine.

Inside there are /usr and Python, read-only, an empty /tmp of 64 MB in memory, and nothing else: no network,
home, environment, devices or /proc. Bubblewrap applies the filter of system calls below; `inside` limits
memory, CPU time and files. The sandbox does not protect against faults of the kernel or the processor, and
does not hide the time, the kernel's version, or the software in /usr.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redraft.checks import inside
from redraft.checks.base import turn
from redraft.errors import CheckError, UsageError

TRY_SECONDS = 30  # time limit for trying the sandbox, also in CPU time

START_SECONDS = 60.0  # longest start of an interpreter; a slow start is not the program's fault

Job = dict[str, Any]  # the work of `inside`: `program`, `setup` and `tests`

Report = dict[str, Any]  # a test's result: `passed` and, if False, the report of `inside`, `late` or `ended`


async def run_job(job: Job, seconds: float) -> list[Report]:
    """Load a program and run tests of the program, each for at most `seconds`.

    Return a report on loading, then a report on each test. If the program hangs or exits, skip the rest.
    """
    cpu = int(seconds * (len(job["tests"]) + 1)) + 5
    async with turn():
        with contextlib.ExitStack() as stack:
            given = stack.enter_context(tempfile.TemporaryFile())
            given.write(json.dumps(job).encode() + b"\n")
            given.seek(0)
            out, into = os.pipe()
            try:
                lines = asyncio.StreamReader()
                transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(out, "rb", 0)
                )
                stack.callback(transport.close)
                stack.enter_context(_jailed(cpu, given.fileno(), into))
            finally:
                os.close(into)
            if await _report(lines, START_SECONDS) != {"ready": True}:
                hint = "Check whether memory or a process limit is used up."
                raise CheckError("the sandbox of a code check did not start.", hint=hint)
            reports: list[Report] = []
            while len(reports) <= len(job["tests"]):
                reports.append(await _report(lines, seconds))
                if reports[-1].keys() & {"late", "ended"}:
                    break
            return reports


async def _report(lines: asyncio.StreamReader, seconds: float) -> Report:
    try:
        async with asyncio.timeout(seconds):
            report = json.loads(await lines.readline())
            return report if isinstance(report, dict) else {"passed": False, "ended": True}
    except TimeoutError:
        return {"passed": False, "late": True}
    except ValueError:  # no line, or a line too long for the reader
        return {"passed": False, "ended": True}


@contextlib.contextmanager
def _jailed(cpu: int, stdin: int, stdout: int) -> Iterator[None]:
    """Run `inside` in the sandbox during a `with` block, and kill the process at the end."""
    with filtering() as number:
        process = subprocess.Popen(  # noqa: S603  (asyncio's subprocesses hang if cancelled early)
            jail(number, cpu),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env={},
            pass_fds=[number],
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also bwrap's child, which waits for bwrap at first
        process.wait()


@functools.cache
def find_sandbox() -> None:
    """If the sandbox does not work here, raise a `UsageError` that says what to install or allow."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        found = f"{sys.platform} on {platform.machine()}"
        message = f"the sandbox for programs needs Linux on x86-64 or ARM64, but this is {found}."
        hint = "Run this step in Linux: in a container, a virtual machine, or WSL 2 (wsl --install)."
        raise UsageError(message, hint=hint)
    if shutil.which("bwrap") is None:
        message = "running a model's programs needs bubblewrap, which is not installed."
        hint = "Type: apt install bubblewrap (Fedora: dnf install bubblewrap; Arch: pacman -S bubblewrap)"
        raise UsageError(message, hint=hint)
    if problem := _tried():
        raise UsageError(
            f"bubblewrap does not work here: {problem}.",
            hint="Allow user namespaces, and use bubblewrap 0.7 or newer. In Docker: --security-opt"
            " seccomp=unconfined --security-opt apparmor=unconfined; on Ubuntu: sysctl"
            " kernel.apparmor_restrict_unprivileged_userns=0",
        )


def _tried() -> str:
    with filtering() as number:
        try:
            tried = subprocess.run(  # noqa: S603
                jail(number, TRY_SECONDS),
                input=b'{"program": "", "setup": "", "tests": []}',
                capture_output=True,
                env={},
                pass_fds=[number],
                timeout=TRY_SECONDS,
                check=False,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    said = tried.stderr.decode(errors="replace").strip() or f"status {tried.returncode}"
    return "" if tried.stdout.startswith(b'{"ready": true}\n') else said.splitlines()[-1].rstrip(".")


def jail(filter_: int, cpu: int) -> list[str]:
    """Return the command that runs `inside.py`, given `filtering`'s descriptor and a limit in CPU seconds."""
    here: list[str] = []
    of_python = sys.base_prefix, str(Path(_python()).parent)
    for folder in ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", *of_python):
        if Path(folder).exists() and not any(Path(folder).is_relative_to(other) for other in here):
            here.append(folder)
    folders = [word for folder in here for word in ("--ro-bind", folder, folder)]
    return [
        *(shutil.which("bwrap") or "bwrap", "--unshare-user", "--unshare-all", "--die-with-parent"),
        *("--clearenv", "--cap-drop", "ALL", "--seccomp", str(filter_)),
        *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
        *("--size", str(inside.DISK), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108
        *(*folders, "--ro-bind", inside.__file__, "/inside.py", "--remount-ro", "/"),
        *(_python(), "-I", "-S", "/inside.py", str(cpu)),
    ]


def _python() -> str:
    return str(Path(sys.executable).resolve())


_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # from linux/audit.h

_FORBIDDEN = """
fork 57 - | vfork 58 - | socket 41 198 | ptrace 101 117 | process_vm_readv 310 270 | process_vm_writev 311 271
syslog 103 116 | unshare 272 97 | bpf 321 280 | perf_event_open 298 241 | userfaultfd 323 282
io_uring_setup 425 425 | add_key 248 217 | request_key 249 218 | keyctl 250 219 | memfd_create 319 279
memfd_secret 447 447 | shmget 29 194 | msgget 68 186 | semget 64 190 | mq_open 240 180
"""
"""System calls with their numbers on x86-64 and ARM64, from asm/unistd.h; - stands for no number.

These calls start processes (each with another memory limit), take memory that no limit counts, or reach parts
of the kernel that namespaces do not isolate. All of these calls fail with EPERM.
"""
_CLONE, _CLONE3 = (56, 220), (435, 435)
_CLONE_THREAD = 0x00010000

_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # from linux/bpf_common.h
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000  # from linux/seccomp.h


@contextlib.contextmanager
def filtering() -> Iterator[int]:
    """Yield the descriptor of a file that contains bubblewrap's filter of system calls."""
    machine = platform.machine()
    column = list(_ARCHITECTURES).index(machine)
    calls = [call.split() for call in _FORBIDDEN.strip().replace("\n", "|").split("|")]
    refuse = (_RETURN, _ERRNO | errno.EPERM, 0, 0)
    # BPF on `struct seccomp_data`: the call is at byte 0, the architecture at 4, the first argument at 16.
    steps = [
        (_LOAD, 4, 0, 0),
        (_EQUAL, _ARCHITECTURES[machine], 1, 0),
        (_RETURN, _KILL, 0, 0),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0x40000000, 0, 1),  # x32, which has other numbers
        (_RETURN, _KILL, 0, 0),
        *(
            step
            for call in calls
            if call[1 + column] != "-"
            for step in ((_EQUAL, int(call[1 + column]), 0, 1), refuse)
        ),
        (_EQUAL, _CLONE3[column], 0, 1),
        (_RETURN, _ERRNO | errno.ENOSYS, 0, 0),  # the flags of clone3 cannot be read; libc then uses clone
        (_EQUAL, _CLONE[column], 0, 3),
        (_LOAD, 16, 0, 0),
        (_BITS, _CLONE_THREAD, 1, 0),
        refuse,
        (_RETURN, _ALLOW, 0, 0),
    ]
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(struct.pack("HBBI", code, yes, no, value) for code, value, yes, no in steps))
        file.seek(0)
        yield file.fileno()
