"""`redraft answer`: a file of prompts becomes a file of chains, each made once, many at a time, resumable.

`jobs.harness` runs the job and `revise` makes the chains. This module connects the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from redraft.cli.batching import Batching, under_way
from redraft.cli.options import USUAL, CacheFile, FlagGroup, fill_in, takes
from redraft.cli.running import First, Journal, RetryFailed, RunFlags, check_out
from redraft.cli.shell import only_ours, tell
from redraft.counting import counted
from redraft.errors import EmptyReply, RedraftError, UsageError
from redraft.options import Flags, options_of

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.cli.attempt import Attempt, PromptItem
    from redraft.engines.remote.batch import Batches
    from redraft.jobs.harness import Job, JobResult, Session
    from redraft.jobs.limits import Limits
    from redraft.jobs.provenance import Provenance
    from redraft.jobs.runner import ItemCounts, Work
    from redraft.revision.api import Role
    from redraft.revision.options import Options
    from redraft.revision.settings import Settings
    from redraft.revision.summary import Summary

Shape = Literal["chain", "selfee", "fastchat"]

PATIENCE = 300.0
"""Default seconds to wait for a server that is down or busy."""

_OF_SPEED = {"threads", "gpu_layers", "timeout", "retries", "patience", "rpm", "tpm"}
NOT_OF_THE_RESULT = {*_OF_SPEED, "ctx", "price", "drop_leaks", "refusals"}
"""Flags that may differ when a job is resumed. `ctx` bounds prompts; the last two say where chains go."""

STDIN = "standard input"
"""The name of its copy, in messages and in the provenance record."""


Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go.")]


@takes
def answer(
    flags: Flags,
    source: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="A file of prompts, of any known shape; '-' is stdin.")
    ],
    out: Out,
    run: RunFlags,
    limit: First = None,
    shape: Annotated[Shape, typer.Option("--format", help="What to write.")] = "chain",
    model_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model's name in answer records.", show_default=False),
    ] = None,
    journal: Journal = None,
    cache: CacheFile = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Answer a file of prompts; check and revise each answer.

    FILE gets a line for each prompt, in the order in which they are done; the ids tell which is which.
    After any stop, the same command resumes: no finished answer is made twice, and a chain that was cut
    resumes after its last complete step, kept in FILE.unfinished.jsonl. Failures are in FILE.errors.jsonl
    and are tried again; --retry-failed tries these alone, and begins no other prompt. FILE.run.json records
    how FILE was made.

    With --batch requests go through the server's batches, in waves: all answers, then all feedback, and so
    on. The run may be stopped and continued days later. A journal is kept, FILE.journal.db if none is named.

    With --journal each reply of a model is stored on disk before it is used, and a chain that was cut is
    replayed from there for free. The same prompts with the same settings get the same replies again, for
    another output too. With --cache that holds for equal prompts too: a request that is in the file is not
    sent again, whatever the prompt's id.

    A limit that is reached ends the run with exit status 4: prompts already begun are finished, and no other
    is begun. The same command resumes, with the whole limits again.

    The exit status is 1 if an answer in FILE does not pass its checks. Records of selfee and fastchat do not
    keep checks, so with these formats only the answers of this run count.
    """
    answer_file(
        source,
        out,
        fill_in(flags),
        form=Form(shape, model_id),
        run=run,
        journal=journal,
        cache=cache,
        retry_failed=retry_failed,
        making=Making(records=records_to(limit)),
    )


def answer_file(
    source: Path,
    out: Path,
    settings: Settings,
    *,
    form: Form,
    run: RunFlags,
    journal: Path | None,
    cache: Path | None = None,
    retry_failed: bool,
    making: Making | None = None,
) -> NoReturn:
    """Make a chain of each record of a file, print the summary, and exit."""
    check_out(out, "-o out.jsonl, then: redraft show out.jsonl --json")
    batching = run.batching(out)
    with _plain_file(source) as file:
        answering = Answering(
            settings=settings,
            source=file,
            name=STDIN if str(source) == "-" else str(source),
            out=out,
            form=form,
            parallel=run.at_once,
            limits=run.limits,
            journal=batching.journal(journal, cache),
            cache=cache,
            batching=batching,
            retry_failed=retry_failed,
            quiet=run.silent,
            making=making or Making(),
        )
        with only_ours():
            summary, status = answering.run()
        if summary:
            typer.echo(summary)
        raise typer.Exit(status)


