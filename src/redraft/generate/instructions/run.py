"""Generate instructions into a file that is its own pool: a second run goes on from it.

Beside the output stand the journal of paid replies, the rejects, the marks of finished requests, the record
of how it was made, and a page of statistics. `jobs.harness` runs the requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from redraft.chain import Chain
from redraft.engines.base import Engine, Sampling
from redraft.engines.journaled import identity_of
from redraft.engines.load import load_engine, model_of
from redraft.engines.price import price_of
from redraft.engines.threads import in_daemon_thread
from redraft.errors import UsageError
from redraft.generate.instructions import report, wording
from redraft.generate.instructions.estimate import Estimate
from redraft.generate.instructions.flow import Flow, Request
from redraft.generate.instructions.keywords import TaskKeywords
from redraft.generate.instructions.options import InstructionOptions
from redraft.generate.instructions.pool import TaskPool, Turns
from redraft.generate.instructions.rejects import Rejects
from redraft.generate.instructions.tasks import FEWEST, SHIPPED, Seeds, place_of, read_seeds
from redraft.generate.instructions.teacher import Teacher
from redraft.jobs.harness import Goal, ItemCounts, Job, JobResult, Session, Work
from redraft.jobs.journal import Journal
from redraft.jobs.limits import Limits
from redraft.jobs.provenance import Provenance
from redraft.options import MachineOptions
from redraft.revision.budget import Budget
from redraft.revision.options import RevisionOptions, check_prices

PARALLEL = 4
"""Default number of calls at once."""

AHEAD = 2
"""Requests under way for each call at once: some only wait for the turn of an earlier one."""

OF_THE_RESULT = (
    *("way", "language", "topic", "least_words", "most_words", "similar"),
    *("temperature", "top_p", "max_tokens", "seed", "model"),
)
"""Options that decide the results. `count` is not one: a larger one goes on."""

_SAMPLED: dict[str, dict[str, Any]] = {
    "alpaca": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 3072},
    "self-instruct": {"temperature": 0.7, "top_p": 0.5, "max_tokens": 1024},
}
"""How the two scripts sample, but for Self-Instruct's length: 1,024 hold five instances."""

_PRESENCE_PENALTY = 2.0
"""Self-Instruct's, for new instructions. Engines that take no further fields go without."""


class Opened(NamedTuple):
    """An open model, JSON values that tell it from every other, and a context in which to call it."""

    engine: Engine
    identity: Any
    calling: Callable[[], AbstractContextManager[Any]] = nullcontext


Open = Callable[[Session, Journal], AbstractAsyncContextManager[Opened]]


@dataclass(frozen=True)
class Generated:
    """What a run came to.

    Attributes:
        out: The file of tasks, as chains.
        page: The page of statistics.
        kept: Instructions in the file.
        rejected: Rejects by rule.
        dry: The run ended because the teacher gave nothing new any more.
        stats: Figures of what was kept.
        job: Cost, time and failures.
        estimate: What the missing instructions will cost, after a sample.
    """

    out: Path
    page: Path
    kept: int
    rejected: Counter[str]
    dry: bool
    stats: report.TaskStats
    job: JobResult
    estimate: Estimate | None = None

    @property
    def exit_status(self) -> int:
        """0 if the instructions are there; 3 for a dry teacher; else that of the job."""
        return self.job.exit_status or (3 if self.dry else 0)


def generate(
    out: str | Path,
    *,
    model: str | Engine = "default",
    parallel: int = PARALLEL,
    journal: str | Path | None = None,
    limits: Limits | None = None,
    **options: Unpack[TaskKeywords],
) -> Generated:
    """Generate instructions with inputs and outputs, from seeds and what `out` has already.

    Args:
        out: The file of tasks. If it exists, it is gone on with.
        model: A model reference, or an open engine.
        parallel: Calls at once.
        journal: Where replies are stored; by default beside `out`.
        limits: Limits of this run.
        options: As the flags of `redraft generate instructions`.

    Raises:
        UsageError: An option or the seeds do not fit.
        OutputError: `out` cannot be written, or was made in another way.
        EngineError: The model or its server failed. What was paid for is in the journal.
    """
    named = model if isinstance(model, str) else model.info.name
    checked = InstructionOptions.read({**options, "model": named})

    @asynccontextmanager
    async def opened(session: Session, journal: Journal) -> AsyncGenerator[Opened]:  # noqa: ARG001
        if not isinstance(model, str):
            yield Opened(model, [model.info.engine, model.info.name])
            return
        machine: Any = {name: getattr(checked, name) for name in MachineOptions.model_fields}
        engine = await load_engine(model, **machine, parallel=parallel)
        try:
            yield Opened(engine, await in_daemon_thread(lambda: identity_of(model)))
        finally:
            await engine.aclose()

    return Generation(
        options=checked,
        out=Path(out),
        opened=opened,
        parallel=parallel,
        journal=Path(journal) if journal else None,
        limits=limits or Limits(),
        quiet=True,
        tell=lambda _: None,
    ).run()


