"""Do each item of a stream once, several at a time, skipping those that are done.

Items are taken only when there is room for them, so memory does not grow with their number. An error concerns
its item alone (a prompt that is too long), is doubtful (a server that fails: the job ends if the next items
fail too), or ends the job (an empty account, a full disk). Where a model or its server ends the job, items
under way are finished first: they may be paid. An item whose reply broke off is tried again at once. Waiting
for a server is left to the engine (`engines.retry`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from redraft.errors import (
    CheckError,
    ContextError,
    EmptyReply,
    EngineError,
    EngineTimeout,
    RecordError,
    RedraftError,
    ServerError,
)
from redraft.ids import IdSet
from redraft.jobs.causes import FILTER
from redraft.jobs.ledger import Ledger

PATIENCE = 3
"""Doubtful failures in a row that end the job, or `parallel` if that is more. As many refused requests end it
while nothing is done yet."""

_REFUSED = frozenset({400, 413, 422})
"""HTTP statuses by which a server refuses a request for its content."""

_HOPELESS = frozenset({401, 402, 403, 404, 405})
"""HTTP statuses that every other request would get too."""


class Item(Protocol):
    """Something to do, with an id."""

    @property
    def id(self) -> str:
        """The item's name in the ledger, unique within a job."""
        ...


T = TypeVar("T", bound=Item)

Work = Callable[[T], Awaitable[list[str] | None]]
"""Do an item, and return the lines of its result, or None to leave it undone."""


@dataclass
class ItemCounts:
    """Counts of items.

    Attributes:
        added: Done in this run.
        failed: Failed in this run. The next run tries them again.
        exit_status: The highest exit status of a failure.
        limit: Which limit was reached while there were items left, in words.
        error: What ended the job while items were under way.
    """

    added: int = 0
    failed: int = 0
    exit_status: int = 0
    limit: str = ""
    error: RedraftError | None = None


@dataclass
class Runner(Generic[T]):
    """Do every item that is not in the ledger.

    Attributes:
        items: The items, taken one by one as there is room.
        work: Makes the lines of an item's result.
        ledger: Where results and failures go.
        counts: Is kept up to date.
        parallel: How many items to do at once.
        retries: How often an item is tried again whose reply broke off in the middle.
        limit: Called before each new item. A text ends the job when the items under way are finished.
        on_step: Called after each item that was done or failed.
    """

    items: Iterable[T]
    work: Work[T]
    ledger: Ledger
    counts: ItemCounts
    parallel: int
    retries: int = 0
    limit: Callable[[], str] = str
    on_step: Callable[[], None] = lambda: None
    _taken: IdSet = field(default_factory=IdSet, init=False)
    _doubts: int = field(default=0, init=False)
    _refusals: int = field(default=0, init=False)

    async def run(self) -> None:
        """Do them. Every result is in the ledger, whatever ends the job.

        Raises:
            RedraftError: Whatever ended the job.
            RecordError: Two items have one id.
            asyncio.CancelledError: The job was cancelled.
        """
        items = iter(self.items)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.parallel):
                    group.create_task(self._worker(items))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        if self.counts.error:
            raise self.counts.error

    async def _worker(self, items: Iterator[T]) -> None:
        for item in items:
            self._take(item.id)
            if item.id in self.ledger.done:
                continue
            self.counts.limit = self.counts.limit or self.limit()
            if self.counts.limit or self.counts.error:
                return
            try:
                await self._do(item)
            except (EngineError, CheckError) as error:
                self.counts.error = self.counts.error or error
            self.on_step()

    def _take(self, item_id: str) -> None:
        if not self._taken.add(item_id):
            raise RecordError(f"two items have the id {item_id!r}.", hint="Give each its own id, or none.")

    async def _do(self, item: T) -> None:
        try:
            lines = await self._try(item)
        except RedraftError as error:
            self._fail(item.id, error)
        else:
            if lines is not None:
                self.ledger.append(item.id, *lines)
                self.counts.added += 1
            self._doubts = 0

    async def _try(self, item: T) -> list[str] | None:
        for _ in range(self.retries):
            try:
                return await self.work(item)
            except EngineError as error:
                if not error.passing or self.counts.error:
                    raise
        return await self.work(item)

    def _fail(self, item_id: str, error: RedraftError) -> None:
        doubtful = is_doubtful(error)
        if not doubtful and not is_of_item(error):
            raise error
        self.ledger.fail(item_id, error)
        self.counts.failed += 1
        self.counts.exit_status = max(self.counts.exit_status, error.exit_status)
        self._doubts += doubtful
        self._refusals += is_refusal(error) and not is_filtered(error)
        patience = max(self.parallel, PATIENCE)
        if self._doubts >= patience:
            raise error
        if self._refusals >= patience and not self.ledger.done:
            error.hint = " ".join(filter(None, [error.hint, f"The first {self._refusals} prompts ended so."]))
            raise error


def is_of_item(error: RedraftError) -> bool:
    """Whether an error concerns its item alone."""
    return is_refusal(error) or isinstance(error, (ContextError, EmptyReply, RecordError))


def is_refusal(error: RedraftError) -> bool:
    """Whether a server refused a request for its content. All requests may share it: a wrong model name."""
    if not isinstance(error, ServerError):
        return False
    return error.status in _REFUSED or (error.status == 403 and is_filtered(error))


def is_filtered(error: RedraftError) -> bool:
    """Whether a content filter refused a request: no other request shares that."""
    return isinstance(error, ServerError) and bool(FILTER.search(error.message))


def is_doubtful(error: RedraftError) -> bool:
    """Whether only the next items can show if an error concerns its item or the whole job."""
    if isinstance(error, ServerError):
        return error.status not in _REFUSED | _HOPELESS
    return isinstance(error, (EngineTimeout, CheckError))


def derived_seed(seed: int, item_id: str) -> int:
    """Return an item's own seed, 31 bits, from the job's seed and the item's id."""
    digest = hashlib.blake2b(f"{seed}:{item_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
