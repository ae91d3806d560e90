from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from redraft.engines.base import Delta, EngineInfo, Message, Sampling, Tokens
from redraft.engines.local import LocalEngine, Room, Told
from redraft.engines.scripted import ScriptedEngine
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import ContextError, EngineError, UsageError
from redraft.formats.render.conversations import TEMPLATES

SAID: list[Message] = [{"role": "user", "content": "Hi. <end>"}, {"role": "user", "content": "1."}]


class Echo(LocalEngine):
    """Says how much room it was left, and why it would end."""

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
        self,
        prompt: Tokens,
        sampling: Sampling,
        stop: Sequence[str],
        room: Room,
    ) -> AsyncGenerator[Delta, None]:
        self.stops = stop
        try:
            yield Delta(tokens=prompt)
            yield Delta(finish=room.limit, completion_tokens=room.tokens)
        finally:
            self.closed = True


def engine(*, chats: bool = True) -> Echo:
    return Echo(EngineInfo("echo", "echo", chats=chats), 10)


def test_text_that_fits() -> None:
    async def ask() -> list[Delta]:
        return [delta async for delta in engine().stream("abc", Sampling(max_tokens=6))]

    assert asyncio.run(ask()) == [
        Delta(tokens=(1, 97, 98, 99)),
        Delta(finish="max_tokens", completion_tokens=6),
    ]


def test_messages_that_nearly_fill_the_context() -> None:
    async def ask() -> list[Delta]:
        return [delta async for delta in engine().chat(SAID, Sampling(max_tokens=6))]

    assert asyncio.run(ask())[1] == Delta(finish="context", completion_tokens=1)


def test_a_reader_that_leaves_closes_the_work() -> None:
    async def leave(asked: Echo) -> None:
        deltas = asked.chat(SAID, Sampling())
        await anext(deltas)
        await deltas.aclose()

    asked = engine()
    asyncio.run(leave(asked))
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


def test_only_the_template_writes_control_tokens() -> None:
    async def ask() -> Delta:
        echo = engine()
        echo._context, echo.template = 50, "<s>{1}<end>{0}<end>{0}"
        return await anext(echo.chat(SAID, Sampling()))

    said = (*map(ord, "Hi. <end>"),)
    assert asyncio.run(ask()).tokens == (*map(ord, "<s>1."), 0, *said, 0, *said)


@pytest.mark.parametrize("scripted", [True, False])
def test_an_engine_without_scores_says_what_has_them(scripted: bool) -> None:
    asked = MeteredEngine(ScriptedEngine(["x"]) if scripted else engine())
    assert not asked.info.scores
    with pytest.raises(EngineError) as caught:
        asyncio.run(asked.score(["Rain falls."]))
    assert "cannot score texts" in caught.value.message
    assert "folder of transformers" in str(caught.value.hint)


def test_another_template_is_for_models_without_one_and_ends_answers_by_its_texts_too() -> None:
    asked = engine(chats=False)
    asked._context = 1000
    asked.converse(TEMPLATES["stablevicuna"])

    async def ask() -> list[Delta]:
        return [delta async for delta in asked.chat([SAID[0]], Sampling(), ("END",))]

    text = "".join(map(chr, asyncio.run(ask())[0].tokens))
    assert text == "### Human: Hi. <end>\n### Assistant:"
    assert list(asked.stops) == ["END", "\n### Human:"]
    assert (asked.info.chats, asked.info.template) == (True, "stablevicuna")
