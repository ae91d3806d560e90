"""Collect blind votes by people on pairs of answers, as in Alpaca's evaluation. The page is in `serve.page`.

Answers are shown without names. Each voter gets a different order of questions and sides. The order depends
on a seed, the output's name and the voter's name, so a restart does not change it. Each model is on the left
in half of the questions. A vote is a review with the voter as the judge and the voter's note as the text. The
file has one vote per line. Several voters and processes can add votes at once, because a lock file protects
each access to the file. A vote is on the disk before the next pair is shown.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from redraft.errors import OutputError, RecordError, UsageError
from redraft.evaluation.judging.judge import items, shown
from redraft.evaluation.judging.pairs import Match
from redraft.evaluation.judging.reviews import Review, Winner
from redraft.jobs.counting import printable
from redraft.jobs.files import locked, replacing
from redraft.jobs.lines import LineFile, parse_line, read_lines
from redraft.jobs.provenance import Provenance, RunFile, now

Vote = dict[str, Any]  # a review as JSON values


class VoteStore:
    """The votes of all voters, in one file."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        """Open or create the file. Raise `OutputError` if the file contains votes on other answers."""
        LineFile(path).close()  # raises if the path cannot be used
        self.path = path.resolve()
        with self._open() as (file, lines):
            run = RunFile(file.path, start_over="give the answers that were voted on")
            if lines:
                run.check(provenance)
            run.begin(provenance, resume=bool(lines))

    def of(self, voter: str) -> list[Vote]:
        """Return the votes of a voter, oldest first."""
        with self._open() as (_, lines):
            return [vote for vote in map(self._vote, lines) if vote["judge"] == voter]

    def counts(self) -> Counter[str]:
        """Return the number of votes of each voter."""
        with self._open() as (_, lines):
            return Counter(vote["judge"] for vote in map(self._vote, lines))

    def add(self, vote: Review) -> bool:
        """Add a vote. If the voter has already judged the pair, keep the earlier vote and return False."""
        with self._open() as (file, lines):
            if is_new := all(each["review_id"] != vote.review_id for each in map(self._vote, lines)):
                file.append(vote.to_json())
        return is_new

    def undo(self, voter: str) -> Vote | None:
        """Remove and return a voter's last vote. Return None if the voter has no votes."""
        with self._open() as (_, lines):
            for place in reversed(range(len(lines))):
                vote = self._vote(lines[place])
                if vote["judge"] == voter:
                    mode = stat.S_IMODE(self.path.stat().st_mode)
                    with replacing(self.path) as aside:
                        if hasattr(os, "fchmod"):
                            os.fchmod(aside.fileno(), mode)
                        aside.write(b"".join(lines[:place] + lines[place + 1 :]))
                    return vote
        return None

    @contextmanager
    def _open(self) -> Iterator[tuple[LineFile, list[bytes]]]:
        beside = self.path.with_name(f"{self.path.name}.lock")
        try:
            if not self.path.exists():
                raise OutputError(f"{self.path} is gone.", hint="Restore it, or run the same command again.")
            with locked(beside):
                try:
                    with closing(LineFile(self.path)) as file:
                        yield file, _whole(file)
                finally:
                    beside.unlink()
        except OSError as error:
            hint = "Its folder must exist, be writable and have free space."
            raise OutputError(f"cannot change {self.path}: {error.strerror}.", hint=hint) from None

    def _vote(self, line: bytes) -> Vote:
        vote = parse_line(line)
        if vote is None or not vote.keys() >= {"review_id", "judge", "text"}:
            said = f"{self.path} has a line that is not a vote: {line[:60].decode(errors='replace')!r}."
            raise RecordError(said, hint=f"Correct or remove the line, or move {self.path} away.")
        return vote


def _whole(file: LineFile) -> list[bytes]:
    lines = list(read_lines(file.path))
    if lines and not lines[-1].endswith(b"\n"):
        if parse_line(lines[-1] + b"\n") is None:
            file.cut(file.size - len(lines.pop()))
        else:
            file.append("")
            lines[-1] += b"\n"
    return [line for line in lines if line.strip()]


WINNERS: Mapping[str, Winner] = {"1": "1", "2": "2", "=": "tie"}
"""The verdict for each key on the page: first answer better, second answer better, or tie."""

LONGEST_NAME = 100  # characters


def voter_of(name: str) -> str:
    """Normalise a voter's name (single spaces, Unicode form C). Raise `UsageError` if it is not valid."""
    found = unicodedata.normalize("NFC", " ".join(name.split()))
    if not found or len(found) > LONGEST_NAME or printable(found) != found:
        hint = f"Give 1 to {LONGEST_NAME} printable characters: --voter NAME"
        raise UsageError(f"{found!r:.60} is not a valid voter's name.", hint=hint)
    return found


@dataclass(frozen=True)
class Pair:
    """A question with two answers as shown to a voter, without the answers' names and ids."""

    id: str  # the vote's id
    questions: tuple[str, ...]  # the turns of the question. The answers to the last turn are judged
    answers: tuple[tuple[str, ...], ...]  # the turns of the answer shown first, then of the second
    note: str  # the voter's earlier note on the pair


