"""One harness for every verb that does many items once each, into one output that is its own ledger.

A verb gives the items, the work on one item, and its words. The harness owns the rest: how many at once, what
was done before, failures and retries, the limits of the run, progress, signals, the lock, the provenance
record, and the figures at the end.

An item's result is one line or, with `many_lines`, any number of lines. What the work is, is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from redraft.errors import RecordError, RedraftError, UsageError
from redraft.ids import IdSet
from redraft.jobs.causes import UNFIT, in_words
from redraft.jobs.ledger import Ledger, record_id
from redraft.jobs.limits import STOPPED, Limits, Spent
from redraft.jobs.progress import ItemProgress
from redraft.jobs.provenance import Provenance
from redraft.jobs.runner import Item, ItemCounts, Runner, Work
from redraft.jobs.signals import EndedBySignal, run_until_signal
from redraft.jobs.unfinished import Unfinished

GO_ON = "run the same command again to go on"

T = TypeVar("T", bound=Item)


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come.

    Attributes:
        done: Items that are done, those of earlier runs included.
        total: All items, or how many results are wanted.
        failed: Items that failed in this run.
        tokens: Generated tokens of this run.
        usd: Their cost.
        seconds: How long the run has taken.
        left: Seconds until the end at this pace; None if that cannot be told.
        note: A few words on the results.
        waiting: What the run waits for, such as a server that is down; empty if it does not.
    """

    done: int
    total: int
    failed: int
    tokens: int
    usd: float
    seconds: float
    left: float | None
    note: str
    waiting: str


@dataclass(frozen=True)
class RunMessage:
    """Something that the user should know, such as a limit that was reached."""

    text: str


RunEvent = RunProgress | RunMessage


@dataclass(frozen=True)
class Session:
    """One run of a job, as the work on an item sees it.

    Attributes:
        done: Ids of finished items.
        counts: Items of this run. An `error` in it ends the run when what is under way is finished.
    """

    unfinished: Unfinished
    progress: ItemProgress
    spent: Spent
    done: Container[str]
    counts: ItemCounts

    def pay(self, tokens: int, usd: float | None, *, estimated: bool = False) -> None:
        """Book generated tokens and money, for the limits and the progress line."""
        self.spent.estimated |= estimated
        self.spent.tokens += tokens
        self.spent.usd += usd or 0.0
        self.progress.tokens += tokens


Start = Callable[[Session], AbstractAsyncContextManager[Work[T]]]
"""Open what the work needs, such as a model, and return the work on one item."""


@dataclass(frozen=True)
class JobResult:
    """What a run came to.

    Attributes:
        counts: Items of this run.
        spent: What they cost.
        seconds: How long the run took.
        found: Items that were done before.
        out: The output.
        causes: Why the items in `OUT.errors.jsonl` failed, in this run or before, counted.
        first_failure: Message and hint of the first of them.
    """

    counts: ItemCounts
    spent: Spent
    seconds: float
    found: int
    out: Path
    causes: Counter[str] = field(default_factory=Counter)
    first_failure: str = ""

    @property
    def exit_status(self) -> int:
        """That of a limit, or the highest of a failure; else 0."""
        return STOPPED if self.counts.limit else self.counts.exit_status

    def rows(self, results: str, before: int, now: int) -> list[tuple[str, str]]:
        """Return rows for the summary: how many results there are, and how many items failed, by cause."""
        earlier = f", {before:,} of them from before" if before else ""
        rows = [(results, f"{before + now:,} in {self.out}{earlier}")]
        if failed := self.causes.total():
            rows.append(("failed", f"{failed:,}: {in_words(self.causes)}"))
            unfit = set(self.causes) == {UNFIT}  # the same command would fail again
            rows += [("", self.first_failure)] if unfit else []
            rows.append(("", f"see {self.out}.errors.jsonl{'' if unfit else f'; {GO_ON}'}"))
        return rows

    def pace(self) -> list[tuple[str, str]]:
        """Return a row for the summary: time and new tokens a second, if there were any."""
        tokens = self.spent.tokens
        pace = tokens / self.seconds if self.seconds else 0.0
        return [("time", f"{self.seconds:.1f} s, {pace:.0f} new tokens/s")] if tokens else []


