"""Programs as checks. They are real ones: the Python that runs the tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shlex
import sys
from pathlib import Path

import pytest

from redraft.chain import CheckResult, Prompt
from redraft.checks.base import AT_ONCE, run_check
from redraft.checks.command import KEPT, Command
from redraft.errors import CheckError, CheckSyntaxError
from redraft.jobs.machine import all_cores
from tests.cli.verbs import wait_until

LONG = 60.0


def python(code: str, seconds: float = LONG) -> Command:
    return Command.of(shlex.join([sys.executable, "-c", code]), seconds)


def run(check: Command, answer: str = "") -> CheckResult:
    return asyncio.run(run_check(check, answer, Prompt()))


def test_the_answer_is_on_standard_input() -> None:
    check = python("import sys; t = sys.stdin.buffer.read().decode(); print(len(t)); sys.exit('ü' not in t)")
    assert run(check, "ü" * 200_000).message == "The check command passed:\n200000"
    result = run(check, "u")
    assert not result.passed
    assert result.message == "The check command failed (exit status 1):\n1"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; print('out', flush=True); sys.exit('err')", "failed (exit status 1):\nout\nerr"),
        ("raise SystemExit(3)", "failed (exit status 3), and it printed nothing."),
        ("", "passed."),
        ("import os; os.kill(os.getpid(), 11)", "failed (ended by SIGSEGV), and it printed nothing."),
    ],
)
def test_the_end_of_a_program_and_its_output_become_the_message(code: str, message: str) -> None:
    assert run(python(code)).message == f"The check command {message}"


def test_programs_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    told = python("import os; print(os.environ['OMP_NUM_THREADS'])")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (AT_ONCE, run(told).message[-2:]) == (min(32, all_cores()), "\n1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert run(told).message.endswith("\n3")


def test_of_long_output_the_end_is_kept_and_all_is_read() -> None:
    result = run(python("print('é' * 3_000_000, 'the end')"))
    assert result.passed
    assert result.message.endswith("the end")
    assert len(result.message) < KEPT + 50
    assert "…" in result.message


def test_no_shell_reads_the_line(tmp_path: Path) -> None:
    target = tmp_path / "made"
    result = run(Command.of(f"echo $HOME; touch {target} > x"))
    assert result.message == f"The check command passed:\n$HOME; touch {target} > x"
    assert not target.exists()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session={new})
open({note!r}, "w").write(str(child.pid))
time.sleep({last})
"""

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@pytest.mark.slow
@linux
def test_when_time_is_up_the_program_and_its_children_are_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    result = run(python(CHILD.format(new=False, note=str(note), last=600), seconds=3))
    assert not result.passed
    assert result.message == "The check command was stopped: it took longer than 3 s on this answer."
    wait_until(lambda: gone(int(note.read_text())), 10)


@linux
def test_a_child_left_behind_is_killed_and_does_not_hold_up_the_result(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    assert run(python(CHILD.format(new=False, note=str(note), last=0))).passed
    wait_until(lambda: gone(int(note.read_text())), 10)


@linux
def test_a_child_that_left_the_group_does_not_hold_up_the_result(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    try:
        assert run(python(CHILD.format(new=True, note=str(note), last=0))).passed
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(note.read_text()), 9)


@linux
def test_cancelling_kills_the_program(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    async def cancelled() -> None:
        task = asyncio.ensure_future(run_check(python(code), "", Prompt()))
        await asyncio.to_thread(wait_until, lambda: note.exists() and note.read_text(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancelled(), 30))
    wait_until(lambda: gone(int(note.read_text())), 10)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no-such-program --flag", "there is no program 'no-such-program'"),
        ("echo 'a", "echo 'a has no closing quotation"),
    ],
)
def test_a_line_that_cannot_run_is_known_at_once(line: str, problem: str) -> None:
    with pytest.raises(CheckSyntaxError, match=problem):
        Command.of(line)


def test_a_program_that_cannot_be_started_is_a_fault_of_the_check(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    with pytest.raises(CheckError, match="could not be started: Exec format error"):
        run(Command.of(str(program)))


def test_what_another_program_could_not_run_is_a_fault_of_the_check() -> None:
    with pytest.raises(CheckError, match=r"could not be run \(exit status 127\)"):
        run(Command.of("env no-such-program"))


@pytest.mark.parametrize("milliseconds", [0, 4, 10, 20, 38])
def test_cancelling_at_any_moment_closes_every_pipe(milliseconds: int) -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(run_check(Command.of("sleep 5"), "x", Prompt()))
        await asyncio.sleep(milliseconds / 1000)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    gc.collect()  # a pipe left open is a ResourceWarning, which is an error here
