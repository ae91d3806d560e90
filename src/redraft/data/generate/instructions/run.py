"""Generate instructions into a file. A later run adds new instructions.

Files named after the output contain the replies, the rejected tasks, failed and unfinished requests, and the
provenance. `jobs.harness` runs the requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self, Unpack

from redraft.chain import Chain
from redraft.checks.language import BY_NAME, code_of
from redraft.data.generate.instructions import tasks, wording
from redraft.data.generate.instructions.flow import DRY, Flow, Request, Teacher
from redraft.data.generate.instructions.pool import Rejects, TaskPool, Turns
from redraft.data.generate.options import InstructionOptions
from redraft.engines.base import Engine, Sampling, price_of
from redraft.engines.load import identity_of, model_of
from redraft.errors import UsageError, nearest
from redraft.jobs.causes import in_words
from redraft.jobs.counting import counted, tell
from redraft.jobs.harness import Goal, Job, JobResult, Session, Work
from redraft.jobs.provenance import Provenance, RunFile, contents_of
from redraft.jobs.signals import in_daemon_thread
from redraft.revision.keywords import InstructionKeywords
from redraft.revision.options import RevisionOptions
from redraft.revision.runs.plan import Opened, RunPlan, under_way
from redraft.revision.settings import Settings

AHEAD = 2  # requests under way per parallel call, because some only wait for earlier requests

OF_THE_RESULT = (
    *("way", "language", "topic", "similar"),
    *("temperature", "top_p", "max_tokens", "seed", "model"),
)
"""Options that affect the results. `count` is missing, because a larger count continues the output."""

_SAMPLED: dict[str, dict[str, Any]] = {
    "alpaca": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 3072},
    "self-instruct": {"temperature": 0.7, "top_p": 0.5, "max_tokens": 1024},
}
"""The original scripts' sampling. Only Self-Instruct's token limit differs, to fit five instances."""

_PRESENCE_PENALTY = 2.0
"""Self-Instruct's presence penalty, sent with requests for instructions if the engine takes extra fields."""


@dataclass(frozen=True)
class Generated:
    """The result of a run."""

    out: Path  # the file of tasks, as chains
    kept: int  # instructions in the file
    rejected: Counter[str]  # rejects by rule
    dry: bool  # the run ended because the teacher wrote no new instructions
    tasks: int  # instances of the instructions
    job: JobResult  # cost, time and failures
    paid: str = ""  # the cost of all runs, in words, if there were several

    @property
    def exit_status(self) -> int:
        """The exit status of `job`, or 3 if that is 0 and the teacher ran out of new instructions."""
        return self.job.exit_status or (3 if self.dry else 0)

    def __str__(self) -> str:
        spent, out = self.job.spent, self.out
        kept = f"{counted(self.kept, 'instruction')}, {counted(self.tasks, 'task')} in {out}"
        if not (self.job.counts.added or self.exit_status):
            kept += f": these were enough, so no request was made. A --count above {self.kept} adds more"
        rows = [("kept", kept)]
        if self.rejected:
            rows.append(("rejected", f"{self.rejected.total():,}: {in_words(self.rejected)}"))
        if failed := self.job.counts.failed:
            rows.append(("failed", f"{counted(failed, 'request')}, see {out}.errors.jsonl"))
        if self.paid or spent.replayed or spent.usd or spent.estimated:
            price = f", {spent.usd:.4f} USD" if spent.usd else ""
            how = ", estimated" if spent.estimated else ""
            new = self.paid or f"{counted(spent.tokens, 'new token')}{price}{how}"
            here = " in this run" * bool(self.paid)
            rows.append(("paid", f"{new}; reused from the journal{here}: {spent.replayed:,}"))
        rows += self.job.pace()
        return "\n".join(f"{name:<10} {text}" for name, text in rows)


def generate_instructions(
    output: str | Path, *, model: str | Engine = "default", **options: Unpack[InstructionKeywords]
) -> Generated:
    """Generate instructions with inputs and outputs, from seeds and the tasks already in `output`.

    Same as `redraft generate instructions`, which can resume the run. The function works in notebooks too.

    Args:
        output: The file of tasks. The run continues an existing file.
        model: The teacher, as a model reference or an open engine, which stays open.
        **options: See docs/options.md; all are optional.

    Raises:
        UsageError, RecordError: An option is wrong, or the seeds cannot be used.
        OutputError: `output` cannot be written, is in use, or was made with other settings.
        EngineError: The model or the server failed. Finished replies are in the journal.
        KeyboardInterrupt: Ctrl-C ended the run. Finished tasks are in `output`.
    """
    return _run_of(output, model, options).run()


