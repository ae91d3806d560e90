"""The runner: everything once, no more at once than asked, and each kind of failure where it belongs."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import (
    CheckError,
    ContextError,
    EngineCrash,
    EngineTimeout,
    OutputError,
    RecordError,
    RedraftError,
    ServerError,
    UsageError,
)
from redraft.jobs.harness import ItemCounts, Job, Session, Start, Work
from redraft.jobs.ids import derived_seed
from redraft.jobs.provenance import Provenance


@dataclass(frozen=True)
class Item:
    id: str
    error: RedraftError | None = None


def jobs(count: int, errors: dict[int, RedraftError] | None = None) -> list[Item]:
    return [Item(str(number), (errors or {}).get(number)) for number in range(count)]


class Worker:
    """Does a job after a moment, and counts how many it was doing at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.now = self.most = 0

    async def __call__(self, job: Item) -> list[str]:
        self.calls.append(job.id)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            self.now -= 1
        if job.error:
            raise job.error
        return [json.dumps({"id": job.id})]


def job(out: Path, items: Callable[[], Iterable[Item]], parallel: int = 4, retries: int = 0) -> Job[Item]:
    return Job(
        items, "items", out, Provenance("answer"), parallel=parallel, retries=retries, quiet=True, tell=str
    )


def starting(work: Work[Item]) -> Start[Item]:
    @asynccontextmanager
    async def start(_: Session) -> AsyncGenerator[Work[Item]]:
        yield work

    return start


def run(out: Path, items: list[Item], worker: Worker, parallel: int = 4, retries: int = 0) -> ItemCounts:
    return job(out, lambda: items, parallel, retries).run(starting(worker)).counts


def ids(out: Path) -> list[str]:
    return [json.loads(text)["id"] for text in out.read_text().splitlines()]


@pytest.mark.parametrize("parallel", [1, 3, 50])
def test_everything_is_done_once_and_so_many_at_once(tmp_path: Path, parallel: int) -> None:
    worker, out = Worker(), tmp_path / "out.jsonl"
    counts = run(out, jobs(20), worker, parallel)
    assert counts == ItemCounts(added=20)
    assert sorted(ids(out), key=int) == [str(number) for number in range(20)]
    assert worker.most == min(parallel, 20)
    again = Worker()
    assert run(out, jobs(25), again, parallel) == ItemCounts(added=5)
    assert sorted(again.calls, key=int) == ["20", "21", "22", "23", "24"]


def test_items_are_taken_only_when_there_is_room(tmp_path: Path) -> None:
    taken = finished = most = 0

    def items() -> Iterator[Item]:
        nonlocal taken, most
        taken = most = 0  # they are counted first
        for job in jobs(30):
            taken += 1
            most = max(most, taken - finished)
            yield job

    async def work(job: Item) -> list[str]:
        nonlocal finished
        await asyncio.sleep(0)
        finished += 1
        return [json.dumps({"id": job.id})]

    job(tmp_path / "out.jsonl", items).run(starting(work))
    assert most == 4


def test_a_failure_of_one_item_does_not_stop_the_others(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    errors: dict[int, RedraftError] = {number: ContextError(100, 50) for number in range(5)} | {
        5: RecordError("empty")
    }
    errors |= {7: ServerError("no", status=400)}
    counts = run(out, jobs(10, errors), Worker(), 2)
    assert counts == ItemCounts(added=3, failed=7, exit_status=3)
    assert len((tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()) == 7
    worker = Worker()
    assert run(out, jobs(10), worker, 2) == ItemCounts(added=7)
    assert "8" not in worker.calls


@pytest.mark.parametrize(
    "error", [ServerError("down"), ServerError("busy", status=503), EngineTimeout("slow"), CheckError("boom")]
)
def test_a_doubtful_failure_is_forgiven_until_it_goes_on(tmp_path: Path, error: RedraftError) -> None:
    out = tmp_path / "out.jsonl"
    assert run(out, jobs(6, {1: error, 4: error}), Worker(), 1).failed == 2
    worker = Worker()
    with pytest.raises(type(error)):
        run(tmp_path / "other.jsonl", jobs(20, dict.fromkeys(range(2, 20), error)), worker, 1)
    assert worker.calls == ["0", "1", "2", "3", "4"]
    assert ids(tmp_path / "other.jsonl") == ["0", "1"]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (EngineCrash("died"), 7),
        (ServerError("key", status=401), 7),
        (ServerError("no credit", status=402), 7),
        (OutputError("full"), 5),  # what the others give cannot be kept either
        (UsageError("bad"), 5),
    ],
)
def test_a_fatal_failure_ends_the_job_and_keeps_what_is_done_and_under_way(
    tmp_path: Path, error: RedraftError, kept: int
) -> None:
    worker, out = Worker(), tmp_path / "out.jsonl"
    with pytest.raises(type(error)) as caught:
        run(out, jobs(20, {5: error}), worker, 3)
    assert caught.value is error
    assert ids(out) == [str(number) for number in range(8) if number != 5][:kept]
    assert worker.now == 0
    assert len(worker.calls) <= 8


def test_what_is_under_way_at_the_end_of_a_job_is_not_tried_again(tmp_path: Path) -> None:
    errors: dict[int, RedraftError] = {0: ServerError("key", status=401)}
    worker, broken = Worker(), ServerError("broke off", passing=True)
    with pytest.raises(ServerError):
        run(tmp_path / "out.jsonl", jobs(2, {**errors, 1: broken}), worker, 2, retries=4)
    assert worker.calls == ["0", "1"]


def test_a_fault_of_ours_is_not_hidden(tmp_path: Path) -> None:
    async def work(job: Item) -> list[str]:
        raise KeyError(job.id)

    with pytest.raises(KeyError):
        job(tmp_path / "out.jsonl", lambda: jobs(2)).run(starting(work))


@pytest.mark.slow
@given(st.integers(0, 60), st.integers(1, 5))
def test_a_job_cancelled_at_any_moment_is_gone_on_with(moment: int, parallel: int) -> None:
    async def cancelled_after(out: Path, worker: Worker) -> None:
        twelve = job(out, lambda: jobs(12), parallel)
        task = asyncio.create_task(twelve.arun(starting(worker)))
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder:
        out, first, second = Path(folder, "out.jsonl"), Worker(), Worker()
        asyncio.run(cancelled_after(out, first))
        assert first.now == 0
        kept = out.read_bytes() if out.exists() else b""
        run(out, jobs(12), second, parallel)
        assert out.read_bytes().startswith(kept)
        assert sorted(ids(out), key=int) == [str(number) for number in range(12)]
        assert len(second.calls) == 12 - kept.count(b"\n")


def test_seeds_depend_on_seed_and_id_alone() -> None:
    assert derived_seed(1, "vicuna_80/12") == derived_seed(1, "vicuna_80/12") == 1934526747
    seeds = {derived_seed(seed, str(name)) for seed in range(20) for name in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
