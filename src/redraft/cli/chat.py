"""`redraft chat`: a conversation in the terminal. Each turn is a chain, shown while it is made.

Lines are read between the turns, outside of asyncio, so that the terminal's own editing works: arrows,
history, pasting. Without a terminal, each line is a turn, and the answers alone are printed. What a
conversation is stands in `redraft.revision.conversation`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from redraft.cli.ask import say_faults, say_wait, status_of
from redraft.cli.options import Given, check_utf8, fill_in, takes
from redraft.cli.shell import only_ours, tell, write
from redraft.counting import counted
from redraft.errors import RedraftError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from redraft.chain import Chain, Prompt, Step
    from redraft.engines.base import Engine
    from redraft.engines.retry import Patience
    from redraft.revision.cancel import CancelToken
    from redraft.revision.conversation import Conversation
    from redraft.revision.ops import Event
    from redraft.revision.options import RevisionOptions
    from redraft.revision.settings import Settings

COMMANDS = {
    "/revise": "revise the last answer once more; after Ctrl-C, go on with it",
    "/min N": "fewest revisions of each answer from now on",
    "/max N": "most revisions",
    "/undo": "take back the last question and its answer, or the last /revise",
    "/save FILE": "save the conversation: a chain for each question",
    "/model REF": "ask another model from now on",
    "/help": "show this",
    "/quit": "leave; Ctrl-D does too",
}
QUOTES = '"""'
LEAVING = "Ctrl-D or /quit leaves."


@takes
def chat(flags: Given) -> None:
    """Talk with a model that revises its answers.

    Drafts, feedback and revisions are shown as they come. Earlier questions are sent with their final answers
    alone. /help lists the commands, such as /revise and /save FILE. Ctrl-C stops an answer and keeps its
    steps; Ctrl-D leaves. Text of several lines is pasted, or put between lines of \"\"\".

    Without a terminal, each line of the input is a question or a command, and the answers are printed.
    """
    from redraft.revision.conversation import Conversation

    settings = fill_in(flags)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            options = runner.run(_opened(settings, stack))
            session = Session(settings, options, stack, runner, Conversation())
            status = _on_terminal(session) if _is_terminal() else _in_pipe(session)
        finally:
            runner.run(stack.aclose())
    raise typer.Exit(status)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


async def _opened(settings: Settings, stack: AsyncExitStack) -> RevisionOptions:
    return await settings.opened(stack, patience=_patience(settings))


def _patience(settings: Settings) -> Patience:
    return settings.waiting(tell=say_wait if sys.stderr.isatty() else None)


def _on_terminal(session: Session) -> int:
    """Ask for lines until the end of the input."""
    with suppress(ImportError):  # few Pythons lack it
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")  # off in Python: each line would be a turn
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    session.watching = True
    signal.signal(signal.SIGINT, _ignore)
    tell(f"{session.name} is ready.", f"/help lists the commands; {LEAVING}")
    while True:
        try:
            text = _typed()
            if text is None or not session.do(text):
                return 0
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, _ignore)  # it may have come before `_interrupts` could do that
            typer.echo()
            tell(LEAVING)


def _typed() -> str | None:
    """Return what is typed at the prompt; None at its end. Ctrl-C raises KeyboardInterrupt here."""
    try:
        with _interrupts(signal.default_int_handler):
            text = input("> ")
            while _unclosed(text):
                text += "\n" + input(". ")
    except EOFError:
        typer.echo()
        return None
    return text


def _ignore(*_: object) -> None:
    """Do nothing about Ctrl-C. Child processes would inherit signal.SIG_IGN."""