@contextmanager
def _plain_file(prompts: Path) -> Iterator[Path]:
    """Give the prompts as a file that can be read twice: standard input is copied."""
    if str(prompts) != "-":
        yield prompts
        return
    import shutil
    import tempfile
    from codecs import BOM_UTF8

    from redraft.formats.read.files import open_input, reading

    if sys.stdin.isatty():
        raise UsageError("there are no prompts.", hint="redraft answer prompts.jsonl -o out.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            with reading(copy), open_input(copy) as given:
                start = given.read(1 << 16).removeprefix(BOM_UTF8).lstrip()
            copy = copy.rename(copy.with_suffix(".jsonl" if start[:1] in (b"{", b"[", b'"') else ".txt"))
            yield copy
        except RedraftError as error:
            error.message = error.message.replace(str(copy), STDIN)
            raise


@dataclass(frozen=True)
class Form:
    """The shape of an output line: a chain, or an answer record."""

    shape: Shape
    model_id: str | None

    def key(self, record: dict[str, Any]) -> str:
        """Return the id of an output line."""
        return str(record["id" if self.shape == "chain" else "question_id"])

    def item(self, asked: Chain) -> PromptItem:
        """Return a prompt under the id of its result."""
        from redraft.cli.attempt import PromptItem

        return PromptItem(asked.id if self.shape == "chain" else self.key(self._record(asked)), asked)

    def line(self, chain: Chain) -> str:
        """Return the output line of a chain."""
        return chain.to_json() if self.shape == "chain" else json.dumps(self._record(chain))

    def _record(self, chain: Chain) -> dict[str, Any]:
        from redraft.formats.write import to_fastchat_answer, to_selfee_answer

        write = to_selfee_answer if self.shape == "selfee" else to_fastchat_answer
        return write(chain, self.model_id or str(chain.model.get("name", "")))


def records_to(limit: int | None) -> Callable[[Path], Iterator[Chain]]:
    """Return what reads the first records of a file: so many, or all with None."""

    def records(file: Path) -> Iterator[Chain]:
        from redraft.collect.read.inputs import licensed_records

        return islice(licensed_records(file), limit)

    return records


@dataclass(frozen=True)
class Making:
    """What a verb does beyond answering prompts.

    Attributes:
        verb: Its name in the provenance record.
        flags: Its flags.
        records: Returns the records of a file.
        options: Returns more options for the chain of a record.
        finished: Returns what is written of a chain, given its record; None for nothing.
        scored: Adds to that what checks say about it.
        may_drop: Whether it ever returns None.
        begin: Called with the ids of the finished chains before the first is made.
        summary: Counts the chains of the output, those from before included; None for the usual summary.
        rows: Returns more rows of the summary.
        must_pass: Whether an answer that fails its checks makes the exit status 1.
        ended: Called when the output has been closed.
        said: Returns what is printed at the end, from the result and what writes the usual summary (empty
            with --quiet).
    """

    verb: str = "answer"
    flags: FlagGroup = USUAL
    records: Callable[[Path], Iterator[Chain]] = records_to(None)  # noqa: RUF009  (it has no state)
    options: Callable[[Chain], Mapping[str, Any]] = lambda _: {}
    finished: Callable[[Chain, Chain], Chain | None] = lambda chain, _: chain
    scored: Callable[[Chain, Chain], Awaitable[Chain]] | None = None
    may_drop: bool = False
    begin: Callable[[Container[str]], None] = lambda _: None
    summary: Summary | None = None
    rows: Callable[[], list[tuple[str, str]]] = list
    must_pass: bool = True
    ended: Callable[[], None] = lambda: None
    said: Callable[[JobResult, Callable[[], str]], str] = lambda _, usual: usual()


@dataclass(frozen=True)
class Answering:
    """A run of a verb that makes a chain of each record."""

    settings: Settings
    source: Path
    name: str
    out: Path
    form: Form
    parallel: int
    limits: Limits
    journal: Path | None
    cache: Path | None
    batching: Batching
    retry_failed: bool
    quiet: bool
    making: Making = Making()

    def run(self) -> tuple[str, int]:
        """Run the job, and return its summary and the exit status."""
        outcome, summary = self.made()
        status = outcome.exit_status or (
            1 if (summary.not_passed or summary.missing) and self.making.must_pass else 0
        )
        if self.quiet and outcome.counts.failed:
            tell(f"{counted(outcome.counts.failed, 'prompt')} failed: see {self.out}.errors.jsonl.")
        if outcome.interrupted:
            return "", status
        return self.making.said(
            outcome, str if self.quiet else partial(self._summary, outcome, summary)
        ), status

    def made(self) -> tuple[JobResult, Summary]:
        """Run the job, and return what it came to, and what is in the output."""
        from redraft.revision.summary import Summary

        self._check_settings()
        checked = self.settings.get("check") or self.settings.get("verify")
        summary = self.making.summary or Summary()
        summary.with_checks = bool(checked)
        outcome = self._job(summary).run(partial(self._start, summary))
        if self.form.shape != "chain":
            self._note_licences()
        return outcome, summary

    def _note_licences(self) -> None:
        """Put the records' licences beside an output that has no place for them."""
        from collections import Counter

        from redraft.jobs.provenance import RunFile
        from redraft.licences import licence_in

        found = Counter(licence_in(record.meta.get("origin")) for record in self.making.records(self.source))
        RunFile(self.out).note(licences=found)

    def _check_settings(self) -> None:
        """Raise what can be found wrong before a file or a model is opened."""
        options = self.settings.options()
        self.settings.waiting()
        self.batching.check(self.settings)
        if self.parallel < 1:
            raise UsageError(f"parallel is {self.parallel}.", hint="At least one chain at once.")
        self._check_prices(dict(options) | dict(self.settings.references()))
        if self.journal and self.cache:
            hint = "With --journal each prompt has replies of its own; with --cache equal prompts share them."
            raise UsageError("both --journal and --cache were given.", hint=f"Leave out one. {hint}")
        for name, file in (("journal", self.journal), ("cache", self.cache)):
            if file and file.resolve() in (self.out.resolve(), self.source.resolve()):
                raise UsageError(f"{file} cannot be the {name} too.", hint="Name a file of its own.")

    def _job(self, summary: Summary) -> Job[PromptItem]:
        from redraft.jobs.harness import Job

        return Job(
            items=lambda: map(self.form.item, self.making.records(self.source)),
            source=str(self.source),
            out=self.out,
            provenance=self.provenance(),
            key=self.form.key,
            many_lines=self.making.may_drop,
            noun="prompt",
            twice="Give each its own id, or write chains: --format chain",
            parallel=self.parallel,
            retries=self.settings.waiting().tries - 1,
            limits=self.limits,
            only_failed=self.retry_failed,
            on_found=self._reader(summary),
            on_end=self.making.ended,
            note=partial(_note, summary),
            quiet=self.quiet,
            tell=tell,
        )

    def provenance(self) -> Provenance:
        """Return how the output is made."""
        from redraft.engines.load import model_of
        from redraft.jobs.provenance import Provenance
        from redraft.revision.prompts import DEFAULT, wording_of

        config = {
            name: self.settings.get(name)
            for name in options_of(self.making.flags.options)
            if name not in NOT_OF_THE_RESULT
        }
        for role in ("model", "critic", "judge"):
            if config.get(role):
                config[role] = model_of(config[role])
        config["prompts"] = wording_of(config["prompts"] or DEFAULT).record
        config |= {"format": self.form.shape, "model_id": self.form.model_id}
        return Provenance(self.making.verb, config, self.source, self.name, NOT_OF_THE_RESULT)

    def _reader(self, summary: Summary) -> Callable[[bytes], None]:
        """Return what counts the chains that are in the output already; other records cannot be counted."""
        from redraft.chain import Chain

        if self.form.shape != "chain":
            return lambda _: None

        def count(line: bytes) -> None:
            summary.before += 1
            summary.add(Chain.from_json(line, where=str(self.out)))

        return count

    @asynccontextmanager
    async def _start(self, summary: Summary, session: Session) -> AsyncGenerator[Work[PromptItem]]:
        """Open the journal and the models, and yield the work on one prompt."""
        from redraft.cli.attempt import Attempt, Journaled
        from redraft.jobs.journal import Journal

        self.making.begin(session.done)
        async with AsyncExitStack() as stack:
            file = self.journal or self.cache
            journal = stack.enter_context(Journal(file)) if file else None
            batches = self.batching.opened(stack, journal, partial(self._time_over, session))
            options = await self._opened(stack, session, batches)
            by_item = self.journal is not None
            journaled = Journaled(journal, await self._identities(), by_item) if journal else None

            async def work(item: PromptItem) -> list[str]:
                own: Any = {**options, **self.making.options(item.asked)}
                with under_way(batches):
                    attempt = Attempt(item, self.settings.get("seed"), own, session, journaled)
                    made = await self._made(attempt, item.asked)
                chain = self.making.finished(made, item.asked)
                if chain is None:
                    return []
                if self.making.scored:
                    chain = await self.making.scored(chain, item.asked)
                summary.add(chain)
                return [self.form.line(chain)]

            yield work
            session.spent.replayed = journal.replayed if journal else 0

    async def _made(self, attempt: Attempt, asked: Chain) -> Chain:
        """Return the chain. One without an answer fails with the truth about that, for all who count it."""
        try:
            return await attempt.chain()
        except EmptyReply as error:
            if self.making.scored and error.chain is not None:
                from redraft.evaluation.tasks.tasks import unanswered

                scored = await self.making.scored(unanswered(asked), asked)
                error.chain = error.chain.model_copy(update={"meta": {**scored.meta, **error.chain.meta}})
            raise

    async def _identities(self) -> dict[Role, Any]:
        """Return what tells the models apart, in a thread: for a model of the hub, it asks the hub."""
        from redraft.engines.journaled import identity_of
        from redraft.engines.threads import in_daemon_thread

        named = self.settings.references().items()
        return await in_daemon_thread(lambda: {role: identity_of(reference) for role, reference in named})

    def _time_over(self, session: Session) -> str:
        """Return in words that the limit of seconds is reached; an empty text if it is not."""
        from redraft.jobs.limits import Limits

        return Limits(seconds=self.limits.seconds).reached(session.spent, session.progress.seconds)

    async def _opened(self, stack: AsyncExitStack, session: Session, batches: Batches | None) -> Options:
        """Open the models, within the limit of seconds.

        A silent server gets no longer than a chain's budget of seconds. Loading a model on this machine may
        take longer, because it happens once for all chains.
        """
        patience = self.settings.waiting(
            usual=PATIENCE, limit_seconds=self.limits.seconds, tell=session.progress.wait
        )
        patience = patience.within(self.settings.get("budget_seconds"))
        how: Any = {"parallel": self.parallel, "patience": patience, "batches": batches}
        async with self.limits.opening(session.progress.seconds):
            options = await self.settings.opened(stack, **how)
        self._check_prices(options)
        return options

    def _check_prices(self, options: Mapping[str, Any]) -> None:
        """Raise `UsageError` if a limit of money lacks the price of a model."""
        from redraft.revision.budget import Budget
        from redraft.revision.options import check_prices

        if self.limits.usd is not None:
            check_prices({**options, "budget": Budget(usd=self.limits.usd)})

    def _summary(self, outcome: JobResult, summary: Summary) -> str:
        spent, added = outcome.spent, outcome.counts.added
        before, now = outcome.found, added
        if self.form.shape == "chain":
            before, now = summary.before, summary.chains - summary.before
        rows = outcome.rows("answers", before, now)
        if outcome.found and self.form.shape != "chain":
            rows.append(("counted", f"the {added:,} of this run: {self.form.shape} records keep no checks"))
        rows += [*summary.rows(), *self.making.rows()]
        if spent.replayed:
            price = f", {spent.usd:.4f} USD" if summary.usage.cost_usd is not None else ""
            how = ", estimated" if spent.estimated else ""
            paid = f"this run paid for {spent.tokens:,} new tokens{price}{how}"
            rows.append(
                (
                    "cache" if self.cache else "journal",
                    f"{counted(spent.replayed, 'text')} taken from it, not paid again; {paid}",
                )
            )
        rows += outcome.pace()
        return "\n".join(f"{name:<10} {text}" for name, text in rows)


def _note(summary: Summary, counts: ItemCounts) -> str:
    """Return a few words on the results so far, for the progress line."""
    parts = [f"{summary.passed} passed" if summary.checked else f"{summary.stops['accepted']} accepted"]
    return " · ".join([*parts, *([f"{counts.failed} failed"] if counts.failed else [])])
