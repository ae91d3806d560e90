"""Measure `redraft serve --ray`: scaling, killed replicas, the first token, and routing by prefix.

    python benchmarks/cluster_serve.py          writes results/cluster_serve.json
    python benchmarks/cluster_serve.py --only kills
    python benchmarks/cluster_serve.py --quick  little of each, nothing written

Ray's cluster for tests simulates all nodes on this machine. The engine is scripted and takes a fixed time for
a reply, so the speed of the processor does not matter. For prefixes, the engine is the default model.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import Figure, Goal, Row
from processor import family
from ray_machines import ENVIRONMENT
from report import main, sized
from serve_client import Address, chat, events, timed
from serve_server import Serving, serving

PORT = 8397
START = 600.0  # seconds that Ray may take on a busy machine
STREAMS = 16  # streams of each replica at once
TEXT = " ".join(f"word{number}" for number in range(100))

RAY = {
    **ENVIRONMENT,
    "RAY_AUTH_TOKEN": "of-a-measurement-on-this-machine-alone",
    "RAY_raylet_start_wait_time_s": "600",  # a busy machine
    "RAY_agent_register_timeout_ms": "600000",
}

LINEAR_HOW = """\
{streams:,} streamed chats, each of {seconds:g} s in {pieces} pieces by the scripted engine, go through one \
`redraft serve --ray` to one replica per node. A replica writes {each} streams at once. The share of linear \
is the time with one replica divided by N times the time with N replicas."""

KILLS_HOW = """\
{streams} clients stream one chat after the other, of {words} words over {seconds:g} s, from {replicas} \
replicas. A random replica is killed every 2 s, for {length} s. A chain counts as lost if its stream ends \
early, and a text as shown twice if a word is repeated."""

FIRST_HOW = """\
{count} pairs of streamed chats with the scripted engine are sent one at a time, to `redraft serve` and to \
`redraft serve --ray`, in turn. Both servers run all the time."""

PREFIX_HOW = """\
{chains} native chains of the default model, with a prompt of about 500 tokens and two enforced revisions, \
are made on two replicas. The prompt tokens that a chain computes beyond those of its first prompt count as \
computed again. Random routing draws a replica for each request."""


@contextmanager
def script(seconds: float, pieces: int) -> Iterator[Path]:
    size = -(-len(TEXT) // pieces)
    settings = {"settings": {"delay": seconds / pieces, "chunk": size}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.jsonl"
        path.write_text(f"{json.dumps(settings)}\n{json.dumps(TEXT)}\n")
        yield path


@contextmanager
def nodes(count: int, cpus: int = 1) -> Iterator[str]:
    os.environ.update(RAY)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=cpus)
        yield str(cluster.address)
    finally:
        cluster.shutdown()


@contextmanager
def on_ray(address: str, path: Path, replicas: int, streams: int) -> Iterator[Serving]:
    words = ("--ray", address, "--replicas", str(replicas), "--parallel", str(streams), "--queue", "10000")
    with serving(*words, "-m", f"script:{path}", "--no-page", port=PORT, start=START) as server:
        yield server


def linear(streams: int, counts: tuple[int, ...]) -> Row:
    taken, seconds, pieces = dict[int, float](), 4.0, 10
    with script(seconds, pieces) as path, nodes(counts[-1]) as address:
        for count in counts:
            with on_ray(address, path, count, STREAMS):
                taken[count] = asyncio.run(_all(streams))
    first = taken[counts[0]]
    figures = [
        Figure(
            f"{count} nodes",
            (first / count / each,),
            "×",
            Goal("≥", 0.9) if count == 8 else None,
            f"{each:.1f} s",
        )
        for count, each in taken.items()
    ]
    how = LINEAR_HOW.format(streams=streams, seconds=seconds, pieces=pieces, each=STREAMS)
    return Row(
        f"serve --ray: {streams:,} streams over {counts[-1]} nodes, share of linear", how, tuple(figures)
    )


async def _all(streams: int) -> float:
    start = time.perf_counter()
    found, waiting = Found(), asyncio.Semaphore(200)

    async def ask() -> None:
        async with waiting:
            await _ask(found)

    await asyncio.gather(*(ask() for _ in range(streams)))
    assert found.ended == streams, found
    return time.perf_counter() - start


@dataclass
class Found:
    ended: int = 0
    lost: int = 0
    twice: int = 0
    errors: int = 0
    wrong: set[str] = field(default_factory=set)


async def _ask(found: Found) -> None:
    shown, finish = "", None
    try:
        async with aclosing(events(Address(PORT), chat("Hi.", 2048, "words"))) as stream:
            async for event in stream:
                if "error" in event:
                    found.errors += 1
                    found.wrong.add(str(event["error"])[:200])
                for choice in event.get("choices", ()):
                    shown += choice["delta"].get("content") or ""
                    finish = choice["finish_reason"] or finish
    except (OSError, EOFError, RuntimeError) as error:
        found.errors += 1
        found.wrong.add(str(error)[:200])
    found.ended += finish == "stop"
    found.lost += finish != "stop" or shown != TEXT
    words = shown.split()
    found.twice += len(words) != len(set(words))


def kills(streams: int, length: int, replicas: int) -> Row:
    seconds = 3.0
    with script(seconds, 50) as path, nodes(1, replicas) as address, on_ray(address, path, replicas, streams):
        found, killed = asyncio.run(_killed(streams, length))
    nothing = Goal("≤", 0.0)
    figures = (
        Figure("chains lost", (float(found.lost),), "chains", nothing, f"of {found.ended + found.lost:,}"),
        Figure("texts shown twice", (float(found.twice),), "texts", nothing),
        Figure("errors to clients", (float(found.errors),), "errors", nothing, "; ".join(found.wrong)),
        Figure("replicas killed", (float(killed),), "calls"),
    )
    how = KILLS_HOW.format(streams=streams, words=100, seconds=seconds, replicas=replicas, length=length)
    return Row(f"serve --ray: a replica killed every 2 s under {streams} streams", how, figures)


async def _killed(streams: int, length: int) -> tuple[Found, int]:
    found, over, killed = Found(), time.perf_counter() + length, 0

    async def client() -> None:
        while time.perf_counter() < over:
            await _ask(found)

    clients = asyncio.gather(*(client() for _ in range(streams)))
    draws = random.Random(7)
    while time.perf_counter() < over:
        await asyncio.sleep(2)
        if running := _replicas():
            with suppress(ProcessLookupError):
                os.kill(draws.choice(running), signal.SIGKILL)
                killed += 1
    await clients
    return found, killed


def _replicas() -> list[int]:
    found = []
    for pid in family(os.getpid()):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ServeReplica:redraft-"):
                found.append(pid)
    return found


def first(count: int) -> Row:
    with (
        script(0.0, 4) as path,
        nodes(1) as address,
        on_ray(address, path, 1, STREAMS),
        serving("-m", f"script:{path}", "--no-page", port=PORT + 1, start=START),
    ):
        times = asyncio.run(_pairs(count))
    over = [(ray - plain) * 1000 for plain, ray in times]
    figures = (
        Figure("over plain serve", (statistics.median(over),), "ms", Goal("≤", 25)),
        Figure("plain serve", tuple(plain * 1000 for plain, _ in times), "ms"),
        Figure("serve --ray", tuple(ray * 1000 for _, ray in times), "ms"),
    )
    return Row("serve --ray: first token over plain serve", FIRST_HOW.format(count=count), figures)


async def _pairs(count: int) -> list[tuple[float, float]]:
    body = chat("Hi.", 2048, "words")
    for port in (PORT, PORT + 1):
        await timed(Address(port), body)
    found = []
    for _ in range(count):
        plain = await timed(Address(PORT + 1), body)
        found.append((plain.first, (await timed(Address(PORT), body)).first))
    return found


def prefix(chains: int) -> Row:
    os.environ.update(RAY)  # Ray reads this when it is imported
    import ray

    from redraft.serve.cluster.connect import connected
    from redraft.serve.cluster.replica import PrefixRouter

    async def at_random(
        _router: Any, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        assert pending_request
        return [random.sample(candidate_replicas, 1), candidate_replicas] if candidate_replicas else []

    own, again = PrefixRouter.choose_replicas, dict[str, float]()
    with nodes(1, 2) as address, connected(address):
        for name, choose in (("random", at_random), ("by prefix", own)):
            PrefixRouter.choose_replicas = choose  # type: ignore[method-assign]
            again[name] = asyncio.run(_computed_again(ray, chains, name.replace(" ", "-")))
        PrefixRouter.choose_replicas = own  # type: ignore[method-assign]
    return Row(
        "serve --ray: prompt tokens of native chains computed again",
        PREFIX_HOW.format(chains=chains),
        (
            Figure("by prefix over random", (again["by prefix"] / again["random"],), "×", Goal("≤", 0.3)),
            *(Figure(name, (count / chains,), "tokens", None, "a chain") for name, count in again.items()),
        ),
    )


async def _computed_again(ray: Any, chains: int, name: str) -> float:
    import redraft
    from redraft.serve.cluster.connect import Bounds
    from redraft.serve.cluster.serving import Applications

    machines = Applications(ray, name, Bounds(2, 2))
    sky = " ".join(f"Cloud {number} is grey." for number in range(80))
    more: dict[str, Any] = {
        "mode": "native",
        "max_tokens": 512,
        "temperature": 0,
        "min_revisions": 2,
        "max_revisions": 2,
    }
    try:
        engine = await machines.open("default-base", parallel=1, threads=1)
        again = 0
        for number in range(chains):
            story = f"Story {number}: {sky} Tell me more."
            chain = await redraft.arevise(story, model=engine, id=f"{name}/{number}", **more)
            again += chain.usage.prompt_tokens - chain.usage.cached_tokens - len(await engine.encode(story))
        return float(again)
    finally:
        await machines.aclose()


ROWS = {
    "first": sized(first, (200,), (10,)),
    "prefix": sized(prefix, (12,), (2,)),
    "kills": sized(kills, (200, 60, 4), (20, 6, 2)),
    "linear": sized(linear, (1_000, (1, 2, 4, 8)), (32, (1, 2))),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/cluster_serve.py", __doc__, ROWS))
