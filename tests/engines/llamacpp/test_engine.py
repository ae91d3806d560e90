"""The llama.cpp engine on real models: the default one, and one of a few kilobytes made on the spot.

No test measures time against a fixed figure: this runs on machines that are busy with other things.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from redraft.engines.base import Delta, EngineRole, Message, Sampling
from redraft.engines.llamacpp.engine import LlamaCppEngine, _marks_of
from redraft.engines.load import load_engine
from redraft.engines.wrapped import ROLES
from redraft.errors import ContextError, EngineError, MissingExtra, ModelError, RecordError
from redraft.options import MachineOptions
from redraft.weights.gguf.reader import read_header
from tests.cli.verbs import wait_until
from tests.engines.contract import Contract
from tests.engines.talking import GREEDY, ONE, collect, continued, ends_with_its_parent, run, said, tokens_of
from tests.gguf_files import lora, tiny_model

pytest.importorskip("xllamacpp")

T = TypeVar("T")
COUNT = "One two three four five"
JAPANESE = "Translate to Japanese: Japanese language = 日本語. Japanese people ="
FRANCE: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def engine(default_model: Path) -> Iterator[LlamaCppEngine]:
    """One engine for many event loops: nothing of it is tied to the loop that it was started in."""
    started = run(LlamaCppEngine.start(default_model, machine=MachineOptions(ctx=1024, threads=1)))
    yield started
    run(started.aclose())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppEngine]:
    model = tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    started = run(LlamaCppEngine.start(model, parallel=2, machine=ONE))
    yield started
    run(started.aclose())


def process_of(engine: LlamaCppEngine) -> subprocess.Popen[bytes]:
    return engine._kept.child._process


# Probabilities


async def test_log_probabilities_are_those_of_llama_cpp(engine: LlamaCppEngine) -> None:
    # Words that repeat, so that drafts would be tried: a drafted token has no probability.
    asked = "a b c d a b c d a b c d a b c"
    how = Sampling(temperature=0.0, max_tokens=20, logprobs=True, top_logprobs=3)

    tokens = await engine.encode(asked, special=True)
    await continued(engine, tokens, how)  # from here on the prompt is in the cache
    deltas = await continued(engine, tokens, how)
    body = {"prompt": list(tokens), "n_predict": 20, "temperature": 0.0, "samplers": ["temperature"]}
    plain = {**body, "n_probs": 3, "cache_prompt": True, "speculative.n_max": 0}
    reply = await engine._kept.child.post("/completion", plain)
    expected = [(each["id"], each["logprob"]) for each in reply["completion_probabilities"]]
    found = [pair for each in deltas for pair in zip(each.tokens, each.logprobs, strict=True)]
    assert engine.info.logprobs
    assert found == expected
    assert len(found) == 20
    likeliest = [each for delta in deltas for each in delta.likeliest]
    assert [(len(each), each[0][1]) for each in likeliest] == [(3, number) for _, number in found]  # greedy
    assert all(number < 0 for _, number in found)


class TestContract(Contract):
    kind, control = "llamacpp", frozenset(range(17))


def test_a_model_says_that_it_revises(tmp_path: Path) -> None:
    async def native(model: Path, *adapters: Path) -> tuple[str, bool]:
        engine = await LlamaCppEngine.start(model, adapters, machine=ONE)
        await engine.aclose()
        return engine.info.name, engine.info.native

    said_so = {"redraft.format": "selfee-1"}
    plain = tiny_model(tmp_path / "plain.gguf", {"general.name": "Plain 1B Ep2"})
    assert run(native(plain)) == ("plain", False)
    assert run(native(tiny_model(tmp_path / "native.gguf", said_so))) == ("native", True)
    assert run(native(plain, lora(tmp_path / "a.gguf", size=(32, 32), more=said_so))) == ("plain", True)


def test_special_begins_a_text(tiny: LlamaCppEngine) -> None:
    begun, within = run(tiny.encode("ab", special=True)), run(tiny.encode("ab"))
    assert begun[0] == 1
    assert 1 not in within


# Streams


@pytest.mark.slow
async def test_a_seed_gives_the_same_text_alone_and_among_others(engine: LlamaCppEngine) -> None:
    drawn = Sampling(1.0, seed=7, max_tokens=40)
    alone = said(await continued(engine, COUNT, drawn))
    others = [replace(drawn, seed=seed) for seed in (7, 8, 9, 7)]
    texts = [
        said(each) for each in await asyncio.gather(*(continued(engine, COUNT, each) for each in others))
    ]
    assert [text == alone for text in texts] == [True, False, False, True]


@pytest.mark.parametrize("prompt", [JAPANESE, COUNT, "Emoji: 🎉🎊🎈🎁 Emoji: 🎉🎊"])
@pytest.mark.parametrize("stop", [(), ("日本人の", "3456x", "🎈🎉")])
async def test_tokens_spell_the_text_shown_so_far(
    engine: LlamaCppEngine, prompt: str, stop: tuple[str, ...]
) -> None:
    tokens: list[int] = []
    text = ""
    async for delta in engine.stream(prompt, GREEDY, stop):
        tokens += delta.tokens
        text += delta.text
        if delta.text and not delta.finish:
            assert await engine.decode(tokens) == text


def test_an_emoji_of_several_tokens_comes_whole(engine: LlamaCppEngine) -> None:
    deltas = run(continued(engine, "Emoji: 🎉🎊🎈🎁 Emoji: 🎉🎊"))
    assert "🎁" in said(deltas)
    assert len(run(engine.encode("🎁"))) > 1
    for delta in deltas:
        assert "\ufffd" not in delta.text
        delta.text.encode()


def test_text_held_back_for_a_stop_string_is_shown_at_the_end(engine: LlamaCppEngine) -> None:
    short = Sampling(0.0, max_tokens=5)
    deltas = run(continued(engine, COUNT, short, ("s are and more",)))
    assert said(deltas) == said(run(continued(engine, COUNT, short))) == "-digit numbers are "
    assert (deltas[-1].finish, deltas[-1].stop_text) == ("max_tokens", None)


@pytest.mark.slow
def test_a_text_of_megabytes_is_refused_by_its_beginning(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    tokenize = engine._tokenize

    async def seeing(text: str, **how: Any) -> Any:
        lengths.append(len(text))
        return await tokenize(text, **how)

    monkeypatch.setattr(engine, "_tokenize", seeing)
    words, spaces = "Rain is wet. " * 200_000, " " * 9000
    for ask in (
        lambda text: engine.stream(text, GREEDY),
        lambda text: engine.chat([{"role": "user", "content": text}], GREEDY),
    ):
        with pytest.raises(ContextError, match=r"has about \d+ tokens") as caught:
            run(collect(ask(words)))
        assert 500_000 < caught.value.prompt_tokens < 1_500_000
    assert max(lengths) == 8 * 1024
    assert run(collect(engine.stream(spaces, GREEDY)))  # few tokens, and they fit


def test_the_context_ends_a_text(tiny: LlamaCppEngine) -> None:
    last = run(continued(tiny, (1, *[270] * 249), Sampling(0.0, max_tokens=50)))[-1]
    assert (last.finish, last.completion_tokens) == ("context", 6)


@pytest.mark.slow
async def test_a_chain_finds_what_is_already_computed(default_model: Path) -> None:
    async def extend(chain: list[int]) -> Delta:
        deltas = await continued(engine, tuple(chain), Sampling(0.0, max_tokens=8))
        chain += [*tokens_of(deltas), *await engine.encode("\n\n")]
        return deltas[-1]

    engine = await LlamaCppEngine.start(default_model, parallel=2, machine=MachineOptions(ctx=512, threads=1))
    start = "Below is an instruction that describes a task.\n\n### Instruction:\n"
    chains = [list(await engine.encode(start + task, special=True)) for task in ("Count.", "Sing a song.")]
    for step in range(3):
        for last in await asyncio.gather(*map(extend, chains)):
            assert last.prompt_tokens is not None
            assert last.cached_tokens is not None
            if step:
                assert last.prompt_tokens - last.cached_tokens <= 4
    await engine.aclose()


@pytest.mark.slow
async def test_drafts_do_not_change_the_accounts(engine: LlamaCppEngine) -> None:
    line = "The lighthouse keeper of Åland, Maja, lit the lamp at dusk and wrote two letters 日本.\n"
    deltas = await continued(engine, line * 3, Sampling(0.0, max_tokens=60), ("\n",))
    assert said(deltas) == line.removesuffix("\n")
    assert (deltas[-1].finish, deltas[-1].stop_text) == ("stop", "\n")
    assert deltas[-1].completion_tokens == sum(len(delta.tokens) for delta in deltas)


# Chat


def test_the_careful_way_is_taken_for_whatever_begins_a_control_token(default_model: Path) -> None:
    header = read_header(default_model)
    for kinds, marks in (((1, 3, 4, 6), {"<", "[", "#"}), ((1, 1, 1, 1), {"<"}), ((1,), None)):
        vocabulary = {
            "tokenizer.ggml.tokens": ("a", "[INST]", "###", "<0x0A>"),
            "tokenizer.ggml.token_type": kinds,
        }
        found = _marks_of(replace(header, metadata={**header.metadata, **vocabulary}))
        assert found == (None if marks is None else frozenset(marks))


async def test_a_template_that_refuses_says_why(tmp_path: Path) -> None:
    template = (
        "{% if 'France' in messages[0]['content'] %}{{ raise_exception('not that country') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )

    model = tiny_model(tmp_path / "strict.gguf", {"tokenizer.chat_template": template})
    async with aclosing(await LlamaCppEngine.start(model, machine=ONE)) as engine:
        with pytest.raises(RecordError) as caught:
            await collect(engine.chat(FRANCE, GREEDY))
    assert not engine.info.tools
    assert caught.value.message == "the chat template of strict refuses these messages: not that country."


# Adapters and files that do not fit


async def test_an_adapter_changes_what_is_said(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.gguf")

    async def spoken(*adapters: Path) -> list[int]:
        async with aclosing(await LlamaCppEngine.start(model, adapters, machine=ONE)) as engine:
            return tokens_of(await continued(engine, (1, 261, 262, 263)))

    plain = await spoken()
    assert await spoken(lora(tmp_path / "none.gguf", size=(32, 32), scale=0.0)) == plain
    assert await spoken(lora(tmp_path / "some.gguf", size=(32, 32), scale=1.0)) != plain


async def test_an_adapter_of_a_role_changes_what_that_role_says_alone(tmp_path: Path) -> None:
    model, adapter = tiny_model(tmp_path / "m.gguf"), lora(tmp_path / "a.gguf", size=(32, 32), scale=1.0)
    roles: dict[EngineRole, tuple[Path, ...]] = {"": (), "answer": (), "revise": (adapter,)}
    async with aclosing(await LlamaCppEngine.start(model, (), roles, machine=ONE)) as engine:
        assert engine.info.roles
        said = {
            role: tokens_of(await continued(engine, (1, 261, 262, 263), replace(GREEDY, role=role)))
            for role in ROLES
        }
    assert said[""] == said["answer"] != said["revise"]


def refused(model: Path, *adapters: Path) -> str:
    with pytest.raises(ModelError) as caught:
        run(LlamaCppEngine.start(model, adapters, machine=ONE))
    return caught.value.message


def test_files_that_are_no_models_are_refused_before_anything_starts(tmp_path: Path) -> None:
    missing, page = tmp_path / "none.gguf", tmp_path / "page.gguf"
    page.write_text("<!DOCTYPE html>")
    assert refused(missing) == f"there is no model file {missing}."
    assert refused(page) == f"{page} is not a GGUF file: it begins with b'<!DO', not b'GGUF'."


def test_what_llama_cpp_says_of_a_model_is_passed_on(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.gguf", {"general.architecture": "martian"})
    assert refused(model) == (f"llama.cpp could not load {model}: unknown model architecture: 'martian'.")


def test_without_xllamacpp_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ModuleNotFoundError('xllamacpp')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(MissingExtra) as caught:
        run(LlamaCppEngine.start(tiny_model(tmp_path / "m.gguf")))
    assert caught.value.message == "running llama.cpp needs the extra 'local', which is not installed."


# The process


async def test_closing_twice_leaves_no_process_and_says_so(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.gguf")

    engine = await LlamaCppEngine.start(model, machine=ONE)
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(EngineError) as caught:
        await engine.encode("x")
    assert caught.value.message == f"the engine of {model} was closed."
    assert process_of(engine).returncode is not None


async def test_cancelling_a_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begun = asyncio.Event()
    popen = subprocess.Popen

    def noted(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        begun.set()
        return started[-1]

    monkeypatch.setattr("redraft.engines.process.subprocess.Popen", noted)

    task = asyncio.create_task(LlamaCppEngine.start(tiny_model(tmp_path / "m.gguf"), machine=ONE))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [process.poll() is None for process in started] == [False]


@pytest.mark.parametrize("error", [{"code": 500, "message": "KV cache is full"}, "KV cache is full"])
async def test_an_error_inside_of_a_stream(tiny: LlamaCppEngine, error: object) -> None:
    async def events() -> AsyncGenerator[dict[str, Any], None]:
        yield {"stop": False, "content": "a", "tokens": [5], "tokens_predicted": 1}
        yield {"error": error}

    deltas = tiny._deltas(events(), "max_tokens", Sampling())
    assert (await anext(deltas)).text == "a"
    with pytest.raises(EngineError) as caught:
        await anext(deltas)
    assert caught.value.message == "tiny: llama.cpp broke off the answer: KV cache is full"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_the_process_dies_with_its_parent(tmp_path: Path) -> None:
    ends_with_its_parent(LlamaCppEngine, tiny_model(tmp_path / "m.gguf"))


def test_a_token_that_the_model_does_not_have(tiny: LlamaCppEngine) -> None:
    with pytest.raises(ModelError, match="Prompt contains invalid tokens"):
        run(continued(tiny, (1, 99999)))


async def test_requests_without_the_key_are_refused(tiny: LlamaCppEngine) -> None:
    reader, writer = await asyncio.open_connection(tiny._kept.child._host, tiny._kept.child._port)
    writer.write(b"GET /props HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert b" 401 " in head
    assert process_of(tiny).args == [sys.executable, "-P", "-m", "redraft.engines.llamacpp.child"]


FROZEN = """
import ctypes, pathlib
class CommonParams:
    class model: pass
    class cpuparams: pass
    class cpuparams_batch: pass
