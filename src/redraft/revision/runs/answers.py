"""Make a file of chains from a file of prompts, many at a time. A run that ended early can be resumed.

The function is `answer_file`, and the command is `redraft answer`. Commands that do more with each chain use
a subclass of `AnswerRun`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack, get_args

from redraft.chain import Chain, Usage
from redraft.chain.read.inputs import licensed_records
from redraft.checks.exclusion import fault_of
from redraft.checks.groups import without_auto
from redraft.checks.parse import checks_in, parse_checks
from redraft.engines.base import Engine, Price
from redraft.engines.load import identity_of, model_of
from redraft.engines.wrapped import JournaledEngine, MeteredEngine
from redraft.errors import CheckSyntaxError, EmptyReply, RecordError, RedraftError, UsageError, path_of
from redraft.jobs.counting import counted, tell
from redraft.jobs.harness import ItemCounts, Job, JobResult, Session, Work
from redraft.jobs.ids import derived_seed
from redraft.jobs.journal import Journal
from redraft.jobs.provenance import Provenance, contents_of
from redraft.jobs.signals import in_daemon_thread
from redraft.jobs.stores import here, url_of
from redraft.options import Flags, OptionModel
from redraft.revision.api import Role, finished, make
from redraft.revision.keywords import AnswerKeywords
from redraft.revision.ops import Event, Progress
from redraft.revision.options import RevisionOptions
from redraft.revision.prompts import DEFAULT, wording_of
from redraft.revision.runs.options import AnswerOptions
from redraft.revision.runs.plan import RunPlan, RunResult, under_way
from redraft.revision.settings import Settings
from redraft.revision.state import check_resumable
from redraft.revision.words import Summary

_OF_SPEED = {"threads", "gpu_layers", "timeout", "retries", "patience", "rpm", "tpm"}
NOT_OF_THE_RESULT = {*_OF_SPEED, "ctx", "price"}
"""Options that may differ when a run is resumed: speed, price, and the context length."""

_ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Journaled:
    """A file of replies, and the identities of the models that write the replies."""

    journal: Journal
    identities: dict[Role, Any]
    by_item: bool  # true for a journal: each item has its own replies. In a cache, equal requests share them.


class Attempt:
    """One attempt to make the chain of a prompt."""

    def __init__(
        self,
        asked: Chain,
        seed: int | None,
        options: RevisionOptions,
        session: Session,
        journaled: Journaled | None,
    ) -> None:
        self._asked, self._session, self._journaled = asked, session, journaled
        self._meters: list[tuple[MeteredEngine, Price | None]] = []
        own: dict[str, Any] = {"id": asked.id}
        own["seed"] = None if seed is None else derived_seed(seed, asked.id)
        for role in _ROLES:
            if (engine := getattr(options, role)) is not None:
                own[role] = self._engine(role, engine, options.price if role == "model" else None)
        self._options = options.model_copy(update=own)

    def _engine(self, role: Role, engine: Any, price: Price | None) -> Engine:
        metered = MeteredEngine(engine, self._pay, self._session.progress.write)
        self._meters.append((metered, price or metered.info.price))
        if self._journaled is None:
            return metered
        identity = [role, self._journaled.identities[role]]
        scope = self._asked.id if self._journaled.by_item else ""
        return JournaledEngine(metered, self._journaled.journal, identity=identity, scope=scope)

    async def chain(self) -> Chain:
        """Make the chain.

        Raises:
            RecordError: The prompt is empty.
            EmptyReply: The budget ran out before there was an answer.
            EngineError, CheckError: A call failed. The chain so far is stored.
        """
        asked = self._asked
        if lack := asked.prompt.lack:
            raise RecordError(f"{asked.id}: {lack}.", hint="Give a question or an instruction.")
        if self._journaled is None:
            kept = _begun(self._session.unfinished.get(asked.id), asked, self._options.given)
            self._options = self._options.model_copy(update={"resume": kept})
        try:
            async with aclosing(make(asked.prompt, self._options)) as events:
                chain = await finished(events, self._note)
        except RedraftError as error:
            if error.chain is not None:
                self._keep(error.chain)
            raise
        if chain.best is None:
            hint = "Raise --budget-seconds, --budget-tokens or --budget-usd."
            raise EmptyReply("there is no answer: the budget was used up.", hint=hint)
        return chain.model_copy(update={"meta": {**asked.meta, **chain.meta}})

    def _note(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._keep(event.chain)

    def _keep(self, chain: Chain) -> None:
        if self._journaled is None:
            self._session.unfinished.keep(self._asked.id, chain.to_json())

    def _pay(self) -> None:
        for meter, price in self._meters:
            usage = meter.take()
            usd = None if price is None else price.cost(usage)
            self._session.pay(usage.completion_tokens, usd, estimated=usage.estimated)


def _begun(kept: Any, asked: Chain, given: str) -> Chain | None:
    try:
        chain = Chain.model_validate(kept)
        check_resumable(chain, asked.prompt, given)
        chain.to_json()
    except (ValueError, UsageError):  # damaged: a record that pydantic refuses to read or to write
        return None
    return chain if 0 <= chain.usage.seconds < inf and chain.usage.completion_tokens >= 0 else None


@dataclass(frozen=True)
class FileResult(RunResult):
    """The result of a run, with counts for the whole file.

    Attributes:
        summary: Counts for all chains of the file, including chains of earlier runs.
        must_pass: Whether an answer that does not pass its checks makes the exit status 1.
    """

    summary: Summary
    must_pass: bool = True

    @property
    def usage(self) -> Usage:
        """The tokens, the time and the cost of all chains in `summary`."""
        return self.summary.usage

    @property
    def exit_status(self) -> int:
        """The command's exit status: 0 if done, 1 if checks failed, 3 if the engine failed, 4 at a limit."""
        lacking = self.summary.checked > self.summary.passed or self.summary.missing
        return self.job.exit_status or (1 if lacking and self.must_pass else 0)


