from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.serve.reader import ServerLimits
from tests.engines.able import Able
from tests.serve.running import Server, both, plain, served

TEXT = "  that falls. END It is wet.\n"


def complete(server: Server, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/completions", json={"model": "plain", "prompt": "Rain is", **body})


def test_a_text_is_continued_as_it_is() -> None:
    engine = ScriptedEngine([TEXT])
    with served({"plain": plain(engine)}) as server, server.client() as client:
        reply = client.completions.create(model="plain", prompt="Rain is", max_tokens=100)
    (choice,) = reply.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == (TEXT, "stop", None)
    assert engine.calls == ["Rain is"]
    assert reply.object == "text_completion"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (7, len(TEXT))


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_has_the_same_text(usage: bool) -> None:
    with served(both(TEXT)) as server, server.client() as client:
        more: Any = {"stream_options": {"include_usage": True}} if usage else {}
        chunks = list(client.completions.create(model="plain", prompt="Rain is", stream=True, **more))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == TEXT
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [7 + len(TEXT)] * usage


def test_several_prompts_and_answers_are_in_order_and_have_their_own_seeds() -> None:
    engine = Able(["1", "2", "3", "4"])
    with served({"plain": plain(engine)}) as server:
        reply = complete(server, prompt=["a", "b"], n=2, seed=5).json()
    assert engine.calls == ["a", "a", "b", "b"]
    assert [(each["index"], each["text"]) for each in reply["choices"]] == list(enumerate("1234"))
    assert len({sampling.seed for sampling in engine.asked}) == 4


def test_a_stop_string_and_max_tokens_end_a_text() -> None:
    with served(both(TEXT)) as server:
        (stopped,) = complete(server, stop="END").json()["choices"]
        (cut,) = complete(server, max_tokens=4).json()["choices"]
    assert (stopped["text"], stopped["finish_reason"]) == ("  that falls. ", "stop")
    assert (cut["text"], cut["finish_reason"]) == ("  th", "length")


def test_a_text_that_takes_too_long_ends_with_what_there_is() -> None:
    with served(both(ScriptedReply(TEXT, stall=60)), limits=ServerLimits(seconds=0.3)) as server:
        (choice,) = complete(server).json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "length")


def test_a_model_that_cannot_continue_texts_says_so() -> None:
    with served(both("x", continues=False)) as server, server.client() as client:  # noqa: SIM117
        with pytest.raises(openai.BadRequestError, match="does not continue texts"):
            client.completions.create(model="plain", prompt="Rain is")