@contextmanager
def _interrupts(handler: Callable[..., object]) -> Iterator[None]:
    """Handle Ctrl-C in another way, and afterwards as before."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _in_pipe(session: Session) -> int:
    """Take each line as a turn. Return the exit status of the first that failed, or 0."""
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    while text := sys.stdin.readline():
        while _unclosed(text) and (more := sys.stdin.readline()):
            text += more
        if not session.do(text.rstrip("\n")):
            break
    return session.status


def _unclosed(text: str) -> bool:
    """Return whether a text begins with three quotes, and the other three are still to come."""
    text = text.strip()
    return text.startswith(QUOTES) and (len(text) < 2 * len(QUOTES) or not text.endswith(QUOTES))


@dataclass
class Session:
    """A conversation with its open models.

    Attributes:
        options: The options of the next turn, with the open engines.
        stack: Closes the engines.
        watching: Show each step; otherwise the answers alone.
        status: The exit status of the first turn that failed, or 0.
        saved: Files that were saved from this conversation, which may be replaced.
    """

    settings: Settings
    options: RevisionOptions
    stack: AsyncExitStack
    runner: asyncio.Runner
    talk: Conversation
    watching: bool = False
    status: int = 0
    saved: set[Path] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The name of the model."""
        return cast("Engine", self.options.model).info.name

    def do(self, text: str) -> bool:
        """Answer a text, or obey a command. Return False if it was to leave. An error ends only this."""
        try:
            check_utf8("the prompt", text)
            if text.startswith("/") and "\n" not in text:
                return self._obey(*text.partition(" ")[::2])
            if asked := text.strip().removeprefix(QUOTES).removesuffix(QUOTES).strip("\n"):
                self._answer(self.talk.prompt(asked))
        except RedraftError as error:
            self.status = self.status or error.exit_status
            tell(error.message, error.hint)
            if error.chain is not None:
                self._keep(error.chain)
        return True

    def _obey(self, command: str, value: str) -> bool:
        value = value.strip()
        match command:
            case "/quit":
                return False
            case "/help":
                _help()
            case "/undo":
                self.talk.undo()
                tell(f"{counted(len(self.talk.turns), 'question')} left.")
            case "/revise":
                self._revise()
            case "/min" | "/max":
                self._limit(command, value)
            case "/save":
                self._save(_given(command, value))
            case "/model":
                self._change(_given(command, value))
            case _:
                raise _unknown(command)
        return True

    def _answer(self, prompt: Prompt, **more: Any) -> None:
        """Make a chain, show it, and keep it."""
        from redraft.revision.api import finished, make
        from redraft.revision.cancel import CancelToken
        from redraft.revision.state import complete_steps

        cancel, made = CancelToken(), more.get("resume")
        changes = {"id": f"turn-{len(self.talk.turns) + 1}", **more, "cancel": cancel}
        options = self.options.model_copy(update=changes)
        events = make(prompt, options, partial(self.settings.load, self.stack))
        if self.watching:
            earlier = complete_steps(made) if made else ()
            self._keep(self.runner.run(_shown(events, cancel, earlier)))
            typer.echo()
            return
        with only_ours():
            chain = self.runner.run(finished(events))
        self._keep(chain)
        with_checks = bool(self.options.checks)
        self.status = self.status or status_of(chain, with_checks=with_checks)
        say_faults(chain, with_checks=with_checks)

    def _keep(self, chain: Chain) -> None:
        """Keep a chain as a turn, if it has an answer."""
        kept = self.talk.add(chain)
        if self.watching and not kept:
            tell("there is no answer, so the question is not kept.")
        elif kept and not self.watching:
            write(chain.answer)

    def _revise(self) -> None:
        again, last = self.talk.again(), self.talk.turns[-1]
        self._answer(last.prompt, **again, id=last.id)

    def _limit(self, command: str, value: str) -> None:
        from redraft.revision.options import check_options

        if not value.isdecimal():
            raise UsageError(
                f"{command} is {value!r:.40}.", hint=f"It takes a number of revisions: {command} 2"
            )
        name = f"{command[1:]}_revisions"
        self.options = check_options({**self.options.explicit, name: int(value)})
        tell(f"{name} is {int(value)}.")

    def _save(self, value: str) -> None:
        from redraft.chain import write_jsonl

        path = Path(os.path.expanduser(value))  # noqa: PTH111  (Path's own raises for an unknown ~user)
        if not self.talk.turns:
            raise UsageError("there is nothing to save.", hint="No question was answered yet.")
        try:
            if path.exists() and path.resolve() not in self.saved:
                raise UsageError(f"{path} is already there.", hint="Name another file: it would be lost.")
            write_jsonl(path, self.talk.turns)
        except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
            raise UsageError(f"cannot write {value!r:.80}: {error}.", hint="Name another file.") from None
        self.saved.add(path.resolve())
        tell(f"{counted(len(self.talk.turns), 'question')} in {path}", f"redraft show {path}")

    def _change(self, reference: str) -> None:
        """Open another model, and close the one before. If that fails, the old one stays.

        A price that was given on the command line is that of the old one.
        """
        from redraft.revision.options import check_prices

        settings = self.settings.over(model=reference)
        options = self.options.model_copy(update={"model": reference, "price": None})
        check_prices(options)
        opening = settings.load(self.stack, "model", reference, patience=_patience(settings))
        before = cast("Engine", self.options.model)
        with _interrupts(signal.default_int_handler):
            opened = self.runner.run(opening)
        self.settings, self.options = settings, options.model_copy(update={"model": opened})
        self.runner.run(before.aclose())
        tell(f"{self.name} is ready.")


def _given(command: str, value: str) -> str:
    if not value:
        usage = next(line for line in COMMANDS if line.startswith(command))
        raise UsageError(f"{command} needs more.", hint=usage)
    return value


def _unknown(command: str) -> UsageError:
    names = [line.partition(" ")[0] for line in COMMANDS]
    near = get_close_matches(command, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else "/help lists the commands."
    return UsageError(
        f"there is no command {command!r:.40}.", hint=f"{hint} To send it as a text, put a space before it."
    )


def _help() -> None:
    width = max(map(len, COMMANDS))
    lines = [f"{command:<{width}}  {text}" for command, text in COMMANDS.items()]
    write("\n".join([*lines, "", f"Several lines: paste them, or put them between lines of {QUOTES}."]))


async def _shown(events: AsyncGenerator[Event, None], cancel: CancelToken, earlier: Sequence[Step]) -> Chain:
    """Show the events of a chain after its earlier steps. Ctrl-C ends the chain, however often it comes."""
    from redraft.cli.watch import Watch
    from redraft.revision.api import finished

    async with aclosing(events):
        with _interrupts(lambda *_: cancel.cancel()), _without_echo(), Watch(earlier=earlier) as watch:
            return await finished(events, watch.show)


@contextmanager
def _without_echo() -> Iterator[None]:
    """Do not show keys, such as `^C`, within the moving text. What is typed is there at the next prompt."""
    import termios

    before = termios.tcgetattr(sys.stdin)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
