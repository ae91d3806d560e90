"""`redraft vote`: people judge the answers of two models blindly, on a web page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.shell import argument, flag, setting, tell
from redraft.errors import MissingExtra, UsageError


def vote(
    answers: Annotated[list[Path], argument("A B", "Answers of a model A, and of its opponent B.")],
    out: Annotated[Path, flag("FILE", "Where the votes go.", "--out", "-o")],
    questions: Annotated[Path | None, flag("FILE", "The questions, with their categories.")] = None,
    voter: Annotated[str | None, flag("NAME", "The voter's name.  [the page asks]")] = None,
    port: Annotated[int, setting("N", "The page's port; 0 is any free one.", min=0, max=65535)] = 0,
    seed: Annotated[int, setting("N", "Random seed for order and sides.", min=0)] = 1,
) -> None:
    """Judge the answers of two models blindly: which is better?

    Shows pairs without the models' names. For each voter, the order of pairs and the sides of answers are
    random. The page is on this machine only, and is served until Ctrl-C.

    Each vote is stored in FILE at once, as a review that redraft report reads. After any stop, the same
    command resumes. Several voters may share FILE.
    """
    from redraft.evaluation.judging.pairs import read_matches
    from redraft.evaluation.voting import Ballots, VoteStore, voter_of
    from redraft.evaluation.voting import Booth as Voters
    from redraft.jobs.counting import counted
    from redraft.jobs.provenance import Provenance, content

    try:
        from redraft.serve.page.mount import Booth, run_booth
    except ImportError:
        raise MissingExtra("voting", "serve") from None
    _check(answers, out, questions)
    matches = read_matches(answers, questions)
    inputs = list(map(content, [*answers, *filter(None, [questions])]))
    store = VoteStore(out, Provenance("vote", {"inputs": inputs, "seed": seed}))

    booth = Voters(lambda name: Ballots(matches, store, voter_of(name), seed))
    with suppress(KeyboardInterrupt):  # Ctrl-C ends the page
        known = Booth("" if voter is None else voter_of(voter), voter is not None, booth.act)
        run_booth(known, port, lambda at: tell(f"vote at {at}", "Ctrl-C ends the vote."))
    typer.echo(err=True)
    pairs, counts = sum(len(match.question.turns) for match in matches), store.counts()
    short = [f"{name} {count:,} of {pairs:,}" for name, count in counts.items() if count < pairs]
    given = [word for file in answers for word in ("--answers", str(file))]
    given += ["--questions", str(questions)] if questions else []
    tell(
        f"not all pairs are judged: {', '.join(short)}. Run the same command to resume."
        if short
        else f"{out} has {counted(counts.total(), 'vote')}."
        if counts
        else "there is no vote yet.",
        "The report tells which model is which: " + shlex.join(["redraft", "report", str(out), *given]),
    )


def _check(answers: Sequence[Path], out: Path, questions: Path | None) -> None:
    from redraft.jobs.files import not_an_input
    from redraft.jobs.ledger import check_ending

    if len(answers) != 2:
        message = f"a vote compares two files of answers, not {len(answers)}."
        raise UsageError(message, hint="Name two files: A B")
    if "-" in map(str, [*answers, questions, out]):
        raise UsageError("a vote reads and writes files, not '-'.", hint="Write a file's path and not '-'.")
    not_an_input({"--out": out}, filter(None, [*answers, questions]))
    check_ending(out)
