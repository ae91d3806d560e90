from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from redraft.engines.base import Message, Sampling
from redraft.engines.load import load_engine
from redraft.engines.openvino.engine import OpenVinoEngine
from redraft.errors import MissingExtra, ModelError
from redraft.options import MachineOptions
from tests.engines.contract import Contract
from tests.engines.llamacpp.test_schema import NAMES, OPEN, PATTERN, closes
from tests.engines.talking import GREEDY, ONE, collect, continued, ends_with_its_parent, run, said, tokens_of

pytest.importorskip("openvino_genai")
pytestmark = pytest.mark.model

TALE: list[Message] = [{"role": "user", "content": "Tell me a tale of a fox."}]
HELLO: list[Message] = [{"role": "user", "content": "Say hello."}]
COUNT = "Count: 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,"
DRAWN = Sampling(temperature=1.0, max_tokens=48, seed=7)


@pytest.fixture(scope="module")
def engine(default_model: Path) -> Iterator[OpenVinoEngine]:
    started = run(
        OpenVinoEngine.start(default_model, parallel=8, machine=MachineOptions(ctx=1024, threads=1))
    )
    yield started
    run(started.aclose())


class TestContract(Contract):
    kind, control = "openvino", frozenset(range(17))


async def test_a_chat_ends_by_itself(engine: OpenVinoEngine) -> None:
    deltas = await collect(engine.chat(HELLO, replace(GREEDY, max_tokens=100)))
    last = deltas[-1]
    assert said(deltas)
    assert "<|" not in said(deltas)
    assert (last.finish, last.stop_text) == ("stop", None)
    assert last.completion_tokens == len(tokens_of(deltas))
    assert await engine.decode(tokens_of(deltas)) == said(deltas) + "<|im_end|>"


@pytest.mark.slow
async def test_each_seed_gives_another_text(engine: OpenVinoEngine) -> None:
    texts = await asyncio.gather(
        *(collect(engine.chat(TALE, replace(DRAWN, seed=seed))) for seed in (7, 8, 9, None, None))
    )
    assert len(set(map(said, texts))) == 5


@pytest.mark.slow
async def test_a_text_is_continued_where_another_was_cut(engine: OpenVinoEngine) -> None:
    prompt = await engine.encode(COUNT, special=True)
    whole = tokens_of(await continued(engine, prompt))
    rest = tokens_of(await continued(engine, (*prompt, *whole[:8]), replace(GREEDY, max_tokens=12)))
    assert rest == whole[8:]
    forced = await engine.encode(" 77, 78, 79,")
    assert said(await continued(engine, (*prompt, *whole[:8], *forced))).startswith(" 80, 81,")


@pytest.mark.slow
async def test_log_probabilities_are_before_temperature(engine: OpenVinoEngine) -> None:
    how = Sampling(temperature=0.0, max_tokens=8, logprobs=True)
    greedy = await continued(engine, COUNT, how)
    cold = await continued(engine, COUNT, replace(how, temperature=0.01, seed=1))
    found = [[number for delta in deltas for number in delta.logprobs] for deltas in (greedy, cold)]
    assert tokens_of(greedy) == tokens_of(cold)
    assert found[0] == pytest.approx(found[1], abs=0.2)
    assert len(found[0]) == 8
    assert all(number < 0 for number in found[0])


async def test_the_prompt_is_that_of_llama_cpp(engine: OpenVinoEngine, default_model: Path) -> None:
    pytest.importorskip("xllamacpp")
    from redraft.engines.llamacpp.engine import LlamaCppEngine

    asked: list[Message] = [{"role": "system", "content": "Be brief."}, *TALE]
    async with aclosing(await LlamaCppEngine.start(default_model, machine=ONE)) as other:
        assert await engine._chat_tokens(asked) == await other._chat_tokens(asked)


def test_it_has_to_be_installed(default_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="extra 'cpu'"):
        run(load_engine(str(default_model), engine="openvino"))


@pytest.mark.parametrize(
    "asked",
    [pytest.param("Write a long letter to a friend as JSON.", marks=pytest.mark.slow), "Repeat: na na na na"],
)
async def test_json_of_a_schema_ends_before_its_tokens_do(engine: OpenVinoEngine, asked: str) -> None:
    recipe = {"type": "object", "properties": {"title": {"type": "string"}, "text": {"type": "string"}}}
    recipe["required"] = ["title", "text"]
    how = replace(GREEDY, max_tokens=120, schema=recipe)
    deltas = await collect(engine.chat([{"role": "user", "content": asked}], how))
    assert (list(json.loads(said(deltas))), deltas[-1].finish) == (["title", "text"], "stop")


@pytest.mark.parametrize("name", [each for each in NAMES if each != PATTERN])
async def test_json_that_is_left_open_closes_too(engine: OpenVinoEngine, name: str) -> None:
    """Beside a pattern, OpenVINO keeps to no length."""
    await closes(engine, OPEN[name])


