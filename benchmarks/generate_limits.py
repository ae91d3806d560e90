"""Measure the use of a paid teacher: the share of its limit, lost chains, and calls that are paid twice."""

from __future__ import annotations

import random
import time

from generate_job import Job, working
from measure import Figure, Goal, Row
from teacher import Account, Teacher, texts_in

RPM, DELAY, SETTLING = 6_000, 0.05, 10.0
LIMIT = "use of a limit of 6,000 requests a minute, 50 ms latency"
LIMIT_HOW = (
    "The stand-in teacher refuses a call if it accepted 6,000 within the last 60 s. `redraft answer --rpm "
    "6000 --parallel 50 --cache` makes {calls:,} calls in each of {rounds} runs. The share is that of calls "
    "accepted after the first {settling:.0f} s. Without `--rpm`, the number of parallel requests adapts to "
    "the 429s."
)
FAULTS = {"500": 0.04, "429": 0.02, "cut": 0.02, "json": 0.01, "stall": 0.01}
FAULTY = "200 calls at once, a tenth of which fail at random"
FAULTY_HOW = (
    "{chains:,} chains of up to three calls with `--parallel 200 --cache`: 4 % of the calls get a 500, 2 % "
    "a 429, 2 % break off, 1 % contain a line that is not JSON, and 1 % stop in the middle. The command is "
    "repeated until nothing fails. A call counts as paid twice if the teacher sent two whole replies to "
    "equal requests."
)
PARALLEL = 16
KILLED = "kill -9 at {kills} random moments"
KILLED_HOW = (
    "{chains:,} chains of up to three calls with `--parallel {parallel} --cache`, 50 ms latency, are killed "
    "after random numbers of replies, and then finished. An unbroken run gets the same replies. Lines are "
    "compared as a set, without their seconds. A call counts as paid twice if it was repeated although its "
    "reply was in the journal at a kill. Each reply is written there after it was read, and before it is "
    "used. A reply that the server had sent in full, but the killed process had not read, is lost with the "
    "sockets, so it is requested again. So are unfinished replies. This teacher stops those when its client "
    "is gone, as servers do; a provider may bill them."
)


def limit(calls: int, rounds: int) -> Row:
    given = [_limited(calls, "--rpm", str(RPM)) for _ in range(rounds)]
    adapted = _limited(calls)
    figures = (
        Figure("share used with --rpm", tuple(map(_share, given)), "%", Goal("≥", 95.0)),
        Figure("429s after 10 s with --rpm", tuple(map(_late, given)), "calls", Goal("≤", 0.0)),
        Figure("share used without --rpm", (_share(adapted),), "%"),
        Figure("429s after 10 s without --rpm", (_late(adapted),), "calls"),
    )
    return Row(LIMIT, LIMIT_HOW.format(calls=calls, settling=SETTLING, rounds=rounds), figures)


def _limited(calls: int, *more: str) -> Account:
    with working(calls) as job, Teacher(delay=DELAY, rpm=RPM) as teacher:
        run = job.run(teacher, "--parallel", "50", "--max-revisions", "0", *job.cache(), *more)
        assert run.status == 0, run
        return teacher.account()


def _share(account: Account) -> float:
    first, last = account.let_in[0] + SETTLING, account.let_in[-1]
    return 100 * sum(first < at <= last for at in account.let_in) / (RPM / 60 * (last - first))


def _late(account: Account) -> float:
    return float(sum(at > account.let_in[0] + SETTLING for at in account.limited))


def faulty(chains: int, rounds: int) -> Row:
    found = [_faulty(chains, seed) for seed in range(1, rounds + 1)]
    lost, made_twice, paid_twice = (tuple(map(float, values)) for values in zip(*found, strict=True))
    figures = (
        Figure("chains lost", lost, "chains", Goal("≤", 0.0)),
        Figure("chains made twice", made_twice, "chains", Goal("≤", 0.0)),
        Figure("calls paid twice", paid_twice, "calls", Goal("≤", 0.0)),
    )
    return Row(FAULTY, FAULTY_HOW.format(chains=chains), figures)


def _faulty(chains: int, seed: int) -> tuple[int, int, int]:
    with working(chains) as job, Teacher(delay=DELAY, faults=FAULTS, stalls=8, seed=seed) as teacher:
        settings = ("--parallel", "200", "--max-revisions", "1", "--timeout", "5", *job.cache())
        for _ in range(10):
            if job.run(teacher, *settings).status == 0:
                break
        ids = job.ids()
        return chains - len(set(ids)), len(ids) - len(set(ids)), len(teacher.account().twice)


def killed(chains: int, kills: int) -> Row:
    with working(chains) as job, Teacher(delay=DELAY) as teacher:
        settings = ("--parallel", str(PARALLEL), "--max-revisions", "1")
        journaled, under_way = _kill(job, teacher, 2 * chains // (kills + 1), kills, *settings, *job.cache())
        assert job.run(teacher, *settings, *job.cache()).status == 0
        account, ids = teacher.account(), job.ids()
        assert job.run(teacher, *settings, *job.cache("whole.db"), out="whole.jsonl").status == 0
        differ = len(job.lines() ^ job.lines("whole.jsonl"))
    twice = sum(account.whole[digest] > times for digest, times in journaled.items())
    again = (account.whole.total() - len(account.whole)) / kills
    figures = (
        Figure("chains lost", (float(chains - len(set(ids))),), "chains", Goal("≤", 0.0)),
        Figure("chains made twice", (float(len(ids) - len(set(ids))),), "chains", Goal("≤", 0.0)),
        Figure("calls paid twice", (float(twice),), "calls", Goal("≤", 0.0), f"{len(journaled):,} looked at"),
        Figure("lines that differ from the unbroken run", (float(differ),), "chains", Goal("≤", 0.0)),
        Figure("replies sent in full and asked for again, a kill", (again,), "calls"),
        Figure("calls under way at a kill", tuple(map(float, under_way)), "calls"),
    )
    return Row(KILLED.format(kills=kills), KILLED_HOW.format(chains=chains, parallel=PARALLEL), figures)


def _kill(
    job: Job, teacher: Teacher, most: int, kills: int, *settings: str
) -> tuple[dict[str, int], list[int]]:
    """Kill `kills` runs, each at a random moment, after at most `most` new replies.

    Return the requests whose replies were in the journal at a kill, each with its number of whole replies so
    far, and the number of calls under way at each kill.
    """
    draws, journaled, under_way = random.Random(7), dict[str, int](), list[int]()
    for _ in range(kills):
        until = teacher.sent()[0] + draws.randint(1, most)
        with job.start(teacher, *settings) as process:
            while process.poll() is None and teacher.sent()[0] < until:
                time.sleep(0.02)
            time.sleep(draws.uniform(0, 2 * DELAY))  # at any point of a round, because the calls run in step
            under_way.append(teacher.sent()[1])
            assert process.poll() is None, "the run ended before it was killed"
            process.kill()
        journaled = teacher.account().replies_to(texts_in(job.folder / "paid.db")) | journaled
    return journaled, under_way
