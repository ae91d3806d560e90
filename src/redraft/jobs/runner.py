"""Does each item of a stream once: so many at a time, past what is done, and past what fails.

Items are taken only when there is room to work on them, so memory does not grow with their number. An
error is a matter of its item (too long a prompt), a doubt (a server that fails: of the item, unless the next
ones fail too), or the end of the job (a crashed engine, a full disk). An item whose reply broke off is tried
again at once: waiting for a server is the engine's affair (`engines.patience`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from redraft.errors import (
    CheckError,
    ContextError,
    EmptyReply,
    EngineTimeout,
    RecordError,
    RedraftError,
    ServerError,
)
from redraft.jobs.ledger import Ledger

PATIENCE = 3
"""So many doubtful failures in a row, and at least as many as run at once, end the job. So do as many refused
requests where nothing was done yet."""

_REFUSED = frozenset({400, 413, 422})
"""HTTP statuses by which a server refuses one request for what is in it."""

_HOPELESS = frozenset({401, 402, 403, 404, 405})
"""HTTP statuses that every other request would get as well."""


class Item(Protocol):
    """Something to do, known by its id."""

    @property
    def id(self) -> str:
        """Names the item in the ledger; no two items of a job have the same."""
        ...


T = TypeVar("T", bound=Item)

Work = Callable[[T], Awaitable[list[str]]]
"""Do an item, and return the lines of its result."""


@dataclass
class Tally:
    """What a job came to so far, in items.

    Attributes:
        skipped: Done before.
        added: Done now.
        failed: Failed now, and to be tried again the next time.
        exit_status: The highest that an item's failure asks for.
        limit: Which limit was reached while there were items left, in words.
    """

    skipped: int = 0
    added: int = 0
    failed: int = 0
    exit_status: int = 0
    limit: str = ""


async def run_jobs(
    items: Iterable[T],
    work: Work[T],
    ledger: Ledger,
    tally: Tally,
    *,
    parallel: int,
    retries: int = 0,
    limit: Callable[[], str] = str,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Do every item that is not in the ledger.

    Args:
        items: The items, taken one by one as there is room.
        work: Makes the lines of an item's result.
        ledger: Where results and failures go.
        tally: Is kept up to date.
        parallel: How many items to do at once.
        retries: How often an item is tried again whose reply broke off in the middle.
        limit: Called before each new item. A text ends the job when the items under way are finished.
        on_step: Called after each item that was done or failed.

    Raises:
        RedraftError: Whatever ended the job. Every result until then is in the ledger.
        RecordError: Two items have one id.
        asyncio.CancelledError: The job was cancelled. Every result until then is in the ledger.
    """
    job = _Job(items, work, ledger, tally, max(parallel, PATIENCE), retries, limit, on_step)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(job.worker())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


class _Job(Generic[T]):
    """The state that the workers of one job share."""

    def __init__(
        self,
        items: Iterable[T],
        work: Work[T],
        ledger: Ledger,
        tally: Tally,
        patience: int,
        retries: int,
        limit: Callable[[], str],
        on_step: Callable[[], None],
    ) -> None:
        self.items = iter(items)
        self.work = work
        self.ledger = ledger
        self.tally = tally
        self.patience = patience
        self.retries = retries
        self.limit = limit
        self.on_step = on_step
        self.taken: set[str] = set()
        self.doubts = 0
        self.refusals = 0

    async def worker(self) -> None:
        for item in self.items:
            self._take(item.id)
            if item.id in self.ledger.done:
                self.tally.skipped += 1
                continue
            self.tally.limit = self.tally.limit or self.limit()
            if self.tally.limit:
                return
            await self._do(item)
            self.on_step()

    def _take(self, item_id: str) -> None:
        if item_id in self.taken:
            raise RecordError(f"two items have the id {item_id!r}.", hint="Give each its own id, or none.")
        self.taken.add(item_id)

    async def _do(self, item: T) -> None:
        try:
            lines = await self._try(item)
        except RedraftError as error:
            self._fail(item.id, error)
        else:
            self.ledger.append(item.id, *lines)
            self.tally.added += 1
            self.doubts = 0

    async def _try(self, item: T) -> list[str]:
        for _ in range(self.retries):
            try:
                return await self.work(item)
            except ServerError as error:
                if not error.passing:
                    raise
        return await self.work(item)

    def _fail(self, item_id: str, error: RedraftError) -> None:
        doubtful = is_doubtful(error)
        if not doubtful and not is_of_item(error):
            raise error
        self.ledger.fail(item_id, error)
        self.tally.failed += 1
        self.tally.exit_status = max(self.tally.exit_status, error.exit_status)
        self.doubts += doubtful
        self.refusals += is_refusal(error)
        if self.doubts >= self.patience:
            raise error
        if self.refusals >= self.patience and not self.ledger.done:
            error.hint = " ".join(filter(None, [error.hint, f"The first {self.refusals} prompts ended so."]))
            raise error


def is_of_item(error: RedraftError) -> bool:
    """Whether an error says something of its item alone, so that the others may well be done."""
    return is_refusal(error) or isinstance(error, (ContextError, EmptyReply, RecordError))


def is_refusal(error: RedraftError) -> bool:
    """Whether a server refused a request for what is in it, which may be in all of them: a wrong model."""
    return isinstance(error, ServerError) and error.status in _REFUSED


def is_doubtful(error: RedraftError) -> bool:
    """Whether an error may be of its item or of everything: it depends on whether the next ones fail too."""
    if isinstance(error, ServerError):
        return error.status not in _REFUSED | _HOPELESS
    return isinstance(error, (EngineTimeout, CheckError))


def derived_seed(seed: int, item_id: str) -> int:
    """An item's own seed, 31 bits: it depends on the job's seed and the id, not on when the item is done."""
    digest = hashlib.blake2b(f"{seed}:{item_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
