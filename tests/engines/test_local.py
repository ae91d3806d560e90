"""Engines on this machine: what any of them does with messages, and settings that do not fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redraft.chain.spans import TEMPLATES
from redraft.chain.thoughts import tags_of
from redraft.engines.base import Delta, EngineInfo, Message, Sampling, Tokens
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.local import CACHE_BYTES, LocalEngine, Room, Told, cache_bytes, check_memory
from redraft.engines.scripted import ScriptedEngine
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import ContextError, EngineError, ModelError, UsageError
from redraft.jobs.machine import free_memory
from redraft.options import MachineOptions
from redraft.weights.gguf.reader import read_header
from tests.engines.talking import collect, run, said
from tests.gguf_files import tiny_model

SAID: list[Message] = [{"role": "user", "content": "Hi. <end>"}, {"role": "user", "content": "1."}]


class Echo(LocalEngine):
    closed = False
    stops: Sequence[str] = ()
    template = "{0}"

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        return (1,) * special + tuple(map(ord, text))

    async def _tokenize(self, text: str, *, start: bool = False, control: bool) -> Tokens:
        return await self.encode(text.replace("<end>", "\0") if control else text)

    async def _render(self, messages: Sequence[Message], told: Told = None) -> str:
        return self.template.format(*(message["content"] for message in messages))

    async def _end(self) -> str:
        return "<end>"

    async def _continue(
        self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room
    ) -> AsyncGenerator[Delta, None]:
        self.stops = stop
        try:
            yield Delta(tokens=prompt)
            yield Delta(finish=room.limit, completion_tokens=room.tokens)
        finally:
            self.closed = True


def engine(*, chats: bool = True) -> Echo:
    return Echo(EngineInfo("echo", "echo", chats=chats), 10)


class Writer(Echo):
    async def _continue(
        self, prompt: Tokens, sampling: Sampling, stop: Sequence[str], room: Room
    ) -> AsyncGenerator[Delta, None]:
        for letter in map(chr, prompt[1:]):
            yield Delta(text=letter, tokens=(ord(letter),))
        yield Delta(finish="max_tokens", completion_tokens=len(prompt) - 1)


@pytest.mark.parametrize("text", ["A gentle soul,\n" * 60, "Dear bank,\n" + "**\n\n" * 200])
def test_redrafts_own_model_ends_an_answer_that_goes_round(text: str) -> None:
    writer = Writer(EngineInfo("writer", "writer"), 10_000)
    free, bound = Sampling(max_tokens=2000), Sampling(max_tokens=2000, schema={"type": "string"})
    assert said(run(collect(writer.stream(text, free)))) == text
    writer.trust(0.0, shipped=True)
    assert said(run(collect(writer.stream(text, bound)))) == text
    told = run(collect(writer.stream(text, free)))
    assert text.startswith(said(told))
    assert 300 < len(said(told)) < 450
    assert told[-1].finish == "stop"
    assert told[-1].completion_tokens == len(said(told))


@pytest.mark.parametrize(
    "text", ["", "I must not talk. " * 12, "".join(f"{n} men went to mow. " for n in range(90))]
)
def test_redrafts_own_model_may_repeat_a_little(text: str) -> None:
    writer = Writer(EngineInfo("writer", "writer"), 10_000)
    writer.trust(0.0, shipped=True)
    assert said(run(collect(writer.stream(text, Sampling(max_tokens=2000))))) == text


def test_text_that_fits() -> None:
    assert run(collect(engine().stream("abc", Sampling(max_tokens=6)))) == [
        Delta(tokens=(1, 97, 98, 99)),
        Delta(finish="max_tokens", completion_tokens=6),
    ]


def test_messages_that_nearly_fill_the_context() -> None:
    deltas = run(collect(engine().chat(SAID, Sampling(max_tokens=6))))
    assert deltas[1] == Delta(finish="context", completion_tokens=1)


async def test_a_reader_that_leaves_closes_the_work() -> None:
    asked = engine()
    deltas = asked.chat(SAID, Sampling())
    await anext(deltas)
    await deltas.aclose()
    assert asked.closed


@pytest.mark.parametrize(
    ("prompt", "error"), [((), UsageError), ((7,) * 10, ContextError)], ids=["empty", "full"]
)
def test_a_prompt_that_cannot_be_continued(prompt: Tokens, error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(anext(engine().stream(prompt, Sampling())))  # type: ignore[arg-type]


def test_a_model_without_a_template() -> None:
    with pytest.raises(UsageError, match="echo has no chat template"):
        asyncio.run(anext(engine(chats=False).chat(SAID, Sampling())))  # type: ignore[arg-type]


@pytest.mark.parametrize("scripted", [True, False])
def test_an_engine_without_scores_says_what_has_them(scripted: bool) -> None:
    asked = MeteredEngine(ScriptedEngine(["x"]) if scripted else engine())
    assert not asked.info.scores
    with pytest.raises(EngineError) as caught:
        asyncio.run(asked.score(["Rain falls."]))
    assert "cannot score texts" in caught.value.message
    assert "transformers folder" in str(caught.value.hint)


def test_another_template_is_for_models_without_one_and_ends_answers_by_its_texts_too() -> None:
    asked = engine(chats=False)
    asked._context = 1000
    asked.converse(TEMPLATES["stablevicuna"])
    text = "".join(map(chr, run(collect(asked.chat([SAID[0]], Sampling(), ("END",))))[0].tokens))
    assert text == "### Human: Hi. <end>\n### Assistant:"
    assert list(asked.stops) == ["END", "\n### Human:"]
    assert (asked.info.chats, asked.info.template) == (True, "stablevicuna")


def start(model: Path, ctx: int, parallel: int = 1) -> None:
    async def started() -> None:
        engine = await LlamaCppEngine.start(model, machine=MachineOptions(ctx=ctx), parallel=parallel)
        await engine.aclose()

    asyncio.run(started())


def test_a_context_beyond_the_trained_one(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.gguf")
    with pytest.raises(
        UsageError, match=r"--ctx is 1000000000, but .* was trained for contexts of 256"
    ) as caught:
        start(model, ctx=10**9)
    assert caught.value.hint == "--ctx 256"


def test_a_cache_that_is_larger_than_the_memory(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.gguf", {"llama.context_length": 2**31 - 1})
    header = read_header(model)
    assert cache_bytes(header) > 0
    free = free_memory()
    wanted = 4 * free // cache_bytes(header)
    with pytest.raises(
        ModelError, match=r"needs [\d.e+]+ GB of memory with .*, but [\d.]+ GB are free"
    ) as caught:
        start(model, ctx=min(wanted, 2**31 - 1), parallel=max(1, wanted // 2**31 + 1))
    assert "--ctx " in (caught.value.hint or "")
    with pytest.raises(ModelError) as caught:
        check_memory(model, header, 256, 10**9)
    streams = int((caught.value.hint or "").removeprefix("Use fewer streams: --parallel "))
    assert 0 < streams * 256 * cache_bytes(header) < free


@pytest.mark.parametrize(
    ("metadata", "numbers"),
    [
        ({}, 4 * 2 * (16 + 16)),
        ({"llama.attention.head_count_kv": [2, 0, 1, 0]}, 3 * (16 + 16)),
        ({"llama.attention.sliding_window": 128}, 0),
    ],
)
def test_layers_without_a_cache_are_not_counted(
    tmp_path: Path, metadata: dict[str, Any], numbers: int
) -> None:
    settings = {
        "llama.block_count": 4,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    }
    model = tiny_model(tmp_path / "tiny.gguf", {**settings, **metadata})
    assert cache_bytes(read_header(model)) == numbers * CACHE_BYTES


def test_the_cache_of_the_default_model(default_model: Path) -> None:
    """30 layers, 3 key-value heads of 64 elements, keys and values, two bytes each."""
    assert cache_bytes(read_header(default_model)) == 30 * 3 * 64 * 2 * 2


def test_a_long_prompt_is_never_advised_more_than_was_trained_for(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    model = tiny_model(tmp_path / "tiny.gguf")

    async def hint_for(tokens: int) -> str:
        machine = MachineOptions(ctx=64, threads=1)
        async with aclosing(await LlamaCppEngine.start(model, machine=machine)) as engine:
            with pytest.raises(ContextError) as caught:
                await anext(engine.stream((5,) * tokens, Sampling()))
            return caught.value.hint or ""

    assert asyncio.run(hint_for(100)).endswith("--ctx 256 (in Python: load_engine(…, ctx=256)).")
    assert asyncio.run(hint_for(300)) == (
        "Shorten the prompt: the model was trained for 256 tokens, prompt and answer together. "
        "Then use all of it: --ctx 256 (in Python: load_engine(…, ctx=256))."
    )


class Thinker(Echo):
    template = "{0}<think>\n"
    _tags = tags_of("<think>{{ message.reasoning_content }}</think>")
    said = "hm 42\n</think>\n\nRain."

    async def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    async def _continue(self, prompt: Tokens, *_: Any) -> AsyncGenerator[Delta, None]:
        for letter in self.said.removeprefix((await self.decode(prompt)).partition("<think>\n")[2]):
            yield Delta(letter, (ord(letter),))
        yield Delta(finish="stop")


@pytest.mark.parametrize("said", [0, 3, 8, 20])
def test_a_thought_that_the_template_opens_is_no_answer(said: int) -> None:
    thinker = Thinker(EngineInfo("echo", "echo", chats=True), 100)
    asked: list[Message] = [{"role": "user", "content": "Hi."}]
    begun = tuple(map(ord, thinker.said[:said]))
    replies = thinker.resume(asked, Sampling(), (), begun) if said else thinker.chat(asked, Sampling())
    found = run(collect(replies))
    text, whole = "".join(delta.text for delta in found), Thinker.said
    assert text == ("Rain." if said < len(whole) - 5 else whole[said:])
    assert "".join(delta.thought for delta in found) == "hm 42\n"[said:]


class Rambler(Thinker):
    ends = "</think>"

    def __init__(self, thoughts: str, context: int = 1_000) -> None:
        super().__init__(EngineInfo("echo", "echo", chats=True), context)
        self.thoughts = thoughts
        self.asked: list[tuple[str, Any]] = []

    async def _continue(self, prompt: Tokens, sampling: Sampling, *_: Any) -> AsyncGenerator[Delta, None]:
        self.asked.append((await self.decode(prompt), sampling.schema))
        text = "Rain." if self.ends in self.asked[-1][0] else self.thoughts
        for letter in text:
            yield Delta(letter, (ord(letter),))
        yield Delta(tokens=(0,), finish="stop", prompt_tokens=len(prompt), completion_tokens=len(text) + 1)


ROUND = "Or is it the other way round? "


@pytest.mark.parametrize(
    ("thoughts", "sampling", "thought", "tokens"),
    [
        ("One, two, three, four.", Sampling(max_thoughts=5), "One, ", 5),
        ("One, two, three, four.", Sampling(max_thoughts=0), "O", 1),
        ("It ends in its thought.", Sampling(), "It ends in its thought.", 24),
        (ROUND * 9, Sampling(), (ROUND * 3).strip(), 89),
        ("Really, really, really.", Sampling(), "Really, really, really.", 24),
        ("Hm.</think>Sun.", Sampling(schema={}), "Hm.", 11),
    ],
)
def test_a_thought_that_does_not_end_is_closed_and_answered(
    thoughts: str, sampling: Sampling, thought: str, tokens: int
) -> None:
    rambler = Rambler(thoughts)
    found = run(collect(rambler.chat([{"role": "user", "content": "Hi."}], sampling)))
    assert ("".join(delta.text for delta in found), "".join(delta.thought for delta in found)) == (
        "Rain.",
        thought,
    )
    behind = f"Hi.<think>\n{thought}</think>" + "\n\n" * (sampling.schema is None)
    assert rambler.asked == [("Hi.<think>\n", None), (behind, sampling.schema)]
    assert (
        "".join(chr(each) for delta in found for each in delta.tokens if each)
        == f"{behind}Rain."[len("Hi.<think>\n") :]
    )
    assert (found[-1].prompt_tokens, found[-1].completion_tokens) == (len("Hi.<think>\n"), tokens + 6)


@pytest.mark.parametrize(
    ("most", "context", "finish"), [(5, 1_000, "max_tokens"), (50, 20, "context"), (50, 1_000, "stop")]
)
def test_a_thought_that_leaves_no_room_is_alone(most: int, context: int, finish: str) -> None:
    rambler = Rambler("One, two, three.", context)
    sampling = Sampling(max_thoughts=5, max_tokens=most)
    *_, last = run(collect(rambler.chat([{"role": "user", "content": "Hi."}], sampling)))
    assert (last.finish, bool(last.aside)) == (finish, finish != "stop")


class AtOnce(Rambler):
    async def _continue(self, *asked: Any) -> AsyncGenerator[Delta, None]:
        found = [delta async for delta in super()._continue(*asked)]
        text = "".join(delta.text for delta in found)
        yield replace(found[-1], text=text, tokens=tuple(map(ord, text)))


@pytest.mark.parametrize("thoughts", ["Hm.</think>", "Hm.</think>Sun.", "Hm."])
def test_a_thought_that_comes_with_the_end_is_answered_once(thoughts: str) -> None:
    found = run(collect(AtOnce(thoughts).chat([{"role": "user", "content": "Hi."}], Sampling(schema={}))))
    assert "".join(delta.text for delta in found) == "Rain."
    assert [bool(delta.finish) for delta in found] == [False] * (len(found) - 1) + [True]


FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("said", "how", "thought"),
    [
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant", Sampling(schema={}), "Hm."),
        ("<|channel|>analysis<|message|>Hm, hm, hm.", Sampling(max_thoughts=33), "Hm,"),
        (f"{FINAL}Sun.", Sampling(schema={}), ""),
    ],
)
def test_an_answer_in_a_channel_of_its_own_is_opened_there(said: str, how: Sampling, thought: str) -> None:
    rambler = Rambler(said)
    rambler.template, rambler.ends = "{0}<|start|>assistant", FINAL
    rambler._tags = tags_of(f"<|channel|>analysis<|message|>{{{{ thinking }}}}<|end|>{FINAL}")
    found = run(collect(rambler.chat([{"role": "user", "content": "Hi."}], how)))
    opened = f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant" * bool(thought)
    assert rambler.asked[1:] == [(f"Hi.<|start|>assistant{opened}{FINAL}", how.schema)]
    assert "".join(delta.thought for delta in found) == thought
    assert "".join(delta.text for delta in found) == "Rain."


def test_a_model_that_does_not_think_answers_anew_in_the_form() -> None:
    rambler = Rambler("Sun.")
    rambler.template = "{0}\n"
    found = run(collect(rambler.chat([{"role": "user", "content": "Hi."}], Sampling(schema={}))))
    assert "".join(delta.text for delta in found) == "Sun."
    assert rambler.asked == [("Hi.\n", None), ("Hi.\n", {})]