async def test_what_the_library_drops_of_a_schema_is_named(
    engine: OpenVinoEngine, caplog: pytest.LogCaptureFixture
) -> None:
    sevens = {"type": "integer", "multipleOf": 7}
    await collect(engine.chat(HELLO, replace(GREEDY, max_tokens=4, schema=sevens)))
    assert "the schema keywords multipleOf. Only checks of the finished answer apply them." in caplog.text


@pytest.mark.slow
async def test_a_schema_that_does_not_compile_is_named_and_others_go_on(
    default_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await OpenVinoEngine.start(default_model, parallel=4, machine=MachineOptions(ctx=512, threads=1))
    odd = {"type": "string", "pattern": r"^\p{L}+$"}
    async with aclosing(engine.stream(COUNT, replace(GREEDY, max_tokens=60))) as other:
        begun = [await anext(other)]
        for _ in range(2):
            assert (await collect(engine.chat(HELLO, replace(GREEDY, schema=odd))))[-1].finish
        begun += await collect(other)
    assert said(begun).startswith(" 23, 24, 25, 26,")
    assert (begun[-1].completion_tokens, engine.health.restarts) == (60, 1)
    named = [record.getMessage() for record in caplog.records if "answer apply it" in record.getMessage()]
    assert len(named) == 1
    assert "Unicode character class" in named[0]
    await engine.aclose()


@pytest.mark.slow
async def test_a_reply_goes_on_after_the_process_was_killed(default_model: Path) -> None:
    engine = await OpenVinoEngine.start(default_model, parallel=4, machine=MachineOptions(ctx=512, threads=1))
    deltas = []
    async with aclosing(engine.stream(COUNT, replace(GREEDY, max_tokens=20))) as stream:
        async for delta in stream:
            deltas.append(delta)
            if len(deltas) in (2, 5):
                process = engine._kept.child._process
                process.kill()
                process.wait()
    assert said(deltas).startswith(" 23, 24, 25, 26,")
    assert (deltas[-1].completion_tokens, len(tokens_of(deltas))) == (20, 20)
    assert deltas[-1].prompt_tokens == len(await engine.encode(COUNT, special=True))
    assert engine.health.restarts == 2
    await engine.aclose()


@pytest.mark.slow
async def test_a_crash_without_avx2_says_so(default_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await OpenVinoEngine.start(default_model, machine=MachineOptions(ctx=96, threads=1))
    engine._kept.child._process.send_signal(signal.SIGILL)
    usual = str(engine._kept.child._crash())
    monkeypatch.setattr("redraft.jobs.machine.instructions", lambda: {"AVX2": False})
    lacking = str(engine._kept.child._crash())
    await engine.aclose()
    assert "was killed by SIGILL" in usual
    assert "AVX2" not in usual
    assert "The processor lacks AVX2, which this engine needs. Use a server" in lacking


@pytest.mark.slow
def test_the_process_ends_with_its_parent(default_model: Path) -> None:
    ends_with_its_parent(OpenVinoEngine, default_model)


SPY = """
import os, sys

def told(event, args):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto"):
        host = args[0] if event == "socket.getaddrinfo" else args[1]
        with open(os.environ["REACHED"], "a") as file:
            print(event, host, file=file)
        raise OSError("no network")

sys.addaudithook(told)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", ["answer p.txt -o out.jsonl --engine openvino --max-tokens 4", "doctor"])
def test_nobody_is_told_of_its_use(tmp_path: Path, default_model: Path, words: str) -> None:
    """Neither redraft nor the processes that it starts. OpenVINO's telemetry is on by default."""
    (tmp_path / "sitecustomize.py").write_text(SPY)
    (tmp_path / "p.txt").write_text("Describe rain.")
    reached, home = tmp_path / "reached", tmp_path / "home"
    home.mkdir()
    own = {"PYTHONPATH": str(tmp_path), "REACHED": str(reached), "HOME": str(home), "NO_PROXY": "*"}
    surroundings = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD")}
    more = () if words == "doctor" else ("--max-revisions", "0", "--threads", "1", "--model", default_model)
    command = [sys.executable, "-m", "redraft", *words.split(), *more]
    done = subprocess.run(
        command, cwd=tmp_path, env={**surroundings, **own}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not reached.exists(), reached.read_text()
    assert not (home / "intel").exists()


@pytest.mark.slow
def test_less_memory_than_the_streams_could_fill(
    default_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redraft.engines.openvino.engine.free_memory", lambda: 1)

    async def all_of_them() -> list[str]:
        engine = await OpenVinoEngine.start(
            default_model, parallel=8, machine=MachineOptions(ctx=96, threads=1)
        )
        texts = await asyncio.gather(*(continued(engine, COUNT) for _ in range(8)))
        await engine.aclose()
        return [said(text) for text in texts]

    assert all(text.startswith(" 23, 24,") for text in run(all_of_them()))
    monkeypatch.setattr("redraft.engines.local.free_memory", lambda: 1)
    with pytest.raises(ModelError, match=r"needs .* GB of memory"):
        run(OpenVinoEngine.start(default_model))
