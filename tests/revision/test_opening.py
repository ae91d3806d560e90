"""A budget of seconds counts from the start, opening the engines included."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import redraft
from redraft.chain import Chain, Feedback, Prompt, Step, Usage
from redraft.engines.base import Engine
from redraft.engines.scripted import ScriptedEngine
from redraft.revision.api import Role, make
from redraft.revision.cancel import CancelToken
from redraft.revision.ops import Event, Finished
from redraft.revision.options import check_options
from tests.cli import verbs

BUDGET = redraft.Budget(seconds=0.5)


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1#gull"


@pytest.mark.parametrize("role", ["model", "critic", "judge"])
def test_a_budget_of_seconds_ends_the_opening(role: str, silent: str) -> None:
    options: dict[str, Any] = {"model": ScriptedEngine(["Hi."]), "budget": BUDGET, role: silent}
    options |= {"checks": ["judge:Is it good?"]} if role == "judge" else {}
    chains = [redraft.revise("Hi.", **options), asyncio.run(redraft.arevise("Hi.", **options))]
    assert [(chain.stop, chain.steps, chain.answer) for chain in chains] == [("budget", (), "")] * 2


def test_ask_ends_with_its_budget_and_says_why(silent: str) -> None:
    result = verbs.redraft("ask", "Hi.", "--model", silent, "--budget-seconds", "0.5")
    assert result.exit_code == 3
    assert "the time budget ran out before the model was ready." in result.stderr


def test_cancelling_ends_the_opening_too(silent: str) -> None:
    seen: list[Event] = []

    async def run() -> Chain:
        cancel = CancelToken()
        asyncio.get_running_loop().call_later(0.2, cancel.cancel)
        return await redraft.arevise("Hi.", model=silent, cancel=cancel, on_event=seen.append)

    chain = asyncio.run(run())
    assert (chain.stop, seen) == ("cancelled", [Finished(chain)])


def test_the_time_of_the_opening_is_part_of_the_budget() -> None:
    engine = ScriptedEngine(["One.", "No idea."], delay=0.4)

    async def load(_role: Role, _reference: str) -> Engine:
        await asyncio.sleep(0.6)
        return engine

    async def run() -> Chain:
        budget = redraft.Budget(seconds=0.9)
        events = make("Hi.", check_options({"model": "x.gguf", "budget": budget, "mode": "prompted"}), load)
        (chain,) = [event.chain async for event in events if isinstance(event, Finished)]
        return chain

    chain = asyncio.run(run())
    assert chain.stop == "budget"
    assert len(engine.calls) <= 1  # a busy machine may not come to it


def test_the_steps_of_an_earlier_attempt_stay(silent: str) -> None:
    step = Step(answer="One.", feedback=Feedback(text="Revision is needed.", verdict="revise"))
    before = Chain(prompt=Prompt(instruction="Hi."), steps=(step,), usage=Usage(completion_tokens=3))
    chain = redraft.revise("Hi.", model=silent, budget=BUDGET, resume=before)
    assert (chain.answer, chain.stop, chain.usage.completion_tokens) == ("One.", "budget", 3)


def test_the_object_of_an_earlier_answer_is_there_too(silent: str) -> None:
    class Weather(BaseModel):
        rain: bool

    step = Step(answer='{"rain": true}', feedback=Feedback(text="Revision is needed.", verdict="revise"))
    before = Chain(prompt=Prompt(instruction="Hi."), steps=(step,))
    chain = redraft.revise("Hi.", model=silent, budget=BUDGET, resume=before, output=Weather)
    assert (chain.stop, chain.value) == ("budget", Weather(rain=True))


def test_a_timeout_inside_a_loader_is_not_the_end_of_the_budget() -> None:
    async def load(_role: Role, _reference: str) -> Engine:
        raise TimeoutError("no reply for 30 s")

    with pytest.raises(TimeoutError, match="no reply for 30 s"):
        asyncio.run(anext(make("Hi.", check_options({"model": "x.gguf"}), load)))


def test_a_given_text_is_kept_if_no_model_was_opened() -> None:
    cancel = redraft.CancelToken()
    cancel.cancel()
    chain = redraft.revise("?", model="script:none", given="Owls eat.", checks=["lacks:mouse"], cancel=cancel)
    assert (chain.answer, chain.stop, len(chain.steps)) == ("Owls eat.", "cancelled", 1)
