"""Votes in the terminal: pairs are shown, and one key is a vote."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from redraft.counting import printable
from redraft.evaluation.voting.ballots import Ballots, State

Tell = Callable[[str, str | None], None]

_TITLES = ("Question", "Answer 1", "Answer 2")
_HELP = dict(zip("12=snuq", ("1", "2", "=", "s(kip)", "n(ote)", "u(ndo)", "q(uit)"), strict=True))

_END = ("", "\x04")  # what is read at the end of a pipe, and for Ctrl-D in a terminal
_ACTS = {"s": "skip", "u": "undo"}


def vote_in_terminal(ballots: Ballots, tell: Tell) -> None:
    """Show pairs and read keys until all pairs are judged, or `q`. `tell` gives a message and a hint."""
    if not sys.stdin.isatty():
        tell(
            "the input is not a terminal, so each line of it is a key.",
            "To be asked for keys, run it in a terminal (over ssh: ssh -t), or leave out --terminal.",
        )
    with _lines(wanted=False):
        state = ballots.state()
        while True:
            _show(state, ballots.voter, tell)
            note = state.pair.note if state.pair else ""
            while (key := _key("12=snuq" if state.pair else "uq", tell)) == "n":
                with _lines(wanted=True):
                    note = _asked("note: ", sys.stdin.readline).strip()
            if key == "q":
                return
            state = ballots.act(_ACTS.get(key, key), state.pair.id if state.pair else "", note)


@contextmanager
def _lines(*, wanted: bool) -> Iterator[None]:
    """Let the terminal give whole lines, or each key at once.

    Keys come at once between two questions too: a Ctrl-D in a terminal of lines would later be a byte 0.
    """
    if not (sys.stdin.isatty() and find_spec("termios")):  # Windows has none: its terminals give whole lines
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    flags = termios.ICANON | termios.ECHO
    after = [*before[:3], before[3] | flags if wanted else before[3] & ~flags, *before[4:]]
    termios.tcsetattr(terminal, termios.TCSADRAIN, after)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _show(state: State, voter: str, tell: Tell) -> None:
    console = Console(stderr=True, highlight=False)
    console.print()
    if state.remark:
        tell(state.remark, None)
    if pair := state.pair:
        for turn, texts in enumerate(zip(pair.questions, *pair.answers, strict=True), start=1):
            before = "" if turn == len(pair.questions) else " before"
            for title, text in zip(_TITLES, texts, strict=True):
                console.print(_rule(title + before), Text(text if text.strip() else "(empty)"), sep="\n")
        if pair.note:
            console.print(_rule("Your note"), Text(pair.note), sep="\n")
    done = f"{state.done:,} of {state.total:,} judged by {voter}"
    console.print(_rule(done if state.pair else f"{done}. Thank you!"))


def _rule(title: str) -> Rule:
    return Rule(Text(title, "bold"), align="left", style="dim")


def _key(keys: str, tell: Tell) -> str:
    """Return the next of some keys; `q` at the end of the input."""
    while True:
        key = _asked(f"{' '.join(_HELP[key] for key in keys)} > ", _pressed)
        key = key.strip() if key not in _END else "q"
        print(key, file=sys.stderr)
        if len(key) == 1 and key in keys:
            return key
        if key:
            tell(f"{key!r:.40} is no key.", None)


def _asked(prompt: str, read: Callable[[], str]) -> str:
    """Return what is read at a terminal after a prompt; in a pipe, a line. It is printable, except Ctrl-D."""
    if sys.stdin.isatty():
        print(prompt, end="", file=sys.stderr, flush=True)
        text = read()
    else:
        text = sys.stdin.readline()
    text = text.encode(errors="replace").decode()  # bytes that are no characters
    return text if text in _END else printable(text)


_PRESSED = re.compile(r"[^\x1b]|\x1b(\[[ -?]*[@-~]|O.|[^\[O])", re.DOTALL)
"""What a key sends: a character, or several for arrows and the like: `ESC [ 1 ~` is Home, and not a vote."""
_MEANWHILE = 0.05  # seconds between bytes of one key


def _pressed() -> str:
    """Return a key of the terminal, without Enter. `typer.getchar` loses keys that were pressed before."""
    terminal = sys.stdin.fileno()
    sent = os.read(terminal, 1)  # not more: what follows may be the next key, or a note
    while not _PRESSED.fullmatch(sent.decode(errors="ignore")):
        if not select.select([terminal], [], [], _MEANWHILE)[0]:
            break
        more = os.read(terminal, 1)
        if not more:
            break
        sent += more
    return sent.decode(errors="replace")
