"""Make the tasks of one request, in either way, and judge them in the order of the requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any

from redraft.engines.base import Sampling
from redraft.errors import RedraftError
from redraft.generate.instructions import alpaca, self_instruct
from redraft.generate.instructions.options import Way
from redraft.generate.instructions.pool import LAG, TaskPool, Turns, drawn
from redraft.generate.instructions.rejects import Rejects, rejected, rejected_reply
from redraft.generate.instructions.rules import (
    CUT,
    EMPTY,
    FORMAT,
    REFUSAL,
    REPEATS,
    Fault,
    Found,
    check_answer,
    check_instances,
    check_instruction,
    is_refusal,
    repeats,
)
from redraft.generate.instructions.task import Origin, Task, to_chain
from redraft.generate.instructions.teacher import LimitReached, Reply, Teacher
from redraft.generate.instructions.wording import Wanted
from redraft.jobs.runner import derived_seed, is_doubtful, is_of_item

DRY = 25
"""Requests in a row that keep nothing, after which no more are sent. At 17 tasks each, that is 425 tasks."""

_KIND_TOKENS = 16
"""Tokens of a reply of yes or no."""


@dataclass(frozen=True)
class Request:
    """A request by its number, from 0."""

    number: int

    @property
    def id(self) -> str:
        """Its id in the ledger."""
        return str(self.number)


@dataclass
class Flow:
    """The requests of a run.

    Attributes:
        way: How tasks are generated.
        wanted: What tasks are wanted.
        sampling: How the teacher is sampled. Its seed also draws the examples.
        pool: The instructions so far.
        shipped: Tasks whose kinds are known, where those of the seeds are not.
        teacher: The open model.
        rejects: Where rejected tasks go.
        commits: Lets requests be written in the order of their numbers.
        claims: Lets their instructions be compared with the pool in that order.
        barren: Requests in a row that kept nothing, those that failed included.
    """

    way: Way
    wanted: Wanted
    sampling: Sampling
    pool: TaskPool
    shipped: Sequence[Task]
    teacher: Teacher
    rejects: Rejects
    commits: Turns
    claims: Turns
    barren: int = field(default=0, init=False)

    @property
    def dry(self) -> bool:
        """Whether the teacher seems to have no more new tasks."""
        return self.barren >= DRY

    async def work(self, request: Request) -> list[str] | None:
        """Return the lines of a request's tasks. None leaves it to a later run.

        That is so if enough tasks are kept without it, or if a limit is reached.

        Raises:
            EngineError: The model or its server failed.
        """
        number = request.number
        way = self._alpaca if self.way == "alpaca" else self._self_instruct
        passes = False
        try:
            lines = await way(number) if await self._is_needed(number) else None
            passes = lines is not None
        except LimitReached:
            self.teacher.costs.pop(request.id, None)  # its tasks are not counted either
            return None
        except RedraftError as error:
            passes = is_of_item(error) or is_doubtful(error)  # the run may go on without it
            self.barren += 1  # or a server that refuses every request would be asked for ever
            raise
        finally:
            for turns in (self.claims, self.commits):
                (turns.passed if passes else turns.ended)(number)
        return lines

    async def _is_needed(self, number: int) -> bool:
        """Wait until a request is needed, however much those before it give. Return False if it never is.

        So the last requests come one after another, but none is paid for in vain, and a run makes the same
        calls for any number of calls at once and after any stop.
        """
        most, lag = (alpaca.NEW, inf) if self.way == "alpaca" else (self_instruct.NEW, LAG)
        while self.pool.missing and not (self.dry or self.commits.is_ended):
            ahead = number - self.commits.next
            if ahead < lag and ahead * most < self.pool.missing:
                return True
            if not await self.commits.wait(self.commits.next + 1):
                return False
        return False

    def _rng(self, scope: str) -> Random:
        return Random(derived_seed(self.sampling.seed or 0, f"examples of {scope}"))  # noqa: S311

    async def _alpaca(self, number: int) -> list[str] | None:
        shown = [task for task in self.pool.seeds if task.output]
        text = alpaca.request(drawn(shown, alpaca.SHOWN, self._rng(str(number))), self.wanted)
        reply = await self.teacher.ask(str(number), text, self.sampling, alpaca.STOP)
        if not await self.commits.wait(number):
            return None
        found = alpaca.read_tasks(reply.text, cut=reply.cut)[: alpaca.NEW]
        results = [self._judge_whole(each, Origin(self.way, number, n)) for n, each in enumerate(found, 1)]
        return self._commit(number, reply, results)

    def _judge_whole(self, found: Found, origin: Origin) -> Result:
        """Judge a task of a list. Its instruction is compared last: only a good task keeps others out."""
        task = found.task
        fault = found.fault or check_instruction(task, self.wanted) or check_answer(task, self.wanted)
        if fault is not None:
            return Result([], [rejected(task, origin, fault)])
        return self._claim(task, origin) or Result([(task, origin)], [])

    def _claim(self, task: Task, origin: Origin) -> Result | None:
        near = self.pool.claim(task.instruction)
        return None if near is None else Result([], [rejected(task, origin, near[0], near[1])])

    async def _self_instruct(self, number: int) -> list[str] | None:
        shown = self._shown(number, self._rng(str(number)))
        text = self_instruct.request_instructions(shown, self.wanted)
        stop = [f"\n{len(shown) + self_instruct.NEW + 1}."]
        reply = await self.teacher.ask(str(number), text, self.sampling, stop)
        if not await self.claims.wait(number):
            return None
        new, results = self._new(reply, number)
        self.claims.passed(number)
        results += await _all(self._solve(task, origin) for task, origin in new)
        if not await self.commits.wait(number):
            return None
        return self._commit(number, reply, results)

    def _shown(self, number: int, rng: Random) -> list[str]:
        """Return the instructions to show. A request that was cut shows the same ones again.

        Without that, a request that failed before it, and is made now, could change them: its stored reply
        would be paid for twice.
        """
        kept, item = self.teacher.session.unfinished, str(number)
        before = kept.get(item)
        if isinstance(before, list) and all(isinstance(text, str) for text in before):
            return before
        seeds = [task.instruction for task in drawn(self.pool.seeds, self_instruct.SEEDS_SHOWN, rng)]
        shown = seeds + self.pool.made_before(number, self_instruct.MADE_SHOWN, rng)
        kept.keep(item, json.dumps(shown))
        return shown

    def _new(self, reply: Reply, number: int) -> tuple[list[tuple[Task, Origin]], list[Result]]:
        """Return the new instructions of a reply, and what is rejected."""
        new, results = [], []
        listed = self_instruct.read_instructions(reply.text, cut=reply.cut)[: self_instruct.NEW]
        for place, found in enumerate(listed, start=1):
            origin = Origin(self.way, number, place)
            fault = found.fault or check_instruction(found.task, self.wanted)
            if fault is not None:
                results.append(Result([], [rejected(found.task, origin, fault)]))
            elif refused := self._claim(found.task, origin):
                results.append(refused)
            else:
                new.append((found.task, origin))
        return new, results

    async def _solve(self, task: Task, origin: Origin) -> Result:
        """Ask for the kind of an instruction, and then for its inputs and outputs."""
        rng = self._rng(origin.id)
        seeds = self._of_known_kind()
        some = drawn(seeds, self_instruct.KINDS_SHOWN, rng)
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0, extra_body=None)
        text = self_instruct.request_kind(task.instruction, some)
        reply = await self.teacher.ask(
            str(origin.request), text, replace(greedy, max_tokens=_KIND_TOKENS), ["\n\n"]
        )
        kind = self_instruct.read_kind(reply.text)
        if kind is None:
            fault = Fault(
                "kind", f"neither yes nor no to whether it is a classification: {reply.text[:60]!r}"
            )
            return Result([], [rejected(task, origin, fault, claimed=True)])
        task = replace(task, is_classification=kind)
        alike = [each for each in seeds if each.is_classification == kind and each.output]
        text = self_instruct.request_instances(
            task, drawn(alike, self_instruct.INSTANCES_SHOWN, rng), self.wanted
        )
        reply = await self.teacher.ask(
            str(origin.request), text, greedy, [f"\nExample {self_instruct.INSTANCES + 1}", "\nInstruction:"]
        )
        return self._judge_instances(task, origin, reply)

    def _of_known_kind(self) -> Sequence[Task]:
        """Return tasks of both kinds: the seeds if they say which is which, or else the shipped ones."""
        known = [task for task in self.pool.seeds if task.is_classification is not None and task.output]
        return known if len({task.is_classification for task in known}) == 2 else self.shipped

    def _judge_instances(self, task: Task, origin: Origin, reply: Reply) -> Result:
        instances = self_instruct.read_instances(reply.text, task, cut=reply.cut)
        if not instances:
            answer = replace(task, output=reply.text)
            return Result([], [rejected(answer, origin, fault_of_reply(reply), claimed=True)])
        result = Result([], [])
        for place, found in enumerate(check_instances(instances, self.wanted), start=1):
            here = replace(origin, instance=place)
            if found.fault is None:
                result.kept.append((found.task, here))
            else:
                result.rejects.append(rejected(found.task, here, found.fault))
        if not result.kept:  # its instruction is in the pool, once
            result.rejects[0] = {**result.rejects[0], "claimed": True}
        return result

    def _commit(self, number: int, reply: Reply, results: Sequence[Result]) -> list[str]:
        """Write the rejects of a request, and return the lines of its tasks. The turn is this request's."""
        rejects = [record for result in results for record in result.rejects]
        if not results:
            rejects = [rejected_reply(reply.text, self.way, number, fault_of_reply(reply))]
        self.rejects.add(*sorted(rejects, key=lambda record: record["number"]))
        kept = sorted((each for result in results for each in result.kept), key=lambda each: each[1].number)
        instructions = {origin.number: task.instruction for task, origin in kept}
        for place, instruction in instructions.items():
            self.pool.keep(number, place, instruction)
        self.teacher.costs[str(number)].kept = len(instructions)
        self.barren = 0 if kept else self.barren + 1
        return [to_chain(task, origin, self._model(), self._sampled()).to_json() for task, origin in kept]

    def _model(self) -> dict[str, str]:
        info = self.teacher.engine.info
        return {"name": info.name, "engine": info.engine}

    def _sampled(self) -> dict[str, Any]:
        return {name: getattr(self.sampling, name) for name in ("temperature", "top_p", "max_tokens", "seed")}


@dataclass(frozen=True)
class Result:
    """What a request gave: kept tasks with their origins, and records of rejects."""

    kept: list[tuple[Task, Origin]]
    rejects: list[dict[str, Any]]


def fault_of_reply(reply: Reply) -> Fault:
    """Return why nothing could be read in a reply."""
    if not reply.text.strip():
        return Fault(EMPTY, "the reply is empty")
    if is_refusal(reply.text):
        return Fault(REFUSAL, f"the reply refuses: {reply.text.strip()[:60]!r}")
    if looped := repeats(reply.text):
        return Fault(REPEATS, f"{looped[:60]!r} again and again")
    if reply.cut:
        return Fault(CUT, "the reply ends at the limit of tokens, before anything is whole")
    return Fault(FORMAT, "the reply is not in the form that was asked for")


async def _all(works: Iterable[Any]) -> list[Result]:
    """Run coroutines together, and return their results in order. The first error ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]
