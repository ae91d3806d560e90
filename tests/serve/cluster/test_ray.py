"""Shares on Ray: on this machine, and on a cluster whose processes and machines are killed."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.verbs import REDRAFT, counted, counting, lines, script, start, wait_until
from tests.serve.page.browsing import own_port

pytestmark = pytest.mark.slow  # each starts Ray

ROOT = Path(__file__).resolve().parents[3]
OUT = Path("out.jsonl")


def prompts(count: int, **settings: Any) -> list[str]:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(count)))
    model = script("A gull over the grey, grey sea.", **settings)
    return ["answer", "prompts.txt", "-o", str(OUT), "-m", model, "--max-revisions", "0"]


def run(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    line = [*REDRAFT, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env={**os.environ, **env})


def test_one_command_on_this_machine() -> None:
    words = prompts(9)
    done = run(*words, "--ray", "--actors", 1)
    assert done.returncode == 0, done.stderr
    assert "merged     9 records in out.jsonl, in the order of prompts.txt" in done.stdout
    assert "shares     4, on 1 machine" in done.stdout
    assert "answers    9 in out.jsonl, 9 of them from earlier runs" in done.stdout
    assert [each["id"] for each in lines(OUT)] == [f"prompts/{n}" for n in range(9)]
    assert "9 of them from earlier runs" in run(*words).stdout  # it goes on as from what one machine wrote


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        environ = dict(os.environ)
        with closing(importlib.import_module("ray_machines").Machines(2)) as running:
            yield running
        os.environ.clear()
        os.environ.update(environ)


def done_so_far() -> int:
    return sum(part.read_bytes().count(b"\n") for part in Path().glob("out-*-of-?????.jsonl"))


def test_processes_and_a_machine_are_killed(machines: Any) -> None:
    words = [*prompts(300, delay=0.05, chunk=100), "-q", "-j", "4", "--check", counting()]
    with start(*words, "--ray", machines.address) as job:
        for number, until in enumerate((20, 60, 100)):
            wait_until(lambda until=until: job.poll() is not None or done_so_far() >= until, seconds=240)  # type: ignore[misc]
            assert job.poll() is None, job.communicate()
            wait_until(lambda number=number: machines.kill_worker(number))  # type: ignore[misc]
        machines.kill_machine()
        said = job.communicate(timeout=240)
    assert job.returncode == 0, said
    assert [each["id"] for each in lines(OUT)] == [f"prompts/{n}" for n in range(300)]
    calls = counted()
    assert len(calls) == 300
    assert sum(calls.values()) <= 300 + 4 * (3 + 2)  # what four processes had under way


def test_ctrl_c_and_the_same_command(machines: Any) -> None:
    words = [*prompts(200, delay=0.05, chunk=100), "-q", "-j", "4", "--check", counting()]
    with start(*words, "--ray", machines.address) as job:
        wait_until(lambda: job.poll() is not None or done_so_far() >= 40, seconds=240)
        job.send_signal(signal.SIGINT)
        _, said = job.communicate(timeout=120)
    assert job.returncode == 130, said
    assert "run the same command again to resume" in said
    assert 40 <= done_so_far() < 200
    assert not OUT.exists()
    done = run(*words, "--ray", machines.address)
    assert done.returncode == 0, done.stderr
    assert {each["id"] for each in lines(OUT)} == {f"prompts/{n}" for n in range(200)}
    assert sum(counted().values()) <= 200 + 16  # what was under way


def test_two_runs_of_one_share(machines: Any) -> None:
    words = prompts(9)
    assert run(*words, "--shard", "0/3").returncode == 0
    with Path("out-00000-of-00003.jsonl").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = run(*words, "--ray", machines.address)
    assert done.returncode == 2, done.stderr
    assert "share 0/3 on" in done.stderr
    assert "is being written by another redraft" in done.stderr


@pytest.mark.parametrize("verb", ["judge", "eval", "chains"])
def test_the_other_verbs(machines: Any, verb: str) -> None:
    prompts(3)
    Path("tasks.jsonl").write_text(
        "".join(f'{{"prompt": "Say {n}.", "checks": ["words<=50"]}}\n' for n in range(3))
    )
    run("answer", "prompts.txt", "-o", "a.jsonl", "-m", "script:script.jsonl", "--max-revisions", 0)
    judged, taught = script("Good.\n[[7]]", name="judge"), script("A gull.", name="teacher")
    verbs: dict[str, list[Any]] = {
        "judge": ["judge", "a.jsonl", "-m", judged],
        "eval": ["eval", "checks", "tasks.jsonl", "-m", "script:script.jsonl", "--max-revisions", 0],
        "chains": ["generate", "chains", "prompts.txt", "-m", taught, "--max-revisions", 0],
    }
    done = run(*verbs[verb], "-o", OUT, "--ray", machines.address, "--actors", 1)
    assert done.returncode == 0, done.stderr
    assert "merged     3 records in out.jsonl" in done.stdout
    assert len(lines(OUT)) == 3
    assert "3 of them from earlier runs" in done.stdout


def test_a_machine_of_another_redraft(machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, paths = prompts(3), os.environ.get("PYTHONPATH", "")
    other = tmp_path / "other" / "redraft"
    other.mkdir(parents=True)
    real = Path(sys.modules["redraft"].__file__ or "").parent
    (other / "__init__.py").write_text(f'__version__ = "0.0.1"\n__path__.append({str(real)!r})\n')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(other.parent), paths]))
    machines.add()
    done = run(*words, "--ray", machines.address, PYTHONPATH=paths)
    machines.remove(-1)
    assert done.returncode == 3, done.stderr
    assert "redraft is 0.0.1 on the machine" in done.stderr


LISTENING = """
import json, os
from redraft.serve.cluster.connect import connected
import psutil
with connected() as ray:
    ray.get(ray.remote(lambda: 1).remote())
    own = psutil.Process().children(recursive=True)
    print(json.dumps([each.laddr.ip for p in own for each in p.net_connections() if each.status == "LISTEN"]))
"""


def test_what_is_started_here_listens_on_this_machine_alone() -> None:
    done = subprocess.run([sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = set(json.loads(done.stdout))
    assert found
    assert found <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_three_machines_as_the_page_says() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    nine = re.search(r"```text\n(What is rain\?.*?)```", page, re.DOTALL)
    assert nine
    Path("prompts.txt").write_text(nine[1])
    script("Rain is water that falls.", name="replies")
    _, _, section = page.partition("## One command for all shares")
    blocks = re.findall(
        r"test_ray.py runs it -->\n```sh\n(.*?)```",
        section.partition("## What merging guarantees")[0],
        re.DOTALL,
    )
    port = own_port()
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert program
    Path("three.py").write_text(program[1].replace("6379", port))
    commands = "\n".join(["set -e", "trap 'kill $(jobs -p)' EXIT", *blocks])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", commands.replace("6379", port)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert "merged     11 records in out.jsonl, in the order of prompts.txt" in done.stdout
    assert "answers    11 in out.jsonl" in done.stdout
    assert re.search(r"shares +\d+, on [123] machine", done.stdout)
