"""What `ask` and `chat` read and say beside their chains: lines of a terminal or a pipe, waits, faults."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from redraft.cli.shell import tell

if TYPE_CHECKING:
    from redraft.chain import Chain

QUOTES = '"""'  # stands before and after a text of several lines

LEAVING = "Ctrl-D or /quit leaves."


def say_wait(reason: str) -> None:
    """Write to standard error why a server is waited for, when a wait begins."""
    if reason:
        tell(f"{reason}.")


def say_derived(prompt: str) -> None:
    """Write to standard error which checks a prompt itself gives."""
    from redraft.verify.derive import checks_in, nothing_in

    found = checks_in(prompt)
    tell(f"checks from the prompt: {'; '.join(found)}" if found else nothing_in(prompt))


def say_faults(chain: Chain, *, with_checks: bool, shown: bool = False) -> int:
    """Write to standard error what is wrong with the best answer, and return the exit status.

    `shown` is whether the chain was shown, which says it.
    """
    from redraft.revision.words import exit_status_of, faults_of

    if chain.stop != "cancelled" and not shown:
        for fault in faults_of(chain, with_checks=with_checks):
            tell(*fault)
    return exit_status_of(chain, with_checks=with_checks)


@contextmanager
def opening(references: Iterable[str]) -> Iterator[None]:
    """Draw a clock on a terminal while models are opened. One that is not here shows how it is fetched."""
    from rich.console import Console

    from redraft.cli.moving import Moving
    from redraft.engines.load import fetches

    moving = Moving(Console(highlight=False))
    if sys.stdout.isatty() and not any(map(fetches, references)):
        moving.begin("Loading the model")
    try:
        yield
    finally:
        moving.end()


def is_terminal() -> bool:
    """Return whether a person types and reads."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def read_terminal(do: Callable[[str], bool]) -> None:
    """Ask for lines until the end of the input, or until `do` returns False. Ctrl-C does not leave."""
    with suppress(ImportError):  # few Pythons lack it
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")  # off in Python: each line would be a turn
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, _ignore)
    while True:
        try:
            text = _typed()
            if text is None or not do(text):
                return
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, _ignore)  # it may have come before `interrupts` could do that
            typer.echo()
            tell(LEAVING)


def read_pipe(do: Callable[[str], bool]) -> None:
    """Take each line of standard input, until `do` returns False."""
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    while text := sys.stdin.readline():
        while _unclosed(text) and (more := sys.stdin.readline()):
            text += more
        if not do(text.rstrip("\n")):
            return


def _typed() -> str | None:
    """Return what is typed at the prompt; None at its end. Ctrl-C raises KeyboardInterrupt here."""
    with suppress(EOFError), interrupts(signal.default_int_handler):
        text = input("> ")
        while _unclosed(text):
            text += "\n" + input(". ")
        return text
    typer.echo()
    return None


def _ignore(*_: object) -> None:
    """Do nothing about Ctrl-C: child processes would inherit SIG_IGN."""


@contextmanager
def interrupts(handler: Callable[..., object]) -> Iterator[None]:
    """Handle Ctrl-C in another way, and afterwards as before."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _unclosed(text: str) -> bool:
    """Return whether a text begins with three quotes, and the other three are still to come."""
    text = text.strip()
    return text.startswith(QUOTES) and (len(text) < 2 * len(QUOTES) or not text.endswith(QUOTES))


@contextmanager
def without_echo(*, of_keys: bool = True) -> Iterator[None]:
    """Do not show keys within the moving text. What is typed is there at the next prompt.

    Without `of_keys`, `^C` alone is not shown: a process that is killed leaves the terminal so.
    """
    if not (sys.stdin.isatty() and find_spec("termios")):  # Windows has none
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    silent = [*before[:3], before[3] & ~(termios.ECHO if of_keys else termios.ECHOCTL), *before[4:]]
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
