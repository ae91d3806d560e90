"""The meter's figures, and that they are shown where they help."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest
from rich.console import Console

from redraft.jobs.counting import counted, tell
from redraft.jobs.progress import ByteProgress, ItemProgress, ProgressLine, clock_time


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def plain(screen: io.StringIO) -> Console:
    return Console(file=screen, force_terminal=False, width=80)


def terminal(screen: io.StringIO) -> Console:
    return Console(file=screen, force_terminal=True, width=80)


def test_pace_and_time_left_are_of_this_session() -> None:
    clock = Clock()
    progress = ItemProgress(500, 100, clock=clock)
    assert progress.line() == "100 of 500 done"
    clock.now += 10
    progress.done, progress.tokens, progress.note = 120, 3000, "15 passed"
    assert progress.left == 190.0
    assert progress.line() == "120 of 500 done · 300 tokens/s · 3:10 left · 15 passed"


def test_tokens_that_are_being_written_and_the_items_under_way_are_shown() -> None:
    clock = Clock()
    progress = ItemProgress(9, clock=clock)
    progress.opening = True
    clock.now += 5
    assert progress.line() == "0 of 9 done · opening the model, 0:05"
    progress.opening, progress.current = False, ["x/" + "1" * 40, "b/0"]
    progress.tokens = 10
    progress.write(40)
    assert progress.line() == f"0 of 9 done · 10 tokens/s · 0:05 elapsed · now …{'1' * 23}"
    progress.write(-40)
    progress.current.pop(0)
    assert progress.line() == "0 of 9 done · 2 tokens/s · 0:05 elapsed · now b/0"


def test_without_a_total_nothing_is_promised() -> None:
    progress = ItemProgress(None, clock=Clock())
    progress.done = 3
    assert progress.left is None
    assert progress.line() == "3 done"


def test_bytes() -> None:
    clock = Clock()
    progress = ByteProgress(4_300_000_000, quiet=True, clock=clock)
    clock.now += 4
    progress.advance(1_200_000_000)
    assert progress.line() == "1.2 of 4.3 GB · 300 MB/s · 0:10 left"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (250, "4:10"), (3850, "1:04:10")])
def test_clock_time(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def test_elsewhere_than_on_a_terminal_a_line_now_and_then() -> None:
    clock, screen = Clock(), io.StringIO()
    with ItemProgress(4, clock=clock, console=plain(screen)) as progress:
        for seconds in (3, 8, 8, 0):
            clock.now += seconds
            progress.done += 1
            progress.update()
    assert screen.getvalue().splitlines() == [
        "redraft: 1 of 4 done · 0:09 left",
        "redraft: 3 of 4 done · 0:06 left",
    ]


def test_a_wait_is_shown_at_once() -> None:
    screen = io.StringIO()
    with ItemProgress(4, clock=Clock(), console=plain(screen)) as progress:
        for reason in ("the server is down", "the server is still down", ""):
            progress.wait(reason)
    assert screen.getvalue() == "redraft: 0 of 4 done · the server is down\n"


def test_a_terminal_has_a_bar_and_quiet_has_nothing() -> None:
    screen, silent = io.StringIO(), io.StringIO()
    with ItemProgress(2000, console=terminal(screen)) as progress:
        progress.done, progress.note, progress.current = 2, "1900 passed", ["2", "3"]
        progress.update()
    assert "2 of 2000 done" in screen.getvalue()
    assert "now 2" in screen.getvalue()
    assert "━" in screen.getvalue()
    with ItemProgress(2, quiet=True, console=terminal(silent)) as progress:
        progress.update(now=True)
        progress.print("a message")
    assert silent.getvalue() == ""


def test_messages_stand_above_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with ProgressLine(2, console=terminal(screen)) as progress:
        progress.print("[a] message :smile:")
        print("from a library", file=sys.stderr)
    assert "redraft: [a] message :smile:\n" in screen.getvalue()
    assert "from a library\n" in screen.getvalue()
    assert capsys.readouterr().err == ""


def test_a_line_that_is_not_to_stay_is_removed() -> None:
    screen = io.StringIO()
    with ProgressLine(2, transient=True, console=terminal(screen)):
        pass
    assert screen.getvalue().endswith("\x1b[2K")


def test_words_of_a_server_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ItemProgress(2)
    progress.note = "in_progress\x1b]0;hello\x07"
    assert "\x1b" not in progress.line()
    progress.print("a batch\x1b[2J")
    assert "\x1b[2J" not in capsys.readouterr().err


# What else is told.


def test_one_is_no_plural() -> None:
    assert [counted(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


def test_a_message_without_standard_error_goes_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    tell("lost", "nobody reads it")
    assert capsys.readouterr().out == ""
