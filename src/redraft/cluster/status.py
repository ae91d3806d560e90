"""What the models of a cluster do: their replicas, streams, speed, and what waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from redraft.cluster.serving import DEPLOYMENT, NAMESPACE

PERIOD = 1.5  # seconds from one report to the next: an ingress reports each second


class ReplicaLine(NamedTuple):
    """One replica."""

    name: str
    streams: int
    tokens: float  # a second


class ModelLine(NamedTuple):
    """One model of one application."""

    app: str
    model: str
    replicas: Mapping[str, int]  # how many are in each state of Ray Serve's, such as RUNNING
    queue: int
    restarts: int
    used: tuple[ReplicaLine, ...]
    trouble: str

    @property
    def streams(self) -> int:
        """The replies under way."""
        return sum(each.streams for each in self.used)

    @property
    def tokens(self) -> float:
        """Tokens a second."""
        return sum(each.tokens for each in self.used)


def models_of(ray: Any) -> list[ModelLine]:
    """Return the models that servers of redraft have on a cluster. Takes the seconds of `PERIOD`."""
    from ray import serve

    boards = {name: ray.get_actor(name, namespace=NAMESPACE) for name in _names(ray)}
    first = _reports(ray, boards)
    time.sleep(PERIOD if boards else 0)
    second, running = _reports(ray, boards), serve.status().applications
    return [
        _line(app, running.get(name), model, first.get(app, {}), report["at"])
        for app, report in second.items()
        for name, model in report["models"].items()
    ]


def _names(ray: Any) -> Iterator[str]:
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE:
            yield actor["name"]


def _reports(ray: Any, boards: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, board in boards.items():
        try:
            found[name] = ray.get(board.report.remote(), timeout=60)
        except ray.exceptions.RayActorError:  # its server has just ended
            continue
    return {name: report for name, report in found.items() if report}


def _line(
    app: str, running: Any, model: Mapping[str, Any], before: Mapping[str, Any], at: float
) -> ModelLine:
    states = running.deployments[DEPLOYMENT].replica_states if running else {}
    seconds = max(at - before.get("at", at), 1e-9)
    counted = {
        use["name"]: use["tokens"] for each in before.get("models", {}).values() for use in each["replicas"]
    }
    used = tuple(
        ReplicaLine(
            use["name"], use["streams"], (use["tokens"] - counted.get(use["name"], use["tokens"])) / seconds
        )
        for use in model["replicas"]
    )
    return ModelLine(
        app,
        model["model"],
        {str(getattr(state, "value", state)): count for state, count in states.items()},
        model["queue"],
        model["restarts"],
        used,
        model["trouble"],
    )
