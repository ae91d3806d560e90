"""Ask the teacher, for one request: each reply is stored before it is used, and paid for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from redraft.engines.base import Engine, Message, Sampling
from redraft.engines.journaled import JournaledEngine
from redraft.engines.metered import MeteredEngine
from redraft.engines.price import Price
from redraft.errors import EmptyReply, EngineError
from redraft.jobs.harness import Session
from redraft.jobs.journal import Journal
from redraft.jobs.runner import derived_seed


class NotBegun(Exception):
    """A limit of the run was reached before the first call of a request."""


@dataclass(frozen=True)
class Reply:
    """A reply of the teacher, and whether it was cut before its end."""

    text: str
    cut: bool


@dataclass(frozen=True)
class Teacher:
    """An open model, and what its calls share.

    Attributes:
        engine: The model.
        identity: JSON values that tell it from every other model.
        journal: Where replies are stored.
        session: The run, which books what is paid.
        slots: Limits the calls at once.
        price: What tokens cost; None if unknown.
        tries: How often a call is tried whose reply broke off.
        limit: Returns which limit of the run is reached, if any.
    """

    engine: Engine
    identity: Any
    journal: Journal
    session: Session
    slots: asyncio.Semaphore
    price: Price | None = None
    tries: int = 1
    limit: Callable[[], str] = str

    def for_request(self, request: str) -> Asking:
        """Return what asks the calls of one request. They get replies of their own."""
        metered = MeteredEngine(self.engine)
        return Asking(
            self,
            request,
            metered,
            JournaledEngine(metered, self.journal, identity=self.identity, scope=request),
        )


@dataclass
class Asking:
    """The calls of one request. The first one is not made if a limit is reached while it waits."""

    teacher: Teacher
    request: str
    metered: MeteredEngine
    journaled: JournaledEngine
    _begun: bool = False

    async def ask(self, text: str, sampling: Sampling, stop: Sequence[str] = ()) -> Reply:
        """Return the reply to a request; an empty one if the model says nothing.

        Raises:
            EngineError: The model or its server failed.
            NotBegun: A limit of the run is reached.
        """
        seed = derived_seed(sampling.seed or 0, f"{self.request}: {text}")
        sampling = replace(sampling, seed=seed)
        async with self.teacher.slots:
            if not self._begun and self.teacher.limit():
                raise NotBegun
            self._begun = True
            for _ in range(self.teacher.tries - 1):
                try:
                    return await self._once(text, sampling, stop)
                except EngineError as error:
                    if not error.passing:
                        raise
            return await self._once(text, sampling, stop)

    async def _once(self, text: str, sampling: Sampling, stop: Sequence[str]) -> Reply:
        message: Message = {"role": "user", "content": text}
        pieces, finish = [], None
        try:
            async with aclosing(self.journaled.chat([message], sampling, stop)) as deltas:
                async for delta in deltas:
                    pieces.append(delta.text)
                    finish = delta.finish
        except EmptyReply:
            return Reply("", cut=False)
        finally:
            self._pay()
        return Reply("".join(pieces), cut=finish != "stop")

    def _pay(self) -> None:
        usage, price = self.metered.take(), self.teacher.price
        self.teacher.session.pay(usage.completion_tokens, None if price is None else price.cost(usage))
