"""`redraft ask`: answer one prompt, check and revise the answer, and show each step."""

from __future__ import annotations

import re
import select
import signal
import sys
from contextlib import AsyncExitStack, aclosing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.options import Given, fill_in, takes
from redraft.cli.shell import argument, flag, only_ours, switch, tell, write
from redraft.errors import RedraftError, UsageError
from redraft.jobs.counting import begin_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redraft.chain import Chain, Prompt
    from redraft.revision.api import Asked
    from redraft.revision.settings import Settings

SILENT_SECONDS = 10.0  # seconds after which a line says, in a file or pipe, that redraft is at work
PIPE_SECONDS = 3.0  # seconds of silence after which a line says that redraft waits for the pipe
_EXAMPLE = 'redraft ask "Describe a lighthouse."'


@takes()
def ask(
    flags: Given,
    prompt: Annotated[
        list[str] | None, argument("PROMPT", "The prompt. Text from a pipe is its input.")
    ] = None,
    json: Annotated[bool, switch("Print the chain as one line of JSON.", "--json")] = False,
    cache: Annotated[Path | None, flag("FILE", "Store replies in FILE, and send no request twice.")] = None,
    quiet: Annotated[bool, switch("Print only the best answer.", "--quiet", "-q")] = False,
    steps: Annotated[bool, switch("Show each text and its changes.", "--steps")] = False,
    edit: Annotated[
        Path | None, flag("FILE", "Edit FILE (- for a pipe) only as PROMPT asks, and print a diff.")
    ] = None,
    at: Annotated[list[str] | None, flag("PASSAGE", "With --edit: change only PASSAGE; repeatable.")] = None,
) -> None:
    """Ask a model; it drafts, criticises and revises.

    Text from a pipe is the prompt's input: cat notes.txt | redraft ask "Summarise this." Without a prompt, or
    with '-', that text is the prompt.

    On a terminal, each step is a line, and the best answer comes last. In a pipe, or with --quiet, only the
    best answer is printed. With --steps, each text is shown. On a terminal, it appears as it is written, and
    a revision is shown as a word diff against the text before it.

    With --edit, the prompt says what should be different in a text: redraft ask --edit notes.txt "Use euros."
    Without a prompt, the edit fixes what --check finds. A diff is printed, and the file stays unchanged. To
    apply the diff, append "| patch notes.txt". With --quiet, the new text is printed instead.
    """
    import asyncio

    from redraft.checks.json_reading import text_of
    from redraft.engines.config import load_config

    settings = fill_in(flags)
    quiet = quiet or load_config().defaults.get("quiet", False)
    if edit is not None or at:
        wish = one_text(prompt or (), "ask").strip()
        example = 'redraft ask --edit FILE "Use euros."  (or -c CHECK instead of a prompt)'
        if edit is None:
            raise UsageError("--at needs --edit, which names the file.", hint=example)
        wished = wish not in ("", "-")
        if not wished and (at or not settings.get("check")):
            raise UsageError("--edit needs a prompt that says what should be different.", hint=example)
        places: list[Any] = [(each, wish) for each in at or ()] or [wish] * wished
        raise typer.Exit(_edit(settings, edit, places, cache, "json" * json or "text" * quiet))
    asked = _prompt(prompt or ())
    watch = (steps or sys.stdout.isatty()) and not (json or quiet)
    checks = settings.get("check") or ()
    if "auto" in checks and sys.stderr.isatty() and not quiet:
        from redraft.checks.groups import derived, without_auto

        found = "; ".join(check.name for check in derived(asked))
        tell(f"checks from the prompt: {found or 'none'}")
        checks = without_auto(checks, asked)
    try:
        with nullcontext() if watch else only_ours():
            chain = asyncio.run(_make(settings, asked, cache=cache, watch=watch, steps=steps, quiet=quiet))
    except RedraftError as error:
        if error.chain is not None and not (watch and steps) and (json or error.chain.answer):
            write(error.chain.to_json() if json else error.chain.answer)
        raise
    if settings.watch and (said := settings.watch.add(chain)):
        tell(said)
    if not watch and (json or chain.answer.strip()):
        write(chain.to_json() if json else text_of(chain, chain.answer))
    if not (settings.get("check") or quiet or json):
        _say_demands(asked)
    raise typer.Exit(say_faults(chain, checks, shown=watch))


def _say_demands(prompt: Prompt) -> None:
    if sys.stderr.isatty():
        from redraft.checks.derive import checks_in  # after the answer, because it takes 0.1 s

        if found := checks_in(prompt.instruction):
            tell(f"the prompt seems to ask for {', '.join(found)}. To check it: --check auto")


def _edit(settings: Settings, file: Path, places: Sequence[Any], cache: Path | None, form: str) -> int:
    import asyncio
    from difflib import unified_diff

    from redraft.chain.documents import text_of_settings
    from redraft.revision.api import to_patch

    if str(file) != "-" and _has_piped():
        hint = f"To edit {file}, end the command with < /dev/null. To edit the piped text, write: --edit -"
        raise UsageError(f"a text is piped in, but --edit changes only {file}.", hint=hint)
    if "auto" in (settings.get("check") or ()):
        hint = "Name the checks, as in --check 'words<=50'."
        raise UsageError("--check auto does not work with --edit.", hint=hint)
    text = text_of_settings(file)
    asked = to_patch(text, places=places, checks=settings.get("check"))
    del asked["checks"]  # the settings contain the checks
    with only_ours():
        chain = asyncio.run(_make(settings, cache=cache, quiet=form == "text", **asked))
    if form:
        write(chain.to_json() if form == "json" else chain.answer.removesuffix("\n"))
    else:
        old, new = (re.findall(r"[^\n]*\n|[^\n]+", each) for each in (text, chain.answer))
        name = f"{file}\t" if " " in str(file) else str(file)
        for line in unified_diff(old, new, name, name):
            write(line.removesuffix("\n") if line.endswith("\n") else f"{line}\n\\ No newline at end of file")
    if chain.answer == text and not (chain.passed or chain.stop == "cancelled"):
        return say_unchanged(chain, "" if places and not isinstance(places[0], str) else "--at 'the passage'")
    return say_faults(chain, settings.get("check"))


