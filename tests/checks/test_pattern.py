"""The time limits of patterns and schemas count the processor time of the thread that works on them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from redraft.checks.pattern import late, search, within


@contextmanager
def busy(threads: int) -> Iterator[None]:
    """Other threads that keep the processor busy: a hash of a large text lets go of the interpreter."""
    over, text = threading.Event(), bytes(1 << 20)

    def work() -> None:
        while not over.is_set():
            hashlib.sha256(text).digest()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join()


def test_a_search_has_its_time_whatever_other_threads_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.checks.pattern.REGEX_SECONDS", 0.05)
    begun = time.thread_time()
    with busy(3), pytest.raises(TimeoutError):
        search("(a|aa)+$", "a" * 5000 + "b")
    assert time.thread_time() - begun >= 0.05


def test_a_schema_has_its_time_however_long_it_waits_for_the_processor() -> None:
    with within(0.05):
        time.sleep(0.1)
        assert not late()
        begun = time.thread_time()
        while time.thread_time() - begun < 0.06:
            pass
        assert late() == "it took longer than 0.05 s"
