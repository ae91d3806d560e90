"""deploy/ray/serve.yaml: `redraft serve` behind Ray's own proxy, and a rolling update under load."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import yaml

from redraft.errors import UsageError
from tests.serve.cluster.heads import ENVIRONMENT, START, head

pytest.importorskip("ray.serve")
from redraft.serve.cluster.application import Arguments, application

FILE = yaml.safe_load((Path(__file__).parents[3] / "deploy" / "ray" / "serve.yaml").read_text())
ARGS: dict[str, Any] = FILE["applications"][0]["args"]


def test_the_file_says_what_there_is() -> None:
    from importlib import import_module

    from ray.serve.schema import ServeDeploySchema

    (app,) = ServeDeploySchema.model_validate(FILE).applications
    module, _, name = str(app.import_path).partition(":")
    assert getattr(import_module(module), name) is application
    assert Arguments.read(app.args).replicas == "1-4"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"models": {}}, "api_key_file is missing"),
        ({**ARGS, "replica": "2"}, "there is no option 'replica'"),
        ({**ARGS, "replicas": "4-2"}, "replicas is '4-2'"),
        ({**ARGS, "models": {"one": {"modle": "default"}}}, "one: there is no option 'modle'"),
    ],
)
def test_arguments_that_are_wrong(args: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        application(args)


@pytest.mark.parametrize(
    ("parallel", "more", "fast"),
    [(64, {"steer": False}, True), (1, {"steer": False}, False), (64, {}, False)],
)
def test_many_streams_that_nothing_steers_take_the_fast_engine(parallel: int, more: Any, fast: bool) -> None:
    args = {
        "api_key_file": None,
        "parallel": parallel,
        "models": {"one": {"model": "script:a.jsonl", **more}},
    }
    (_, replicas), _ = of(application(args))
    (model,) = replicas.values()
    (_, how, _), _ = of(model)
    assert how["fast"] is fast


def of(app: Any) -> tuple[Any, Any]:
    """What a deployment is bound to."""
    bound = app._bound_deployment
    return bound.init_args, bound.init_kwargs


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with head(tmp_path_factory.mktemp("ray")) as address:
        yield address


def deploy(address: str, port: int, args: Any) -> None:
    command = [sys.executable, "-m", "tests.serve.cluster.deployed", address, str(port), json.dumps(args)]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_rolling_update_under_load_breaks_no_reply(address: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "words.jsonl"
    text = " ".join(f"word{number}" for number in range(40))
    script.write_text(f"{json.dumps({'settings': {'delay': 0.02}})}\n{json.dumps(text)}\n")
    args = {**ARGS, "models": {"plain": {"model": f"script:{script}", "max-revisions": 0}}, "replicas": "1"}
    deploy(address, port, args)
    over, replies = Event(), []

    def client() -> None:
        body = {"model": "plain", "messages": [{"role": "user", "content": "Hi."}]}
        while not over.is_set():
            reply = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=START)
            assert reply.status_code == 200, reply.text
            replies.append(reply.json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        try:
            deploy(address, port, {**args, "parallel": 8, "max_seconds": 300.0})
        finally:
            over.set()
        for each in clients:
            each.result()
    assert len(replies) >= 4
    assert set(replies) == {text}
