"""Process many items, each once, and write the results to one output file.

A command supplies the items, a function that processes one item, and texts for messages. The harness runs
items in parallel, skips finished items, handles failures and signals, limits the run, shows progress, locks
the output, and writes the provenance record. An item is read only when a worker is free, so memory does not
grow with the number of items.

Some errors fail only one item (a prompt that is too long), and some end the job (an empty account, a full
disk). After a doubtful error (a failing server), the job ends if the next items fail too. After a transient
error, such as an interrupted reply, an item is retried at once. Engines wait for servers (`engines.retry`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from redraft.errors import CheckError, EngineError, ModelError, RecordError, RedraftError, UsageError
from redraft.jobs.causes import UNFIT, in_words, is_doubtful, is_filtered, is_of_item, is_refusal
from redraft.jobs.counting import begin_line, counted
from redraft.jobs.hub import FETCHING
from redraft.jobs.ids import IdSet
from redraft.jobs.ledger import Ledger, Unfinished, done_in, record_id
from redraft.jobs.limits import STOPPED, Limits, Spent
from redraft.jobs.progress import DRAW_SECONDS, ItemProgress, RunMessage
from redraft.jobs.provenance import Provenance
from redraft.jobs.signals import EndedBySignal, run_until_signal
from redraft.jobs.stores import Store

_PATIENCE = 3
"""The number of consecutive doubtful failures that end the job, or `parallel` if larger. Before the first
finished item, the same number of refused requests also ends the job."""

GO_ON = "run the same command again to resume"


class _Item(Protocol):
    @property
    def id(self) -> str:
        """The item's id, unique within a job."""


T = TypeVar("T", bound=_Item)

Work = Callable[[T], Awaitable[list[str] | None]]
"""A function that processes an item, and returns lines of JSON, or None to leave the item unfinished."""


@dataclass
class ItemCounts:
    """The counts of items in this run, and the limit or error that ended the run."""

    added: int = 0
    failed: int = 0
    exit_status: int = 0  # the highest exit status of a failure
    limit: str = ""  # describes the limit that was reached while items were left
    error: RedraftError | None = None  # the error that ended the job while items were active


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run."""

    done: int  # finished items, including those of earlier runs
    total: int  # number of all items, or of wanted results
    failed: int  # items that failed in this run
    tokens: int  # generated tokens of this run
    usd: float  # cost of this run
    seconds: float  # time since the run began
    left: float | None  # seconds until the end at this pace; None if unknown
    note: str  # a few words on the results
    waiting: str  # the reason for a wait, such as a server that is down; empty without a wait


RunEvent = RunProgress | RunMessage


@dataclass(frozen=True)
class Session:
    """The state of a run, shared by all workers."""

    unfinished: Unfinished
    progress: ItemProgress
    spent: Spent
    done: Container[str]  # ids of finished items
    counts: ItemCounts  # setting its `error` ends the run once active items are finished

    def pay(self, tokens: int, usd: float | None, *, estimated: bool = False) -> None:
        """Add the tokens and cost of a reply to the totals of this run."""
        self.spent.estimated |= estimated
        self.spent.tokens += tokens
        self.spent.usd += usd or 0.0
        self.progress.tokens += tokens


Start = Callable[[Session], AbstractAsyncContextManager[Work[T]]]
"""A function that returns a context manager, which opens resources, such as a model, and yields a `Work`."""


@dataclass(frozen=True)
class JobResult:
    """The result of a run."""

    counts: ItemCounts
    spent: Spent
    seconds: float
    found: int  # items that earlier runs finished
    out: Path
    # The number of failures in `OUT.errors.jsonl` by cause, from this run and earlier runs.
    causes: Counter[str] = field(default_factory=Counter)
    first_failure: str = ""  # message and hint of the first failure in that file
    url: str = ""  # the output's address, if `out` is a copy

    @property
    def exit_status(self) -> int:
        """`STOPPED` if a limit was reached, otherwise the highest exit status of the failures, or 0."""
        return STOPPED if self.counts.limit else self.counts.exit_status

    def rows(self, results: str, before: int, now: int) -> list[tuple[str, str]]:
        """Return summary rows: the label `results` with `before` plus `now`, and failed items by cause."""
        earlier = f", {before:,} of them from earlier runs" if before else ""
        rows = [(results, f"{before + now:,} in {self.url or self.out}{earlier}")]
        if failed := self.causes.total():
            rows.append(("failed", f"{failed:,}: {in_words(self.causes)}"))
            unfit = set(self.causes) == {UNFIT}  # the same command would fail again
            rows += [("", f"first: {self.first_failure}")] if self.first_failure else []
            rows.append(("", f"see {self.url or self.out}.errors.jsonl{'' if unfit else f'; {GO_ON}'}"))
        return rows

    def pace(self) -> list[tuple[str, str]]:
        """Return the summary row with this run's time and speed, or no row if no tokens were generated."""
        tokens = self.spent.tokens
        pace = tokens / self.seconds if self.seconds else 0.0
        this = " in this run" if self.found else ""
        return [("time", f"{self.seconds:.1f} s{this}, {pace:.0f} new tokens/s")] if tokens else []


