from __future__ import annotations

import os
import signal
import threading

import pytest

from redraft.jobs.signals import AGAIN, Signals, exit_status


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
        == "\nredraft: SIGTERM: finishing what is under way, then saving. Ctrl-C stops at once.\n"
    )


def test_a_second_ctrl_c_stops_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Signals() as signals:
        send(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert exit_status(signal.SIGINT) == 130
    assert capfd.readouterr().err == (
        "\nredraft: SIGINT: finishing what is under way, then saving. Ctrl-C again stops at once.\n"
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
