"""What a cluster says of servers that end while it is asked. No Ray runs here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from redraft.serve.cluster.status import _line, _reports

MODEL = {"app": "one-1", "deployment": "model", "model": "words", "queue": 0, "restarts": 0, "replicas": []}


def test_an_application_that_ends_has_no_replicas() -> None:
    found = _line("one", SimpleNamespace(deployments={}), MODEL, {}, 1.0)
    assert (found.model, found.replicas, found.streams) == ("words", {}, 0)


def test_a_server_that_has_just_ended_is_left_out() -> None:
    def get_actor(name: str, namespace: str) -> Any:
        raise ValueError(f"no actor {name} in {namespace}")  # as Ray says

    ray = SimpleNamespace(get_actor=get_actor, exceptions=SimpleNamespace(RayError=RuntimeError))
    assert _reports(ray, ["one"]) == {}
