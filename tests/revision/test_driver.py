"""The loop over a real event loop, engine and checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest

import redraft
from redraft.chain import Chain, Prompt
from redraft.checks.base import Outcome, failed, passed
from redraft.checks.function import FunctionCheck
from redraft.engines.base import Delta, Message, Replies, Sampling
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.engines.steering.form import Form
from redraft.engines.steering.writer import Source, written
from redraft.errors import CheckError, ServerError
from redraft.options import RETRIES
from redraft.revision.cancel import CancelToken, OutOfTime
from redraft.revision.driver import Driver
from redraft.revision.ops import Event, Finished, Interrupted, Text
from redraft.revision.options import Budget
from redraft.revision.state import Plan
from tests.engines.able import Able
from tests.revision.play import plan as plan_of


@dataclass(frozen=True)
class Has:
    word: str
    name: str = "has"

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("It is there.") if self.word in answer else failed(f"It lacks {self.word}.")


@dataclass
class Watched(Able):
    closed: int = 0

    async def _reply(self, *asked: Any) -> AsyncGenerator[Delta, None]:  # type: ignore[override]
        async with aclosing(super()._reply(*asked)) as deltas:
            try:
                async for delta in deltas:
                    yield delta
            finally:
                self.closed += 1


def plan(engine: ScriptedEngine, **changes: object) -> Plan:
    return plan_of(prompt=Prompt(instruction="Go."), info=engine.info, **changes)


async def finish(driver: Driver, a_plan: Plan) -> Chain:
    async for event in driver.run(a_plan):
        if isinstance(event, Finished):
            return event.chain
    raise AssertionError


def test_seeds_differ_from_call_to_call_and_repeat_from_run_to_run() -> None:
    def seeds() -> list[int | None]:
        engine = Watched(["one", "two", "three"])
        driver = Driver(engine, checks=[Has("never")])
        asyncio.run(finish(driver, plan(engine, mode="verified", checks=("has",), max_revisions=2, seed=7)))
        return [sampling.seed for sampling in engine.asked]

    assert seeds() == seeds() == [7, 8, 9]


@pytest.mark.parametrize(
    ("given", "temperatures"),
    [({}, (0.0, 0.0)), ({"seed": 1}, (0.7, 0.0)), ({"temperature": 0.7}, (0.7, 0.7))],
)
def test_adapters_with_roles_are_greedy_unless_told(
    given: dict[str, Any], temperatures: tuple[float, float]
) -> None:
    engine = Watched(["One.", "I cannot judge this.", "Two."])
    info = replace(engine.info, native=True, roles=True)
    asyncio.run(finish(Driver(engine), replace(plan(engine, mode="native", **given), info=info)))
    found = [(sampling.role, sampling.temperature) for sampling in engine.asked]
    assert found == [("answer", temperatures[0]), ("revise", temperatures[1]), ("", 0.7)]


def test_a_critic_gets_no_headers_and_no_body_of_the_writer() -> None:
    writer, critic = Watched(["One."]), Watched(["No feedback needed. Revision is not needed."])
    given: dict[str, Any] = {"extra_headers": {"X-Key": "secret"}, "extra_body": {"top_k": 5}}
    a_plan = plan(writer, mode="prompted", critic=critic.info, **given)
    asyncio.run(finish(Driver(writer, critic=critic), a_plan))
    ((asked,), (reviewed,)) = writer.asked, critic.asked
    assert (asked.extra_headers, asked.extra_body) == tuple(given.values())
    assert (reviewed.extra_headers, reviewed.extra_body) == (None, None)


def test_a_budget_of_seconds_ends_a_stalled_stream() -> None:
    engine = Watched([ScriptedReply("Half an", stall=60)], chunk=99)
    chain = asyncio.run(finish(Driver(engine), plan(engine, budget=Budget(seconds=0.2))))
    assert (chain.stop, chain.answer, chain.steps[0].finish) == ("budget", "Half an", "cancelled")
    assert engine.closed == 1


def test_a_budget_of_seconds_keeps_and_counts_what_steering_held_back() -> None:
    async def half(text: str, sampling: Sampling) -> Replies:
        yield Delta("Half an")
        await asyncio.sleep(60)

    class Steered(Watched):
        def chat(self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()) -> Replies:
            return written(Form(has=("owl",)), sampling, "max_tokens", Source(half, None, 7))

    engine = Steered(["None."])
    chain = asyncio.run(finish(Driver(engine), plan(engine, budget=Budget(seconds=0.2))))
    assert (chain.stop, chain.answer, chain.steps[0].finish) == ("budget", "Half an", "cancelled")
    assert (chain.usage.prompt_tokens, chain.usage.completion_tokens) == (7, 1)


def test_cancelling_keeps_what_there_is() -> None:
    engine = Watched(["One.", ScriptedReply("Half a cri", stall=60)], chunk=99)
    cancel = CancelToken()

    def read(event: Event) -> None:
        if isinstance(event, Text) and event.text == "Half a cri":
            cancel.cancel()

    chain = asyncio.run(finish(Driver(engine, cancel=cancel, on_event=read), plan(engine)))
    assert (chain.stop, chain.answer, chain.steps[0].criticism) == ("cancelled", "One.", "Half a cri")
    assert engine.closed == 2


def test_leaving_early_closes_the_stream() -> None:
    engine = Watched(["A long answer that nobody waits for."])

    async def run() -> None:
        events = Driver(engine).run(plan(engine))
        await anext(events)
        await events.aclose()

    asyncio.run(run())
    assert engine.closed == 1


class Odd(BaseException):
    """What only a program that ends itself should raise."""


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, Odd])
def test_nothing_that_a_check_raises_ends_the_program(kind: type[BaseException], is_async: bool) -> None:
    def broken(_answer: str) -> bool:
        raise kind

    async def broken_later(_answer: str) -> bool:
        await asyncio.sleep(0)
        raise kind

    check = broken_later if is_async else broken
    with pytest.raises(CheckError, match=rf"crashed: .*{kind.__name__}") as caught:
        redraft.revise("Go.", model=ScriptedEngine(["one"]), checks=[check])
    assert caught.value.chain
    assert caught.value.chain.answer == "one"


def test_a_cancelled_chain_is_no_crash_of_its_check() -> None:
    async def hangs(_answer: str) -> bool:
        await asyncio.Event().wait()
        return True

    async def run() -> None:
        chain = redraft.arevise("Go.", model=ScriptedEngine(["one"]), checks=[hangs])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(chain, 0.2)

    asyncio.run(run())


def test_a_score_that_is_none_is_an_error_of_the_check() -> None:
    @dataclass(frozen=True)
    class Odd:
        name: str = "odd"

        def check(self, answer: str, prompt: Prompt) -> Outcome:
            return Outcome(passed=False, score=float("nan"), message="")

    engine = ScriptedEngine(["one"])
    with pytest.raises(CheckError, match="the check 'odd' returned the score nan"):
        asyncio.run(finish(Driver(engine, checks=[Odd()]), plan(engine, mode="verified", checks=("odd",))))


def test_one_token_cancels_all_its_chains_at_once() -> None:
    engine = ScriptedEngine([ScriptedReply("Half", stall=60)])
    cancel = CancelToken()

    async def run() -> list[Chain]:
        asyncio.get_running_loop().call_later(0.1, cancel.cancel)
        drivers = [Driver(engine, cancel=cancel) for _ in range(3)]
        return await asyncio.gather(*(finish(driver, plan(engine)) for driver in drivers))

    assert [chain.stop for chain in asyncio.run(run())] == ["cancelled"] * 3


@pytest.mark.parametrize(("seconds", "stop"), [(0.2, "budget"), (None, "cancelled")])
def test_time_that_ends_in_the_last_check_is_said(seconds: float | None, stop: str) -> None:
    async def slow(_answer: str) -> None:
        await asyncio.sleep(60)

    engine, cancel = ScriptedEngine(["one"]), CancelToken()
    driver = Driver(engine, checks=[FunctionCheck.around(slow)], cancel=cancel)

    async def run() -> Chain:
        if seconds is None:
            asyncio.get_running_loop().call_later(0.1, cancel.cancel)
        budget = Budget(seconds=seconds)
        return await finish(
            driver, plan(engine, mode="verified", checks=("slow",), max_revisions=0, budget=budget)
        )

    chain = asyncio.run(run())
    assert (chain.stop, chain.passed, chain.answer) == (stop, None, "one")


def test_time_that_ends_while_the_prompt_is_encoded_is_no_error() -> None:
    class Slow(ScriptedEngine):
        async def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
            await asyncio.sleep(60)
            return ()

    engine = Slow([ScriptedReply(error=ServerError("the prompt is empty"))], native=True)
    chain = asyncio.run(finish(Driver(engine), plan(engine, mode="native", budget=Budget(seconds=0.1))))
    assert (chain.stop, chain.answer) == ("budget", "")


@pytest.mark.parametrize("budget", [Budget(), Budget(seconds=600)])
def test_a_timeout_inside_an_engine_is_not_the_end_of_the_budget(budget: Budget) -> None:
    class Impatient(ScriptedEngine):
        async def chat(
            self, messages: Sequence[Message], sampling: Sampling, stop: Sequence[str] = ()
        ) -> AsyncGenerator[Delta, None]:
            yield Delta("Half an")
            raise TimeoutError("no reply for 30 s")

    engine = Impatient(["An answer."])
    with pytest.raises(TimeoutError, match="no reply for 30 s"):
        asyncio.run(finish(Driver(engine), plan(engine, budget=budget)))


# Replies that break off while the engine stands ready


def broken(text: str) -> ScriptedReply:
    error = ServerError("it went down", passing=True)
    error.ready = True
    return ScriptedReply(text, error=error)


def watched(engine: ScriptedEngine, **options: Any) -> tuple[list[Event], Chain]:
    async def check() -> list[Event]:
        return [event async for event in redraft.stream("Write.", model=engine, **options)]

    events = asyncio.run(check())
    assert isinstance(events[-1], Finished)
    return events, events[-1].chain


def test_a_chain_goes_on_from_its_last_complete_step() -> None:
    criticism = "Too short. Revision is needed."
    replies = [broken("One wo"), "One word.", criticism, broken("Two"), broken("Tw"), "Two of them."]
    engine = ScriptedEngine(replies)
    events, chain = watched(engine, max_revisions=1, min_revisions=1)
    assert [step.answer for step in chain.steps] == ["One word.", "Two of them."]
    assert chain.steps[0].criticism == criticism
    cut = [event for event in events if isinstance(event, Interrupted)]
    assert [event.chain.steps[-1].answer for event in cut] == ["One wo", "Two", "Tw"]
    assert cut[0].error.message == "it went down"
    assert len(engine.calls) == len(replies)
    spent = sum(len(each if isinstance(each, str) else each.text) for each in replies)
    assert chain.usage.completion_tokens == spent


def test_a_native_chain_goes_on_too() -> None:
    feedback = "### Feedback 1:\nToo short. Revision is needed.\n\n### Revision 1:\n"
    replies = [f"One word.\n\n{feedback}", "Two of them."]
    whole = watched(ScriptedEngine(["".join(replies)], native=True), mode="native", max_revisions=1)[1]
    events, chain = watched(
        ScriptedEngine([broken(f"{replies[0]}Two o"), replies[1]], native=True),
        mode="native",
        max_revisions=1,
    )
    assert [step.answer for step in chain.steps] == [step.answer for step in whole.steps]
    assert len(chain.steps) == 2
    assert sum(isinstance(event, Interrupted) for event in events) == 1


def test_the_same_text_is_not_begun_for_ever() -> None:
    engine = ScriptedEngine(["One word.", *[broken("Two")] * 20])
    with pytest.raises(ServerError, match="it went down") as caught:
        watched(engine, mode="prompted")
    assert [step.answer for step in caught.value.chain.steps] == ["One word."]
    assert len(engine.calls) == 1 + 1 + RETRIES


def test_an_engine_that_is_not_ready_ends_the_chain() -> None:
    engine = ScriptedEngine(
        [ScriptedReply("One", error=ServerError("it went down", passing=True)), "One word."]
    )
    with pytest.raises(ServerError, match="it went down"):
        watched(engine, max_revisions=0)


def test_the_budget_counts_what_broke_off() -> None:
    _, chain = watched(ScriptedEngine([broken("x" * 30)]), max_revisions=0, budget=Budget(tokens=50))
    assert (chain.stop, chain.usage.completion_tokens) == ("budget", 50)


@pytest.mark.parametrize(("mode", "length"), [("prompted", None), ("native", 2048)])
def test_the_record_has_no_number_that_was_left_to_the_server(mode: Any, length: int | None) -> None:
    info = replace(ScriptedEngine(["one"]).info, own_sampling=True)
    recorded = Plan(prompt=Prompt(), info=info, mode=mode).recorded_sampling
    assert recorded == {"temperature": None, "top_p": None, "max_tokens": length, "seed": None}


# What ends the parts of a chain: a deadline, and a cancel from outside.


def test_a_token_that_was_cancelled_before_lets_no_body_begin() -> None:
    async def main() -> None:
        token, begun = CancelToken(), []
        token.cancel()
        with pytest.raises(OutOfTime):
            async with token.until(None):
                begun.append(True)
        assert not begun

    asyncio.run(main())


def test_a_body_that_ended_is_not_cancelled_later() -> None:
    async def main() -> None:
        token = CancelToken()
        with token.limit(None) as limit:
            with limit:
                pass
            token.cancel()
            await asyncio.sleep(0.01)  # not in a body

    asyncio.run(main())


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def main() -> None:
        token = CancelToken()

        async def work() -> None:
            async with token.until(None):
                await asyncio.sleep(60)

        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        token.cancel()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
