"""Run the loop with engines and checks.

The loop is a generator without I/O that yields operations and events (`ops`). The driver does all I/O and
sends back the replies. The driver also enforces the time budget and cancellation, even if a call hangs.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from secrets import token_hex
from typing import Any

from redraft.chain import Chain, Prompt, Stop, Usage, selfee, whole
from redraft.checks.base import REASONING, Check, run_checks, schema_of
from redraft.checks.json_reading import NotJson, json_so_far, read_json
from redraft.checks.output import OutputCheck, parse_output
from redraft.engines.base import OF_TOOLS, Delta, Engine
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import EngineError, HookError, RedraftError, crash_of
from redraft.jobs.signals import in_daemon_thread
from redraft.options import RETRIES
from redraft.revision import calls, native, ops, prompted
from redraft.revision.cancel import CancelToken, Limit, OutOfTime
from redraft.revision.state import Plan, State, complete_drafts, complete_steps
from redraft.revision.stop import spent
from redraft.revision.watch import Watch


async def call_hook(function: Callable[[ops.Event], Any], event: ops.Event) -> None:
    """Call a hook in a thread, and wait. A `HookError` at the `Finished` event contains the chain."""

    def call() -> None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        try:
            result = function(event)
        except BaseException as error:  # a hook may call sys.exit()
            hint = "This is a fault of on_event, not of the answer. The steps so far are in error.chain."
            raise HookError(f"the hook {name!r} crashed: {crash_of(error)}", hint=hint) from error
        if inspect.iscoroutine(result):
            result.close()
            hint = "Give on_event a plain function, or use stream(…)."
            raise HookError(f"the hook {name!r} is async.", hint=hint)

    try:
        await in_daemon_thread(call)
    except HookError as error:
        error.chain = event.chain if isinstance(event, ops.Finished) else None
        raise


def loop(plan: Plan, clock: Callable[[], float] = time.monotonic) -> ops.Loop[Chain]:
    """Make one chain. On failure, the error's `chain` contains everything generated so far."""
    state = State(plan, clock)
    try:
        nothing_left = not state.steps and spent(state)
        if nothing_left and plan.options.given:
            state.begin(plan.options.given, "stop", Usage())
        stop: Stop = "budget" if nothing_left else (yield from _run(state))
        state.check_answered(stop)
    except RedraftError as error:
        error.chain = state.chain("error")
        raise
    chain = state.chain(stop)
    yield ops.Finished(chain)
    return chain


def _run(state: State) -> ops.Loop[Stop]:
    if state.plan.mode == "native":
        return (yield from native.run(state))
    alone = state.plan.exercises and state.plan.mode != "best-of"
    if alone and state.own == len(state.steps) and not state.holds:
        stop = yield from native.run(state)
        if stop not in ("accepted", "ended", "max_revisions", "unchanged"):
            return stop
    return (yield from prompted.run(state))


