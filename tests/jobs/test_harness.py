"""The harness: everything done once, no more at once than asked, failures where they belong, and limits."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
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
from redraft.jobs.harness import Goal, ItemCounts, Job, JobResult, Session, Start, Work
from redraft.jobs.ids import derived_seed
from redraft.jobs.limits import Limits, Spent
from redraft.jobs.provenance import Provenance


@dataclass(frozen=True)
class Item:
    id: str
    lines: int = 1
    cost: int = 0
    error: RedraftError | None = None


class Factory:
    def __init__(self) -> None:
        self.began: dict[str, int] = {}

    @asynccontextmanager
    async def __call__(self, session: Session) -> AsyncGenerator[Work[Item]]:
        async def work(item: Item) -> list[str]:
            self.began[item.id] = session.spent.tokens
            await asyncio.sleep(0)
            session.pay(item.cost, item.cost / 100)
            if item.error:
                raise item.error
            parts = range(1, item.lines + 1)
            return [json.dumps({"id": item.id, "part": n, "last": n == item.lines}) for n in parts]

        yield work


def job(
    out: Path, items: Callable[[], Iterable[Item]], said: list[str] | None = None, **how: Any
) -> Job[Item]:
    tell = ([] if said is None else said).append
    return Job(items, "items", out, Provenance("generate"), quiet=True, tell=tell, **how)


def run(out: Path, items: list[Item], factory: Factory | None = None, **how: Any) -> JobResult:
    made = job(out, lambda: items, is_last=lambda record: bool(record["last"]), **how)
    return made.run(factory or Factory())


def jobs(count: int, errors: dict[int, RedraftError] | None = None) -> list[Item]:
    return [Item(str(number), error=(errors or {}).get(number)) for number in range(count)]


class Worker:
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


def starting(work: Work[Item]) -> Start[Item]:
    @asynccontextmanager
    async def start(_: Session) -> AsyncGenerator[Work[Item]]:
        yield work

    return start


def worked(out: Path, items: list[Item], worker: Worker, parallel: int = 4, retries: int = 0) -> ItemCounts:
    return job(out, lambda: items, parallel=parallel, retries=retries).run(starting(worker)).counts


def ids(out: Path) -> list[str]:
    return [json.loads(text)["id"] for text in out.read_text().splitlines()]


@pytest.mark.parametrize("parallel", [1, 3, 50])
def test_everything_is_done_once_and_so_many_at_once(tmp_path: Path, parallel: int) -> None:
    worker, out = Worker(), tmp_path / "out.jsonl"
    assert worked(out, jobs(20), worker, parallel) == ItemCounts(added=20)
    assert sorted(ids(out), key=int) == [str(number) for number in range(20)]
    assert worker.most == min(parallel, 20)
    again = Worker()
    assert worked(out, jobs(25), again, parallel) == ItemCounts(added=5)
    assert sorted(again.calls, key=int) == ["20", "21", "22", "23", "24"]


def test_items_are_taken_only_when_there_is_room(tmp_path: Path) -> None:
    taken = finished = most = 0

    def items() -> Iterator[Item]:
        nonlocal taken, most
        taken = most = 0  # they are counted first
        for item in jobs(30):
            taken += 1
            most = max(most, taken - finished)
            yield item

    async def work(job: Item) -> list[str]:
        nonlocal finished
        await asyncio.sleep(0)
        finished += 1
        return [json.dumps({"id": job.id})]

    job(tmp_path / "out.jsonl", items, parallel=4).run(starting(work))
    assert most == 4


def test_a_failure_of_one_item_does_not_stop_the_others(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    errors: dict[int, RedraftError] = {number: ContextError(100, 50) for number in range(5)} | {
        5: RecordError("empty")
    }
    errors |= {7: ServerError("no", status=400)}
    assert worked(out, jobs(10, errors), Worker(), 2) == ItemCounts(added=3, failed=7, exit_status=3)
    assert len((tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()) == 7
    worker = Worker()
    assert worked(out, jobs(10), worker, 2) == ItemCounts(added=7)
    assert "8" not in worker.calls


@pytest.mark.parametrize(
    "error", [ServerError("down"), ServerError("busy", status=503), EngineTimeout("slow"), CheckError("boom")]
)
def test_a_doubtful_failure_is_forgiven_until_it_goes_on(tmp_path: Path, error: RedraftError) -> None:
    assert worked(tmp_path / "out.jsonl", jobs(6, {1: error, 4: error}), Worker(), 1).failed == 2
    worker = Worker()
    with pytest.raises(type(error)):
        worked(tmp_path / "other.jsonl", jobs(20, dict.fromkeys(range(2, 20), error)), worker, 1)
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
        worked(out, jobs(20, {5: error}), worker, 3)
    assert caught.value is error
    assert ids(out) == [str(number) for number in range(8) if number != 5][:kept]
    assert worker.now == 0
    assert len(worker.calls) <= 8


def test_what_is_under_way_at_the_end_of_a_job_is_not_tried_again(tmp_path: Path) -> None:
    errors: dict[int, RedraftError] = {0: ServerError("key", status=401)}
    worker, broken = Worker(), ServerError("broke off", passing=True)
    with pytest.raises(ServerError):
        worked(tmp_path / "out.jsonl", jobs(2, {**errors, 1: broken}), worker, 2, retries=4)
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
        task = asyncio.create_task(job(out, lambda: jobs(12), parallel=parallel).arun(starting(worker)))
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder:
        out, first, second = Path(folder, "out.jsonl"), Worker(), Worker()
        asyncio.run(cancelled_after(out, first))
        assert first.now == 0
        kept = out.read_bytes() if out.exists() else b""
        worked(out, jobs(12), second, parallel)
        assert out.read_bytes().startswith(kept)
        assert sorted(ids(out), key=int) == [str(number) for number in range(12)]
        assert len(second.calls) == 12 - kept.count(b"\n")


def test_seeds_depend_on_seed_and_id_alone() -> None:
    assert derived_seed(1, "vicuna_80/12") == derived_seed(1, "vicuna_80/12") == 1934526747
    seeds = {derived_seed(seed, str(name)) for seed in range(20) for name in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("counts", [[2, 0, 3], [0, 1]])
def test_half_an_item_never_counts_as_done(tmp_path: Path, counts: list[int]) -> None:
    items, out = [Item(str(number), count) for number, count in enumerate(counts)], tmp_path / "out.jsonl"
    run(out, items)
    whole = out.read_bytes()
    ends = [
        len(b"".join(whole.splitlines(keepends=True)[: sum(counts[: n + 1])])) for n in range(len(counts))
    ]
    for cut in range(1, len(whole) + 1, 3):
        out.write_bytes(whole[:cut])
        factory = Factory()
        run(out, items, factory)
        assert out.read_bytes() == whole
        made = [item.id for item, end in zip(items, ends, strict=True) if not item.lines or end > cut]
        assert list(factory.began) == made


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=10),
    st.integers(1, 120),
    st.integers(1, 4),
    st.sampled_from(["tokens", "usd"]),
)
@example([5, 12, 11, 39, 0], 67, 1, "usd")  # whose sum is a little less than 0.67 in floating point
def test_a_limit_holds_and_runs_with_it_do_everything_once(
    costs: list[int], limit: int, parallel: int, kind: str
) -> None:
    items = [
        Item(str(number), cost=cost, error=ContextError(9, 5) if cost == 13 else None)
        for number, cost in enumerate(costs)
    ]
    limits = Limits(tokens=limit) if kind == "tokens" else Limits(usd=limit / 100)
    with tempfile.TemporaryDirectory() as folder:
        out, began = Path(folder, "out.jsonl"), set[str]()
        for _ in range(len(items) + 1):
            factory, said = Factory(), list[str]()
            outcome = run(out, items, factory, said=said, limits=limits, parallel=parallel)
            assert all(spent < limit for spent in factory.began.values())
            assert outcome.spent.tokens < limit + parallel * max(costs)
            assert bool(said) == (outcome.exit_status == 4)
            began |= factory.began.keys()
            if outcome.exit_status != 4 or len(factory.began) == outcome.counts.failed:
                break
        done = ids(out)
        assert len(done) == len(set(done))
        if outcome.exit_status != 4:
            assert set(done) == {item.id for item in items if not item.error}
            assert began == {item.id for item in items}


def test_a_limit_that_is_reached_with_the_last_item_ends_nothing(tmp_path: Path) -> None:
    items, said = [Item("a", cost=5), Item("b", cost=5)], list[str]()
    assert run(tmp_path / "out.jsonl", items, said=said, limits=Limits(tokens=10)).exit_status == 0
    assert said == []


def test_no_items_and_two_of_one_id_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    factory = Factory()
    for items in ([], [Item("a"), Item("a")]):
        with pytest.raises(RecordError, match=r"no item in items|items: "):
            run(tmp_path / "out.jsonl", items, factory)
    assert factory.began == {}
    assert not (tmp_path / "out.jsonl").exists()


def test_a_job_with_a_goal_takes_items_until_it_is_reached(tmp_path: Path) -> None:
    made: list[str] = []
    left = {"3"}

    @asynccontextmanager
    async def start(session: Session) -> AsyncGenerator[Work[Item]]:
        async def work(item: Item) -> list[str] | None:
            if item.id in left:
                return None
            made.append(item.id)
            return [json.dumps({"id": item.id})]

        assert all(name in session.done for name in made)
        yield work

    def items() -> Iterator[Item]:
        for number in itertools.count():
            if len(made) >= goal.total:
                return
            yield Item(str(number))

    for total in (5, 7):
        goal = Goal(total, lambda: len(made))
        result = job(tmp_path / "out.jsonl", items, goal=goal).run(start)
        left.clear()
        assert result.counts.failed == 0
    assert made == ["0", "1", "2", "4", "5", "3", "6"]


def test_a_job_whose_goal_is_reached_is_not_ended_by_a_limit(tmp_path: Path) -> None:
    done = 0

    @asynccontextmanager
    async def start(session: Session) -> AsyncGenerator[Work[Item]]:
        async def work(item: Item) -> list[str]:
            nonlocal done
            done += 1
            session.pay(100, None)
            return [item.id]

        yield work

    told: list[str] = []
    items = [Item("0"), Item("1")]
    result = job(
        tmp_path / "out.jsonl", lambda: items, told, goal=Goal(1, lambda: done), limits=Limits(tokens=50)
    ).run(start)
    assert (result.exit_status, told) == (0, [])


# What reaches a limit, alone and after earlier jobs of the same run.


ALONE = Limits(usd=1.0, tokens=100, seconds=60.0)
LATER = ALONE.after(Spent(30, 0.3), 20.0).after(Spent(50, 0.5, estimated=True), 30.0)


@pytest.mark.parametrize(
    ("limits", "spent", "seconds", "said"),
    [
        (ALONE, Spent(usd=1.0), 0.0, "1 USD is reached (1.0000 spent)"),
        (LATER, Spent(19, 0.19), 9.0, ""),
        (LATER, Spent(usd=0.3), 0.0, "1 USD is reached (1.1000 spent, estimated)"),
        (LATER, Spent(20), 0.0, "100 tokens is reached (100 generated, estimated)"),
        (LATER, Spent(), 10.0, "60 s is reached"),
    ],
)
def test_what_reaches_a_limit(limits: Limits, spent: Spent, seconds: float, said: str) -> None:
    assert limits.reached(spent, seconds) == (said and f"the limit of {said}")
    assert Limits().reached(spent, seconds) == ""


def test_the_time_to_open_models_is_what_is_left() -> None:
    async def opened(limits: Limits) -> None:
        async with limits.opening(1.0):
            await asyncio.sleep(0.01)

    asyncio.run(opened(Limits(seconds=60.0)))
    with pytest.raises(EngineTimeout, match="the limit of 60 s was reached before"):
        asyncio.run(opened(Limits(seconds=60.0).after(Spent(), 59.0)))
