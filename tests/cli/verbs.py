"""Calling redraft's commands: in this process, or where a process is the point, in one of their own."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from redraft.chain import Chain, read_jsonl
from redraft.cli.commands import app

REDRAFT = [sys.executable, "-m", "redraft"]


def redraft(*words: object, stdin: str | bytes | None = None, **env: str) -> Result:
    done = CliRunner().invoke(app, [*map(str, words)], input=stdin, env=env, prog_name="redraft")
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return done


def refused(done: Result, *said: str) -> None:
    assert done.exit_code == 2, done.output
    for part in said:
        assert part in " ".join(done.output.split()), done.output


def shown(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def start(*words: object, **how: Any) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **how}
    return subprocess.Popen([*REDRAFT, *map(str, words)], **pipes)


def own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def shown_on_a_terminal(*args: str, stop_at: str = "", **ends: Any) -> str:
    """What a command shows on a pseudo-terminal. Ctrl-C is typed once, when `stop_at` is shown."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    ends = {"stdin": slave, "stdout": slave, "stderr": slave, **ends}
    child = subprocess.Popen([*REDRAFT, *args], **ends, env=env, preexec_fn=own_terminal)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if stop_at and stop_at in shown.decode(errors="replace"):
            os.write(master, b"\x03")
            stop_at = ""
    child.wait(30)
    os.close(master)
    return shown.decode()


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.005)


def wait_until_it_waits(process: subprocess.Popen[str]) -> None:
    def sleeps() -> bool:
        time.sleep(0.02)
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    wait_until(lambda: all(sleeps() for _ in range(25)))


COUNTING = """\
def seen(answer, prompt):
    with open("calls.txt", "a") as file:
        file.write(prompt.instruction + "\\n")
"""


def counting() -> str:
    Path("counting.py").write_text(COUNTING)
    return "python:counting.seen"


def counted() -> Counter[str]:
    return Counter(Path("calls.txt").read_text().splitlines())


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A disk that is full once a file has so many bytes. SQLite says so in other words than the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(name: str | Path, records: Iterable[Any]) -> Path:
    path = Path(name)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def lines(name: str | Path) -> list[Any]:
    return [json.loads(line) for line in Path(name).read_text("utf-8").splitlines()]


def script(*replies: Any, name: str = "script", **settings: Any) -> str:
    return f"script:{write(f'{name}.jsonl', [{'settings': settings}, *replies])}"


def chains(name: str | Path = "out.jsonl") -> list[Chain]:
    return list(read_jsonl(Path(name)))
