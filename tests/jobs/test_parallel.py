"""Work spread over processes: the same results in the same order, and no more read ahead than is bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from redraft.chain.read.records import RawRecord
from redraft.errors import RedraftError
from redraft.jobs import parallel
from redraft.jobs.parallel import BATCH, BATCH_BYTES, WAITING, spread


def square(number: int) -> int:
    return number * number


def refuse_300(number: int) -> int:
    if number == 300:
        raise ValueError("300 is refused")
    return number


def process(_: int) -> int:
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    items = range(5 * BATCH + 1)
    assert list(spread(square, items, workers)) == [number**2 for number in items]


def test_one_worker_is_this_process_and_several_are_others() -> None:
    assert set(spread(process, range(3))) == {os.getpid()}
    assert os.getpid() not in set(spread(process, range(3), 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_raised_comes_at_its_place(workers: int) -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="300 is refused"):
        seen.extend(spread(refuse_300, range(1000), workers))
    assert seen[: 4 * BATCH] == list(range(4 * BATCH))
    assert len(seen) <= 300


def test_no_more_is_read_ahead_than_waits() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(100 * BATCH):
            read += 1
            yield number

    results = spread(square, items(), 2)
    next(results)
    assert read <= WAITING * 2 * BATCH
    results.close()  # type: ignore[attr-defined]


def sizes_of(items: Iterable[object]) -> list[int]:
    return [len(batch) for batch, _ in parallel.batches(items, parallel._bytes_in, BATCH, BATCH_BYTES)]


def test_a_batch_of_large_records_is_short() -> None:
    line = RawRecord("a:1", "a", 0, b"x" * (BATCH_BYTES // 4))
    for item in (line, (line, line)):
        sizes = sizes_of([item] * 8)
        assert (sum(sizes), max(sizes)) == (8, 4 if item is line else 2)
    assert sizes_of(range(BATCH + 1)) == [BATCH, 1]


def length(data: bytes) -> int:
    return len(data)


@pytest.mark.slow
def test_no_more_bytes_wait_than_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "WAITING_BYTES", 5 * BATCH_BYTES)
    read = 0

    def items() -> Iterator[bytes]:
        nonlocal read
        for _ in range(20):
            read += 1
            yield b"x" * 2 * BATCH_BYTES

    results = spread(length, items(), 4)
    assert next(results) == 2 * BATCH_BYTES
    assert read == 3
    assert list(results) == [2 * BATCH_BYTES] * 19
    assert list(spread(length, [b"x" * 6 * BATCH_BYTES] * 2, 2)) == [6 * BATCH_BYTES] * 2


def kill(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(_: int) -> None:
    os._exit(1)


@pytest.mark.parametrize("end", [kill, leave])
def test_a_process_that_ended_is_told(end: Callable[[int], None]) -> None:
    with pytest.raises(RedraftError, match=r"a process ended early.*memory.*above.*\n.*--workers 1"):
        list(spread(end, range(3), 2))


INTERRUPTED = """
import os, signal, sys
from redraft.jobs.parallel import spread
def wait(_):
    return os.getpid()
if __name__ == "__main__":
    results = spread(wait, range(1000), 2)
    workers = {next(results) for _ in range(500)}
    for worker in workers:
        os.kill(worker, signal.SIGINT)
    print(len(list(results)))
"""


def test_ctrl_c_is_left_to_the_process_that_waits(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED, "utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("500\n", "")


KILLED = """
import os, signal
from redraft.jobs.parallel import spread
def wait(_):
    return os.getpid()
if __name__ == "__main__":
    print(next(spread(wait, range(1000), 2)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED, "utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        worker = int(process.stdout.readline())
        assert process.stdout.read() == ""  # which the workers hold open while they live
    assert not Path(f"/proc/{worker}").exists() or not Path(f"/proc/{worker}/exe").exists()


CLOSED = """
from redraft.jobs.parallel import spread

if __name__ == "__main__":
    found = spread(len, (bytes(1 << 20) for _ in range(100)), 2)
    next(found)
    found.close()
    print("closed")
"""


def test_an_end_while_records_are_sent_waits_for_nothing(tmp_path: Path) -> None:  # as Python 3.11.2 did
    (tmp_path / "closes.py").write_text(CLOSED, "utf-8")
    done = subprocess.run([sys.executable, "closes.py"], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.stdout == b"closed\n"
