"""Signals end the work where it can be ended, and the exit status tells which it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from redraft.jobs.signals import AGAIN, EndedBySignal, Signals, exit_status, run_until_signal


async def answer() -> int:
    return 42


def test_without_a_signal_the_result_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert run_until_signal(answer()) == 42
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_work_and_lets_it_clean_up(signum: signal.Signals, status: int) -> None:
    cleaned: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signum)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(EndedBySignal) as caught:
        run_until_signal(work())
    assert (cleaned, caught.value.exit_status) == (["up"], status)


def test_a_cancellation_that_no_signal_made_stays_one() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_until_signal(work())


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


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_asks_to_be_started_again(capfd: pytest.CaptureFixture[str]) -> None:
    with Signals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGTERM)  # schedulers repeat it
        assert signals.received == signal.SIGTERM
    assert exit_status(signal.SIGTERM) == AGAIN == os.EX_TEMPFAIL
    assert (
        capfd.readouterr().err
        == "\nredraft: SIGTERM: finishing the current step, then saving. Ctrl-C stops at once.\n"
    )


def test_a_second_ctrl_c_stops_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Signals() as signals:
        send(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert exit_status(signal.SIGINT) == 130
    assert capfd.readouterr().err == (
        "\nredraft: SIGINT: finishing the current step, then saving. Ctrl-C again stops at once.\n"
        "\nredraft: stopped without saving. The last checkpoint, if any, remains.\n"
    )


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with Signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