@dataclass
class AnswerRun:
    """A run that makes a chain for each record."""

    settings: Settings
    source: Path
    plan: RunPlan
    limit: int | None = None  # the most records
    verb: str = "answer"  # the name in the provenance record
    summary: Summary = field(default_factory=Summary)
    _url: str = field(default="", init=False)  # the URL of a source in a store
    _warned: bool = field(default=False, init=False)  # whether a field `check` was reported
    options: ClassVar[type[OptionModel]] = Flags  # the options of the chains
    # Whether answers have to pass the checks of the run and of their record: if one fails, the status is 1.
    must_pass: ClassVar[bool] = True

    @classmethod
    def of(cls, settings: Settings, source: str | Path, output: str | Path) -> Self:
        """Return the run that these `AnswerOptions` describe."""
        return cls(settings, path_of(source), RunPlan.of(output, settings), settings.values.limit)

    # Subclasses may override the following methods.

    def records(self) -> Iterator[Chain]:
        """Yield the records, in the same order each time."""
        return licensed_records(self.source, self.limit, wanted=self.plan.holds if self.plan.share else None)

    def prepare(self) -> None:
        """Parse the checks."""
        flags = self.settings.values
        self._checks = tuple(flags.check) if flags.judge else parse_checks(flags.check)
        first = next(self.records(), None) if self.must_pass else None
        own = self.options_of(first)["checks"] if first is not None else ()
        if own and not fault_of(own, flags.max_tokens):  # a fault concerns that record alone
            # The options are validated with these checks.
            self.settings = replace(self.settings, stand_ins={"checks": own})

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return the options for a record: the run's checks, followed by the record's checks."""
        try:
            return {"checks": (*self._checks, *checks_in(record))}
        except CheckSyntaxError as error:
            raise RecordError(f"{record.id}: {error.message}", hint=error.hint) from None

    async def finish(self, chain: Chain, record: Chain) -> Chain:  # noqa: ARG002
        """Return the chain to write to the file."""
        return chain

    async def finish_empty(self, error: EmptyReply, record: Chain) -> None:
        """Add details to the error of a chain without an answer."""

    def end(self) -> None:
        """Clean up after the output is closed. `end` is called after errors too."""

    def rows(self) -> list[tuple[str, str]]:
        """Return further rows for the summary."""
        return []

    # The same for all subclasses.

    def run(self) -> FileResult:
        """Make every missing chain. In the main thread, Ctrl-C and SIGTERM end the run.

        Raises:
            RedraftError: An input is wrong, the output cannot be written, or a model failed. The output has
                the results so far.
        """
        return self._result(self._job().run(self._start))

    async def arun(self) -> FileResult:
        """Make every missing chain in the running event loop."""
        return self._result(await self._job().arun(self._start))

    def _job(self) -> Job[Chain]:
        self._url = url_of(self.source) or ""
        self.source = here(self.source)
        self.prepare()
        options = self.settings.options()
        self.plan.check(self.settings, source=self.source)
        self.plan.check_engines(options)
        verify, given = self.settings.get("verify"), self.settings.get("check") or ()
        self.summary.should_pass = lambda chain: bool(
            verify or without_auto((*given, *self.options_of(chain).get("checks", ())), chain.prompt)
        )
        return Job(
            items=self._items,
            source=str(self.source),
            provenance=self.provenance(),
            noun="prompt",
            retries=self.settings.waiting().tries - 1,
            on_found=self._count_found,
            on_end=self.end,
            note=self._note,
            **self.plan.of_job(),
        )

    def _items(self) -> Iterator[Chain]:
        for record in self.records():
            if self.must_pass:
                self.options_of(record)  # so that a wrong check is found before anything is paid for
                source = record.meta.get("source")
                if not self._warned and isinstance(source, Mapping) and "check" in source:
                    self._warned = True
                    self.plan.say(f"{record.id}: the field 'check' is not read. Did you mean 'checks'?")
            yield record

    def provenance(self) -> Provenance:
        """Return the provenance of the output: the command, its settings and its source."""
        names = (name for name in self.options.model_fields if name not in NOT_OF_THE_RESULT)
        config = {name: self.settings.get(name) for name in names}
        config["model"] = config["model"] or "default"
        models = {role: ref for role in ("model", "critic", "judge") if (ref := config.get(role))}
        config |= {role: model_of(ref) for role, ref in models.items()} | contents_of(models)
        config["prompts"] = wording_of(config["prompts"] or DEFAULT).record
        return Provenance(self.verb, config, self.source, self._url or str(self.source))

    def _count_found(self, line: bytes) -> None:
        self.summary.before += 1
        self._count(Chain.from_json(line, where=str(self.plan.out)))

    def _count(self, chain: Chain) -> None:
        self.summary.add(chain)
        if self.settings.watch and (said := self.settings.watch.add(chain)):
            self.plan.say(said)

    @asynccontextmanager
    async def _start(self, session: Session) -> AsyncGenerator[Work[Chain]]:
        async with self.plan.opened(session, finishing=True) as opened:
            patience = self.plan.patience(self.settings, session).within(self.settings.get("budget_seconds"))
            how: Any = {"parallel": self.plan.parallel, "patience": patience, "batches": opened.batches}
            async with self.plan.limits.opening(session.progress.seconds):
                options = await self.settings.opened(opened.stack, **how)
            self.plan.check_engines(options)
            journaled = None
            if opened.journal:
                named = self.settings.references().items()
                # In a thread, because `identity_of` may ask the hub.
                models = await in_daemon_thread(lambda: {role: identity_of(each) for role, each in named})
                journaled = Journaled(opened.journal, models, self.plan.own_replies is not None)

            async def work(asked: Chain) -> list[str]:
                watch = self.settings.watch
                instead = watch.instead if watch else {}
                own = options.model_copy(update={**self.options_of(asked), **instead})
                with under_way(opened.batches):
                    attempt = Attempt(asked, self.settings.get("seed"), own, session, journaled)
                    try:
                        made = await attempt.chain()
                    except EmptyReply as error:
                        await self.finish_empty(error, asked)
                        raise
                chain = await self.finish(made, asked)
                self._count(chain)
                return [chain.to_json()]

            yield work

    def _note(self, counts: ItemCounts) -> str:
        found, accepted = self.summary, self.summary.stops["accepted"]
        well = f"{found.passed} passed" if found.checked else f"{accepted} accepted" * bool(accepted)
        return " · ".join(filter(None, (well, f"{counts.failed} failed" * bool(counts.failed))))

    def _result(self, job: JobResult) -> FileResult:
        spent, summary = job.spent, self.summary
        rows = job.rows("answers", summary.before, summary.chains - summary.before)
        rows += [*summary.rows(), *self.rows()]
        if spent.replayed:
            price = f", {spent.usd:.4f} USD" if summary.usage.cost_usd is not None else ""
            how = ", estimated" if spent.estimated else ""
            paid = f"this run paid for {counted(spent.tokens, 'new token')}{price}{how}"
            text = f"{counted(spent.replayed, 'text')} reused and not paid for again; {paid}"
            rows.append(("cache" if self.plan.cache else "journal", text))
        return FileResult(job, rows + job.pace(), summary, self.must_pass)


def answer_file(source: str | Path, output: str | Path, **options: Unpack[AnswerKeywords]) -> FileResult:
    """Answer a file of prompts, and check and revise each answer. `redraft answer` makes the same files.

    After any stop, the same call or command resumes the run. This works in notebooks too.

    Args:
        source: A file of prompts, of any known shape.
        output: The file for the chains, in the order of completion. A repeated id `a` becomes `a~2`.
        **options: See docs/options.md; all are optional. Models must be references, not engines.

    Raises:
        UsageError: An option is unknown, or two options do not fit together.
        RecordError: The prompts cannot be read.
        OutputError: `output` cannot be written, is in use, or was made with other settings.
        EngineError, CheckError: The run failed. `output` has the results so far.
        KeyboardInterrupt: Ctrl-C ended the run. `output` has the results so far.
    """
    return _run_of(source, output, options).run()


async def aanswer_file(
    source: str | Path, output: str | Path, **options: Unpack[AnswerKeywords]
) -> FileResult:
    """Answer a file in the running event loop. Arguments and errors are as in `answer_file`."""
    return await _run_of(source, output, options).arun()


def _run_of(source: str | Path, output: str | Path, options: Mapping[str, Any]) -> AnswerRun:
    return AnswerRun.of(Settings.read(AnswerOptions, options, tell=tell), source, output)
