"""Work in a thread: what it gives, and that it keeps nobody waiting."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextvars import ContextVar

import pytest

from redraft.engines.threads import in_daemon_thread

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


async def test_it_gives_the_result_in_the_context_of_the_caller() -> None:
    NAME.set("somebody")
    assert (await in_daemon_thread(NAME.get)) == "somebody"


def test_it_raises_what_the_work_raised() -> None:
    async def check() -> float:
        return await in_daemon_thread(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(check())


HANGS = """
import asyncio, time
from redraft.chain import Prompt
from redraft.checks.base import run_check
from redraft.checks.parse import parse_checks

def hangs(answer):
    time.sleep(600)

async def main():
    (check,) = parse_checks([hangs])
    try:
        async with asyncio.timeout(0.1):
            await run_check(check, "x", Prompt(instruction="Go."))
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""


def test_a_check_that_hangs_does_not_hold_up_the_end_of_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("given up\n", "", 0)
