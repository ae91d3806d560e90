"""Measure a job that is divided into shares: its scaling, the cost of kills, and merging.

    python benchmarks/cluster.py          writes results/cluster.json
    python benchmarks/cluster.py --only merge
    python benchmarks/cluster.py --quick  little of each, nothing written

All shares run on this machine, each in its own process. The engine is scripted and takes a fixed time for a
reply, so the speed of the processor does not matter.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from generate_job import Job, ended, working
from measure import Figure, Goal, Row
from ray_machines import Machines
from redraft.chain import Chain, Prompt, Step
from redraft.jobs.ids import Share
from redraft.jobs.provenance import Provenance, RunFile
from report import main, sized
from teacher import Account, Teacher, texts_in

PARALLEL = 8
DELAY = 0.1  # seconds of a scripted reply
RAY_DELAY = 0.5  # long enough for new processes to start before the others finish

SPEED_HOW = """\
The scripted engine replies after {delay:.0f} ms. Each share makes {parallel} answers at once and keeps a \
journal. The time is that of the slowest share, from the start of Python until all files are closed. The \
share of linear is the time of one share divided by N times the time of N shares."""

RAY_SPEED_HOW = """\
As before, but one `redraft answer --ray` makes the shares, four for each process, on Ray's test cluster of \
four machines with two processors each, all simulated on this machine. The time is that of the command, \
merge included."""

KILLS_HOW = """\
{prompts:,} chains of up to three calls over 8 shares with `--parallel {parallel}`, 50 ms latency. A random \
share is killed after a random number of replies, and started again. After the last kill, all shares are \
killed and merged. Then 5 new shares finish the job, and are merged too. A call counts as paid again if it \
was repeated although its reply was in a share's journal at a kill."""

RAY_HOW = """\
{prompts:,} chains of up to three calls of 500 ms, by `redraft answer --ray` on Ray's test cluster of three \
machines with two processors each, all simulated on this machine. After random numbers of replies, a \
process that makes shares is killed, {workers} times, or a whole machine, {nodes} times. The command \
continues by itself. A call counts as paid again if it was repeated although its reply was in a journal at \
a kill."""

TOWARD_HOW = """\
This is a calculation, not a run. It uses the processor time of one share: {start:.2f} s to start, \
{read:.1f} µs to read a prompt of the whole file twice, {answer:.1f} ms to answer it, and {merge:.0f} µs to \
merge a line. All machines answer {prompts:,} prompts side by side, {parallel} at once on each, with \
replies of {latency:g} s. Each machine reads the whole file, and one merges at the end."""

