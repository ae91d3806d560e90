"""Shares and merging on an S3 server that other people wrote: moto's, over HTTP."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.servers.environments import environment
from tests.engines.servers.processes import ServerProcess

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
PUT = "import fsspec; s3 = fsspec.filesystem('s3'); s3.mkdir('bucket'); s3.put_file('{0}', 'bucket/{0}')"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    python = environment("s3", "s3fs moto[s3] flask flask-cors", borrowing=True) / "python"
    own = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [python, "-m", "moto.server", "-H", "127.0.0.1"]
    with ServerProcess(command, tmp_path / "moto.log", ready="/moto-api/", **own) as server:
        own |= {"AWS_ENDPOINT_URL": server.url.removesuffix("/v1"), "REDRAFT_CACHE": str(tmp_path / "cache")}

        def call(*words: object, cache: str = "cache", **more: str) -> subprocess.CompletedProcess[str]:
            env = {**os.environ, **own, "PYTHONPATH": paths, "REDRAFT_CACHE": str(tmp_path / cache), **more}
            line = [python, *map(str, words)]
            return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)

        yield call


def test_shares_in_a_bucket(run: Run, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(9)))
    (tmp_path / "script.jsonl").write_text('"A gull over the grey sea."\n')
    assert run("-c", PUT.format("prompts.txt")).returncode == 0
    words = ["-m", "redraft", "answer", "s3://bucket/prompts.txt", "-m", "script:script.jsonl"]
    for index in range(2):  # each on a machine of its own
        done = run(*words, "-o", "s3://bucket/out.jsonl", "--shard", f"{index}/2", cache=f"cache-{index}")
        assert done.returncode == 0, done.stderr
    done = run("-m", "redraft", "merge", "s3://bucket/out.jsonl", "s3://bucket/out-*-of-00002.jsonl")
    assert "9 records in s3://bucket/out.jsonl, in the order of s3://bucket/prompts.txt" in done.stdout, done
    done = run(*words, "-o", "s3://bucket/out.jsonl", cache="another")
    assert "9 of them from earlier runs" in done.stdout, done
    done = run(*words, "-o", "s3://nowhere/out.jsonl")
    assert done.returncode == 2
    assert "cannot write s3://nowhere/out.jsonl: The specified bucket does not exist." in done.stderr
