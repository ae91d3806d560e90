"""`redraft answer`: a file of prompts to a file of chains: each once, many at a time, gone on with any time.

The output is the ledger (`redraft.jobs`): what is in it is done. How a chain is made is `redraft.revise`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from redraft.cli.options import Flags, Settings, settle, takes
from redraft.cli.shell import only_ours, tell
from redraft.errors import RecordError, RedraftError, UsageError

if TYPE_CHECKING:
    from redraft.chain import Chain
    from redraft.jobs.ledger import Ledger
    from redraft.jobs.progress import Shown
    from redraft.jobs.runner import Tally
    from redraft.jobs.unfinished import Unfinished
    from redraft.revise.options import Options
    from redraft.revise.summary import Summary

Shape = Literal["chain", "selfee", "fastchat"]

PARALLEL = 4
"""Chains at once, where neither flag nor config file says. More is faster on a GPU or a server."""

PATIENCE = 300.0
"""Seconds to wait for a server that is down or busy, where neither flag nor config file says."""

NOT_OF_THE_RESULT = {"recipe", "ctx", "threads", "gpu_layers", "timeout", "retries", "patience", "rpm", "tpm"}
"""Flags that may differ when a job is gone on with: for speed, for waiting, or for the length of a prompt."""

STDIN = "standard input"
"""What the copy of it is called, in messages and in the record of the run."""

GO_ON = "run the same command again to go on"


@takes(Flags)
def answer(
    flags: Flags,
    prompts: Annotated[Path, typer.Argument(help="A file of prompts, of any known shape; '-' is stdin.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the chains go.")],
    shape: Annotated[Shape, typer.Option("--format", help="What to write.")] = "chain",
    model_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model's name in answer records.", show_default=False),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", "-j", metavar="N", help=f"Chains at once.  [{PARALLEL}]"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Answer a file of prompts; check and revise each answer.

    FILE gets a line for each prompt, in the order in which they are done; the ids tell which is which.
    Whatever stops it, the same command goes on: no finished answer is made twice, and a chain that was cut
    goes on from its last complete step, kept in FILE.unfinished.jsonl. What failed is in FILE.errors.jsonl
    and is tried again. How FILE was made is in FILE.run.json.

    The exit status is 1 where an answer in FILE does not pass its checks. Records of selfee and fastchat do
    not keep what passed: with those it tells of this run alone.
    """
    from redraft.config import load_config

    below = load_config().defaults
    if str(out) == "-":
        hint = "A stopped job goes on from it. Write -o out.jsonl, then: redraft show out.jsonl --json"
        raise UsageError("the output has to be a file, and '-' is none.", hint=hint)
    with _plain_file(prompts) as source:
        job = Job(
            settings=settle(flags),
            source=source,
            name=STDIN if str(prompts) == "-" else str(prompts),
            out=out,
            form=Form(shape, model_id),
            parallel=below.get("parallel", PARALLEL) if parallel is None else parallel,
            quiet=quiet or below.get("quiet", False),
        )
        with only_ours():
            said, status = job.run()
        if said:
            typer.echo(said)
        raise typer.Exit(status)


@contextmanager
def _plain_file(prompts: Path) -> Iterator[Path]:
    """The prompts as a file that can be read twice. Of standard input, a copy is made."""
    if str(prompts) != "-":
        yield prompts
        return
    import shutil
    import tempfile

    if sys.stdin.isatty():
        raise UsageError("there are no prompts.", hint="redraft answer prompts.jsonl -o out.jsonl")
    start = sys.stdin.buffer.read(1 << 16)
    kind = "jsonl" if start.lstrip()[:1] in (b"{", b"[", b'"') else "txt"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"stdin.{kind}")
        with copy.open("wb") as file:
            file.write(start)
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield copy
        except RedraftError as error:
            error.message = error.message.replace(str(copy), STDIN)
            raise


@dataclass(frozen=True)
class Item:
    """A prompt to answer, under the id that its result will have in the output."""

    id: str
    asked: Chain


