"""`redraft chat`: a conversation in the terminal. Each turn is a chain, shown while the model writes.

Lines are read between the turns, outside of asyncio, so that the terminal's line editing works. Without a
terminal, each line is a turn, and only the answers are printed. `redraft.revision.session` does the work.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import typer

from redraft.cli.ask import say_faults, say_unchanged, say_wait
from redraft.cli.options import Given, fill_in, takes
from redraft.cli.shell import only_ours, tell, write
from redraft.errors import RedraftError, UsageError, nearest
from redraft.jobs.counting import counted

if TYPE_CHECKING:
    import asyncio

    from redraft.chain import Chain, Prompt
    from redraft.revision.session import Session

LEAVING = "type exit or press Ctrl-D to leave."
COMMANDS = {
    "/revise": "revise the last answer once more, or finish it after Ctrl-C",
    "/edit WISH": "edit the last answer only as WISH asks; or: /edit 12 dollars -> in euros",
    "/undo": "take back the last question, or the last /revise or /edit",
    "/save FILE": "save the conversation, one chain per question",
    "/help": "show this",
    "/quit": "leave, as exit and Ctrl-D do",
}


@takes()
def chat(flags: Given) -> None:
    """Talk with a model that revises its answers.

    Each step is shown as a line, and the best answer comes last. /revise and /edit show what they change.
    Earlier questions are sent with only their final answers. /help lists the commands. Ctrl-C stops an answer
    and keeps its steps; exit or Ctrl-D leaves. A text of several lines can be pasted.

    Without a terminal, each line of the input is a question or a command, and the answers are printed. Ctrl-C
    then ends the program.
    """
    import asyncio

    from redraft.revision.session import Session

    settings, wait = fill_in(flags), say_wait if sys.stderr.isatty() else None
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            if watching := sys.stdin.isatty() and sys.stdout.isatty():
                tell("loading the model …")
            options = runner.run(settings.opened(stack, patience=settings.waiting(tell=wait)))
            talking = Chat(Session(settings, options, stack), runner, watching)
            if watching:
                tell("the model is ready.", f"/help lists the commands; {LEAVING}")
                read_terminal(talking.do)
            else:
                sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
                while (text := sys.stdin.readline()) and talking.do(text.rstrip("\n")):
                    pass
        finally:
            runner.run(stack.aclose())
    raise typer.Exit(0 if talking.watching else talking.status)


class Chat:
    """A conversation in a pipe or on a terminal."""

    def __init__(self, session: Session, runner: asyncio.Runner, watching: bool) -> None:
        self.session, self.runner = session, runner
        self.watching, self.status = watching, 0

    def do(self, text: str) -> bool:
        """Answer a question or run a command. Return False if the user leaves."""
        try:
            if text.startswith("/") and "\n" not in text:
                command, _, value = text.partition(" ")
                return self._obey(command, value.strip())
            if (asked := text.strip()) in ("exit", "quit"):
                return False
            if asked:
                self._answer(self.session.talk.prompt(asked))
        except RedraftError as error:
            self.status = self.status or error.exit_status
            tell(error.message, error.hint)
            if error.chain is not None:
                self._keep(error.chain)
        return True

    def _obey(self, command: str, value: str) -> bool:
        session, talk = self.session, self.session.talk
        usages = {usage.partition(" ")[0]: usage for usage in COMMANDS}
        if command not in usages:
            hint = nearest(command, usages) or "/help lists the commands."
            hint += " To send the line as a question, put a space before it."
            raise UsageError(f"there is no command {command!r:.40}.", hint=hint)
        if usages[command] != command and not value:
            raise UsageError(f"{command} is incomplete.", hint=f"Write {usages[command]}")
        match command:
            case "/help":
                width = max(map(len, COMMANDS))
                write("\n".join(f"{usage:<{width}}  {text}" for usage, text in COMMANDS.items()), table=True)
            case "/undo":
                turns = talk.turns
                talk.undo()
                asked = f"question: {turns[-1].prompt.text!r:.60}"
                tell(f"took back the last {asked if len(talk.turns) < len(turns) else '/revise or /edit'}.")
            case "/revise" | "/edit":
                more = talk.edited(value) if command == "/edit" else talk.again()
                before = talk.turns[-1]
                self._answer(**{"prompt": before.prompt, **more}, id=before.id)
                same = talk.turns[-1].answer == before.answer and talk.turns[-1] is not before
                if command == "/edit" and same and talk.turns[-1].stop != "cancelled":
                    status = say_unchanged(talk.turns[-1], "" if "->" in value else "/edit PASSAGE -> WISH")
                    self.status = self.status or status
                    talk.undo()
            case "/save":
                path = session.save(value)
                tell(f"saved {counted(len(talk.turns), 'question')} in {path}.", f"redraft show {path}")
        return command != "/quit"

    def _answer(self, prompt: Prompt, **more: Any) -> None:
        from redraft.cli.watch import watched
        from redraft.revision.api import finished
        from redraft.revision.cancel import CancelToken

        cancel = CancelToken()
        events = self.session.answer(prompt, **more, cancel=cancel)
        if self.watching:
            self._keep(self.runner.run(watched(events, cancel, more.get("resume"))))
            typer.echo()
            return
        with only_ours():
            chain = self.runner.run(finished(events))
        self._keep(chain)
        same = "places" in more and chain.answer == more["resume"].answer
        if not same or chain.stop == "cancelled":  # otherwise `_obey` says why
            status = say_faults(chain, self.session.options.checks)
            self.status = self.status or status

    def _keep(self, chain: Chain) -> None:
        kept, watch = self.session.talk.add(chain), self.session.settings.watch
        if watch and (said := watch.add(chain)):
            tell(said)
        if self.watching and not kept:
            before = "Ask again. /revise revises the previous answer." if self.session.talk.turns else None
            tell("there is no answer, so the question was taken back.", before)
        elif kept and not self.watching:
            from redraft.checks.json_reading import text_of

            write(text_of(chain, chain.answer))


def read_terminal(do: Callable[[str], bool]) -> None:
    """Pass each line to `do` until `do` returns False or the input ends. Ctrl-C does not end the loop."""
    with suppress(ImportError):  # some Pythons lack it
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")  # otherwise each pasted line is a turn
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, _ignore)
    while True:
        try:
            text = _typed()
            if text is None or not do(text):
                return
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, _ignore)  # Ctrl-C may have come before `handled` restored this
            typer.echo()
            tell(LEAVING)


def _typed() -> str | None:
    from redraft.jobs.signals import handled

    with suppress(EOFError), handled(signal.default_int_handler, signal.SIGINT):
        return input("> ")
    typer.echo()
    return None


def _ignore(*_: object) -> None:
    """Ignore Ctrl-C. SIG_IGN would also be inherited by child processes."""