@dataclass(frozen=True)
class State:
    """A voter's progress, and the next pair to judge."""

    pair: Pair | None  # the next pair to judge; None if all pairs are judged
    done: int  # number of pairs that the voter has judged
    total: int  # number of all pairs
    remark: str = ""  # the reason if the voter's action changed nothing, otherwise empty


class Ballots:
    """The pairs for a voter to judge."""

    def __init__(self, matches: Sequence[Match], store: VoteStore, voter: str, seed: int) -> None:
        self.voter = voter
        self._store = store
        drawing = json.dumps([seed, store.path.name, voter])

        def draw(match: Match, what: str) -> bytes:
            return hashlib.sha256(f"{drawing} {what} {match.question.id}".encode()).digest()

        ordered = sorted(matches, key=lambda match: draw(match, "order"))
        by_side = sorted(matches, key=lambda match: draw(match, "side"))
        swapped = {match.question.id for match in by_side[len(by_side) // 2 :]}
        drawn = items(ordered, voter, both_orders=False, about="vote")
        self._items = {item.id: replace(item, swapped=item.match.question.id in swapped) for item in drawn}
        self._places: dict[str, int] = {}  # pairs with an undone vote come first, skipped pairs last
        self._moves = itertools.count(1)
        self._notes: dict[str, str] = {}

    def state(self) -> State:
        """Return the voter's progress and next pair, according to the votes in the file."""
        done = {vote["review_id"] for vote in self._store.of(self.voter)}
        left = [item_id for item_id in self._items if item_id not in done]
        chosen = min(left, key=lambda item_id: self._places.get(item_id, 0), default=None)
        pair = None
        if chosen:
            what = shown(self._items[chosen], gold=False)
            questions, *answers = (tuple(map(printable, turns)) for turns in (what.questions, *what.answers))
            pair = Pair(chosen, questions, tuple(answers), self._notes.get(chosen, ""))
        return State(pair, len(self._items) - len(left), len(self._items))

    def act(self, what: str, item_id: str = "", note: str = "") -> State:
        """Apply a voter's action, keep the note, and return the voter's new state.

        `what` is a key of `WINNERS` (a vote), `skip`, `undo`, or "". A vote on an unknown pair does nothing.
        """
        if item_id in self._items:
            self._notes[item_id] = note
        remark = ""
        if what == "undo":
            if (last := self._store.undo(self.voter)) is None:
                remark = "You have no vote to undo."
            else:
                self._notes[last["review_id"]] = last["text"]
                self._places[last["review_id"]] = -next(self._moves)
        elif what == "skip":
            self._places[item_id] = next(self._moves)
        elif what in WINNERS and item_id in self._items:
            made = {"sides": "drawn", "swapped": self._items[item_id].swapped, "when": now()}
            said = {"winner": WINNERS[what], "text": note.strip(), "judge": self.voter}
            vote = self._items[item_id].review(reviewer_id="vote", metadata=made, **said)
            remark = (
                "" if self._store.add(vote) else "You already judged this pair elsewhere. That vote is kept."
            )
        return replace(self.state(), remark=remark)


class Booth:
    """The ballots of several voters, who may vote at the same time."""

    def __init__(self, ballots_of: Callable[[str], Ballots]) -> None:
        self._ballots_of, self._open, self._lock = ballots_of, dict[str, Ballots](), Lock()

    def act(self, voter: str, what: str, item_id: str, note: str) -> dict[str, Any]:
        """Apply a voter's action, and return the voter's state as JSON values. Any thread may call this."""
        name = voter_of(voter)
        with self._lock:
            if name not in self._open:
                self._open[name] = self._ballots_of(name)
            return asdict(self._open[name].act(what, item_id, note))


class PageVotes:
    """Votes from the page of `redraft serve`, where people ask two models and compare the answers.

    A vote contains the question and both answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: VoteStore | None = None

    def add(self, *, id: str, voter: str, bad: bool, **vote: Any) -> bool:  # noqa: A002
        """Store a vote. If the question already has a vote, keep the earlier vote and return False.

        Raise an error if the file contains votes of another kind, or if the voter's name is not valid.

        Args:
            id: The unique id of the question.
            voter: The voter's name.
            bad: Whether both answers are bad.
            **vote: `question`; `answers` and `names` (of the models), in the random order shown to the voter;
                `winner`; and `swapped`, whether the first model was shown second.
        """
        told = {name: vote[name] for name in ("swapped", "question")} | {"answers": list(vote["answers"])}
        review = Review(
            review_id=f"page/{id}",
            question_id=id,
            answer1_id=f"{id}/1",
            answer2_id=f"{id}/2",
            reviewer_id="page",
            metadata={"sides": "drawn", "when": now(), **told, **({"both": "bad"} if bad else {})},
            winner=vote["winner"],
            model_1=vote["names"][0],
            model_2=vote["names"][1],
            judge=voter_of(voter),
        )
        if self._store is None:
            self._store = VoteStore(self._path, Provenance("serve", {"votes": "page"}))
        return self._store.add(review)
