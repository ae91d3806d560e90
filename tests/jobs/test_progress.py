"""The meter's figures, and that they are shown where they help."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from redraft.jobs.progress import LINE_SECONDS, Meter, Shown, clock_time


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_pace_and_time_left_are_of_this_session() -> None:
    clock = Clock()
    meter = Meter(500, 100, clock=clock)
    assert meter.line() == "100 of 500 done · 0 tokens/s"
    clock.now += 10
    meter.done, meter.tokens, meter.note = 120, 3000, "15 passed"
    assert (meter.pace, meter.left) == (300.0, 190.0)
    assert meter.line() == "120 of 500 done · 300 tokens/s · 3:10 left · 15 passed"


def test_without_a_total_nothing_is_promised() -> None:
    meter = Meter(None, clock=Clock())
    meter.done = 3
    assert meter.left is None
    assert meter.line() == "3 done · 0 tokens/s"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (250, "4:10"), (3850, "1:04:10")])
def test_clock_time(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def test_elsewhere_than_on_a_terminal_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Shown(Meter(4, clock=clock), console=Console(file=io.StringIO())) as shown:
        for _ in range(4):
            clock.now += LINE_SECONDS / 2
            shown.meter.done += 1
            shown.update()
    assert capsys.readouterr().err.splitlines() == [
        "redraft: 2 of 4 done · 0 tokens/s · 0:15 left",
        "redraft: 4 of 4 done · 0 tokens/s · 0:00 left",
    ]


def test_a_terminal_has_a_bar_and_quiet_has_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with Shown(Meter(2), console=Console(file=screen, force_terminal=True, width=80)) as shown:
        shown.meter.done = 2
        shown.update()
    assert "2 of 2 done" in screen.getvalue()
    quiet = io.StringIO()
    with Shown(Meter(2), quiet=True, console=Console(file=quiet, force_terminal=True)) as shown:
        shown.update()
    assert quiet.getvalue() == capsys.readouterr().err == ""