async def agenerate_instructions(
    output: str | Path, *, model: str | Engine = "default", **options: Unpack[InstructionKeywords]
) -> Generated:
    """Do the same as `generate_instructions`, in the running event loop."""
    return await _run_of(output, model, options).arun()


def _run_of(output: str | Path, model: str | Engine, options: Mapping[str, Any]) -> InstructionRun:
    given = {**options, "model": model if isinstance(model, str) else model.info.name}
    run = InstructionRun.of(Settings.read(InstructionOptions, given, tell=tell), output)
    run.engine = None if isinstance(model, str) else model
    return run


@dataclass
class InstructionRun:
    """A run that generates instructions. `engine`, if given, replaces the model of the options."""

    settings: Settings
    plan: RunPlan
    engine: Engine | None = None
    _seeds: tasks.Seeds = field(init=False)
    _pool: TaskPool = field(init=False)
    _rejected: Counter[str] = field(default_factory=Counter, init=False)
    _found: set[tuple[int, int, str]] = field(default_factory=set, init=False)
    _flow: Flow | None = field(default=None, init=False)

    @classmethod
    def of(cls, settings: Settings, output: str | Path) -> Self:
        """Return a run with the given settings."""
        usual = {"model": "default", **_SAMPLED[settings.values.way]}
        lacking = {name: value for name, value in usual.items() if getattr(settings.values, name) is None}
        settings = settings.over(**lacking)
        return cls(settings, RunPlan.of(output, settings, journal=True))

    @property
    def options(self) -> InstructionOptions:
        """The options of the run."""
        values: InstructionOptions = self.settings.values
        return values

    def run(self) -> Generated:
        """Generate instructions until there are enough. In the main thread, signals end the run."""
        return self._result(self._job().run(self._start))

    async def arun(self) -> Generated:
        """Do the same as `run`, in the running event loop."""
        return self._result(await self._job().arun(self._start))

    def _check(self) -> None:
        options = self.options
        if options.model == "default" and self.engine is None:
            self.plan.say("The default model is too small to write tasks. Name another: --model")
        self.plan.check(self.settings, seeds=Path(options.seeds) if options.seeds else None)
        if options.batch and options.way == "self-instruct":
            why = "requests need earlier replies, so a large set would take a thousand batches"
            hint = "Leave out --batch, or use --way alpaca."
            raise UsageError(f"--batch needs --way alpaca. With self-instruct, {why}.", hint=hint)
        if code_of(options.language) is None:
            listed = f"Give an ISO 639 code, or one of: {', '.join(BY_NAME)}"
            hint = nearest(options.language.lower(), BY_NAME) or listed
            raise UsageError(f"--language: {options.language!r} is not a known language.", hint=hint)
        price_of(options.price)

    def _job(self) -> Job[Request]:
        self._check()
        options, path = self.options, self.options.seeds
        self._seeds = tasks.read_seeds(Path(path) if path else None)
        if self._seeds.repeats and not self.plan.quiet:
            self.plan.say(f"repeated seeds in {path} are left out: {self._seeds.repeats:,}.")
        total, solved = len(self._seeds.tasks), sum(bool(task.output) for task in self._seeds.tasks)
        if options.way == "alpaca" and solved < tasks.FEWEST:
            needs = f"--way alpaca needs {tasks.FEWEST} or more"
            message = f"{solved} of the {total} tasks in {path} have an output, but {needs}."
            raise UsageError(message, hint="Add outputs, or use --way self-instruct.")
        self._pool = TaskPool(self._seeds.tasks, options.count, options.similar)
        shared = self.plan.of_job()
        shared["parallel"] *= AHEAD
        seeds = {"name": Path(options.seeds or tasks.SHIPPED).name, "sha256": self._seeds.digest}
        config = {name: getattr(options, name) for name in OF_THE_RESULT}
        config |= {"model": model_of(options.model or "default"), "seeds": seeds, "wording": wording.digest()}
        config |= contents_of({"model": options.model})
        return Job(
            items=self._requests,
            source=str(options.seeds or "the shipped seeds"),
            provenance=Provenance("generate instructions", config),
            key=lambda record: str(tasks.generated_in(record)["request"]),
            is_last=lambda record: bool(tasks.generated_in(record)["is_last"]),
            goal=Goal(options.count, lambda: self._pool.kept or len(self._found)),
            noun="request",
            on_found=self._find,
            note=lambda counts: f"{counts.added} requests · rejected: {in_words(self._rejected) or 'none'}",
            **shared,
        )

    def _find(self, line: bytes) -> None:
        chain = Chain.from_json(line, where=str(self.plan.out))
        about = chain.meta[tasks.GENERATED]
        self._found.add((about["request"], about["number"], chain.prompt.instruction))

    def _result(self, job: JobResult) -> Generated:
        out, kept = self.plan.out, self._pool.kept
        if dry := self._is_dry and self._pool.missing > 0:
            self.plan.say(
                f"the last {DRY} requests gave no new, valid task; kept: {counted(kept, 'instruction')}.\n"
                f"  Rejects: {in_words(self._rejected) or 'none'}. "
                "Try a stronger model, more seeds, or another --topic."
            )
        with out.open("rb") as file:
            written = sum(1 for _ in file)
        return Generated(out, kept, self._rejected, dry, written, job, RunFile(out).paid())

    @property
    def _is_dry(self) -> bool:
        return self._flow is not None and self._flow.dry

    def _requests(self) -> Iterator[Request]:
        for number in count():
            if not self._pool.missing or self._is_dry:
                return
            ended = self._flow and self._flow.commits.is_ended
            yield Request(number)
            if ended:  # the harness checks its limits first, so this request was not made
                return

    @asynccontextmanager
    async def _start(self, session: Session) -> AsyncGenerator[Work[Request]]:
        with Rejects(self.plan.out, session.done, complete=len(self._found) >= self.options.count) as rejects:
            self._rejected = rejects.counts
            # Fill the pool as earlier runs did, in the same order.
            for place in sorted({*self._found, *rejects.claimed}):
                self._pool.add(place[2])
                if place in self._found:
                    self._pool.keep(*place)
            session.progress.done = self._pool.kept
            if not self._pool.missing:

                async def nothing(_: Request) -> None: ...

                yield nothing
                return
            async with self.plan.opened(session) as opened:
                self._flow = await self._flow_of(opened, session, rejects)
                yield self._flow.work

    async def _flow_of(self, opened: Opened, session: Session, rejects: Rejects) -> Flow:
        options, plan, engine = self.options, self.plan, self.engine
        assert opened.journal is not None  # noqa: S101  (the plan names one)
        if engine is None:
            reference = self.settings.references()["model"]
            async with plan.limits.opening(session.progress.seconds):
                engine = await plan.load(self.settings, session, opened, "model", reference)
                identity = await in_daemon_thread(lambda: identity_of(reference))
        else:
            identity = [engine.info.engine, engine.info.name]
        if not engine.info.chats:
            message = f"{engine.info.name} cannot be a teacher: it does not answer chat messages."
            raise UsageError(message, hint="Use a model with a chat template.")
        plan.check_engines(RevisionOptions.read({"model": engine, "price": options.price}))
        teacher = Teacher(
            engine,
            identity,
            opened.journal,
            session,
            asyncio.Semaphore(plan.parallel),
            lambda: under_way(opened.batches),
            price_of(options.price) or engine.info.price,
            1 + options.retries,
            lambda: plan.limits.reached(session.spent, session.progress.seconds),
        )
        penalty = options.way == "self-instruct" and engine.info.any_request
        return Flow(
            way=options.way,
            wanted=wording.Wanted(options.language, options.topic or ""),
            sampling=Sampling(
                **{name: getattr(options, name) for name in _SAMPLED[options.way]},
                seed=options.seed,
                extra_body={"presence_penalty": _PRESENCE_PENALTY} if penalty else None,
            ),
            pool=self._pool,
            shipped=tasks.read_seeds(None).tasks,
            teacher=teacher,
            rejects=rejects,
            commits=Turns(session.done),
            claims=Turns(session.done),
            seeds=self._seeds.origin,
        )
