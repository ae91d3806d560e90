"""Ask the teacher: each reply is stored before it is used, and paid for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from redraft.chain import Usage
from redraft.chain.thoughts import apart
from redraft.engines.base import Engine, Message, Sampling
from redraft.engines.journaled import JournaledEngine
from redraft.engines.price import Price
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import EmptyReply, EngineError
from redraft.jobs.causes import is_doubtful, is_of_item
from redraft.jobs.harness import Session
from redraft.jobs.ids import derived_seed
from redraft.jobs.journal import Journal


class LimitReached(Exception):
    """A limit of the run, or an error that ends it, came before a call."""


@dataclass(frozen=True)
class Reply:
    """A reply of the teacher."""

    text: str
    cut: bool  # it was cut before its end
    # Why the server refused the text that was asked; then there is no reply.
    refused: EngineError | None = None


@dataclass
class Teacher:
    """An open model, and what its calls share."""

    engine: Engine
    identity: Any  # JSON values that tell it from every other model
    journal: Journal
    session: Session
    slots: asyncio.Semaphore  # limits the calls at once
    calling: Callable[[], AbstractContextManager[Any]]  # returns a context in which a call is made
    price: Price | None = None
    tries: int = 1  # how often a call is tried whose reply broke off
    limit: Callable[[], str] = str  # returns which limit of the run is reached, if any
    # What the calls used, replies from the journal included.
    used: Usage = field(default_factory=Usage)

    async def ask(self, scope: str, text: str, sampling: Sampling, stop: Sequence[str] = ()) -> Reply:
        """Return the reply to a text; an empty one if the model says nothing.

        Args:
            scope: What the reply is for: equal texts in two scopes get replies of their own.
            text: What is asked.
            sampling: As it is without a seed of this text.
            stop: Texts that end the reply.

        Raises:
            LimitReached: A limit of the run is reached, or an error has ended it.
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
                        return Reply("", cut=False, refused=error)
                    if not is_doubtful(error):
                        self.session.counts.error = self.session.counts.error or error
                    raise
        raise AssertionError("there is at least one try")

    async def _try(self, scope: str, text: str, sampling: Sampling, stop: Sequence[str]) -> Reply:
        def pay() -> None:
            usage = paid.take()
            usd = self.price.cost(usage) if self.price else None
            self.session.pay(usage.completion_tokens, usd, estimated=usage.estimated)

        paid = MeteredEngine(self.engine, pay, self.session.progress.write)
        # A new one for each try: it counts equal calls, and the next run asks for the reply to the first.
        journaled = JournaledEngine(paid, self.journal, identity=self.identity, scope=scope)
        used, begun = MeteredEngine(journaled), monotonic()
        message: Message = {"role": "user", "content": text}
        pieces, finish = [], None
        try:
            async with aclosing(used.chat([message], sampling, stop)) as deltas:
                async for delta in deltas:
                    pieces.append(delta.text)
                    finish = delta.finish
        except EmptyReply:
            return Reply("", cut=False)
        finally:
            usage = used.take()
            usd, seconds = self.price.cost(usage) if self.price else None, monotonic() - begun
            self.used += usage.model_copy(update={"cost_usd": usd, "seconds": seconds})
        self.session.spent.unreported |= usage.estimated
        return Reply(apart("".join(pieces))[1], cut=finish != "stop")
