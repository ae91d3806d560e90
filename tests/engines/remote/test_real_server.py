from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import redraft
from redraft.engines.base import Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.errors import ContextError
from tests.engines.remote.asking import ASK, collected, text_of

LLAMA_SERVER = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.cpuparams.n_threads = sys.argv[1], 256, 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(600)
"""


@pytest.fixture
def llama_server(default_model: Path) -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA_SERVER, str(default_model)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        yield next(line.strip() for line in process.stdout if line.startswith("http")) + "/v1"
    finally:
        process.kill()
        process.communicate()


async def test_a_real_server(llama_server: str) -> None:
    greedy = Sampling(temperature=0.0, max_tokens=12)

    engine = await RemoteEngine.connect(llama_server)
    assert engine.info.context == 256
    deltas = await collected(engine.stream("One, two, three, four,", greedy, ["six"]))
    assert (text_of(deltas), deltas[-1].finish) == (" five, ", "stop")
    again = await collected(engine.stream("One, two, three, four, five, six,", greedy))
    assert (again[-1].finish, again[-1].completion_tokens) == ("max_tokens", 12)
    assert again[-1].cached_tokens is not None
    assert again[-1].cached_tokens >= 8
    assert text_of(await collected(engine.chat(ASK, greedy)))
    with pytest.raises(ContextError, match="tokens and the context holds 256"):
        await collected(engine.stream("word " * 400, greedy))
    assert (await collected(engine.stream("word " * 200, Sampling(temperature=0.0))))[-1].finish == "context"
    await engine.aclose()


@pytest.mark.slow
@pytest.mark.parametrize(
    "checks",
    [
        ["contains:lighthouse", "contains:storm", "sentences==3", "ends:Good night."],
        ["lacks:sea", "lacks:the", "lacks:I", "words<=20"],
        ["ifeval:change_case:english_lowercase", "starts:dear friend"],
        ["ifeval:startend:quotation", "lacks:,"],
    ],
    ids=str,
)
async def test_a_real_server_keeps_to_a_form(llama_server: str, checks: list[str]) -> None:
    engine = await RemoteEngine.connect(llama_server)
    options = {"model": engine, "checks": checks, "max_tokens": 100, "temperature": 0.0, "max_revisions": 0}
    chain = await redraft.arevise("Write a note to a friend about a walk by the sea.", **options)
    assert all(check.passed for check in chain.steps[0].checks), chain.answer  # it may be cut
    assert chain.steps[0].steered == tuple(checks)
    await engine.aclose()
