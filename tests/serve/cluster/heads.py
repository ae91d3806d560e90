"""A Ray cluster of this machine alone, in processes of its own, and servers on it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cli.verbs import REDRAFT, wait_until

START = 180  # seconds that Ray may take to start on a busy machine
TOKEN = "a-token-of-a-test-that-is-long-enough"  # noqa: S105
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "600000",  # a busy machine
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@contextmanager
def head(folder: Path, cpus: int = 4) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus", str(cpus)]
    where = ["--port", address.partition(":")[2], "--node-ip-address", "127.0.0.1", "--temp-dir", folder]
    quiet = ["--include-dashboard", "false", "--disable-usage-stats"]

    def started() -> subprocess.Popen[bytes]:
        with (folder / "head.log").open("wb") as log:
            return subprocess.Popen(
                [*command, *where, *quiet],
                env={**os.environ, **ENVIRONMENT},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    process = started()

    def is_up() -> bool:
        nonlocal process
        if process.poll() is not None:  # Ray gives its own parts some seconds, too few on a busy machine
            process = started()
        return "To terminate" in (folder / "head.log").read_text()

    try:
        wait_until(is_up, 3 * START)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a polite end takes 30 s
        process.wait()


@dataclass
class Serving:
    root: str
    app: str
    process: subprocess.Popen[str]

    def replicas(self, model: int = 1) -> list[int]:
        name, found = f"ray::ServeReplica:{self.app}-{model}:model".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "cmdline").read_bytes().startswith(name):
                    found.append(int(folder.name))
            except OSError:  # it has just ended
                continue
        return found

    def kill_replicas(self) -> None:
        for pid in self.replicas():
            os.kill(pid, signal.SIGKILL)

    def chat(self, model: str, **more: Any) -> Iterator[dict[str, Any]]:
        body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, **more}
        body.setdefault("messages", [{"role": "user", "content": "Hi."}])
        with httpx.stream("POST", f"{self.root}/v1/chat/completions", json=body, timeout=START) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))


def text_of(event: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


@contextmanager
def serving(address: str, app: str, *words: str) -> Iterator[Serving]:
    command = [*REDRAFT, "serve", "--ray", address, "--app", app, "--port", "0"]
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(
        [*command, "--no-page", *words], env=environment, stdout=-1, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        try:
            said = ""
            while not (found := re.search(r" at http://[^:]+:(\d+)/v1", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            yield Serving(f"http://127.0.0.1:{found[1]}", app, process)
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=START)
            assert not said, said  # Ray's messages would be no lines of JSON