@dataclass(frozen=True)
class Form:
    """What is written for a chain: the chain, or an answer record."""

    shape: Shape
    model_id: str | None

    def key(self, record: dict[str, Any]) -> str:
        """The id of a written record."""
        return str(record["id" if self.shape == "chain" else "question_id"])

    def item(self, asked: Chain) -> Item:
        """A prompt under the id of its result."""
        return Item(asked.id if self.shape == "chain" else self.key(self._record(asked)), asked)

    def line(self, chain: Chain) -> str:
        """One line of JSON."""
        return chain.to_json() if self.shape == "chain" else json.dumps(self._record(chain))

    def _record(self, chain: Chain) -> dict[str, Any]:
        from redraft.formats.read.records import to_fastchat_answer, to_selfee_answer

        write = to_selfee_answer if self.shape == "selfee" else to_fastchat_answer
        return write(chain, self.model_id or str(chain.model.get("name", "")))


@dataclass(frozen=True)
class Job:
    """Everything that a run of the command is."""

    settings: Settings
    source: Path
    name: str
    out: Path
    form: Form
    parallel: int
    quiet: bool

    def run(self) -> tuple[str, int]:
        """Do it, and return what to say of it and the exit status."""
        from redraft.jobs.ledger import Ledger
        from redraft.jobs.progress import Meter, Shown
        from redraft.jobs.signals import Interrupted, run_until_signal
        from redraft.jobs.unfinished import Unfinished
        from redraft.revise.summary import Summary

        self._look_at_settings()
        total, summary = self._count(), Summary(with_checks=bool(self.settings.check))
        making, fresh = self._making(), not self.out.exists()
        with Ledger(self.out, making, key=self.form.key, on_found=self._reader(summary)) as ledger:
            self._say_torn(ledger)
            try:
                with (
                    Unfinished(self.out, making, ledger.done, forget=fresh) as unfinished,
                    Shown(Meter(total, ledger.found), quiet=self.quiet) as shown,
                ):
                    tally = run_until_signal(self._work(ledger, unfinished, shown, summary))
            except Interrupted as signal:
                tell(f"{len(ledger.done)} of {total} done; {GO_ON}.")
                return "", signal.exit_status
            except RedraftError as error:
                left = f"{len(ledger.done)} of {total} done; {GO_ON}."
                error.hint = f"{error.hint}\n{left}" if error.hint else left
                raise
        said = "" if self.quiet else self._said(ledger, shown, summary)
        return said, self._status(tally, summary)

    def _look_at_settings(self) -> None:
        """What is wrong with them and can be told without a model is told before anything is opened."""
        self.settings.options()
        self.settings.waiting()
        if self.parallel < 1:
            raise UsageError(f"parallel is {self.parallel}.", hint="At least one chain at once.")

    def _items(self) -> Iterator[Item]:
        from redraft.formats.read.records import read_records

        return map(self.form.item, read_records(self.source))

    def _count(self) -> int:
        """How many prompts there are. A bad line is found here, before anything is paid for."""
        seen: set[str] = set()
        for item in self._items():
            if item.id in seen:
                raise RecordError(
                    f"{self.source}: two prompts have the id {item.id!r}.",
                    hint="Give each its own id, or write chains: --format chain",
                )
            seen.add(item.id)
        if not seen:
            raise RecordError(f"{self.source}: there is no prompt in it.", hint="Write one a line.")
        return len(seen)

    def _making(self) -> Any:
        from redraft.jobs.provenance import Making

        config = {k: v for k, v in asdict(self.settings).items() if k not in NOT_OF_THE_RESULT}
        config |= {"format": self.form.shape, "model_id": self.form.model_id}
        return Making("answer", config, self.source, self.name)

    def _reader(self, summary: Summary) -> Callable[[bytes], None]:
        """Counts what is in the output already, where that can be told from it."""
        from redraft.chain import Chain

        if self.form.shape != "chain":
            return lambda _: None
        return lambda line: summary.add(Chain.from_json(line, where=str(self.out)))

    async def _work(self, ledger: Ledger, unfinished: Unfinished, shown: Shown, summary: Summary) -> Tally:
        from redraft.jobs.runner import run_jobs

        async with AsyncExitStack() as stack:
            patience = self.settings.waiting(usual=PATIENCE, tell=shown.wait)
            options = await self.settings.opened(stack, parallel=self.parallel, patience=patience)
            work = partial(self._answer, options=options, unfinished=unfinished, shown=shown, summary=summary)

            def step(tally: Tally) -> None:
                shown.meter.done = ledger.found + tally.added + tally.failed
                shown.meter.note = _note(tally, summary)
                shown.update()

            return await run_jobs(
                self._items(),
                work,
                ledger,
                parallel=self.parallel,
                retries=patience.tries - 1,
                on_step=step,
            )

    async def _answer(
        self, item: Item, *, options: Options, unfinished: Unfinished, shown: Shown, summary: Summary
    ) -> str:
        from redraft.jobs.runner import derived_seed

        asked, seed = item.asked, self.settings.seed
        if asked.prompt.blank:
            raise RecordError(f"{asked.id}: the prompt is empty.", hint="Give a question or an instruction.")
        own = options.copy()
        own["id"] = asked.id
        own["seed"] = None if seed is None else derived_seed(seed, asked.id)
        own["resume"] = before = _begun(unfinished.get(item.id), asked)
        chain = await _made(asked, own, partial(unfinished.keep, item.id))
        paid_before = before.usage.completion_tokens if before else 0
        chain = chain.model_copy(update={"meta": {**asked.meta, **chain.meta}})
        summary.add(chain)
        shown.meter.tokens += chain.usage.completion_tokens - paid_before
        return self.form.line(chain)

    def _say_torn(self, ledger: Ledger) -> None:
        if ledger.torn and not self.quiet:
            tell(f"{self.out}: the last line was torn ({ledger.torn} bytes) and is done again.")

    def _said(self, ledger: Ledger, shown: Shown, summary: Summary) -> str:
        before = f", {ledger.found:,} of them from before" if ledger.found else ""
        rows = [("answers", f"{len(ledger.done):,} in {self.out}{before}")]
        if ledger.failed:
            rows.append(("failed", f"{len(ledger.failed):,}, see {self.out}.errors.jsonl; {GO_ON}"))
        if ledger.found and self.form.shape != "chain":
            now = len(ledger.done) - ledger.found
            rows.append(("counted", f"the {now:,} of this run: {self.form.shape} records keep no checks"))
        rows += summary.rows()
        if shown.meter.tokens:
            rows.append(("time", f"{shown.meter.seconds:.1f} s, {shown.meter.pace:.0f} new tokens/s"))
        return "\n".join(f"{name:<10} {text}" for name, text in rows)

    def _status(self, tally: Tally, summary: Summary) -> int:
        if tally.failed:
            return tally.exit_status
        return 1 if summary.not_passed else 0


