"""What a voter is shown: pairs of answers without names, in an order and with sides of the voter's own.

Both are drawn from a seed, the output's name and the voter's, so they are the same after a stop. One model is
on the left in half of the questions. A vote is a review whose judge is the voter and whose text is the note.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from redraft.counting import printable
from redraft.errors import UsageError
from redraft.evaluation.judging.judge import ReviewItem, items, shown
from redraft.evaluation.judging.pairs import Match
from redraft.evaluation.judging.reviews import Review
from redraft.evaluation.judging.scores import Winner
from redraft.evaluation.voting.store import VoteStore
from redraft.jobs.provenance import Provenance, now

WINNERS: Mapping[str, Winner] = {"1": "1", "2": "2", "=": "tie"}
"""What a key decides: the answer shown first is better, or the second, or neither."""

LONGEST_NAME, LONGEST_NOTE = 100, 10_000  # characters


def voter_of(name: str) -> str:
    """Return a voter's name with single spaces and in Unicode's form C, so that it is one voter."""
    found = unicodedata.normalize("NFC", " ".join(name.split()))
    if not found or len(found) > LONGEST_NAME or printable(found) != found:
        raise UsageError(
            f"{found!r:.60} is not a name for a voter.",
            hint=f"Give 1 to {LONGEST_NAME} printable characters: --voter NAME",
        )
    return found


@dataclass(frozen=True)
class Pair:
    """What is shown of a question. Names and ids of the answers are not in it."""

    id: str  # the vote's id
    questions: tuple[str, ...]  # the turns of the question. The answers to the last one are judged
    answers: tuple[tuple[str, ...], ...]  # the turns of the answer shown first, and of the second
    note: str  # what the voter has noted on the pair before


@dataclass(frozen=True)
class State:
    """How far a voter is."""

    pair: Pair | None  # what to judge next; None if all pairs are judged
    done: int  # number of pairs that the voter has judged
    total: int  # number of all pairs
    remark: str = ""  # why what the voter did changed nothing, if it did not


class Ballots:
    """The pairs that a voter has to judge. What is judged stands in the store and nowhere else."""

    def __init__(self, matches: Sequence[Match], store: VoteStore, voter: str, seed: int) -> None:
        self.voter = voter
        self._store = store
        drawn = _drawn(matches, voter, json.dumps([seed, store.path.name, voter]))
        self._items = {item.id: item for item in drawn}
        self._places: dict[str, int] = {}  # undone pairs come first, and skipped ones last
        self._moves = itertools.count(1)
        self._notes: dict[str, str] = {}

    def state(self) -> State:
        """Return what to judge next, as the votes in the file have it."""
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
        """Do what the voter wants, and return what to judge next.

        That is a key of `WINNERS`, `skip`, `undo`, or nothing. A vote on an unknown pair does nothing.
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
            is_new = self._store.add(_vote(self._items[item_id], WINNERS[what], note.strip()))
            remark = "" if is_new else "You had judged that pair elsewhere, and that vote stands."
        return replace(self.state(), remark=remark)


def _drawn(matches: Sequence[Match], voter: str, drawing: str) -> Iterator[ReviewItem]:
    """Yield the pairs in the voter's order. The turns of a question stay together, and on their sides."""

    def draw(match: Match, what: str) -> bytes:
        return hashlib.sha256(f"{drawing} {what} {match.question.id}".encode()).digest()

    ordered = sorted(matches, key=lambda match: draw(match, "order"))
    by_side = sorted(matches, key=lambda match: draw(match, "side"))
    swapped = {match.question.id for match in by_side[len(by_side) // 2 :]}
    for item in items(ordered, [voter], both_orders=False, about="vote"):
        yield replace(item, swapped=item.match.question.id in swapped)


def _vote(item: ReviewItem, winner: Winner, note: str) -> Review:
    first, second = item.answers
    return Review(
        review_id=item.id,
        question_id=item.match.question.id,
        answer1_id=first.id,
        answer2_id=second.id,
        reviewer_id="vote",
        metadata={"sides": "drawn", "swapped": item.swapped, "when": now()},
        text=note,
        winner=winner,
        model_1=first.name,
        model_2=second.name,
        judge=item.judge,
        turn=item.turn,
    )


class Booth:
    """Lets several voters vote at once. Each has ballots, which are opened at the first request."""

    def __init__(self, ballots_of: Callable[[str], Ballots]) -> None:
        self._ballots_of, self._open, self._lock = ballots_of, dict[str, Ballots](), Lock()

    def act(self, voter: str, what: str, item_id: str, note: str) -> dict[str, Any]:
        """Do what a voter wants, and return their state as JSON values. Any thread may call it."""
        name = voter_of(voter)
        with self._lock:
            if name not in self._open:
                self._open[name] = self._ballots_of(name)
            return asdict(self._open[name].act(what, item_id, note))


class PageVotes:
    """Votes from the page of `redraft serve`, where people compare two models on questions of their own.

    A vote holds the question and both answers, which are nowhere else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: VoteStore | None = None

    def add(
        self,
        *,
        id: str,  # noqa: A002
        question: str,
        answers: Sequence[str],
        names: Sequence[str],
        winner: Winner,
        bad: bool,
        voter: str,
        swapped: bool,
    ) -> bool:
        """Store a vote. Return False if there is one on that question: it stands.

        `answers` and `names` are in the order in which they were shown; the sides were drawn. `id` is that of
        the question, unlike any other, `swapped` whether the first model is shown second, and `bad` that
        neither answer is good. A file of votes on other answers is an error, as is a voter without a name.
        """
        review = Review(
            review_id=f"page/{id}",
            question_id=id,
            answer1_id=f"{id}/1",
            answer2_id=f"{id}/2",
            reviewer_id="page",
            metadata={
                "sides": "drawn",
                "swapped": swapped,
                "when": now(),
                "question": question,
                "answers": list(answers),
                **({"both": "bad"} if bad else {}),
            },
            winner=winner,
            model_1=names[0],
            model_2=names[1],
            judge=voter_of(voter),
        )
        if self._store is None:
            self._store = VoteStore(self._path, Provenance("serve", {"votes": "page"}))
        return self._store.add(review)
