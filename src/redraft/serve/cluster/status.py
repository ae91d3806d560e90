"""What the models of a cluster do: their replicas, streams, speed, and what waits.

Each server says so on a board, an actor that ends with it. `redraft cluster status` reads the boards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

from redraft.engines.base import Watched
from redraft.serve.cluster.connect import ClusterError

NAMESPACE = "redraft"  # of the boards
EVERY = 1.0  # seconds between two reports


class Board:
    """Holds the last report of one server."""

    def __init__(self) -> None:
        self._report: dict[str, Any] = {}

    def put(self, report: dict[str, Any]) -> None:
        """Take a report."""
        self._report = report

    def report(self) -> dict[str, Any]:
        """Return the last report; empty before the first."""
        return self._report


@dataclass
class Reporter:
    """Reports what the engines of one server do. Make one with `start`."""

    _board: Any
    _ray: Any
    _engines: dict[tuple[str, str], Watched] = field(default_factory=dict)
    _telling: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, ray: Any, name: str) -> Self:
        """Begin to report. Raises `ClusterError` if a server of this name runs on the cluster."""
        made = ray.remote(Board).options(name=name, namespace=NAMESPACE, num_cpus=0)
        try:
            board = await asyncio.to_thread(made.remote)
        except ValueError:
            raise ClusterError(
                f"an application named {name!r} runs on this cluster.",
                hint="Give this one another name: --app NAME. See what runs: redraft cluster status",
            ) from None
        reporter = cls(board, ray)
        reporter._telling = asyncio.create_task(reporter._tell())
        return reporter

    def add(self, app: str, deployment: str, engine: Watched) -> None:
        """Report of an engine too."""
        self._engines[app, deployment] = engine

    async def _tell(self) -> None:
        while True:
            models = [
                {"app": app, "deployment": name, "model": engine.info.name, **asdict(engine.health)}
                for (app, name), engine in self._engines.items()
            ]
            self._board.put.remote({"at": time.time(), "models": models})
            await asyncio.sleep(EVERY)

    async def aclose(self) -> None:
        """Report no more."""
        if self._telling:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        with suppress(Exception):  # the cluster may be gone
            self._ray.kill(self._board)


class ReplicaLine(NamedTuple):
    """One replica."""

    name: str
    streams: int
    tokens: float  # a second


class ModelLine(NamedTuple):
    """One model of one server."""

    server: str
    model: str
    replicas: Mapping[str, int]  # how many are in each state of Ray Serve's, such as RUNNING
    queue: int
    restarts: int
    used: tuple[ReplicaLine, ...]

    @property
    def streams(self) -> int:
        """The replies under way."""
        return sum(each.streams for each in self.used)

    @property
    def tokens(self) -> float:
        """Tokens a second."""
        return sum(each.tokens for each in self.used)


def models_of(ray: Any) -> list[ModelLine]:
    """Return the models that servers of redraft have on a cluster. Takes as long as two reports."""
    from ray import serve

    actors = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in actors if actor["namespace"] == NAMESPACE]
    first = _reports(ray, names)
    time.sleep(1.5 * EVERY if names else 0)
    second, running = _reports(ray, names), serve.status().applications
    return [
        _line(server, running.get(model["app"]), model, first.get(server, {}), report["at"])
        for server, report in second.items()
        for model in report["models"]
    ]


def _reports(ray: Any, names: Sequence[str]) -> dict[str, Any]:
    found = {}
    for name in names:
        # Its server may have just ended, or hang.
        with suppress(ValueError, ray.exceptions.RayError):
            board = ray.get_actor(name, namespace=NAMESPACE)
            found[name] = ray.get(board.report.remote(), timeout=60)
    return {name: report for name, report in found.items() if report}


def _line(
    server: str, running: Any, model: Mapping[str, Any], before: Mapping[str, Any], at: float
) -> ModelLine:
    deployed = running and running.deployments.get(model["deployment"])
    states = deployed.replica_states if deployed else {}
    seconds = max(at - before.get("at", at), 1e-9)
    counted = {use["name"]: use["tokens"] for each in before.get("models", ()) for use in each["replicas"]}
    used = tuple(
        ReplicaLine(
            use["name"], use["streams"], (use["tokens"] - counted.get(use["name"], use["tokens"])) / seconds
        )
        for use in model["replicas"]
    )
    named = {str(getattr(state, "value", state)): count for state, count in states.items()}
    return ModelLine(server, model["model"], named, model["queue"], model["restarts"], used)
