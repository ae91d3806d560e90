"""`redraft ask`: answer one prompt, check and revise it, and show each step."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.options import CacheFile, Given, check_utf8, fill_in, takes
from redraft.cli.shell import only_ours, tell, write
from redraft.errors import EngineError, RedraftError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from redraft.chain import Chain
    from redraft.revision.cancel import CancelToken
    from redraft.revision.settings import Settings


@takes
def ask(
    flags: Given,
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; '-' or nothing reads standard input.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the chain as one line of JSON.")] = False,
    cache: CacheFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the best answer alone.")] = False,
) -> None:
    """Ask a model; it drafts, criticises and revises.

    On a terminal the steps are shown as they come, each revision as a word diff against the draft before it.
    In a pipe, or with --quiet, only the best answer is printed.
    """
    from redraft.config import load_config

    settings = fill_in(flags)
    quiet = quiet or load_config().defaults.get("quiet", False)
    text = _prompt(prompt)
    watch = sys.stdout.isatty() and not (json or quiet)
    try:
        with nullcontext() if watch else only_ours():
            chain = asyncio.run(_make(settings, text, cache, watch=watch))
    except RedraftError as error:
        if error.chain is not None and not watch and (json or error.chain.answer):
            write(error.chain.to_json() if json else error.chain.answer)
        raise
    if not watch:
        if json or chain.answer.strip():
            write(chain.to_json() if json else chain.answer)
        say_faults(chain, with_checks=bool(settings.get("check")))
    raise typer.Exit(status_of(chain, with_checks=bool(settings.get("check"))))


def _prompt(prompt: str | None) -> str:
    if prompt in (None, "-"):
        if sys.stdin.isatty():
            raise UsageError("there is no prompt.", hint='redraft ask "Describe a lighthouse."')
        # Bytes that are not UTF-8 become surrogates, as in arguments, and are refused below.
        prompt = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    if not prompt or not prompt.strip():
        raise UsageError("the prompt is empty.", hint='redraft ask "Describe a lighthouse."')
    check_utf8("the prompt", prompt)
    return prompt.strip("\n")


async def _make(settings: Settings, prompt: str, cache: Path | None, *, watch: bool) -> Chain:
    """Make the chain. Ctrl-C ends it early and keeps its steps; a second one ends the program."""
    from contextlib import AsyncExitStack

    from redraft.revision.api import finished, make
    from redraft.revision.cancel import CancelToken

    cancel = CancelToken()
    async with AsyncExitStack() as stack:
        patience = settings.waiting(tell=say_wait if sys.stderr.isatty() else None)
        load = partial(settings.load, stack, patience=patience)
        options = settings.options().model_copy(update={"cancel": cancel, "cache": cache})
        _on_interrupt(cancel)
        events = await stack.enter_async_context(aclosing(make(prompt, options, load)))
        if not watch:
            return await finished(events)

        from redraft.cli.watch import Watch

        return await finished(events, stack.enter_context(Watch()).show)


def say_wait(reason: str) -> None:
    """Write to standard error why a server is waited for, when a wait begins."""
    if reason:
        tell(f"{reason}.")


def _on_interrupt(cancel: CancelToken) -> None:
    """Let the first Ctrl-C end the chain, and leave a second one to Python."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        cancel.cancel()

    loop.add_signal_handler(signal.SIGINT, stop)


def status_of(chain: Chain, *, with_checks: bool) -> int:
    """Return the exit status of a chain."""
    if chain.stop == "cancelled":
        return 130
    if not chain.answer.strip():
        return EngineError.exit_status
    return 1 if chain.missing_revisions or (with_checks and not chain.passed) else 0


def say_faults(chain: Chain, *, with_checks: bool) -> None:
    """Write to standard error what is wrong with the best answer, if it was not shown."""
    from redraft.counting import counted
    from redraft.revision.words import STOPS, why_cut

    if chain.stop == "cancelled":
        return
    if chain.best is None and chain.steps:
        tell(f"there is no answer: {why_cut(chain.steps[-1], chain.stop)}.")
        return
    if chain.best is None:
        tell(
            "there is no answer: the budget of seconds was over before the model was ready.",
            "Is its server up? Give it longer: --budget-seconds",
        )
        return
    if missing := chain.missing_revisions:
        wanted = chain.revisions + missing
        why = STOPS.get(chain.stop or "", "")
        tell(
            f"minimum not reached: {chain.revisions} of at least {counted(wanted, 'revision')}; {why}.",
            "Give it more room: --max-tokens, or the budget.",
        )
    best = chain.steps[chain.best]
    if best.finish != "stop":
        tell(f"the answer was cut: {why_cut(best, chain.stop)}.")
    if with_checks and best.passed is None:
        tell("the checks were not done when the chain ended.")
    if best.passed is False and best.feedback is not None:
        results = best.feedback.checks
        failed = [result for result in results if not result.passed]
        several = f"the best of {len(chain.steps)} answers" if chain.revisions else "the answer"
        tell(
            f"{several} fails {len(failed)} of {len(results)} checks.",
            "\n".join(f"{result.name}: {result.message}" for result in failed),
        )