def _has_piped() -> bool:
    with suppress(OSError, ValueError):  # a test's standard input is not a file
        if sys.platform == "win32" or sys.stdin.isatty() or not select.select([sys.stdin], [], [], 0)[0]:
            return False
    return bool(sys.stdin.buffer.read(1))


def say_unchanged(chain: Chain, where: str) -> int:
    """Print why an edit changed nothing; return 1. `where`: advice, or "" if a passage is named."""
    failed = [each for each in chain.steps[-1].checks if not each.passed]
    placeless = [each.name for each in failed if not each.places]
    why = "; ".join({each["why"]: 1 for each in chain.unchanged})
    hint = f'To change words, quote them: change "banners" to "flags". Or name the passage: {where}.'
    if chain.stop == "context":
        why, hint = "the context is full", "Give less text, or a longer context: --ctx N"
    elif not where:
        hint = "Quote the new text, as in “59 EUR”."
    elif not why and chain.revisions:
        why = f"the model's new text still fails {', '.join(each.name for each in failed)}"
    elif not why and placeless:
        why = f"no passage to change was found for {', '.join(placeless)}"
    tell(f"nothing was changed{f': {why}' * bool(why)}.", hint)
    return 1


def _prompt(words: Sequence[str]) -> Prompt:
    from redraft.chain import Prompt

    text = one_text(words, "ask").strip("\n")
    text = "" if text == "-" else text
    if sys.stdin.isatty() and not text.strip():
        raise UsageError("there is no prompt.", hint=_EXAMPLE)
    piped = read_piped(beside=bool(text.strip()))
    if text.strip():
        return Prompt(instruction=text, input=piped)
    if not piped.strip():
        raise UsageError("the prompt is empty.", hint=_EXAMPLE)
    return Prompt(instruction=piped)


async def _make(
    settings: Settings, prompt: Asked, *, watch: bool = False, steps: bool = False, quiet: bool, **more: Any
) -> Chain:
    import asyncio

    from redraft.jobs.signals import on_signal
    from redraft.revision.api import finished, make
    from redraft.revision.cancel import CancelToken

    cancel = CancelToken()
    async with AsyncExitStack() as stack:
        patience = settings.waiting(tell=say_wait if sys.stderr.isatty() else None)
        load = partial(settings.load, stack, patience=patience)
        options = settings.options().model_copy(update={"cancel": cancel, **more})

        def stop() -> None:
            back()
            if quiet:
                begin_line()
            cancel.cancel()

        back = on_signal(signal.SIGINT, stop)
        if quiet or not (watch or sys.stderr.isatty()):
            if not quiet:
                told = asyncio.get_running_loop().call_later(SILENT_SECONDS, tell, "the model is at work.")
                stack.callback(told.cancel)
            return await finished(await stack.enter_async_context(aclosing(make(prompt, options, load))))

        from redraft.cli.watch import Watch, loading

        shown = stack.enter_context(Watch(steps=steps if watch else None))
        events = await stack.enter_async_context(aclosing(make(prompt, options, loading(load, shown))))
        return await finished(events, shown.show)


def one_text(words: Sequence[str], verb: str) -> str:
    """Return the prompt. Raise `UsageError` for several `words`: the user left out the prompt's quotes."""
    if len(words) > 1:
        quoted = '"{}"'.format(re.sub(r'(["\\$`])', r"\\\1", " ".join(words)))
        hint = f"Put quotes around it: redraft {verb} {quoted}"
        raise UsageError(f"the prompt is {len(words)} arguments, but should be one.", hint=hint)
    return "".join(words)


def read_piped(*, beside: bool) -> str:
    """Return the text from the pipe, or "" at a terminal. Bytes that are not UTF-8 become surrogates.

    If there is also a prompt (`beside`), a message says that redraft waits.
    """
    if sys.stdin.isatty():
        return ""
    with suppress(OSError, ValueError):  # a test's standard input is not a file
        if beside and not select.select([sys.stdin], [], [], PIPE_SECONDS)[0]:
            tell("waiting for text from the pipe.", "To pipe nothing: redraft ask … < /dev/null")
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape").replace("\r\n", "\n").strip("\n")


def say_wait(reason: str) -> None:
    """Print why redraft waits for a server, if there is a `reason`."""
    if reason:
        tell(f"{reason}.")


def say_faults(chain: Chain, checks: Iterable[Any] | None, *, shown: bool = False) -> int:
    """Print the best answer's faults, and return the exit status. If `shown`, the user saw all steps."""
    from redraft.checks.groups import without_auto
    from redraft.revision.words import exit_status_of, faults_of

    with_checks = bool(without_auto(checks or (), chain.prompt))
    if checks and not with_checks:
        from redraft.checks.derive import NOTHING

        tell(f"nothing was checked: {NOTHING}", "Add a check, such as --check 'words<=50'")
    for fault in faults_of(chain, with_checks=with_checks, shown=shown):
        tell(*fault)
    return exit_status_of(chain, with_checks=with_checks)