async def _made(asked: Chain, options: Options, keep: Callable[[str], None]) -> Chain:
    """Make a chain, and keep its complete steps while it is not finished."""
    from contextlib import aclosing

    from redraft.revise.api import stream
    from redraft.revise.ops import Finished, Progress

    try:
        async with aclosing(stream(asked.prompt, **options)) as events:
            async for event in events:
                if isinstance(event, Progress):
                    keep(event.chain.to_json())
                elif isinstance(event, Finished):
                    return event.chain
    except RedraftError as error:
        if error.chain is not None:
            keep(error.chain.to_json())
        raise
    raise AssertionError("the loop ended without a chain")


def _begun(kept: Any, asked: Chain) -> Chain | None:
    """Return the chain that was kept for a prompt, or None if it cannot be gone on with."""
    from redraft.chain import Chain
    from redraft.revise.resume import insist_on_cut

    try:
        chain = Chain.model_validate(kept)
        insist_on_cut(chain, asked.prompt)
        chain.to_json()
    except (ValueError, UsageError):  # damaged: a record that pydantic refuses to read or to write
        return None
    return chain if 0 <= chain.usage.seconds < inf and chain.usage.completion_tokens >= 0 else None


def _note(tally: Tally, summary: Summary) -> str:
    parts = [f"{summary.passed} passed" if summary.checked else f"{summary.stops['accepted']} accepted"]
    return " · ".join([*parts, *([f"{tally.failed} failed"] if tally.failed else [])])
