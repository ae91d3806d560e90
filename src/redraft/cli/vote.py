"""`redraft vote`: people judge the answers of two models blindly, on a web page."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.shell import flag, tell, write
from redraft.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redraft.evaluation.voting.ballots import Ballots
    from redraft.evaluation.voting.store import VoteStore


def vote(
    answers: Annotated[
        list[Path], typer.Argument(metavar="A B", help="Answers of a model A, and of its opponent B.")
    ],
    out: Annotated[Path, flag("FILE", "Where the votes go.", "--out", "-o")],
    questions: Annotated[Path | None, flag("FILE", "What was asked, with categories.")] = None,
    voter: Annotated[str | None, flag("NAME", "Who votes.  [the page asks]")] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The page's port; 0 is any free one.")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Decides the order and the sides.")] = 1,
) -> None:
    """Judge the answers of two models blindly: which is better?

    Shows pairs without names. Their order and sides are drawn for each voter. The page is on this machine
    only, and is served until Ctrl-C. Keys: 1 and 2 for the better answer, = for a tie, s to skip, n for a
    note, u to undo.

    Each vote is stored in FILE at once, as a review that redraft report reads. After any stop, the same
    command goes on. Several voters may share FILE. At the end, if all pairs are judged, it prints
    the report.
    """
    from redraft.evaluation.judging.pairs import read_matches
    from redraft.evaluation.voting.ballots import Ballots, voter_of
    from redraft.evaluation.voting.store import VoteStore
    from redraft.jobs.provenance import Provenance, content

    _check(answers, out, questions)
    matches = read_matches(answers, questions)
    inputs = list(map(content, [*answers, *filter(None, [questions])]))
    store = VoteStore(out, Provenance("vote", {"inputs": inputs, "seed": seed}))

    def ballots(name: str) -> Ballots:
        return Ballots(matches, store, voter_of(name), seed)

    try:
        _on_page(ballots, voter, port)
    except KeyboardInterrupt:  # the way to end the page
        typer.echo(err=True)
    pairs = sum(len(match.question.turns) for match in matches)
    _report(store, pairs, answers, questions, out)


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


def _login() -> str:
    import getpass

    with suppress(KeyError, OSError):
        return getpass.getuser()
    return ""


def _on_page(ballots: Callable[[str], Ballots], voter: str | None, port: int) -> None:
    from redraft.evaluation.voting import ballots as voting

    try:
        from redraft.serve.page.booth import run_booth
        from redraft.serve.page.mount import Booth
    except ImportError:
        raise MissingExtra("voting", "serve") from None

    def say(address: str) -> None:
        tell(f"vote at {address}", "Ctrl-C ends it, and prints the report if all pairs are judged.")

    name = _login() if voter is None else voting.voter_of(voter)
    run_booth(Booth(name, voter is not None, voting.Booth(ballots).act), port, say)


def _report(store: VoteStore, pairs: int, answers: Sequence[Path], questions: Path | None, out: Path) -> None:
    """Print the report on all votes, if all are there and its extra is installed.

    Before that, it would tell a voter which model is which, and when to stop.
    """
    counts = store.counts()
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
