"""`redraft generate instructions`: seeds and a teacher become a file of tasks, resumable."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.answer import PARALLEL, PATIENCE
from redraft.cli.options import (
    FlagGroup,
    FlagValues,
    LimitSeconds,
    LimitTokens,
    LimitUsd,
    fill_in,
    takes,
)
from redraft.cli.shell import only_ours, tell
from redraft.generate.instructions.options import TASKS, InstructionOptions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redraft.generate.instructions.run import Generated, Opened
    from redraft.jobs.harness import Session

FLAGS = FlagGroup(InstructionOptions, recipes="generate", heading=TASKS)


def instructions(
    flags: InstructionOptions,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the tasks go, as chains.")],
    parallel: Annotated[
        int | None, typer.Option("--parallel", "-j", metavar="N", help=f"Calls at once.  [{PARALLEL}]")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", metavar="FILE", help="Where replies go.  [FILE.journal.db]", show_default=False
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    limit_usd: LimitUsd = None,
    limit_tokens: LimitTokens = None,
    limit_seconds: LimitSeconds = None,
) -> None:
    """Generate instructions with inputs and outputs.

    FILE gets a chain for each task; for Alpaca's shape: redraft data export FILE --to alpaca. FILE is the
    pool too: the same command goes on after any stop, and a larger --count goes on from what is there. Each
    reply is stored in FILE.journal.db before it is used, so none is paid for twice.

    Rejected tasks are in FILE.rejected.jsonl, with the rule and the nearest instruction. FILE.html shows
    verbs, lengths and rejects. FILE.run.json records how FILE was made.

    The run ends when there are enough instructions, at a limit (exit status 4), or when 25 requests in a row
    give nothing that is new and sound (exit status 3).
    """
    from redraft.config import load_config
    from redraft.errors import UsageError
    from redraft.generate.instructions.run import Generation
    from redraft.jobs.limits import Limits

    if str(out) == "-":
        raise UsageError("the output has to be a file, not '-'.", hint="A stopped run goes on from it.")
    below = load_config().defaults
    settings = fill_in(flags, FLAGS)
    settings.waiting()
    quiet = quiet or below.get("quiet", False)
    parallel = below.get("parallel", PARALLEL) if parallel is None else parallel
    values: Any = settings.values
    with only_ours():
        generation = Generation(
            options=values,
            out=out,
            opened=lambda session: _opened(settings, parallel, session),
            parallel=parallel,
            journal=journal,
            limits=Limits(limit_usd, limit_tokens, limit_seconds),
            quiet=quiet,
            tell=tell,
        )
        made = generation.run()
    _finish(made, quiet=quiet)


instructions = takes(instructions, FLAGS)


@asynccontextmanager
async def _opened(settings: FlagValues, parallel: int, session: Session) -> AsyncGenerator[Opened]:
    """Open the model, and wait for a server that is down."""
    from redraft.engines.journaled import identity_of
    from redraft.engines.threads import in_daemon_thread

    patience = settings.waiting(usual=PATIENCE, tell=session.progress.wait)
    reference = settings.references()["model"]
    async with AsyncExitStack() as stack:
        engine = await settings.load(stack, "model", reference, parallel=parallel, patience=patience)
        yield engine, await in_daemon_thread(lambda: identity_of(reference))


def _finish(made: Generated, *, quiet: bool) -> None:
    if made.dry:
        from redraft.generate.instructions.flow import DRY

        rules = ", ".join(f"{rule} {number:,}" for rule, number in made.rejected.most_common(5))
        tell(
            f"the last {DRY} requests gave nothing new that is sound; {made.kept:,} instructions are kept.",
            f"Rejects: {rules or 'none'}. Try a stronger model, more seeds, or another --topic.",
        )
    if not quiet and not made.job.interrupted:
        typer.echo(summary(made))
    raise typer.Exit(made.exit_status)


def summary(made: Generated) -> str:
    """Return the figures of a run as text."""
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
    if spent.replayed or spent.usd:
        price = f", {spent.usd:.4f} USD" if spent.usd else ""
        rows.append(
            ("paid", f"{spent.tokens:,} new tokens{price}; {spent.replayed:,} replies from the journal")
        )
    rows += made.job.pace()
    return "\n".join(f"{name:<10} {text}" for name, text in rows)