@dataclass
class Driver:
    """Makes chains, one at a time, with engines and checks."""

    writer: Engine
    critic: Engine | None = None  # the critic's engine; None if the writer criticises
    checks: Sequence[Check] = ()
    judge: MeteredEngine | None = None  # the judge's engine, which counts its usage
    cancel: CancelToken = field(default_factory=CancelToken)
    on_event: Callable[[ops.Event], Any] | None = None  # called with every event before it is yielded
    output: OutputCheck | None = None
    _stream: AsyncGenerator[Delta, None] | None = None
    _watch: Watch | None = None
    _asked: ops.Continue | ops.Ask | None = None  # the operation that opened the stream
    _calls: int = 0
    _over: bool = False
    _answer: str = ""
    _chain: str = ""

    async def run(self, plan: Plan) -> AsyncGenerator[ops.Event, None]:
        """Make one chain, and yield events up to `Finished`. An error contains the chain so far.

        If a reply breaks off and the engine accepts the same request again, the chain resumes.
        """
        in_a_row, broken, self._chain = 0, None, plan.options.id or token_hex(8)
        while True:
            try:
                async with aclosing(self._run(plan, broken)) as events:
                    async for event in events:
                        yield event
            except EngineError as error:
                if not error.ready or error.chain is None:
                    raise
                info = replace(plan.info, resumes=self.writer.info.resumes)  # it may have refused to resume
                before, plan = plan, replace(plan, earlier=error.chain, info=info)
                in_a_row = in_a_row + 1 if _texts(plan) == _texts(before) else 1
                if in_a_row > RETRIES:
                    raise
                broken = ops.Interrupted(error.chain, error)
            else:
                return

    async def _run(self, plan: Plan, broken: ops.Interrupted | None) -> AsyncGenerator[ops.Event, None]:
        self._calls = plan.texts  # texts so far, for the seeds
        self._over = False
        steps = loop(plan)
        try:
            step = next(steps)
            # The loop's clock started before, so the loop agrees when the time is over.
            limit_seconds, now = plan.options.budget.seconds, asyncio.get_running_loop().time()
            used = plan.earlier.usage.seconds + plan.waited
            with self.cancel.limit(None if limit_seconds is None else now + limit_seconds - used) as limit:
                if broken is not None:
                    await self._call_hook(steps, broken)
                    yield broken
                while True:
                    if isinstance(step, ops.Event):
                        event = with_value(step, self.checks, self.output)
                        if not (isinstance(event, ops.Text) and event.kind == "answer"):
                            self._answer = ""
                        elif self.output is not None:
                            self._answer += event.text
                            event = replace(event, read=partial(json_so_far, self._answer))
                        await self._call_hook(steps, event)
                        yield event
                        step = steps.send(None)
                    else:
                        step = await self._perform(steps, step, plan, limit)
        except StopIteration:
            return
        finally:
            steps.close()
            await self._close()

    async def _call_hook(self, steps: ops.Loop[Chain], event: ops.Event) -> None:
        if self.on_event is not None:
            try:
                await call_hook(self.on_event, event)
            except HookError as error:
                steps.throw(error)

    async def _perform(
        self, steps: ops.Loop[Chain], op: ops.Op, plan: Plan, limit: Limit
    ) -> ops.Op | ops.Event:
        try:
            if self._over:
                return steps.send(self._given_up(op, {}))
            with limit:
                reply = await self._do(op, plan)
        except OutOfTime as error:
            self._over = True
            reply = self._given_up(op, self._counts() if self._stream else {})
            for held in getattr(error.__cause__, "args", ()) if self._stream else ():
                reply = replace(held, finish="cancelled") if isinstance(held, Delta) else reply
        except RedraftError as error:
            return steps.throw(error)
        return steps.send(reply)

    async def _do(self, op: ops.Op, plan: Plan) -> ops.Reply:
        if isinstance(op, ops.More):
            return await self._more()
        await self._close()
        if isinstance(op, ops.RunChecks):
            try:
                if op.calls:
                    REASONING.set(op.reasoning)
                    results = await calls.judged_by(self.checks, op.calls, plan.prompt)
                else:
                    found = run_checks(self.checks, op.answer, plan.prompt, op.reasoning, wishes=op.wishes)
                    results = await found
                return ops.Checked(results, usage=self._judged())
            except RedraftError as error:
                return ops.Checked(error=error, usage=self._judged())
        if isinstance(op, ops.Encode):
            return await self.writer.encode(op.text, special=op.special)
        self._stream, self._asked = self._open(op, plan), op
        if isinstance(op, ops.Ask) and op.watched:
            self._watch = Watch(self.checks, plan.prompt)
        return await self._more()

    def _open(self, op: ops.Continue | ops.Ask, plan: Plan) -> AsyncGenerator[Delta, None]:
        given, new = plan.sampling, dict[str, Any](chain=self._chain)
        if given.seed is not None:
            new["seed"] = given.seed + self._calls
        # Adapters answer an exercise greedily, so the base model's answer after them gets the first seed.
        self._calls += not (plan.exercises and isinstance(op, ops.Continue))
        if op.max_tokens is not None:
            new |= {"max_tokens": op.max_tokens, "unset": given.unset - {"max_tokens"}}
        if isinstance(op, ops.Continue):
            new |= {"role": op.role, "logprobs": given.logprobs or bool(self.writer.info.certain)}
            # Adapters always check greedily. They also answer greedily, unless a seed is given.
            greedy = op.role == "revise" or (op.role and given.seed is None)
            if plan.exercises or ("temperature" in given.unset and greedy):
                new["temperature"] = 0.0
            return self.writer.stream(op.prompt, replace(given, **new), op.stop)
        new |= {"schema": op.schema, "form": op.form, "tools": op.tools, "begun": op.begun or ""}
        if op.who == "critic" and self.critic is not None:
            # The critic may be on another server, which must not see the headers.
            new |= {"extra_body": None, "extra_headers": None}
            return self.critic.chat(op.messages, replace(given, **new))
        if (extra := given.extra_body) and not op.tools:  # servers refuse these fields without tools
            new["extra_body"] = {name: part for name, part in extra.items() if name not in OF_TOOLS}
        if op.must_call:
            new["extra_body"] = {**(given.extra_body or {}), "tool_choice": "required"}
        if op.role:
            asked = selfee.render_prompt(Prompt(instruction=plan.exercises[0]))
            return self.writer.stream(
                asked, replace(given, **new, role=op.role), (selfee.feedback_heading(1).strip(),)
            )
        return self.writer.chat(op.messages, replace(given, **new), op.stop)

    async def _more(self) -> Delta:
        watch = self._watch
        lost = watch is not None and await watch.lost()
        if (delta := await anext(self._stream, None) if self._stream is not None else None) is None:
            raise EngineError(f"the engine {self.writer.info.name!r} ended a reply without saying why.")
        text = whole(delta.text)
        delta = delta if text == delta.text else replace(delta, text=text)
        if watch is not None:
            watch.add(text)
        if not lost or delta.finish:
            return delta
        await self._close()
        return replace(delta, finish="lost", **self._counts())

    async def _close(self) -> None:
        stream, self._stream, self._watch = self._stream, None, None
        if stream is not None:
            await stream.aclose()

    def _judged(self) -> Usage:
        return self.judge.take() if self.judge else Usage()

    def _counts(self) -> dict[str, Any]:
        match self._asked:
            case ops.Ask(messages=messages, tools=tools):
                body = {"messages": list(messages), "tools": list(tools)}
            case ops.Continue(prompt=prompt):
                body = {"prompt": prompt}
        from redraft.engines.remote.wire import estimated_counts

        return {"prompt_tokens": estimated_counts(body, 0).prompt, "estimated": True}

    def _given_up(self, op: ops.Op, counts: dict[str, Any]) -> ops.Reply:
        if isinstance(op, ops.RunChecks):
            return ops.Checked(given_up=True, usage=self._judged())
        return () if isinstance(op, ops.Encode) else Delta(finish="cancelled", **counts)


def _texts(plan: Plan) -> tuple[int, int]:
    steps = (*complete_drafts(plan.earlier), *complete_steps(plan.earlier))
    return len(steps), sum(step.feedback is not None for step in steps)


def with_value(event: ops.Event, checks: Sequence[Check], output: OutputCheck | None) -> ops.Event:
    """Add the JSON value to the chain of a `Finished` event, if JSON was asked for."""
    if not isinstance(event, ops.Finished):
        return event
    asked, chain = {check.name for check in checks if schema_of(check) is not None}, event.chain
    best = None if chain.best is None else chain.steps[chain.best]
    if not asked or best is None or not best.complete:  # in a cut answer, a number may lack digits
        return event
    if output is not None:
        return ops.Finished(chain.with_value(parse_output(output, best.answer)))
    if not all(result.passed for result in best.checks if result.name in asked):
        return event
    with suppress(NotJson):  # a user's check may have a schema, but pass a text that is not JSON
        return ops.Finished(chain.with_value(read_json(best.answer)[0]))
    return event