def Server(params):
    pathlib.Path({note!r}).write_text("loading")
    ctypes.PyDLL(None).sleep(120)  # holds the interpreter, as the loading of a model does
"""


def test_a_process_that_loads_ends_with_its_parent(tmp_path: Path) -> None:
    note = tmp_path / "note"
    (tmp_path / "xllamacpp.py").write_text(FROZEN.format(note=str(note)))
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "redraft.engines.llamacpp.child"],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )
    assert child.stdin is not None
    try:
        settings = {"model": "m", "adapters": [], "context": 1, "parallel": 1, "threads": None}
        more = {"gpu_layers": None, "speculate": False, "key": ""}
        child.stdin.write(json.dumps(settings | more).encode() + b"\n")
        child.stdin.flush()
        wait_until(lambda: note.exists() or child.poll() is not None)
        child.stdin.close()  # as it is when the parent is killed
        child.wait(30)
    finally:
        child.kill()


def test_without_a_gpu_the_device_cuda_is_an_error(default_model: Path) -> None:
    import xllamacpp

    if any(each["type"].name.endswith("_GPU") for each in xllamacpp.get_device_info()):
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match="it finds no GPU, only CPU"):
        run(load_engine(str(default_model), ctx=64, device="cuda"))


@pytest.mark.parametrize("way", ["stream", "chat"])
def test_a_reply_that_another_engine_began_goes_on_token_for_token(engine: LlamaCppEngine, way: str) -> None:
    asked: Any = COUNT if way == "stream" else FRANCE
    sampling = replace(GREEDY, max_tokens=12)
    whole = run(collect(getattr(engine, way)(asked, sampling)))
    tokens = tuple(tokens_of(whole))
    rest = run(collect(engine.resume(asked, sampling, (), tokens[:5])))
    assert tuple(tokens_of(rest)) == tokens[5:]
    assert said(whole).endswith(said(rest))
    assert (rest[-1].prompt_tokens, rest[-1].finish) == ((whole[-1].prompt_tokens or 0) + 5, whole[-1].finish)
