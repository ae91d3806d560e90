"""The log of engines: each request and reply at debug level, never a key, and nothing unless asked for."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import redraft
from redraft.engines.base import Sampling
from redraft.engines.config import Key
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.remote.server import Server
from redraft.engines.retry import Patience
from redraft.errors import ServerError
from tests.cli import verbs
from tests.engines.fake_server import FakeServer, chat_reply, chat_server, error_reply
from tests.gguf_files import tiny_model

CHAT = "POST /v1/chat/completions"
SECRET = "sk-sesame-open-yourself"  # noqa: S105  (of a fairy tale)
BODY, HEADER = "body-sesame", "header-sesame"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with chat_server(chat_reply("It is", " wet.")) as server:
        yield server


def revise(server: FakeServer, prompt: str = "Describe rain.") -> redraft.Chain:
    async def revised() -> redraft.Chain:
        key = Key(SECRET, "test")
        async with aclosing(RemoteEngine(server.url, "m", key=key, patience=Patience(tries=1))) as engine:
            return await redraft.arevise(
                prompt,
                model=engine,
                max_revisions=0,
                extra_body={"token": BODY},
                extra_headers={"X-Token": HEADER},
            )

    return asyncio.run(revised())


def test_requests_are_lines_without_secrets(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        revise(server)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("redraft.")]
    assert len(ours) == 2
    assert "gets a request to /chat/completions" in ours[0]
    assert "'content': 'Describe rain.'" in ours[0]
    assert "answers: {'text': 'It is wet.'" in ours[1]
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    for secret in (SECRET, BODY, HEADER, "Authorization", "Bearer"):
        assert secret not in caplog.text


def test_secrets_that_are_repeated_are_hidden(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.on(CHAT, chat_reply(f"The key is {SECRET}, and {HEADER}."), error_reply(400, f"{SECRET} {BODY}"))
    with caplog.at_level(logging.DEBUG):
        revise(server, f"What is {SECRET}?")
        with pytest.raises(ServerError) as caught:
            revise(server)
    assert "[key], and [hidden]" in caplog.text
    for secret in (SECRET, BODY, HEADER):
        assert secret not in caplog.text + str(caught.value)


def test_a_line_cannot_write_to_the_terminal(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.on(CHAT, chat_reply("a\x1b[2Jb\nc\u202ed"))
    with caplog.at_level(logging.DEBUG, logger="redraft"):
        revise(server)
    assert caplog.records[-1].getMessage().isprintable()


def test_nothing_is_logged_unless_asked_for(server: FakeServer) -> None:
    code = (
        "import logging, redraft\n"
        f"redraft.revise('Go.', model='{server.url}#m', max_revisions=0)\n"
        "print(logging.getLogger('redraft').handlers, logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] []\n", "")


async def test_a_local_engine_logs_both(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("xllamacpp")
    with caplog.at_level(logging.DEBUG, logger="redraft"):
        async with aclosing(await redraft.load_engine(str(tiny_model(tmp_path / "t.gguf")))) as engine:
            deltas = engine.stream("a b", Sampling(max_tokens=4, seed=1))
            said = "".join([delta.text async for delta in deltas])
    asked, answered = caplog.messages
    assert "'a b'" in asked
    assert "max_tokens=4" in asked
    assert said
    assert answered.endswith(f"answers: {said!r}")


def test_the_flag_writes_it_to_standard_error_and_leaves_no_handler(
    server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('"It rains."')
    said = verbs.redraft(
        "--debug", "ask", "Describe rain.", "--model", f"script:{tmp_path / 'a.jsonl'}"
    ).stderr
    assert re.search("a answers .*Describe rain.*: 'It rains.'", said)
    words = ["ask", "Describe rain.", "--model", f"{server.url}#m", "--max-revisions", "0"]
    loud = verbs.redraft("--debug", *words)
    assert (loud.exit_code, loud.stdout) == (0, "It is wet.\n")
    assert "answers: {'text': 'It is wet.'" in loud.stderr
    assert verbs.redraft(*words).stderr == ""
    assert logging.getLogger("redraft").handlers == []


def test_what_was_sent_long_ago_is_let_go() -> None:
    server = Server("http://127.0.0.1:9/v1", None, Patience())
    for number in range(3000):
        server.hide({"documents": [f"document {number}"]})
    assert server.without_secrets("document 0") == "document 0"
    assert server.without_secrets("document 2999") == "[hidden]"
    server.hide([f"a text of one request, {number}" for number in range(3000)])
    assert server.without_secrets("a text of one request, 0") == "[hidden]"