@dataclass(frozen=True)
class Goal:
    """The number of results that ends a job of unknown length, and a function that counts the results."""

    total: int
    done: Callable[[], int]


@dataclass(frozen=True)
class Job(Generic[T]):
    """The items to process, the output for the results, and the limits."""

    # Returns all items, in the same order each time. Called twice: to count the items, and to process
    # them. With a goal, it is called once.
    items: Callable[[], Iterable[T]]
    source: str  # the origin of the items, for messages
    out: Path
    provenance: Provenance
    # If this job is a share: the merged output. Its items count as done, and the share may be empty.
    whole: Path | None = None
    store: Store | None = None  # the store of the output, if `out` is a local copy
    key: Callable[[dict[str, Any]], str] = record_id  # returns an item's id from the JSON object of its line
    # Returns whether a line is the last of its item, for items with several lines.
    is_last: Callable[[dict[str, Any]], bool] = lambda _: True
    goal: Goal | None = None  # ends the job at a number of results, not after all items
    noun: str = "item"
    needs: str = "Write one per line."  # the hint if there are no items
    parallel: int = 1
    retries: int = 0  # how often an item is tried again if its reply breaks off
    limits: Limits = field(default_factory=Limits)
    # Called before each new item. If it returns a text, the job ends as at a limit, for this reason.
    stop: Callable[[], str] = str
    on_found: Callable[[bytes], None] = lambda _: None  # called with each line that is in the output already
    on_end: Callable[[], None] = lambda: None  # called when the output is closed, whatever ended the run
    note: Callable[[ItemCounts], str] = lambda _: ""  # a few words on the results, for the progress line
    quiet: bool = False
    tell: Callable[[str], None] = print
    # Called with each step of the run, instead of a progress line. If None, the line is shown.
    on_progress: Callable[[RunProgress], object] | None = None
    _made: IdSet = field(default_factory=IdSet, init=False)  # ids that are done in the output `whole`

    def run(self, start: Start[T]) -> JobResult:
        """Process every unfinished item. In the main thread, Ctrl-C and SIGTERM end the run.

        Raises:
            RecordError: There are no items, or two items have the same id.
            OutputError: The output cannot be written, is in use, or was made with other settings.
            RedraftError: An error ended the job. The output contains the results so far.
            EndedBySignal: A signal ended the run. The output contains the results so far.
        """
        with self._opened() as opened:
            if opened.session:
                run_until_signal(opened.work(start, opened.session))
        return opened.result()

    async def arun(self, start: Start[T]) -> JobResult:
        """Do the same as `run` in the running event loop, but without handling signals."""
        with self._opened() as opened:
            if opened.session:
                await opened.work(start, opened.session)
        return opened.result()

    @contextmanager
    def _opened(self) -> Iterator[_OpenJob[T]]:
        if self.store:
            self.store.pull()
        if self.whole and self.whole.exists():
            # Items that are in this share's output too, as after a merge, are counted there.
            own = IdSet(done_in(self.out, self.provenance, self.key) if self.out.exists() else ())
            self._made.update(i for i in done_in(self.whole, self.provenance, self.key) if i not in own)
        total = self.goal.total if self.goal else self._count()
        ledger = Ledger(self.out, self.provenance, key=self.key, is_last=self.is_last, on_found=self.on_found)
        with ExitStack() as closing:
            closing.callback(self.store.close if self.store else bool)
            closing.callback(self.on_end)
            closing.enter_context(ledger)
            (self.store.begin if self.store else bool)()
            if ledger.torn and not self.quiet:
                self.tell(f"{self.out}: the last line is incomplete. Its item is done again.")
            opened, spent = _OpenJob(self, ledger, total), Spent()
            ledger.figures = spent.figures
            if total == ledger.found and not self.goal:
                yield opened
                return
            unfinished = Unfinished(self.out, self.provenance, ledger.done, forget=ledger.fresh)
            quiet = self.quiet or self.on_progress is not None
            progress = ItemProgress(total, opened.done, quiet=quiet)
            opened.session = Session(unfinished, progress, spent, ledger.done, ItemCounts())
            progress.on_update, progress.opening = opened.show, True
            with unfinished, progress:
                try:
                    yield opened
                except EndedBySignal:
                    if quiet:
                        begin_line()
                    failed = opened.session.counts.failed
                    if self.quiet and failed:
                        self.tell(f"{counted(failed, self.noun)} failed: see {self.out}.errors.jsonl.")
                    self.tell(opened.left)
                    raise
                except RedraftError as error:
                    left = opened.left
                    if isinstance(error, UsageError | ModelError):  # the same command would fail again
                        left = left.replace(f"; {GO_ON}", "") if opened.done else ""
                    error.hint = "\n".join(filter(None, [error.hint, left]))
                    raise

    def _count(self) -> int:
        seen = IdSet()
        for item in self.undone():
            if not seen.add(item.id):
                message = f"{self.source}: two {self.noun}s have the id {item.id!r}."
                raise RecordError(message, hint=f"Give each {self.noun} its own id.")
        if not (len(seen) or self.whole):
            raise RecordError(f"there is no {self.noun} in {self.source}.", hint=self.needs)
        return len(seen)

    def undone(self) -> Iterator[T]:
        """Yield the items that are not in the merged output `whole`."""
        return (item for item in self.items() if item.id not in self._made)


