"""Signals end the work where it can be ended, and the exit status tells which it was."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from redraft.jobs.signals import EndedBySignal, run_until_signal


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
    assert cleaned == ["up"]
    assert caught.value.exit_status == status


def test_a_cancellation_that_no_signal_made_stays_one() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_until_signal(work())
