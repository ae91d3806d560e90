from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from redraft.train.run import guards
from redraft.train.run.guards import SCHEDSTAT, WINDOW, Contention


def after(path: Path, ran: float, waited: float, threads: int = 4) -> list[str | None]:
    """The results of three checks, between which a thread ran and waited for so many seconds."""
    made, said = Contention(threads, path), []
    for count in range(3):
        path.write_text(f"{int(ran * count * 1e9)} {int(waited * count * 1e9)} 7\n")
        said.append(made.check())
    return said


def test_waiting_is_said_once_with_what_to_type(tmp_path: Path) -> None:
    first, second, third = after(tmp_path / "stat", ran=WINDOW / 2, waited=WINDOW / 2)
    assert (first, third) == (None, None)
    assert second
    assert "with 4 threads, the run waited for one 50% of the time" in second
    assert "OMP_NUM_THREADS=2 redraft train …" in second


@pytest.mark.parametrize(
    ("ran", "waited", "threads"),
    [(WINDOW, 0.2 * WINDOW, 4), (0.1, 0.4, 4), (0, 0, 4), (WINDOW, 9 * WINDOW, 1)],
    ids=["little", "soon", "asleep", "alone"],
)
def test_what_is_nothing_to_say(tmp_path: Path, ran: float, waited: float, threads: int) -> None:
    assert after(tmp_path / "stat", ran, waited, threads) == [None, None, None]


def test_at_least_one_thread_is_advised(tmp_path: Path) -> None:
    said = after(tmp_path / "stat", ran=1, waited=50, threads=2)[1]
    assert said
    assert "with 2 threads, the run waited for one 98% of the time" in said
    assert "OMP_NUM_THREADS=1 " in said


def test_where_the_system_does_not_count_nothing_is_said(tmp_path: Path) -> None:
    assert Contention(4, tmp_path / "nowhere").check() is None
    (tmp_path / "other").write_text("no numbers")
    assert Contention(4, tmp_path / "other").check() is None


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="Linux counts this")
def test_a_core_that_is_shared_with_another_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "WINDOW", 0.5)
    core = {min(os.sched_getaffinity(0))}
    busy = f"import os\nos.sched_setaffinity(0, {core})\nprint(flush=True)\nwhile True: pass"
    found: list[str | None] = []

    def compute() -> None:
        os.sched_setaffinity(0, core)  # of this thread alone
        made, end = Contention(2), time.monotonic() + 60
        while made.notice is None and time.monotonic() < end:
            sum(range(10_000))
            made.check()
        found.append(made.notice)

    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        other.kill()
    assert found[0]
    assert "OMP_NUM_THREADS=1 " in found[0]
