"""Plan a run of any kind: parallel items, limits and stored replies.

Each command that makes a file item by item has a `RunPlan`, which connects models, journal and batches to the
harness of `jobs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from redraft.engines.base import Engine
from redraft.errors import UsageError, path_of
from redraft.jobs.counting import tell
from redraft.jobs.files import not_an_input
from redraft.jobs.harness import JobResult, RunEvent, Session
from redraft.jobs.ids import Share, share_of
from redraft.jobs.journal import Journal
from redraft.jobs.limits import Limits
from redraft.jobs.progress import RunMessage
from redraft.jobs.stores import Store, url_of
from redraft.revision.api import Role
from redraft.revision.options import Budget, RevisionOptions, check_engines
from redraft.revision.runs.options import IN_BATCHES, PARALLEL
from redraft.revision.settings import Settings

if TYPE_CHECKING:
    from redraft.engines.remote.batch import Batches
    from redraft.engines.retry import Patience

PATIENCE = 300.0  # default seconds to wait for a server that is down or busy


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    job: JobResult  # items, failures, cost and time of this run
    rows: list[tuple[str, str]]  # the summary that the command prints, each row a name and a text
    width: ClassVar[int] = 10  # the width of the names in the summary

    @property
    def path(self) -> Path:
        """The path of the output."""
        return self.job.out

    @property
    def added(self) -> int:
        """The number of items that were done in this run."""
        return self.job.counts.added

    @property
    def found(self) -> int:
        """The number of items that were done before this run."""
        return self.job.found

    @property
    def failed(self) -> int:
        """The number of items that failed. The next run tries failed items again."""
        return self.job.causes.total()

    @property
    def failures(self) -> Counter[str]:
        """The causes of the failures, counted. The failed records are in `PATH.errors.jsonl`."""
        return self.job.causes

    @property
    def limit(self) -> str:
        """The limit that ended the run, in words, or "" if the run reached no limit."""
        return self.job.counts.limit

    @property
    def exit_status(self) -> int:
        """The command's exit status: 0 if done, 3 if the engine failed, 4 if a limit ended the run."""
        return self.job.exit_status

    def __str__(self) -> str:
        return "\n".join(f"{name:<{self.width}} {text}" for name, text in self.rows)


