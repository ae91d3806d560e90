"""Make the tasks of one request, by Alpaca's or Self-Instruct's method.

Each reply of the teacher is stored before use, so no reply is paid for twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any

from redraft.chain.thoughts import apart
from redraft.checks.base import together
from redraft.data.generate.instructions import rules, wording
from redraft.data.generate.instructions.pool import LAG, Rejects, TaskPool, Turns, drawn
from redraft.data.generate.instructions.rules import Fault, Found
from redraft.data.generate.instructions.tasks import Origin, Task, to_chain
from redraft.data.generate.instructions.wording import Wanted
from redraft.data.generate.options import Way
from redraft.engines.base import Engine, Message, Price, Sampling
from redraft.engines.wrapped import JournaledEngine, MeteredEngine
from redraft.errors import EmptyReply, EngineError, RedraftError
from redraft.jobs.causes import is_doubtful, is_filtered, is_of_item
from redraft.jobs.harness import Session
from redraft.jobs.ids import derived_seed
from redraft.jobs.journal import Journal


class LimitReached(Exception):
    """Raised instead of calling the teacher if a limit is reached, or if an error has ended the run."""


@dataclass(frozen=True)
class _Reply:
    text: str
    cut: bool  # the reply was cut before its end
    # The error, if the server refused the request. `text` is then empty.
    refused: EngineError | None = None


@dataclass
class Teacher:
    """An engine, and the settings of all calls to the engine."""

    engine: Engine
    identity: Any  # JSON values that identify the model
    journal: Journal
    session: Session
    slots: asyncio.Semaphore  # limits concurrent calls
    calling: Callable[[], AbstractContextManager[Any]]  # returns a context in which a call is made
    price: Price | None = None
    tries: int = 1  # attempts at a call, if its errors are temporary
    limit: Callable[[], str] = str  # returns the limit that the run has reached, or an empty text

    async def ask(self, scope: str, text: str, sampling: Sampling, stop: Sequence[str] = ()) -> _Reply:
        """Return the reply: empty if the model writes nothing, the call is refused, or `text` is too long.

        `scope` is the id of a request, and affects the seed. So each request gets its own reply to a text.

        Raises:
            LimitReached: A limit of the run is reached, or an error has ended the run.
        """
        seed = derived_seed(sampling.seed or 0, f"{scope}: {text}")
        async with self.slots:
            for left in reversed(range(self.tries)):
                if self.session.counts.error or self.limit():
                    raise LimitReached
                try:
                    with self.calling():
                        return await self._try(scope, text, replace(sampling, seed=seed), stop)
                except EngineError as error:
                    if error.passing and left:
                        continue
                    if is_of_item(error):
                        return _Reply("", cut=False, refused=error)
                    if not is_doubtful(error):
                        self.session.counts.error = self.session.counts.error or error
                    raise
        raise AssertionError("there is at least one try")

    async def _try(self, scope: str, text: str, sampling: Sampling, stop: Sequence[str]) -> _Reply:
        def pay() -> None:
            usage = paid.take()
            usd = self.price.cost(usage) if self.price else None
            self.session.pay(usage.completion_tokens, usd, estimated=usage.estimated)

        paid = MeteredEngine(self.engine, pay, self.session.progress.write)
        # `JournaledEngine` numbers equal calls. In a new engine, each try is call 0, as in a later run.
        journaled = JournaledEngine(paid, self.journal, identity=self.identity, scope=scope)
        message: Message = {"role": "user", "content": text}
        pieces, finish = [], None
        try:
            async with aclosing(journaled.chat([message], sampling, stop)) as deltas:
                async for delta in deltas:
                    pieces.append(delta.text)
                    finish = delta.finish
        except EmptyReply:
            return _Reply("", cut=False)
        return _Reply(apart("".join(pieces))[1], cut=finish != "stop")


DRY = 25
"""The run ends after this many requests in a row without a new task. At 17 tasks each, that is 425 tasks."""

_KIND_TOKENS = 16  # maximum tokens of a yes-or-no reply


@dataclass(frozen=True)
class Request:
    """A request, identified by a number from 0."""

    number: int

    @property
    def id(self) -> str:
        """The request's id in the ledger, and the scope of the request's replies in the journal."""
        return str(self.number)


@dataclass
class Made:
    """The results of a request so far."""

    kept: list[tuple[Task, Origin]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    refused: list[EngineError] = field(default_factory=list)

    def reject(
        self, task: Task, origin: Origin, fault: Fault, nearest: str | None = None, *, claimed: bool = False
    ) -> None:
        """Add a rejected task. If `claimed`, its instruction stays in the pool: similar ones are rejected."""
        about = {"id": origin.id, "request": origin.request, "number": origin.number}
        near = {} if nearest is None else {"nearest": nearest}
        more = {"claimed": True} if claimed else {}
        self.rejects.append({**fault._asdict(), **about, "record": task.record(), **near, **more})


@dataclass
class Flow:
    """The processing of a run's requests, and the state that the requests share."""

    way: Way
    wanted: Wanted
    sampling: Sampling  # sampling of the teacher. The seed also draws the examples.
    pool: TaskPool
    shipped: Sequence[Task]  # tasks of known kinds, for seeds without kinds
    teacher: Teacher
    rejects: Rejects
    commits: Turns  # the order in which requests are written
    claims: Turns  # the order of comparisons with the pool
    seeds: Mapping[str, Any] | None = None  # the origin of the generated tasks, if the seeds have licences

    @property
    def dry(self) -> bool:
        """Whether the last `DRY` requests added no task."""
        return self.commits.next - 1 - self.pool.last >= DRY

    async def work(self, request: Request) -> list[str] | None:
        """Return a request's tasks as lines of JSON; None if no more are needed or a limit is reached."""
        way = self._alpaca if self.way == "alpaca" else self._self_instruct
        passes = False
        try:
            lines = await way(request) if await self._is_needed(request.number) else None
            passes = lines is not None
        except LimitReached:
            return None
        except RedraftError as error:
            passes = is_of_item(error) or is_doubtful(error)  # the run can continue without this request
            raise
        finally:
            for turns in (self.claims, self.commits):
                (turns.passed if passes else turns.ended)(request.number)
        return lines

    async def _is_needed(self, number: int) -> bool:
        # Wait for earlier requests, so that a run makes the same calls at any parallelism and after any stop.
        most, lag = (wording.NEW_TASKS, inf) if self.way == "alpaca" else (wording.NEW, LAG)
        while self.pool.missing and not (self.dry or self.commits.is_ended):
            ahead = number - self.commits.next
            if ahead < lag and ahead * most < self.pool.missing:
                return True
            if not await self.commits.wait(self.commits.next + 1):
                return False
        return False

    def _rng(self, scope: str) -> Random:
        return Random(derived_seed(self.sampling.seed or 0, f"examples of {scope}"))  # noqa: S311

    # Alpaca's method: one request asks for a list of whole tasks. Its examples are only seeds.

    async def _alpaca(self, request: Request) -> list[str] | None:
        solved = [task for task in self.pool.seeds if task.output]
        text = wording.ask_tasks(drawn(solved, wording.SHOWN, self._rng(request.id)), self.wanted)
        reply = await self._listed(request, text, wording.AFTER_TASKS)
        if not await self.commits.wait(request.number):
            return None
        made = Made()
        found = rules.read_tasks(reply.text, cut=reply.cut)[: wording.NEW_TASKS]
        for place, each in enumerate(found, start=1):
            # The instruction is compared last, so that only a task without faults enters the pool.
            fault = (
                each.fault
                or rules.check_instruction(each.task, self.wanted)
                or rules.check_answer(each.task, self.wanted)
            )
            origin = Origin(self.way, request.number, place)
            if self._claims(each.task, origin, fault, made):
                made.kept.append((each.task, origin))
        return self._commit(request, reply, made)

    def _claims(self, task: Task, origin: Origin, fault: Fault | None, made: Made) -> bool:
        if fault:
            made.reject(task, origin, fault)
        elif near := self.pool.claim(task.instruction):
            made.reject(task, origin, near[0], nearest=near[1])
        else:
            return True
        return False

    # Self-Instruct's method: request instructions, then the kind of each, then its instances.

    async def _self_instruct(self, request: Request) -> list[str] | None:
        shown = self._shown(request)
        text, stop = wording.ask_instructions(shown, self.wanted), [f"\n{len(shown) + wording.NEW + 1}."]
        reply = await self._listed(request, text, stop)
        if not await self.claims.wait(request.number):
            return None
        made, works = Made(), []
        listed = rules.read_instructions(reply.text, cut=reply.cut)[: wording.NEW]
        for place, each in enumerate(listed, start=1):
            origin = Origin(self.way, request.number, place)
            fault = each.fault or rules.check_instruction(each.task, self.wanted)
            if self._claims(each.task, origin, fault, made):
                works.append(self._solve(each.task, origin, made))
        self.claims.passed(request.number)
        await together(works)
        if made.refused and len(made.refused) == len(works) and not any(map(is_filtered, made.refused)):
            raise made.refused[0]  # the server may refuse a setting, not these instructions
        if not await self.commits.wait(request.number):
            return None
        return self._commit(request, reply, made)

    def _shown(self, request: Request) -> list[str]:
        """Return the examples to show. A resumed request shows the examples of the first try."""
        unfinished = self.teacher.session.unfinished
        before = unfinished.get(request.id)
        if isinstance(before, list) and all(isinstance(text, str) for text in before):
            return before
        rng = self._rng(request.id)
        seeds = [task.instruction for task in drawn(self.pool.seeds, wording.SEEDS_SHOWN, rng)]
        shown = seeds + self.pool.made_before(request.number, wording.MADE_SHOWN, rng)
        unfinished.keep(request.id, json.dumps(shown))
        return shown

    async def _solve(self, task: Task, origin: Origin, made: Made) -> None:
        scope, rng = str(origin.request), self._rng(origin.id)
        # Examples of both kinds: the seeds if they state their kinds, otherwise the shipped tasks.
        known = [task for task in self.pool.seeds if task.is_classification is not None and task.output]
        seeds = known if len({task.is_classification for task in known}) == 2 else self.shipped
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0, extra_body=None)
        text = wording.ask_kind(task.instruction, drawn(seeds, wording.KINDS_SHOWN, rng))
        reply = await self.teacher.ask(scope, text, replace(greedy, max_tokens=_KIND_TOKENS), ["\n\n"])
        if _is_refused(task, origin, reply, made):
            return
        if (kind := rules.read_kind(reply.text)) is None:
            said = f"the reply about the task's kind is neither yes nor no: {reply.text[:60]!r}"
            made.reject(task, origin, Fault("kind", said), claimed=True)
            return
        task = replace(task, is_classification=kind)
        alike = [each for each in seeds if each.is_classification == kind and each.output]
        text = wording.ask_instances(task, drawn(alike, wording.INSTANCES_SHOWN, rng), self.wanted)
        reply = await self.teacher.ask(scope, text, greedy, wording.AFTER_INSTANCES)
        if not _is_refused(task, origin, reply, made):
            self._judge_instances(task, origin, reply, made)

    def _judge_instances(self, task: Task, origin: Origin, reply: _Reply, made: Made) -> None:
        found = rules.check_instances(rules.read_instances(reply.text, task, cut=reply.cut), self.wanted)
        if not found:
            found = [Found(replace(task, output=reply.text), rules.fault_of_reply(reply.text, cut=reply.cut))]
        none_kept = all(each.fault for each in found)
        for place, each in enumerate(found, start=1):
            here = replace(origin, instance=place)
            if each.fault:  # the instruction stays in the pool, once
                made.reject(each.task, here, each.fault, claimed=none_kept and place == 1)
            else:
                made.kept.append((each.task, here))

    # Both methods.

    async def _listed(self, request: Request, text: str, stop: Sequence[str]) -> _Reply:
        reply = await self.teacher.ask(request.id, text, self.sampling, stop)
        if reply.refused and not is_filtered(reply.refused):
            raise reply.refused
        return reply

    def _commit(self, request: Request, reply: _Reply, made: Made) -> list[str]:
        number = request.number
        if not (made.kept or made.rejects):
            fault = rules.fault_of_reply(reply.text, cut=reply.cut)
            if reply.refused:
                fault = Fault("refused", reply.refused.message)
            about = {"id": f"{self.way}/{number}", "request": number, "number": 0}
            made.rejects.append({**fault._asdict(), **about, "record": {"reply": reply.text}})
        self.rejects.add(*sorted(made.rejects, key=lambda record: record["number"]))
        kept = sorted(made.kept, key=lambda each: each[1].number)
        for place, instruction in {origin.number: task.instruction for task, origin in kept}.items():
            self.pool.keep(number, place, instruction)
        info, names = self.teacher.engine.info, ("temperature", "top_p", "max_tokens", "seed")
        how = (info.record, {name: getattr(self.sampling, name) for name in names}, self.seeds)
        chains = [to_chain(task, origin, *how, is_last=kept[-1][1] is origin) for task, origin in kept]
        return [chain.to_json() for chain in chains]


def _is_refused(task: Task, origin: Origin, reply: _Reply, made: Made) -> bool:
    if reply.refused:
        made.refused.append(reply.refused)
        made.reject(task, origin, Fault("refused", reply.refused.message), claimed=True)
    return reply.refused is not None