MERGE_HOW = """\
{lines:,} chains of {size:.0f} bytes in {parts} parts, in random order, are merged in the order of the \
prompts. Time and memory are those of the process `redraft merge`."""


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "redraft", *words]
    environment = {**os.environ, "REDRAFT_CONFIG": os.devnull}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def done(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    assert {process.wait() for process in processes} == {0}


def speed(prompts: int, counts: tuple[int, ...]) -> Row:
    return _speed(prompts, counts, "shares", SPEED_HOW, _in_shares)


def ray_speed(prompts: int, counts: tuple[int, ...]) -> Row:
    with closing(Machines(4)) as cluster:
        return _speed(prompts, counts, "processes of Ray", RAY_SPEED_HOW, partial(_on_ray, cluster.address))


def _speed(
    prompts: int, counts: tuple[int, ...], what: str, how: str, answered: Callable[[Path, int], None]
) -> Row:
    seconds = dict[int, float]()
    with working(prompts) as job:
        _script(job.folder, DELAY)
        for count in counts:
            begun = time.perf_counter()
            answered(job.folder, count)
            seconds[count] = time.perf_counter() - begun
    figures = [
        Figure(
            f"{count} {what}",
            (seconds[1] / count / taken,),
            "×",
            Goal("≥", 0.9) if count == 8 else None,
            f"{taken:.1f} s",
        )
        for count, taken in seconds.items()
    ]
    how = how.format(delay=DELAY * 1000, parallel=PARALLEL)
    return Row(f"{prompts:,} prompts over {counts[-1]} {what}: share of linear", how, tuple(figures))


def _in_shares(folder: Path, count: int) -> None:
    words = _words("prompts.txt", f"{count}.jsonl")
    done([start(folder, *words, "--shard", f"{index}/{count}") for index in range(count)])


def _on_ray(address: str, folder: Path, count: int) -> None:
    done([start(folder, *_words("prompts.txt", f"{count}.jsonl"), "--ray", address, "--actors", str(count))])


def _script(folder: Path, delay: float) -> None:
    settings = json.dumps({"settings": {"delay": delay, "chunk": 1000}})
    (folder / "replies.jsonl").write_text(f'{settings}\n"Rain is water that falls."\n')


def _words(prompts: str, out: str) -> list[str]:
    words = ["answer", prompts, "-o", out, "-m", "script:replies.jsonl", "-q"]
    return [*words, "--parallel", str(PARALLEL), "--max-revisions", "0"]


def kills(prompts: int, times: int) -> Row:
    with working(prompts) as job, Teacher(delay=0.05) as teacher:
        journaled = _killed(job, teacher, times, 2 * prompts // (times + 1))
        _merge(job.folder, 8)
        half = len(job.ids())
        done([_share(job, teacher, index, 5) for index in range(5)])
        _merge(job.folder, 5)
        account, ids = teacher.account(), job.ids()
    figures = (
        *_faults(prompts, ids, account, journaled),
        Figure("chains at the first merge", (half,), "chains"),
    )
    how = KILLS_HOW.format(prompts=prompts, parallel=PARALLEL)
    return Row(f"8 shares, {times} kill -9, then 5 shares, then merged", how, figures)


def ray(prompts: int, workers: int, nodes: int) -> Row:
    with working(prompts) as job, Teacher(delay=RAY_DELAY) as teacher, closing(Machines(3)) as cluster:
        driver = job.start(teacher, "--parallel", "4", "--max-revisions", "1", "--ray", cluster.address)
        most = prompts // (workers + nodes + 1)
        kinds = [*["worker"] * workers, *["machine"] * nodes]
        journaled = _killed_on_ray(job, teacher, cluster, driver, kinds, most)
        done([driver])
        account, ids = teacher.account(), job.ids()
    how = RAY_HOW.format(prompts=prompts, workers=workers, nodes=nodes)
    figures = _faults(prompts, ids, account, journaled)
    return Row(f"--ray, {workers} workers and {nodes} machines killed", how, figures)


def _faults(
    prompts: int, ids: Sequence[str], account: Account, journaled: Mapping[str, int]
) -> tuple[Figure, ...]:
    again = sum(account.whole[digest] > whole for digest, whole in journaled.items())
    nothing = Goal("≤", 0.0)
    return (
        Figure("duplicates", (len(ids) - len(set(ids)),), "chains", nothing),
        Figure("lost", (prompts - len(set(ids)),), "chains", nothing),
        Figure("paid again", (again,), "calls", nothing, f"{len(journaled):,} replies looked at"),
        Figure("sent in full, then lost with a process", (len(account.twice),), "calls"),
    )


def _killed_on_ray(
    job: Job,
    teacher: Teacher,
    cluster: Machines,
    driver: subprocess.Popen[bytes],
    kinds: list[str],
    most: int,
) -> dict[str, int]:
    draws, journaled = random.Random(11), dict[str, int]()
    draws.shuffle(kinds)
    for kind in kinds:
        until = teacher.sent()[0] + draws.randint(most // 2, most)
        while teacher.sent()[0] < until:
            assert driver.poll() is None, "the run ended"
            time.sleep(0.02)
        if kind == "machine":
            cluster.kill_machine()
        else:
            while not cluster.kill_worker(draws.randrange(100)):
                time.sleep(0.02)
        for journal in job.folder.glob("out-*.journal.db"):
            journaled = teacher.account().replies_to(texts_in(journal)) | journaled
    return journaled


def _share(job: Job, teacher: Teacher, index: int, count: int) -> subprocess.Popen[bytes]:
    more = ("--parallel", str(PARALLEL), "--max-revisions", "1", "--shard", f"{index}/{count}")
    return job.start(teacher, *more)


def _killed(job: Job, teacher: Teacher, times: int, most: int) -> dict[str, int]:
    """Kill random shares. Count the replies to each request when a killed share's journal first has one."""
    draws, journaled = random.Random(7), dict[str, int]()
    running = [_share(job, teacher, index, 8) for index in range(8)]
    for left in reversed(range(times)):
        until = teacher.sent()[0] + draws.randint(1, most)
        while teacher.sent()[0] < until:
            time.sleep(0.02)
        index = draws.randrange(8)
        running[index].kill()
        running[index].wait()
        journal = job.folder / f"{_name(index, 8)}.journal.db"
        if journal.exists():
            journaled = teacher.account().replies_to(texts_in(journal)) | journaled
        if left:
            running[index] = _share(job, teacher, index, 8)
    for process in running:
        process.kill()
        process.wait()
    return journaled


def _merge(folder: Path, count: int) -> None:
    done([start(folder, "merge", "out.jsonl", *(_name(index, count) for index in range(count)))])


def _name(index: int, count: int) -> str:
    return str(Share(index, count).path(Path("out.jsonl")))


@dataclass(frozen=True)
class ShareCosts:
    start: float  # to start Python, and to open the files
    read: float  # to read a prompt, its own or that of another share
    answer: float  # to answer one of its own prompts
    merge: float  # to merge a line

    @classmethod
    def measured(cls, prompts: int) -> ShareCosts:
        with working(prompts) as job:
            _script(job.folder, 0.0)
            (job.folder / "one.txt").write_text("Describe a lighthouse.\n")
            start = _processor(job.folder, *_words("one.txt", "0.jsonl"))
            most = _words("prompts.txt", "1.jsonl")
            read = (_processor(job.folder, *most, "--shard", "0/99999") - start) / prompts
            some = _processor(job.folder, *_words("prompts.txt", "2.jsonl"), "--shard", "0/20")
            answer = (some - start - read * prompts) / (prompts / 20)
        with _parts(prompts, 8) as folder:
            merged = _processor(folder, "merge", "out.jsonl", *(_name(index, 8) for index in range(8)))
        return cls(start, read, answer, (merged - start) / prompts)


def _processor(folder: Path, *words: str) -> float:
    process = start(folder, *words)
    used = ended(process)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


def toward(measured: int, prompts: int, latency: float, parallel: int) -> Row:
    costs = ShareCosts.measured(measured)
    each = max(latency / parallel, costs.answer)
    figures, alone = list[Figure](), 0.0
    for count in (1, 10, 100, 1000):
        parts = {
            "starting": costs.start,
            "reading": costs.read * prompts,
            "answering": each * prompts / count,
            "merging": costs.merge * prompts if count > 1 else 0.0,
        }
        total = sum(parts.values())
        alone = alone or total
        named = ", ".join(f"{name} {seconds:,.0f} s" for name, seconds in parts.items())
        figures.append(Figure(f"{count:,} machines", (alone / count / total,), "×", None, named))
    micro = {"read": costs.read * 1e6, "merge": costs.merge * 1e6, "answer": costs.answer * 1e3}
    how = TOWARD_HOW.format(start=costs.start, **micro, prompts=prompts, latency=latency, parallel=parallel)
    return Row("Toward a thousand machines: share of linear, calculated", how, tuple(figures))


def merge(lines: int, parts: int) -> Row:
    with _parts(lines, parts) as folder:
        size = sum(path.stat().st_size for path in folder.glob("out-*.jsonl")) / lines
        words = ["merge", "out.jsonl", *(_name(index, parts) for index in range(parts))]
        begun = time.perf_counter()
        process = start(folder, *words)
        used, seconds = ended(process), time.perf_counter() - begun
        assert process.returncode == 0
        with (folder / "out.jsonl").open("rb") as file:
            assert sum(1 for _ in file) == lines
    figures = (
        Figure("time", (seconds,), "s", Goal("≤", 60), f"{used.ru_utime + used.ru_stime:.0f} s of processor"),
        Figure("most memory", (used.ru_maxrss / 1e3,), "MB", Goal("≤", 300)),
    )
    how = MERGE_HOW.format(lines=lines, size=size, parts=parts)
    return Row(f"Merge of {lines:,} lines in {parts} parts", how, figures)


@contextmanager
def _parts(lines: int, parts: int) -> Iterator[Path]:
    with working(lines) as job:
        folder = job.folder
        shares = [Share(index, parts) for index in range(parts)]
        files = [share.path(folder / "out.jsonl").open("wb") for share in shares]
        made = Provenance("answer", {}, folder / "prompts.txt", "prompts.txt")
        for share in shares:
            RunFile(share.path(folder / "out.jsonl")).begin(made, resume=False)
        step = Step(answer="It stands on a rock, and its light goes round. " * 4)
        chain = Chain(
            id="prompts/@", prompt=Prompt(instruction="Describe lighthouse @."), steps=(step,), best=0
        )
        line = f"{chain.to_json()}\n"
        order = list(range(lines))
        random.Random(1).shuffle(order)
        for number in order:
            index = next(share.index for share in shares if share.holds(f"prompts/{number}"))
            files[index].write(line.replace("@", str(number)).encode())
        for file in files:
            file.close()
        yield folder


ROWS = {
    "speed": sized(speed, (20_000, (1, 2, 4, 8)), (200, (1, 8))),
    "kills": sized(kills, (2_000, 50), (120, 3)),
    "ray": sized(ray, (600, 10, 2), (120, 2, 1)),
    "ray-speed": sized(ray_speed, (20_000, (1, 2, 4, 8)), (200, (1, 8))),
    "toward": sized(toward, (20_000, 10_000_000, 5.0, 32), (2_000, 10_000_000, 5.0, 32)),
    "merge": sized(merge, (1_000_000, 64), (5_000, 8)),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/cluster.py", __doc__, ROWS))
