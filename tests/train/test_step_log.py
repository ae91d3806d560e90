from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from redraft.train import LOG, loop
from redraft.train.loop import Log, StepCounts, StepProgress, peak_memory

NUMBERS = {"loss": 1.23456, "learning_rate": 2e-5, "tokens_per_second": 480.4, "memory_gb": 1.26}


def screen_of(terminal: bool) -> tuple[io.StringIO, Console]:
    """A terminal, or not."""
    screen = io.StringIO()
    return screen, Console(file=screen, force_terminal=terminal, width=100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    return now


def test_a_run_that_goes_on_drops_the_steps_that_it_does_again(tmp_path: Path) -> None:
    lines = [{"step": n, "loss": n} for n in (1, 2, 2, 3, 4)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / LOG).write_text(text + 'garbage\n{"step": "1"}\n{"step": 1, "lo')
    log = Log(tmp_path, quiet=True)
    with log.opened(2):
        log.write(3, 4, {"loss": 1.0})
        read = (tmp_path / LOG).read_text().splitlines()  # what was written is there at once
    assert [json.loads(line)["step"] for line in read] == [1, 2, 2, 3]


def test_a_run_from_the_beginning_has_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"step": 0}\n')
    with Log(tmp_path).opened(0):
        pass
    assert (tmp_path / LOG).read_text() == ""


def test_counts_begin_anew_with_each_line(clock: list[float]) -> None:
    counts = StepCounts()
    counts.add(100, 60, 40)
    counts.add(50, 20, 50)
    clock[0] += 10
    taken = counts.take()
    assert (taken["tokens"], taken["trained_tokens"], taken["tokens_per_second"]) == (150, 80, 15.0)
    assert 0.01 < taken["memory_gb"] < 1000
    assert counts.take()["tokens"] == 0
    assert counts.longest == 50


def test_memory_is_that_of_a_gpu_where_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for used, least, most in ((0, 10**7, 10**12), (5, 5, 5)):
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda used=used: used)
        assert least <= peak_memory() <= most


def test_a_line_shows_the_reward_and_the_kl_of_a_rollout_batch(clock: list[float]) -> None:
    screen, console = screen_of(terminal=False)
    StepProgress(console=console, clock=lambda: clock[0]).step(1, 4, NUMBERS | {"reward": 0.25, "kl": 1.5})
    assert "step 1 of 4 · reward 0.250 · KL 1.5 · loss 1.2346" in screen.getvalue()


def test_quiet_shows_nothing() -> None:
    screen, console = screen_of(False)
    for logs_ in (NUMBERS, {"eval_loss": 1.0}):
        StepProgress(quiet=True, console=console).step(1, 2, logs_)
    assert screen.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_evaluation_has_a_line_of_its_own(terminal: bool) -> None:
    screen, console = screen_of(terminal)
    progress = StepProgress(console=console)
    progress.step(1, 2, NUMBERS)
    progress.step(1, 2, {"eval_loss": 0.98765})
    progress.step(2, 2, NUMBERS)
    progress.close()
    assert "redraft: step 1 of 2 · eval_loss 0.9877\n" in screen.getvalue()
    assert screen.getvalue().index("eval_loss") < screen.getvalue().index("step 2 of 2 · loss 1.2346")