@dataclass
class Generation:
    """A run that generates instructions.

    Attributes:
        options: Those that were given, checked. Defaults are filled in.
        out: The file of tasks.
        opened: Opens the model.
        parallel: Calls at once.
        journal: Where replies are stored; None for a file beside the output.
        limits: Limits of this run.
        quiet: Show no progress.
        tell: Called with each message for the user.
        sample: Make so many requests, and estimate what the others will cost; None makes all.
    """

    options: InstructionOptions
    out: Path
    opened: Open
    parallel: int = PARALLEL
    journal: Path | None = None
    limits: Limits = field(default_factory=Limits)
    quiet: bool = False
    tell: Callable[[str], None] = print
    sample: int | None = None
    _seeds: Seeds = field(init=False)
    _pool: TaskPool = field(init=False)
    _rejected: Counter[str] = field(default_factory=Counter, init=False)
    _found: set[tuple[int, int, str]] = field(default_factory=set, init=False)
    _flow: Flow | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.options = _filled(self.options)

    def run(self) -> Generated:
        """Generate until there are enough, and write the page.

        Raises:
            UsageError: An option or the seeds do not fit.
            OutputError: The output cannot be written, or was made in another way.
            EngineError: The model or its server failed.
        """
        self._check()
        path = self.options.seeds
        self._seeds = read_seeds(Path(path) if path else None)
        if self._seeds.repeats and not self.quiet:
            self.tell(f"{path}: {self._seeds.repeats:,} seeds repeat another one, and are left out.")
        self._check_seeds()
        self._pool = TaskPool(self._seeds.tasks, self.options.count, self.options.similar)
        job = self._job().run(self._start)
        stats = report.stats_of(self.out)
        return Generated(
            out=self.out,
            page=report.write_page(self.out, stats, self._rejected, self._about()),
            kept=self._pool.kept,
            rejected=self._rejected,
            dry=self._is_dry and self._pool.missing > 0,
            stats=stats,
            job=job,
            estimate=self._estimate(),
        )

    def _check(self) -> None:
        """Raise what can be found wrong before a model is opened."""
        options = self.options
        if self.parallel < 1:
            raise UsageError(f"parallel is {self.parallel}.", hint="At least one call at once.")
        least, most = options.least_words, options.most_words
        if least > most:
            raise UsageError(
                f"least_words is {least}, and most_words is {most}.", hint="Give a most that is larger."
            )
        for name, file in (("seeds", options.seeds), ("journal", self.journal)):
            if file and Path(file).resolve() == self.out.resolve():
                hint = "An output is gone on with by itself. Name another file."
                raise UsageError(f"{self.out} cannot be the {name} too.", hint=hint)
        price_of(options.price)

    def _check_seeds(self) -> None:
        """Raise if Alpaca's requests would have no whole tasks to show."""
        total, solved = len(self._seeds.tasks), sum(bool(task.output) for task in self._seeds.tasks)
        if self.options.way == "alpaca" and solved < FEWEST:
            raise UsageError(
                f"{solved} of the {total} tasks in {self.options.seeds} have an output, and requests "
                f"of --way alpaca show at least {FEWEST} such tasks.",
                hint="Add outputs, or use --way self-instruct.",
            )

    def _job(self) -> Job[Request]:
        """Return the job of all requests."""
        return Job(
            items=self._requests,
            source=str(self.options.seeds or "the shipped seeds"),
            out=self.out,
            provenance=Provenance("generate instructions", self._config()),
            many_lines=True,
            goal=Goal(self.options.count, lambda: self._pool.kept or len(self._found)),
            noun="request",
            parallel=self.parallel * AHEAD,
            limits=self.limits,
            on_found=self._find,
            note=self._note,
            quiet=self.quiet,
            tell=self.tell,
        )

    def _estimate(self) -> Estimate | None:
        """Return what the missing instructions will cost, if that was asked and can be said."""
        if not (self.sample and self._flow and self._pool.missing):
            return None
        teacher, limits = self._flow.teacher, (self.options.rpm, self.options.tpm)
        costs = [teacher.costs[name] for name in sorted(teacher.costs, key=int)]
        before = max(self._flow.commits.next - len(costs), 0)
        kept = self._pool.kept - sum(cost.kept for cost in costs)
        priced = teacher.price is not None
        return Estimate(self._pool.missing, costs, priced, self.parallel, *limits, (before, kept))

    def _about(self) -> str:
        """Return how the tasks were made, for the page."""
        shown = ("way", "model", "language", "topic", "similar", "seed")
        values = ((name, getattr(self.options, name)) for name in shown)
        return " · ".join(f"{name} {value}" for name, value in values if value is not None)

    def _config(self) -> dict[str, Any]:
        seeds = {"name": Path(self.options.seeds or SHIPPED).name, "sha256": self._seeds.digest}
        return {name: getattr(self.options, name) for name in OF_THE_RESULT} | {
            "model": model_of(self.options.model or "default"),
            "seeds": seeds,
            "wording": wording.digest(),
        }

    @property
    def _is_dry(self) -> bool:
        return self._flow is not None and self._flow.dry

    def _requests(self) -> Iterator[Request]:
        for number in count():
            if not self._pool.missing or self._is_dry:
                return
            ended = self._flow and self._flow.commits.is_ended
            yield Request(number)
            if ended:  # it was not made: the runner has looked at the limits before it
                return

    def _find(self, line: bytes) -> None:
        self._found.add(place_of(Chain.from_json(line, where=str(self.out))))

    def _note(self, counts: ItemCounts) -> str:
        return f"{counts.added} requests · {self._rejected.total()} rejected"

    @asynccontextmanager
    async def _start(self, session: Session) -> AsyncGenerator[Work[Request]]:
        """Restore the pool, open the journal and the model, and yield the work on a request."""
        with Rejects(self.out, session.done) as rejects:
            self._rejected = rejects.counts
            self._restore(rejects)
            session.progress.done = self._pool.kept
            async with AsyncExitStack() as stack:
                if self._pool.missing:
                    self._flow = await self._opened(stack, session, rejects)
                    yield self._flow.work
                else:
                    yield _nothing

    def _restore(self, rejects: Rejects) -> None:
        """Put into the pool what earlier runs put there, in the same order."""
        kept = self._found
        for place in sorted({*kept, *rejects.claimed}):
            self._pool.add(place[2])
            if place in kept:
                self._pool.keep(*place)

    async def _opened(self, stack: AsyncExitStack, session: Session, rejects: Rejects) -> Flow:
        options = self.options
        path = self.journal or self.out.with_name(f"{self.out.name}.journal.db")
        journal = stack.enter_context(Journal(path))
        stack.callback(lambda: setattr(session.spent, "replayed", journal.replayed))
        async with self.limits.opening(session.progress.seconds):
            engine, identity, calling = await stack.enter_async_context(self.opened(session, journal))
        if not engine.info.chats:
            raise UsageError(
                f"{engine.info.name} does not answer messages, and a teacher has to.",
                hint="Use a model with a chat template.",
            )
        if self.limits.usd is not None:
            budget = Budget(usd=self.limits.usd)
            check_prices(RevisionOptions.read({"model": engine, "price": options.price, "budget": budget}))
        teacher = Teacher(
            engine,
            identity,
            journal,
            session,
            asyncio.Semaphore(self.parallel),
            calling,
            price_of(options.price) or engine.info.price,
            1 + options.retries,
            lambda: self.limits.reached(session.spent, session.progress.seconds),
        )
        return Flow(
            way=options.way,
            wanted=wording.Wanted(
                options.language, options.topic or "", options.least_words, options.most_words
            ),
            sampling=self._sampling(engine),
            pool=self._pool,
            shipped=self._seeds.tasks if self._seeds.shipped else read_seeds(None).tasks,
            teacher=teacher,
            rejects=rejects,
            commits=Turns(session.done),
            claims=Turns(session.done),
            sample=self.sample or inf,
            seeds=self._seeds.origin,
        )

    def _sampling(self, engine: Engine) -> Sampling:
        options = self.options
        sampled: Any = {name: getattr(options, name) for name in _SAMPLED[options.way]}
        penalty = options.way == "self-instruct" and engine.info.any_request
        return Sampling(
            **sampled,
            seed=options.seed,
            extra_body={"presence_penalty": _PRESENCE_PENALTY} if penalty else None,
        )


async def _nothing(_: Request) -> None:
    return None


def _filled(given: InstructionOptions) -> InstructionOptions:
    """Return options with the defaults of sampling, which depend on the way."""
    usual = {"model": "default", **_SAMPLED[given.way]}
    lacking = {name: value for name, value in usual.items() if getattr(given, name) is None}
    return given.model_copy(update=lacking)