@asynccontextmanager
async def _ticking(progress: ItemProgress) -> AsyncGenerator[None]:

    async def tick() -> None:
        while True:
            await asyncio.sleep(DRAW_SECONDS)
            if not FETCHING.is_set():
                progress.tick()

    ticks = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticks.cancel()


@dataclass
class _OpenJob(Generic[T]):
    job: Job[T]
    ledger: Ledger
    total: int
    session: Session | None = None
    _doubts: int = 0
    _refusals: int = 0

    async def work(self, start: Start[T], session: Session) -> None:
        items = self.job.undone()
        try:
            async with _ticking(session.progress), start(session) as work, asyncio.TaskGroup() as group:
                session.progress.opening = False
                for _ in range(self.job.parallel):
                    group.create_task(self._worker(items, work, session))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        if session.counts.error:
            raise session.counts.error

    async def _worker(self, items: Iterator[T], work: Work[T], session: Session) -> None:
        counts, progress = session.counts, session.progress
        for item in items:
            if item.id in self.ledger.done:
                continue
            goal = self.job.goal
            if not (counts.limit or (goal and goal.done() >= goal.total)):
                reached = self.job.limits.reached(session.spent, session.progress.seconds)
                counts.limit = self.job.stop() or reached
            if counts.limit or counts.error:
                return
            progress.current.append(item.id)
            try:
                await self._do(item, work, counts)
            except (EngineError, CheckError) as error:
                counts.error = counts.error or error
            finally:
                progress.current.remove(item.id)
            progress.done = self.done + (0 if goal else counts.failed)
            progress.note = self.job.note(counts)
            progress.update()

    async def _do(self, item: T, work: Work[T], counts: ItemCounts) -> None:
        for left in reversed(range(1 + self.job.retries)):
            try:
                lines = await work(item)
            except RedraftError as error:
                if left and not counts.error and isinstance(error, EngineError) and error.passing:
                    continue
                self._fail(item.id, error, counts)
                return
            if lines is not None:
                self.ledger.append(item.id, *lines)
                counts.added += 1
            self._doubts = 0
            return

    def _fail(self, item_id: str, error: RedraftError, counts: ItemCounts) -> None:
        doubtful = is_doubtful(error)
        if not doubtful and not is_of_item(error):
            raise error
        self.ledger.fail(item_id, error)
        counts.failed += 1
        counts.exit_status = max(counts.exit_status, error.exit_status)
        self._doubts += doubtful
        self._refusals += is_refusal(error) and not is_filtered(error)
        patience = max(self.job.parallel, _PATIENCE)
        if self._doubts >= patience:
            raise error
        if self._refusals >= patience and not self.ledger.done:
            error.hint = " ".join(filter(None, [error.hint, f"The first {self._refusals} prompts failed."]))
            raise error

    @property
    def done(self) -> int:
        return self.job.goal.done() if self.job.goal else len(self.ledger.done)

    @property
    def left(self) -> str:
        return f"{self.done} of {self.total} done; {GO_ON}."

    def show(self) -> None:
        if self.job.on_progress is None or self.session is None:
            return
        progress, spent = self.session.progress, self.session.spent
        self.job.on_progress(
            RunProgress(
                done=progress.done,
                total=progress.total or 0,
                failed=self.session.counts.failed,
                tokens=spent.tokens,
                usd=spent.usd,
                seconds=progress.seconds,
                left=progress.left,
                note=progress.note,
                waiting=progress.waiting,
            )
        )

    def result(self) -> JobResult:
        ledger, session = self.ledger, self.session
        url = self.job.store.url if self.job.store else ""
        if session is None:
            return JobResult(ItemCounts(), Spent(), 0.0, ledger.found, self.job.out, url=url)
        if session.counts.limit:
            self.job.tell(f"{session.counts.limit}: {self.left}")
        seconds, why = session.progress.seconds, (ledger.causes, ledger.first_failure)
        return JobResult(session.counts, session.spent, seconds, ledger.found, self.job.out, *why, url)
