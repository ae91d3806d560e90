"""`redraft serve --ray`: chains that outlive their replicas, and what a cluster cannot do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.verbs import wait_until
from tests.serve.cluster.heads import ENVIRONMENT, START, Serving, head, serving, text_of

pytest.importorskip("ray.serve")

TEXT = " ".join(f"word{number}" for number in range(60))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with head(tmp_path_factory.mktemp("ray")) as address:
        yield address


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "words.jsonl"
    path.write_text(f"{json.dumps({'settings': {'delay': 0.02}})}\n{json.dumps(TEXT)}\n")
    return path


@pytest.fixture(scope="module")
def served(address: str, words: Path) -> Iterator[Serving]:
    with serving(address, "one", "--replicas", "2", "-m", f"script:{words}") as server:
        yield server


def python(*typed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *typed]
    return subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)


def redraft(*typed: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "redraft", *typed)


NAMES = """
import sys
from redraft.serve.cluster.connect import connected
with connected(sys.argv[1]) as ray:
    print(ray.util.list_named_actors(all_namespaces=True))
"""


@pytest.mark.slow
def test_a_stream_goes_on_when_all_replicas_die(served: Serving) -> None:
    shown, last = "", {}
    for last in served.chat("words"):
        assert "error" not in last
        before, shown = shown, shown + text_of(last)
        if len(before) < 40 <= len(shown):
            served.kill_replicas()
    assert shown == TEXT
    usage = last["usage"]
    assert usage["completion_tokens"] == len(TEXT)
    assert usage["prompt_tokens"] >= 2 * len("Hi.") + 40  # it was read again, with the words so far
    assert 'redraft_engine_restarts_total{engine="words"} 1.0' in httpx.get(f"{served.root}/metrics").text


@pytest.mark.slow
@pytest.mark.usefixtures("served")
def test_two_servers_of_one_name(address: str, words: Path) -> None:
    second = redraft("serve", "--ray", address, "--app", "one", "--port", "0", "-m", f"script:{words}")
    assert second.returncode == 3
    assert "redraft: a server named 'one' already runs on this cluster.\n" in second.stderr


@pytest.mark.slow
def test_a_model_that_is_not_on_the_node(address: str, tmp_path: Path) -> None:
    found = redraft("serve", "--ray", address, "--app", "lost", "--port", "0", "-m", f"script:{tmp_path}/no")
    assert found.returncode == 3
    assert "there is no script" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_flags_of_a_cluster_without_one() -> None:
    found = redraft("serve", "--replicas", "2", "--port", "0", "-m", "default")
    assert (found.returncode, "--replicas and --app need --ray" in found.stderr) == (2, True)


@pytest.mark.slow
def test_a_server_that_was_killed_leaves_its_name_to_the_next(address: str, words: Path) -> None:
    critic = Path(shutil.copy(words, words.with_name("critic.jsonl")))
    with serving(address, "again", "-m", f"script:{words}", "--critic", f"script:{critic}") as first:
        before = first.replicas()
        first.process.kill()
        first.process.wait()

        def free() -> bool:
            return "'again'" not in python("-c", NAMES, address).stdout

        wait_until(free, START)
        with serving(address, "again", "-m", f"script:{words}") as second:
            wait_until(lambda: len(second.replicas()) == 1 and second.replicas() != before, START)
            wait_until(lambda: not second.replicas(2), START)
            assert "".join(map(text_of, second.chat("words"))) == TEXT


@pytest.mark.slow
def test_replicas_that_sleep_wake_up(address: str, words: Path) -> None:
    with serving(address, "sleepy", "--replicas", "0-1", "-m", f"script:{words}") as server:
        assert "".join(map(text_of, server.chat("words"))) == TEXT