def under_way(batches: Batches | None) -> AbstractContextManager[Any]:
    """Count a chain as active in the `with` block. If all active chains wait for replies, a batch is sent."""
    return batches.chain() if batches else nullcontext()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run that makes a file."""

    out: Path
    parallel: int = PARALLEL
    limits: Limits = field(default_factory=Limits)
    keeps_replies: bool = False  # whether to keep a journal even without batches or shares
    cache: Path | None = None  # the file that stores replies for all equal requests
    share: Share | None = None  # the share of the job to do; None for the whole job
    whole: Path | None = None  # with a share: the output of all shares
    store: Store | None = None  # the store of the file, if `out` is its local copy
    batch: bool = False  # ask servers in batches
    pause: float | None = None  # longest pause between two polls of a batch, in seconds; None for the default
    quiet: bool = False
    # A function to call with progress and messages; None to show them.
    on_event: Callable[[RunEvent], object] | None = None
    tell: Callable[[str], None] = tell  # shows messages if there is no `on_event`

    @classmethod
    def of(cls, out: str | Path, settings: Settings, *, journal: bool = False) -> Self:
        """Return the plan for these `RunOptions`. With `journal`, the run keeps a journal next to the file.

        A share of a job (`shard`) writes its own file. If `out` is a URL, the plan's `out` is a local copy.
        """
        options, share, file, whole, store = settings.values, None, path_of(out), None, None
        names = ("cache", "batch", "pause", "quiet", "on_event")
        given: Any = {name: value for name in names if (value := getattr(options, name, None)) is not None}
        if text := getattr(options, "shard", None):
            if "cache" in given:
                hint = "Leave --cache out: each share keeps a journal beside its output."
                raise UsageError("--shard and --cache cannot be combined.", hint=hint)
            share = share_of(text)
            file, whole = share.path(file), file
        if url := url_of(file):
            of_all = Store(str(url_of(whole))) if whole else None
            store, whole = Store(url, of_all), of_all.copy if of_all else None
            file = store.copy
        scripted = journal and any(str(ref).startswith("script:") for ref in settings.references().values())
        usual = IN_BATCHES if given.get("batch") else 1 if scripted else PARALLEL  # replies are used in order
        return cls(
            file,
            keeps_replies=journal,
            parallel=options.parallel or usual,
            limits=Limits(options.limit_usd, options.limit_tokens, options.limit_seconds),
            share=share,
            whole=whole,
            store=store,
            tell=settings.tell,
            **given,
        )

    def holds(self, record_id: str) -> bool:
        """Return whether a record belongs to this run. A share of a job has only some of the records."""
        return self.share is None or self.share.holds(record_id)

    def say(self, message: str) -> None:
        """Show a message to the user, or pass it to `on_event`."""
        if self.on_event is None:
            self.tell(message)
        else:
            self.on_event(RunMessage(message))

    @property
    def own_replies(self) -> Path | None:
        """The path of this run's journal, or None if the run stores no replies or uses a cache."""
        own, batches = _beside(self.out, ".journal.db"), _beside(self.out, ".batches.jsonl")
        needed = self.keeps_replies or self.batch or self.share or own.exists() or batches.exists()
        return own if needed and not self.cache else None

    def of_job(self) -> dict[str, Any]:
        """Return the plan's settings as arguments of a `Job`."""
        return {
            "out": self.out,
            "whole": self.whole,
            "store": self.store,
            "parallel": self.parallel,
            "limits": self.limits,
            "quiet": self.quiet,
            "tell": self.say,
            "on_progress": self.on_event,
        }

    def check(self, settings: Settings, **inputs: Path | None) -> None:
        """Raise `UsageError` for faults that can be found before a file or a model is opened."""
        settings.waiting()
        if self.batch and not any("://" in reference for reference in settings.references().values()):
            hint = "Leave it out, or name a server that has batches: --model https://host/v1#model"
            raise UsageError("--batch is for servers, but no model is on a server.", hint=hint)
        if self.batch and settings.get("budget_seconds") is not None:
            raise UsageError(
                "--batch and --budget-seconds were given, but a batch may take a day.",
                hint="Limit the waiting with --limit-seconds, or each chain with --budget-tokens.",
            )
        not_an_input({"-o": self.out}, filter(None, inputs.values()))
        taken = {path.resolve() for path in (self.out, *inputs.values()) if path}
        if self.cache and self.cache.resolve() in taken:
            hint = "Name another file."
            raise UsageError(f"{self.cache} cannot be the cache: it is an input or the output.", hint=hint)

    def check_engines(self, options: RevisionOptions) -> None:
        """Raise `UsageError` if the cost is limited, but a model has no price."""
        if self.limits.usd is not None:
            check_engines(options.model_copy(update={"budget": Budget(usd=self.limits.usd)}))

    async def load(
        self, settings: Settings, session: Session, opened: Opened, role: Role, reference: str
    ) -> Engine:
        """Open a model. If a server is down, wait."""
        patience = self.patience(settings, session)
        how: Any = {"parallel": self.parallel, "patience": patience, "batches": opened.batches}
        return await settings.load(opened.stack, role, reference, **how)

    def patience(self, settings: Settings, session: Session) -> Patience:
        """Return how long to wait for a server."""
        return settings.waiting(usual=PATIENCE, limit_seconds=self.limits.seconds, tell=session.progress.wait)

    @asynccontextmanager
    async def opened(self, session: Session, *, finishing: bool = False) -> AsyncGenerator[Opened]:
        """Open the journal and batches of a session. The wait for batches ends when a limit is reached.

        Args:
            session: The session whose cost, tokens and seconds count.
            finishing: Whether to ignore the limits of cost and tokens, so that begun work is finished.

        Raises:
            UsageError: Batches are under way, and `batch` was not given.
        """
        limits = Limits(seconds=self.limits.seconds) if finishing else self.limits

        def over() -> str:
            return limits.reached(session.spent, session.progress.seconds)

        async with AsyncExitStack() as stack:
            file = self.own_replies or self.cache
            base = self.whole and _beside(self.whole, ".journal.db")
            if journal := stack.enter_context(Journal(file, base=base)) if file else None:
                stack.callback(lambda: setattr(session.spent, "replayed", journal.replayed))
            yield Opened(stack, journal, self._batches(stack, journal, over))

    def _batches(
        self, stack: AsyncExitStack, journal: Journal | None, limit: Callable[[], str]
    ) -> Batches | None:
        file = _beside(self.out, ".batches.jsonl")
        if not self.batch and not file.exists():
            return None
        from redraft.engines.remote.batch import PAUSE, Batches

        assert journal is not None  # noqa: S101  (`own_replies` sees to it)
        pause = PAUSE if self.pause is None else self.pause
        found = Batches(file, journal, pause=pause, limit=limit, tell=self.say)
        if self.batch:
            return stack.enter_context(found)
        left = found.file.pending()
        found.file.close()
        if left:
            raise UsageError(
                f"{left[0].batch or left[0].file} is under way for {self.out}, but --batch was not given.",
                hint=f"Add --batch to wait for it. Or remove {file} and pay for its replies again.",
            )
        return None


@dataclass(frozen=True)
class Opened:
    """The open journal and batches of a session. `stack` closes them, and models opened later."""

    stack: AsyncExitStack
    journal: Journal | None
    batches: Batches | None
