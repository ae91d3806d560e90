"""`on_event`: called with every event; one that crashes or hangs leaves a whole chain behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

import redraft
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import HookError, UsageError
from redraft.revision.ops import Event, Finished, Progress, StepDone, Text


def test_the_hook_sees_every_event_in_order() -> None:
    seen: list[Event] = []
    engine = ScriptedEngine(["one two", "one"])
    chain = redraft.revise("Say a word.", model=engine, checks=["words<=1"], on_event=seen.append)
    assert seen[-1] == Finished(chain)
    assert "".join(event.text for event in seen if isinstance(event, Text) and event.index == 1) == "one"
    assert [event.index for event in seen if isinstance(event, StepDone)] == [0, 1]


def crash_at(kind: type) -> Any:
    def broken(event: Event) -> None:
        if isinstance(event, kind):
            raise KeyError("lamp")

    return broken


@pytest.mark.parametrize(
    ("kind", "steps", "stop"),
    [
        (Text, ["one"], "error"),
        (Progress, ["one two"], "error"),
        (StepDone, ["one two"], "error"),
        (Finished, ["one two", "one"], "passed"),
    ],
)
def test_a_hook_that_crashes_ends_the_chain_and_keeps_its_steps(
    kind: type, steps: list[str], stop: str
) -> None:
    engine = ScriptedEngine(["one two", "one"])
    with pytest.raises(HookError) as caught:
        redraft.revise("Say a word.", model=engine, checks=["words<=1"], on_event=crash_at(kind))
    assert "crash_at.<locals>.broken' crashed: test_hook.py:" in caught.value.message
    assert caught.value.message.endswith("in broken: KeyError: 'lamp'")
    assert [step.answer for step in caught.value.chain.steps] == steps
    assert caught.value.chain.stop == stop
    if stop == "error":
        again = ScriptedEngine(["one"] if kind is not Text else ["one two", "one"])
        made = redraft.revise(
            "Say a word.", model=again, checks=["words<=1"], resume=caught.value.chain, on_event=print
        )
        assert [step.answer for step in made.steps] == ["one two", "one"]


def test_a_crash_in_a_native_chain_keeps_what_was_written() -> None:
    engine = ScriptedEngine(
        ["A.\n\n### Feedback 1:\nRevision is needed.\n\n### Revision 1:\nB."], native=True
    )
    with pytest.raises(HookError) as caught:
        redraft.revise("Go.", model=engine, mode="native", on_event=crash_at(StepDone))
    assert caught.value.chain.steps[0].answer == "A."


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt()])
def test_a_hook_cannot_end_the_program(error: BaseException) -> None:
    def leave(_event: Event) -> None:
        raise error

    with pytest.raises(HookError, match=type(error).__name__):
        redraft.revise("Go.", model=ScriptedEngine(["a"]), on_event=leave)


def test_an_async_hook_is_refused_before_anything_is_asked() -> None:
    engine = ScriptedEngine(["a"])

    async def later(_event: Event) -> None: ...

    async def yielding(event: Event) -> Any:
        yield event

    class Later:
        async def __call__(self, _event: Event) -> None: ...

    for wrong in (later, yielding, Later()):
        with pytest.raises(UsageError, match="on_event is ") as caught:
            redraft.revise("Go.", model=engine, on_event=wrong)
        assert caught.value.hint is not None
        assert "not an async one" in caught.value.hint
    assert engine.calls == []


def test_a_plain_hook_that_returns_a_coroutine_is_refused() -> None:
    async def later(_event: Event) -> None: ...

    with pytest.raises(HookError, match="is async"):
        redraft.revise("Go.", model=ScriptedEngine(["a"]), on_event=lambda event: later(event))


def test_a_hook_that_crashes_after_its_task_was_cancelled_is_no_unheard_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, release = asyncio.Event(), threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def crash(_event: Event) -> None:
            loop.call_soon_threadsafe(begun.set)
            release.wait()
            raise KeyError("town")

        chain = asyncio.create_task(redraft.arevise("Go.", model=ScriptedEngine(["a"]), on_event=crash))
        await begun.wait()
        chain.cancel()
        await asyncio.gather(chain, return_exceptions=True)
        release.set()
        await asyncio.sleep(0.1)

    asyncio.run(run())
    gc.collect()
    assert not caplog.records
