"""`redraft answer`, cut in the middle of its chains: no complete step is asked for again."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from redraft.chain import Chain, read_jsonl
from redraft.cli import app
from tests.engines.fake_server import DONE, chat_event, usage_event

PROMPTS, PARALLEL, CALLS = 12, 3, 5
NEEDED = PROMPTS * CALLS
"""An answer, and twice a criticism with its revision."""


class CountingServer:
    """A server that can be killed and restarted on its port. It counts its requests."""

    def __init__(
        self,
        port: int = 0,
        seconds: float = 0.03,
        says: Callable[[list[dict[str, str]]], str] | None = None,
    ) -> None:
        self.seconds, self.says = seconds, says or said
        self.asked: list[list[dict[str, str]]] = []
        self.alive = True
        self._http = self._start(port)
        self.port = self._http.server_address[1]

    def _start(self, port: int) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            counting = self

            def do_GET(self) -> None:
                self.begin("application/json")
                self.wfile.write(json.dumps({"data": [{"id": "gull"}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.counting.asked.append(body["messages"])
                first, *rest = self.counting.says(body["messages"])
                self.begin("text/event-stream")
                self.wfile.write(chat_event(first))
                time.sleep(self.counting.seconds)
                if self.counting.alive:
                    events = [chat_event("".join(rest)), chat_event("", "stop"), usage_event(10, 7), DONE]
                    self.wfile.write(b"".join(events))

            def begin(self, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client was killed
                    super().handle()

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return http

    def kill(self) -> None:
        """Drop the running requests, and accept no more connections."""
        self.alive = False
        self._http.shutdown()
        self._http.server_close()

    def start_again(self) -> None:
        self.alive = True
        self._http = self._start(self.port)

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while len(self.asked) < count:
            assert time.monotonic() < deadline, "the job does not get on"
            time.sleep(0.002)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def said(messages: list[dict[str, str]]) -> str:
    """Return a reply that depends only on the prompt and on the number of the call in its chain."""
    before = sum(message["role"] == "assistant" for message in messages)
    if before % 2:
        return f"Draft {before} is too dull for thing {messages[0]['content']}. Revision is needed."
    return f"Version {before} of a fine gull over the sea for {messages[0]['content']}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(PROMPTS)))
    return tmp_path


def words(server: CountingServer, *more: str) -> list[str]:
    model = f"http://127.0.0.1:{server.port}/v1#gull"
    loop = ["--mode", "prompted", "--context", "chain", "--max-revisions", "2", "-j", str(PARALLEL), *more]
    return ["answer", "prompts.txt", "-o", "out.jsonl", "-m", model, *loop]


def start(server: CountingServer, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "redraft", *words(server, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(server: CountingServer, *more: str) -> None:
    """Run the same command until all is done."""
    for _ in range(5):
        with start(server, *more) as job:
            _, said = job.communicate(timeout=300)
        if job.returncode == 0:
            return
    raise AssertionError(said)


def whole_chains() -> list[Chain]:
    chains = sorted(read_jsonl(Path("out.jsonl")), key=lambda chain: int(chain.id.split("/")[1]))
    assert [chain.id for chain in chains] == [f"prompts/{n}" for n in range(PROMPTS)]
    for chain in chains:
        asked = f"Describe thing {chain.id.split('/')[1]}."
        assert [step.answer for step in chain.steps] == [
            f"Version {n} of a fine gull over the sea for {asked}" for n in (0, 2, 4)
        ]
        assert chain.stop == "max_revisions"
        # A reply that broke off after its first piece was paid for as well.
        assert 7 * CALLS <= chain.usage.completion_tokens <= 7 * CALLS + 2
    return chains


def test_a_client_that_is_stopped_three_times_asks_for_nothing_complete_again() -> None:
    with CountingServer() as server:
        for number, how in enumerate([signal.SIGKILL, signal.SIGINT, signal.SIGKILL], start=1):
            with start(server) as job:
                server.wait_for(14 * number)
                job.send_signal(how)
                job.communicate(timeout=60)
        finish(server)
        whole_chains()
        assert len(server.asked) <= NEEDED + 3 * PARALLEL
        assert not Path("out.jsonl.unfinished.jsonl").exists()


def test_a_server_that_is_killed_once_is_asked_for_nothing_complete_again() -> None:
    with CountingServer() as server:
        with start(server) as job:
            server.wait_for(29)
            server.kill()
            time.sleep(0.2)
            server.start_again()
            job.communicate(timeout=300)
        finish(server)
        whole_chains()
        assert len(server.asked) <= NEEDED + PARALLEL


def test_what_was_paid_before_counts_towards_the_budget() -> None:
    Path("prompts.txt").write_text("Describe thing 0.\n")
    with CountingServer() as server:
        with start(server, "--budget-tokens", "21") as job:
            server.wait_for(2)
            job.kill()
            job.communicate(timeout=60)
        finish(server, "--budget-tokens", "21")
    (chain,) = read_jsonl(Path("out.jsonl"))
    assert (chain.stop, chain.usage.completion_tokens) == ("budget", 21)
    assert len(server.asked) == 4


def cut_after(server: CountingServer, calls: int) -> dict[str, Any]:
    """Kill a run of one prompt during this call, and return the steps it kept."""
    Path("prompts.txt").write_text("Describe thing 0.\n")
    with start(server) as job:
        server.wait_for(calls)
        job.kill()
        job.communicate(timeout=60)
    kept: dict[str, Any] = json.loads(Path("out.jsonl.unfinished.jsonl").read_bytes().splitlines()[-1])
    return kept


def answer(server: CountingServer, *more: str) -> Chain:
    """Finish the same run in this process."""
    result = CliRunner().invoke(app, words(server, *more), prog_name="redraft")
    assert result.exit_code == 0, result.output
    (chain,) = read_jsonl(Path("out.jsonl"))
    return chain


def damaged(kept: dict[str, Any]) -> dict[str, str]:
    other = {**kept["work"], "prompt": {"instruction": "Another."}}
    endless = {**kept["work"], "usage": {"seconds": float("nan")}}
    return {
        "torn": json.dumps(kept)[:-40],
        "noise": "\x00\xff{[\n",
        "nested": "[" * 100_000 + "\n",
        "wrong work": json.dumps({**kept, "work": {"steps": 3}}) + "\n",
        "other prompt": json.dumps({**kept, "work": other}) + "\n",
        "endless": json.dumps({**kept, "work": endless}) + "\n",
    }


def test_a_damaged_file_never_breaks_the_run(folder: Path) -> None:
    path, other = Path("out.jsonl.unfinished.jsonl"), Path("other.txt")
    with CountingServer(seconds=0.05) as server:
        kept = cut_after(server, 4)
        other.write_text("mine\n")
        for damage in [*damaged(kept), "link", "folder"]:
            path.unlink(missing_ok=True)
            Path("out.jsonl").write_text("")
            if damage == "folder":
                path.mkdir()
            elif damage == "link":
                path.symlink_to(other)
            else:
                path.write_text(damaged(kept)[damage])
            asked = len(server.asked)
            assert len(answer(server).steps) == 3
            assert len(server.asked) == asked + CALLS, damage
    assert other.read_text() == "mine\n"
    assert path.is_dir()
    assert not list(Path().glob("*.part"))


def test_work_of_other_settings_or_of_a_deleted_output_is_not_used() -> None:
    with CountingServer(seconds=0.05) as server:
        kept = cut_after(server, 4)
        answer(server, "--temperature", "0")
        assert len(server.asked) == 4 + CALLS
        Path("out.jsonl").unlink()
        Path("out.jsonl.unfinished.jsonl").write_text(json.dumps(kept) + "\n")
        answer(server)
        assert len(server.asked) == 4 + 2 * CALLS
        Path("out.jsonl").write_text("")
        Path("out.jsonl.unfinished.jsonl").write_text(json.dumps(kept) + "\n")
        answer(server)
        assert len(server.asked) <= 4 + 2 * CALLS + 2
