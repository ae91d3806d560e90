"""`redraft generate instructions`: seeds and a teacher become a file of tasks, resumable."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import OwnJournal, RunFlags, check_out
from redraft.cli.shell import only_ours, tell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redraft.generate.instructions.run import Generated, Opened
    from redraft.jobs.harness import Session
    from redraft.jobs.journal import Journal
    from redraft.revision.settings import Settings
    from redraft.runs.plan import RunPlan

FLAGS = FlagGroup(
    "redraft.generate.instructions.options:InstructionOptions", recipes="generate", other="generate chains"
)


def instructions(
    flags: Given,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the tasks go, as chains.")],
    run: RunFlags,
    journal: OwnJournal = None,
    estimate: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Make N requests more, and estimate what --count costs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Generate instructions with inputs and outputs.

    FILE gets a chain for each task; for Alpaca's shape: redraft data export FILE --to alpaca. FILE is the
    pool too: the same command goes on after any stop, and a larger --count goes on from what is there. Each
    reply is stored in FILE.journal.db before it is used, so none is paid for twice.

    Rejected tasks are in FILE.rejected.jsonl, with the rule and the nearest instruction. FILE.html shows
    verbs, lengths and rejects. FILE.run.json records how FILE was made.

    With --batch calls go through the server's batches, in waves. It is for --way alpaca: its requests depend
    on the seeds alone.

    The run ends when there are enough instructions, at a limit (exit status 4), or when 25 requests in a row
    give nothing that is new and sound (exit status 3).
    """
    from redraft.errors import UsageError
    from redraft.generate.instructions.run import Generation

    check_out(out, "-o tasks.jsonl")
    settings = fill_in(flags, FLAGS)
    plan = run.plan(out)
    plan.check(settings, "call")
    if run.batch and settings.get("way") == "self-instruct":
        raise UsageError(
            "--batch is for --way alpaca: requests of self-instruct wait for each other, a thousand times "
            "for a large set.",
            hint="Leave out --batch, or use --way alpaca.",
        )
    with only_ours():
        generation = Generation(
            options=settings.values,
            out=out,
            opened=partial(_opened, settings, plan),
            parallel=plan.parallel,
            journal=journal,
            limits=plan.limits,
            quiet=plan.quiet,
            tell=tell,
            sample=estimate,
        )
        made = generation.run()
    _finish(made, quiet=plan.quiet)


instructions = takes(instructions, FLAGS)


@asynccontextmanager
async def _opened(
    settings: Settings, plan: RunPlan, session: Session, journal: Journal
) -> AsyncGenerator[Opened]:
    """Open the model, and wait for a server that is down."""
    from redraft.engines.journaled import identity_of
    from redraft.engines.threads import in_daemon_thread
    from redraft.generate.instructions.run import Opened
    from redraft.runs.batching import under_way

    reference = settings.references()["model"]
    async with AsyncExitStack() as stack:
        batches = plan.batching.opened(
            stack, journal, lambda: plan.limits.reached(session.spent, session.progress.seconds)
        )
        how: Any = {
            "parallel": plan.parallel,
            "patience": plan.patience(settings, session),
            "batches": batches,
        }
        engine = await settings.load(stack, "model", reference, **how)
        identity = await in_daemon_thread(lambda: identity_of(reference))
        yield Opened(engine, identity, lambda: under_way(batches))


def _finish(made: Generated, *, quiet: bool) -> None:
    if made.dry:
        from redraft.generate.instructions.flow import DRY

        rules = ", ".join(f"{rule} {number:,}" for rule, number in made.rejected.most_common(5))
        tell(
            f"the last {DRY} requests gave nothing new that is sound; {made.kept:,} instructions are kept.",
            f"Rejects: {rules or 'none'}. Try a stronger model, more seeds, or another --topic.",
        )
    if not quiet:
        typer.echo(summary(made))
    raise typer.Exit(made.exit_status)


def summary(made: Generated) -> str:
    """Return the figures of a run as text."""
    from redraft.chain import ESTIMATED, PARTLY
    from redraft.counting import counted

    stats, spent = made.stats, made.job.spent
    rows = [
        (
            "kept",
            f"{counted(stats.instructions, 'instruction')}, {counted(stats.tasks, 'task')} in {made.out}",
        )
    ]
    if made.rejected:
        rules = ", ".join(f"{rule} {number:,}" for rule, number in made.rejected.most_common())
        rows.append(("rejected", f"{made.rejected.total():,}: {rules}"))
    if made.job.counts.failed:
        rows.append(("failed", f"{made.job.counts.failed:,} requests, see {made.out}.errors.jsonl"))
    rows += stats.rows()
    rows.append(("page", str(made.page)))
    if spent.replayed or spent.usd or spent.estimated:
        price = f", {spent.usd:.4f} USD" if spent.usd else ""
        how = ESTIMATED if spent.unreported else PARTLY
        price += f", {how}" if spent.estimated else ""
        rows.append(
            ("paid", f"{spent.tokens:,} new tokens{price}; {spent.replayed:,} replies from the journal")
        )
    rows += made.job.pace()
    if made.estimate:
        rows += made.estimate.rows()
    return "\n".join(f"{name:<10} {text}" for name, text in rows)
