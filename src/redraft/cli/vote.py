"""`redraft vote`: people judge the answers of two models blindly, on a web page or in the terminal."""

from __future__ import annotations

import os
import re
import select
import shlex
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.shell import tell, write
from redraft.counting import printable
from redraft.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redraft.evaluation.judging.pairs import Match
    from redraft.evaluation.voting.ballots import Ballots, State
    from redraft.evaluation.voting.store import VoteStore


_TITLES = ("Question", "Answer 1", "Answer 2")
_HELP = dict(zip("12=snuq", ("1", "2", "=", "s(kip)", "n(ote)", "u(ndo)", "q(uit)"), strict=True))


def _file(text: str, *names: str) -> Any:
    return typer.Option(*names, metavar="FILE", help=text, show_default=False)


def vote(
    answers: Annotated[
        list[Path], typer.Argument(metavar="A B", help="Answers of a model A, and of its opponent B.")
    ],
    out: Annotated[Path, _file("Where the votes go.", "--out", "-o")],
    questions: Annotated[Path | None, _file("What was asked, with categories.")] = None,
    voter: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who votes.  [the login name; the page asks]", show_default=False),
    ] = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Vote here, and not on a page.")] = False,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Of the page; 0 is any free one.")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides the order and the sides.")] = 1,
) -> None:
    """Judge the answers of two models blindly: which is better?

    Shows pairs without names, in an order and with sides that are drawn for each voter. The page is on this
    machine only, and is served until Ctrl-C. Keys, on the page and with --terminal: 1 and 2 for the better
    answer, = for a tie, s to skip, n for a note, u to undo; q ends the terminal.

    Each vote is stored in FILE at once, as a review that redraft report reads. After any stop, the same
    command goes on. Several voters may share FILE. At the end, if all pairs are judged, it prints
    the report.
    """
    from redraft.evaluation.judging.pairs import read_matches

    _check(answers, out, questions)
    matches = read_matches(answers, questions)
    booth = Booth(matches, _store(answers, questions, out, seed), seed)
    try:
        if terminal:
            _in_terminal(booth.ballots(_login() if voter is None else voter))
        else:
            _on_page(booth, voter, port)
    except KeyboardInterrupt:  # the way to end the page
        typer.echo(err=True)
    _report(booth, answers, questions, out)


def _check(answers: Sequence[Path], out: Path, questions: Path | None) -> None:
    from redraft.jobs.ledger import check_ending

    if len(answers) != 2:
        raise UsageError(
            f"{len(answers)} files of answers were given.", hint="Vote on two models at a time: A B"
        )
    if "-" in map(str, [*answers, questions, out]):
        raise UsageError("'-' cannot be used here.", hint="Answers, questions and votes are in files.")
    for path in filter(None, [*answers, questions]):
        if path.resolve() == out.resolve():
            raise UsageError(f"{path} is an input.", hint="Name another file for the votes.")
    check_ending(out)


def _store(answers: Sequence[Path], questions: Path | None, out: Path, seed: int) -> VoteStore:
    from redraft.evaluation.voting.store import VoteStore
    from redraft.jobs.provenance import Provenance, content

    inputs = list(map(content, [*answers, *filter(None, [questions])]))
    return VoteStore(
        out,
        Provenance("vote", {"inputs": inputs, "seed": seed}),
    )


@dataclass(frozen=True)
class Booth:
    """What all voters of a run share."""

    matches: Sequence[Match]
    store: VoteStore
    seed: int

    def ballots(self, voter: str) -> Ballots:
        """Return the ballots of a voter."""
        from redraft.evaluation.voting.ballots import Ballots, voter_of

        return Ballots(self.matches, self.store, voter_of(voter), self.seed)


def _login() -> str:
    """Return the login name; empty if the system has none."""
    import getpass

    with suppress(KeyError, OSError):
        return getpass.getuser()
    return ""


