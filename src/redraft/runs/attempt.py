"""One attempt to make the chain of a prompt. It resumes a chain that was cut, and books the cost."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from math import inf
from typing import Any, get_args

from redraft.chain import Chain
from redraft.engines.base import Engine
from redraft.engines.journaled import JournaledEngine
from redraft.engines.price import Price
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import EmptyReply, RecordError, RedraftError, UsageError
from redraft.ids import derived_seed
from redraft.jobs.harness import Session
from redraft.jobs.journal import Journal
from redraft.revision.api import Role, finished, make
from redraft.revision.ops import Event, Progress
from redraft.revision.options import RevisionOptions
from redraft.revision.state import check_resumable

_ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class PromptItem:
    """A prompt to answer, under the id that its result will have in the output."""

    id: str
    asked: Chain


@dataclass(frozen=True)
class Journaled:
    """A file of replies, and the identities of the models whose replies go into it.

    Attributes:
        by_item: Each item gets replies of its own: a journal. In a cache, equal requests get equal replies.
    """

    journal: Journal
    identities: dict[Role, Any]
    by_item: bool


class Attempt:
    """One attempt to make the chain of a prompt."""

    def __init__(
        self,
        item: PromptItem,
        seed: int | None,
        options: RevisionOptions,
        session: Session,
        journaled: Journaled | None,
    ) -> None:
        self._item, self._session, self._journaled = item, session, journaled
        self._meters: list[tuple[MeteredEngine, Price | None]] = []
        own: dict[str, Any] = {"id": item.asked.id}
        own["seed"] = None if seed is None else derived_seed(seed, item.asked.id)
        for role in _ROLES:
            if (engine := getattr(options, role)) is not None:
                own[role] = self._engine(role, engine, options.price if role == "model" else None)
        self._options = options.model_copy(update=own)

    def _engine(self, role: Role, engine: Any, price: Price | None) -> Engine:
        """Wrap an engine so that the calls that reach it are paid for, and no others."""
        metered = MeteredEngine(engine, self._pay)
        self._meters.append((metered, price or metered.info.price))
        if self._journaled is None:
            return metered
        identity = [role, self._journaled.identities[role]]
        scope = self._item.id if self._journaled.by_item else ""
        return JournaledEngine(metered, self._journaled.journal, identity=identity, scope=scope)

    async def chain(self) -> Chain:
        """Make the chain.

        Raises:
            RecordError: The prompt is empty.
            EmptyReply: The budget left no answer.
        EngineError, CheckError: With the chain until then.
        """
        asked = self._item.asked
        if lack := asked.prompt.lack:
            raise RecordError(f"{asked.id}: {lack}.", hint="Give a question or an instruction.")
        if self._journaled is None:
            kept = _begun(self._session.unfinished.get(self._item.id), asked, self._options.given)
            self._options = self._options.model_copy(update={"resume": kept})
        try:
            async with aclosing(make(asked.prompt, self._options)) as events:
                chain = await finished(events, self._note)
        except RedraftError as error:
            if error.chain is not None:
                self._keep(error.chain)
            raise
        if chain.best is None:
            raise EmptyReply(
                "there is no answer: the budget was used up.",
                hint="Raise --budget-seconds, --budget-tokens or --budget-usd.",
            )
        return chain.model_copy(update={"meta": {**asked.meta, **chain.meta}})

    def _note(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._keep(event.chain)

    def _keep(self, chain: Chain) -> None:
        """Keep the complete steps of a chain that is not finished. A journal has them already."""
        if self._journaled is None:
            self._session.unfinished.keep(self._item.id, chain.to_json())

    def _pay(self) -> None:
        """Book what a call used as soon as it ends, for the limits of the run."""
        for meter, price in self._meters:
            usage = meter.take()
            usd = None if price is None else price.cost(usage)
            self._session.pay(usage.completion_tokens, usd, estimated=usage.estimated)


def _begun(kept: Any, asked: Chain, given: str) -> Chain | None:
    """Return the chain that was kept for a prompt, or None if it cannot be resumed."""
    try:
        chain = Chain.model_validate(kept)
        check_resumable(chain, asked.prompt, given)
        chain.to_json()
    except (ValueError, UsageError):  # damaged: a record that pydantic refuses to read or to write
        return None
    return chain if 0 <= chain.usage.seconds < inf and chain.usage.completion_tokens >= 0 else None
