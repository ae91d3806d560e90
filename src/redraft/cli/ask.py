"""`redraft ask`: answer one prompt, check and revise it, and show each step."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import aclosing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.lines import say_derived, say_faults, say_wait
from redraft.cli.options import CacheFile, Given, check_utf8, fill_in
from redraft.cli.parameters import takes
from redraft.cli.shell import only_ours, write
from redraft.errors import RedraftError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from redraft.chain import Chain
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
    if "auto" in (settings.get("check") or ()) and sys.stderr.isatty() and not quiet:
        say_derived(text)
    try:
        with nullcontext() if watch else only_ours():
            chain = asyncio.run(_make(settings, text, cache, watch=watch))
    except RedraftError as error:
        if error.chain is not None and not watch and (json or error.chain.answer):
            write(error.chain.to_json() if json else error.chain.answer)
        raise
    if not watch and (json or chain.answer.strip()):
        write(chain.to_json() if json else chain.answer)
    raise typer.Exit(say_faults(chain, with_checks=bool(settings.get("check")), shown=watch))


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
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGINT)
            cancel.cancel()

        loop.add_signal_handler(signal.SIGINT, stop)
        events = await stack.enter_async_context(aclosing(make(prompt, options, load)))
        if not watch:
            return await finished(events)

        from redraft.cli.watch import Watch

        return await finished(events, stack.enter_context(Watch()).show)
