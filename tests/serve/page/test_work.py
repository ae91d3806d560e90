"""Chains of the page: stopped, failed, and left behind by a new conversation."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from redraft.engines.base import Health
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EngineError
from redraft.revision.options import check_options
from redraft.revision.session import Conversation
from redraft.serve.bodies import Limits
from redraft.serve.errors import Refusal
from redraft.serve.gate import Gate
from redraft.serve.keys import ANYONE, Key
from redraft.serve.metrics import Metrics
from redraft.serve.models import Model, Models
from redraft.serve.page.work import Service, Talk, Wanted, Work
from tests.serve.running import SHORT

ONCE = Wanted("rain", 0, 0)


class Watched(ScriptedEngine):
    """A scripted engine that says how it is."""

    health = Health()


def service(*replies: Any, at_once: int = 4, health: Health = Health(), **engine: Any) -> Service:  # noqa: B008
    models, gate = Models(), Gate(at_once, 4)
    model = Watched(list(replies), **engine)
    model.health = health
    options: Any = {"model": model, "max_revisions": 0}
    models.offer([Model("rain", check_options(options))])
    return Service(models, gate, Limits(), Metrics(lambda: gate.inside))


def asked(shared: Service, key: Key = ANYONE) -> Work:
    return Talk().work(shared, key, ONCE, "ask", "Describe rain.")


async def watched(shared: Service, *works: Work) -> None:
    async for _ in shared.watch("tab", works, str):
        pass


def test_an_answer_that_was_stopped_does_not_end_the_next_one() -> None:
    async def main() -> None:
        shared = service(SHORT, delay=0.02)
        first, second = asked(shared), asked(shared)
        watching = shared.watch("tab", [first], str)
        await anext(watching)
        with pytest.raises(Refusal, match="another answer"):
            await watched(shared, second)
        shared.leave("tab")
        following = asyncio.ensure_future(watched(shared, second))
        await asyncio.sleep(0)
        await watching.aclose()
        await following
        assert second.making.chain
        assert second.making.chain.answer == SHORT
        assert not shared.at_work

    asyncio.run(main())


def test_the_log_says_why_a_chain_failed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "redraft.serve")
    shared = service(ScriptedReply("Rain", error=EngineError("the model fell over")))
    with pytest.raises(Refusal, match="fell over"):
        asyncio.run(watched(shared, asked(shared)))
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert "error=engine_error" in line


def test_with_a_key_for_one_request_at_once_two_answers_are_compared_one_after_the_other() -> None:
    shared = service(SHORT, delay=0.01)
    key = Key(parallel=1)
    works = asked(shared, key), asked(shared, key)
    asyncio.run(watched(shared, *works))
    assert [work.making.chain.answer for work in works if work.making.chain] == [SHORT] * 2


def test_an_answer_is_no_turn_of_a_conversation_that_was_begun_after_it() -> None:
    async def main() -> None:
        shared, talk = service(SHORT, delay=0.02), Talk()
        work = talk.work(shared, ANYONE, ONCE, "ask", "Describe rain.")
        async for _ in talk.answer(shared, "tab", work):
            talk.turns = Conversation()
        assert work.making.chain
        assert talk.turns.turns == ()

    asyncio.run(main())


def test_a_question_that_waits_can_be_stopped_from_a_thread() -> None:
    async def main() -> None:
        shared = service(SHORT, at_once=1, delay=0.1)
        works = asked(shared), asked(shared)
        watching = shared.watch("tab", works, str)
        await anext(watching)
        assert [work.waiting for work in works] == [False, True]
        await asyncio.to_thread(shared.leave, "tab")
        async for _ in watching:
            pass
        assert works[0].making.chain
        assert works[1].making.chain is None
        assert shared.gate.inside == 0

    asyncio.run(main(), debug=True)


def lines(shared: Service) -> set[str]:
    """What a visitor reads of what goes on while a question is answered."""

    async def main() -> list[str]:
        talk = Talk()
        work = talk.work(shared, ANYONE, ONCE, "ask", "Describe rain.")
        return [html async for html in talk.answer(shared, "tab", work)]

    return {html.split('<span class="dots"></span>')[1].split(" …")[0] for html in asyncio.run(main())}


def test_a_visitor_reads_that_a_reply_broke_off_and_is_written_again() -> None:
    lost = EngineError("the process died", passing=True)
    lost.ready = True
    found = lines(service(ScriptedReply("Rain is wet", error=lost), SHORT, delay=0.1))
    assert found == {"Writing a draft", "Writing a draft again: a reply broke off", "Finishing"}


def test_a_visitor_reads_that_the_model_fails() -> None:
    stalled = Health(trouble="/secret/path.gguf was killed", stalled=True)
    assert lines(service(SHORT, delay=0.05, health=stalled)) == {"The model failed. Trying again"}