@dataclass(frozen=True)
class Goal:
    """What is wanted of a job whose number of items is not known before. Its items may have no end.

    Attributes:
        total: How much is wanted.
        done: Returns how much there is.
    """

    total: int
    done: Callable[[], int]


@dataclass(frozen=True)
class _Opened:
    """An open output, and a session if there is something to do."""

    ledger: Ledger
    total: int
    session: Session | None = None


@dataclass(frozen=True)
class Job(Generic[T]):
    """What is to be done, where results go, and within which limits.

    Attributes:
        items: Returns all items, in the same order each time. Called twice: to count them, and to do them.
            With a goal, it is called once.
        source: Where they come from, for messages.
        out: The output file.
        provenance: How the results are made.
        key: Returns an item's id from the JSON object of its line. Not used with `many_lines`.
        many_lines: An item may give no line, or several.
        goal: What is wanted, if that is not all items.
        noun: An item, in one word.
        twice: The hint where two items have one id.
        parallel: Items at once.
        retries: How often an item is tried again whose reply broke off.
        limits: Limits of this run.
        stop: Called before each new item. A text ends the job as a limit does: it says why.
        only_failed: Do the items that failed before, and no others.
        on_found: Called with each line that is in the output already.
        on_end: Called when the output has been closed, whatever ended the run.
        note: Returns a few words on the results, for the progress line.
        quiet: Show no progress.
        tell: Called with each message for the user.
        on_progress: Called with each step of the run, which is not shown then; None to show it.
    """

    items: Callable[[], Iterable[T]]
    source: str
    out: Path
    provenance: Provenance
    key: Callable[[dict[str, Any]], str] = record_id
    many_lines: bool = False
    goal: Goal | None = None
    noun: str = "item"
    twice: str = "Give each its own id."
    parallel: int = 1
    retries: int = 0
    limits: Limits = field(default_factory=Limits)
    stop: Callable[[], str] = str
    only_failed: bool = False
    on_found: Callable[[bytes], None] = lambda _: None
    on_end: Callable[[], None] = lambda: None
    note: Callable[[ItemCounts], str] = lambda _: ""
    quiet: bool = False
    tell: Callable[[str], None] = print
    on_progress: Callable[[RunProgress], object] | None = None

    def run(self, start: Start[T]) -> JobResult:
        """Do every item that is not done. In the main thread, Ctrl-C and SIGTERM end the run.

        Raises:
            RecordError: There are no items, or two have one id.
            OutputError: The output cannot be written, is in use, or was made in another way.
            RedraftError: Whatever ended the job. Every result until then is in the output.
            EndedBySignal: A signal ended the run. Every result until then is in the output.
        """
        with self._opened() as opened:
            if opened.session:
                run_until_signal(self._work(start, opened.session, opened.ledger))
        return self._result(opened)

    async def arun(self, start: Start[T]) -> JobResult:
        """Do the same in the loop that runs. Errors as for `run`; signals are the caller's."""
        with self._opened() as opened:
            if opened.session:
                await self._work(start, opened.session, opened.ledger)
        return self._result(opened)

    @contextmanager
    def _opened(self) -> Iterator[_Opened]:
        """Open the output, and begin a session if there is something to do."""
        total = self.goal.total if self.goal else self._count()
        ledger = Ledger(
            self.out, self.provenance, key=self.key, many_lines=self.many_lines, on_found=self.on_found
        )
        spent = Spent()
        ledger.figures = spent.figures
        with ExitStack() as closing:
            closing.callback(self.on_end)
            closing.enter_context(ledger)
            if ledger.torn and not self.quiet:
                self.tell(f"{self.out}: the last line was torn ({ledger.torn} bytes) and is done again.")
            ahead = ledger.failed_left if self.only_failed else total - ledger.found
            if not (ahead or self.goal):
                if self.only_failed:
                    self.tell(
                        f"{self.out}.errors.jsonl lists no failed {self.noun}: there is nothing to retry."
                    )
                yield _Opened(ledger, total)
                return
            quiet = self.quiet or self.on_progress is not None
            unfinished = Unfinished(self.out, self.provenance, ledger.done, forget=ledger.fresh)
            progress = ItemProgress(ledger.found + ahead, self._done(ledger), quiet=quiet)
            session = Session(unfinished, progress, spent, ledger.done, ItemCounts())
            if self.on_progress is not None:
                progress.on_update = lambda: self._show(session)
            with unfinished, progress:
                try:
                    yield _Opened(ledger, total, session)
                except EndedBySignal:
                    self.tell(self._left(ledger, total))
                    raise
                except RedraftError as error:
                    left = self._left(ledger, total)
                    if isinstance(error, UsageError):  # the same command would fail again
                        left = left.replace(f"; {GO_ON}", "")
                    error.hint = "\n".join(filter(None, [error.hint, left]))
                    raise

    def _result(self, opened: _Opened) -> JobResult:
        """Return what a run came to, now that its output is closed."""
        ledger, session = opened.ledger, opened.session
        if session is None:
            return JobResult(ItemCounts(), Spent(), 0.0, ledger.found, self.out)
        if session.counts.limit:
            self.tell(f"{session.counts.limit}: {self._left(ledger, opened.total)}")
        return JobResult(
            session.counts,
            session.spent,
            session.progress.seconds,
            ledger.found,
            self.out,
            ledger.causes,
            ledger.first_failure,
        )

    def _show(self, session: Session) -> None:
        """Call `on_progress`."""
        progress, counts, spent = session.progress, session.counts, session.spent
        assert self.on_progress is not None  # noqa: S101  (`_opened` has looked)
        self.on_progress(
            RunProgress(
                progress.done,
                progress.total or 0,
                counts.failed,
                spent.tokens,
                spent.usd,
                progress.seconds,
                progress.left,
                progress.note,
                progress.waiting,
            )
        )

    def _count(self) -> int:
        """Return the number of items. A bad one is found here, before anything is paid for."""
        seen = IdSet()
        for item in self.items():
            if not seen.add(item.id):
                message = f"{self.source}: two {self.noun}s have the id {item.id!r}."
                raise RecordError(message, hint=self.twice)
        if not len(seen):
            raise RecordError(f"{self.source}: there is no {self.noun} in it.", hint="Write one a line.")
        return len(seen)

    def _wanted(self, ledger: Ledger) -> Iterable[T]:
        """Return the items of this run, done ones included."""
        if not self.only_failed:
            return self.items()
        return (item for item in self.items() if item.id in ledger.failed_before)

    async def _work(self, start: Start[T], session: Session, ledger: Ledger) -> None:
        progress, counts = session.progress, session.counts

        def limit() -> str:
            reached = self.limits.reached(session.spent, progress.seconds)
            return "" if self._reached else self.stop() or reached

        def step() -> None:
            progress.done = self._done(ledger) + (0 if self.goal else counts.failed)
            progress.note = self.note(counts)
            progress.update()

        async with start(session) as work:
            await Runner(
                self._wanted(ledger),
                work,
                ledger,
                counts,
                parallel=self.parallel,
                retries=self.retries,
                limit=limit,
                on_step=step,
            ).run()

    def _done(self, ledger: Ledger) -> int:
        return self.goal.done() if self.goal else len(ledger.done)

    @property
    def _reached(self) -> bool:
        return self.goal is not None and self.goal.done() >= self.goal.total

    def _left(self, ledger: Ledger, total: int) -> str:
        return f"{self._done(ledger)} of {total} done; {GO_ON}."
