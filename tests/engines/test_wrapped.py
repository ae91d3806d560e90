"""Engines around an engine: what calls cost that break off, and adapters by role."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

import redraft
from redraft.chain import Usage
from redraft.engines.base import EngineRole, Message, Sampling
from redraft.engines.load import load_engine, parse_reference
from redraft.engines.remote.wire import PER_MESSAGE
from redraft.engines.scripted import ScriptedEngine
from redraft.engines.wrapped import MeteredEngine, RoleEngine, references_by_role
from redraft.errors import EngineError, RedraftError
from redraft.revision.api import arevise
from tests.engines.fake_server import (
    FakeServer,
    Reply,
    chat_event,
    chat_reply,
    error_reply,
    event,
    json_reply,
    sse_reply,
    usage_event,
)
from tests.engines.remote.asking import CHAT, engine
from tests.gguf_files import lora, tiny_model

ASKED: list[Message] = [{"role": "user", "content": "x" * 300}]
PROMPT = 100 + PER_MESSAGE

CUT = sse_reply(chat_event("It "), chat_event("is "), cut=True)
BAD = sse_reply(chat_event("It "), b"data: {broken\n\n")
FAILED = sse_reply(event({"error": {"message": "overloaded"}}))
NO_JSON = Reply(200, {"Content-Type": "application/json"}, [b'{"choices": [{"mes'])


async def paid(server: FakeServer, *, leave: bool = False) -> Usage:
    async with aclosing(engine(server)) as remote:
        metered = MeteredEngine(remote)
        stream = metered.chat(ASKED, Sampling())
        if leave:
            await anext(stream)
            await stream.aclose()
        else:
            with pytest.raises(EngineError):
                _ = [delta async for delta in stream]
        return metered.take()


async def test_pieces_are_counted_while_they_come_and_taken_back_at_the_end(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("It ", "is."))
    counts: list[int] = []
    async with aclosing(engine(server)) as remote:
        metered = MeteredEngine(remote, lambda: counts.append(99), counts.append)
        _ = [delta async for delta in metered.chat(ASKED, Sampling())]
    assert [count for count in counts if count] == [1, 1, -2, 99]


@pytest.mark.parametrize("reply", [CUT, BAD, FAILED, NO_JSON, json_reply({"hello": "world"})])
def test_a_call_that_breaks_off_pays_for_its_prompt(server: FakeServer, reply: Reply) -> None:
    server.on(CHAT, reply)
    usage = asyncio.run(paid(server))
    assert (usage.prompt_tokens, usage.estimated) == (PROMPT, True)
    assert usage.completion_tokens == {id(CUT): 2, id(BAD): 1}.get(id(reply), 0)


def test_the_counts_of_a_call_that_breaks_off_are_taken_if_they_came(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("It is"), usage_event(77, 5), cut=True))
    assert asyncio.run(paid(server)) == Usage(prompt_tokens=77, completion_tokens=5)


def test_a_refused_call_costs_nothing(server: FakeServer) -> None:
    server.on(CHAT, error_reply(400, "No."))
    assert asyncio.run(paid(server)) == Usage()


def test_a_call_that_the_caller_leaves_pays_for_its_prompt(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("It "), 30.0))
    usage = asyncio.run(paid(server, leave=True))
    assert (usage.prompt_tokens, usage.estimated) == (PROMPT, True)
    assert usage.completion_tokens


def test_the_chain_of_a_call_that_breaks_off_counts_the_prompt(server: FakeServer) -> None:
    async def run() -> Usage:
        async with aclosing(engine(server)) as remote:
            with pytest.raises(EngineError) as caught:
                await arevise("x" * 300, model=remote, mode="prompted")
            assert caught.value.chain is not None
            return caught.value.chain.usage

    server.on(CHAT, CUT)
    usage = asyncio.run(run())
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (PROMPT, 2, True)


# One base model with adapters by role


CRITICISM = "Wrong. Revision is needed.\n\n### Revision 1:\n42\n\n### Feedback 2:\nRevision is not needed."


@pytest.mark.parametrize(
    ("ref", "refs"),
    [
        ("default+a.gguf", ()),
        ("default+a@b.gguf", ()),
        ("default+a.gguf@answer+b.gguf@revise", ("default", "default+a.gguf", "default+b.gguf")),
        ("default+b.gguf@revise", ("default", "default", "default+b.gguf")),
        ("default+c.gguf+a.gguf@answer", ("default+c.gguf", "default+c.gguf+a.gguf", "default+c.gguf")),
        ("dir+a@answer+b@revise", ("dir", "dir+a", "dir+b")),
    ],
)
def test_adapters_are_told_apart_by_role(ref: str, refs: tuple[str, ...]) -> None:
    assert tuple(references_by_role(ref).values()) == refs


def test_a_reference_names_the_adapters_of_both_roles(tmp_path: Path) -> None:
    model, a, b = (tmp_path / f"{name}.gguf" for name in "mab")
    named = parse_reference(f"{model}+{a}@answer+{b}@revise")
    assert (named.target, named.adapters) == (str(model), ())
    assert named.roles == {"": (), "answer": (a,), "revise": (b,)}


async def test_the_adapter_that_criticises_says_how_certain_it_must_be(tmp_path: Path) -> None:
    model, size = tiny_model(tmp_path / "m.gguf"), (32, 32)
    answers = lora(tmp_path / "a.gguf", size=size, more={"redraft.certain": 0.25})
    critic = lora(tmp_path / "c.gguf", size=size, more={"redraft.certain": 0.5})
    for ref, certain in (
        (f"{model}", 0.0),
        (f"{model}+{critic}", 0.5),
        (f"{model}+{answers}@answer+{critic}@revise", 0.5),
    ):
        async with aclosing(await load_engine(ref, engine="llamacpp", threads=1)) as engine:
            assert engine.info.certain == certain


def test_an_adapter_of_a_role_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RedraftError, match=r"gone\.gguf"):
        redraft.revise("2 + 2?", model=f"default+{tmp_path / 'gone.gguf'}@revise")


async def test_each_role_has_its_engine_and_one_that_is_not_asked_is_not_opened() -> None:
    opened: dict[str, ScriptedEngine] = {}

    async def opens(role: str, reply: str) -> ScriptedEngine:
        opened[role] = ScriptedEngine([reply])
        return opened[role]

    replies: dict[EngineRole, str] = {"": "Hello.", "answer": "41", "revise": CRITICISM}
    engines = {role: partial(opens, role, reply) for role, reply in replies.items()}
    async with aclosing(RoleEngine(engines, await engines[""]())) as engine:
        assert list(opened) == [""]
        chain = await redraft.arevise("What is 40 + 2?", model=engine)
        assert [step.answer for step in chain.steps] == ["41", "42"]
        assert chain.stop == "accepted"
        assert {role: len(each.calls) for role, each in opened.items()} == {"": 0, "answer": 1, "revise": 1}
        chain = await redraft.arevise("Say hello.", model=engine, checks=["words<=3"])
        assert chain.answer == "Hello."  # with checks, the base answers