def _on_page(booth: Booth, voter: str | None, port: int) -> None:
    """Serve the page until Ctrl-C."""
    from redraft.evaluation.voting.ballots import voter_of
    from redraft.evaluation.voting.page import page
    from redraft.evaluation.voting.server import VoteServer

    html = page(_login() if voter is None else voter_of(voter), known=voter is not None)
    with VoteServer(port, html, booth.ballots) as server:
        tell(f"vote at {server.url}", "Ctrl-C ends it, and prints the report if all pairs are judged.")
        server.serve_forever()


_END = ("", "\x04")
"""What is read at the end of a pipe, and for Ctrl-D in a terminal."""
_ACTS = {"s": "skip", "u": "undo"}


def _in_terminal(ballots: Ballots) -> None:
    """Show pairs and read keys until all pairs are judged, or `q`."""
    if not sys.stdin.isatty():
        tell(
            "the input is not a terminal, so each line of it is a key.",
            "To be asked for keys, run it in a terminal (over ssh: ssh -t), or leave out --terminal.",
        )
    with _lines(wanted=False):
        _ask_keys(ballots)


def _ask_keys(ballots: Ballots) -> None:
    state = ballots.state()
    while True:
        _show(state, ballots.voter)
        note = state.pair.note if state.pair else ""
        while (key := _key("12=snuq" if state.pair else "uq")) == "n":
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
    if not sys.stdin.isatty():
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


def _show(state: State, voter: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from redraft.cli.render import rule

    console = Console(stderr=True, highlight=False)
    console.print()
    if state.remark:
        tell(state.remark)
    if pair := state.pair:
        for turn, texts in enumerate(zip(pair.questions, *pair.answers, strict=True), start=1):
            before = "" if turn == len(pair.questions) else " before"
            for title, text in zip(_TITLES, texts, strict=True):
                console.print(rule(title + before), Text(text if text.strip() else "(empty)"), sep="\n")
        if pair.note:
            console.print(rule("Your note"), Text(pair.note), sep="\n")
    done = f"{state.done:,} of {state.total:,} judged by {voter}"
    console.print(rule(done if state.pair else f"{done}. Thank you!"))


def _key(keys: str) -> str:
    """Return the next of some keys; `q` at the end of the input."""
    while True:
        key = _asked(f"{' '.join(_HELP[key] for key in keys)} > ", _pressed)
        key = key.strip() if key not in _END else "q"
        typer.echo(key, err=True)
        if len(key) == 1 and key in keys:
            return key
        if key:
            tell(f"{key!r:.40} is no key.")


def _asked(prompt: str, read: Callable[[], str]) -> str:
    """Return what is read at a terminal after a prompt; in a pipe, a line. It is printable, except Ctrl-D."""
    if sys.stdin.isatty():
        typer.echo(prompt, nl=False, err=True)
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
    while not _PRESSED.fullmatch(sent.decode(errors="ignore")) and (more := _read_soon(terminal)):
        sent += more
    return sent.decode(errors="replace")


def _read_soon(terminal: int) -> bytes:
    """Return a byte that follows at once; none otherwise."""
    return os.read(terminal, 1) if select.select([terminal], [], [], _MEANWHILE)[0] else b""


def _report(booth: Booth, answers: Sequence[Path], questions: Path | None, out: Path) -> None:
    """Print the report on all votes, if all are there and its extra is installed.

    Before that, it would tell a voter which model is which, and when to stop.
    """
    pairs = sum(len(match.question.turns) for match in booth.matches)
    counts = booth.store.counts()
    if short := [f"{voter} {count:,} of {pairs:,}" for voter, count in counts.items() if count < pairs]:
        given = [word for file in answers for word in ("--answers", str(file))]
        given += ["--questions", str(questions)] if questions else []
        tell(
            f"not all pairs are judged: {', '.join(short)}. The same command goes on.",
            "The report would tell which model is which, so it is printed at the end. To have it now:\n"
            + shlex.join(["redraft", "report", str(out), *given]),
        )
        return
    if not counts:
        tell("no vote yet.")
        return
    try:
        from redraft.evaluation.reports.describe import describe
        from redraft.evaluation.tables import as_text
    except MissingExtra as error:
        tell(error.message, error.hint)
        return
    write("\n".join(as_text(describe([out], answers=answers, questions=questions).sections())))
