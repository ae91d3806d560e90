"""Votes from the page of `redraft serve`, where people compare two models on questions of their own.

A vote is a review as in `redraft vote`, so `redraft report` reads it. It holds the question and both answers,
which are nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from redraft.chain import Chain
from redraft.evaluation.judging.reviews import Review
from redraft.evaluation.judging.scores import Winner
from redraft.evaluation.voting.ballots import voter_of
from redraft.evaluation.voting.store import VoteStore
from redraft.jobs.provenance import Provenance, now


class Compared(Protocol):
    """A vote: see `redraft.serve.page.compare.Vote`."""

    @property
    def id(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def chains(self) -> tuple[Chain, Chain]: ...
    @property
    def names(self) -> tuple[str, str]: ...
    @property
    def swapped(self) -> bool: ...
    @property
    def winner(self) -> Winner: ...
    @property
    def voter(self) -> str: ...


class PageVotes:
    """The file of votes. It is made when the first vote comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: VoteStore | None = None

    def add(self, vote: Compared) -> None:
        """Store a vote.

        Raises:
            OutputError: The file cannot be written, or holds votes on other answers.
            RecordError: It holds something else.
            UsageError: The voter has no name that can be stored.
        """
        review = _review(vote)
        if self._store is None:
            self._store = VoteStore(self._path, Provenance("serve", {"votes": "page"}))
        self._store.add(review)


def _review(vote: Compared) -> Review:
    metadata: dict[str, Any] = {
        "sides": "drawn",
        "swapped": vote.swapped,
        "when": now(),
        "question": vote.question,
        "answers": [chain.answer for chain in vote.chains],
    }
    return Review(
        review_id=f"page/{vote.id}",
        question_id=vote.id,
        answer1_id=f"{vote.id}/1",
        answer2_id=f"{vote.id}/2",
        reviewer_id="page",
        metadata=metadata,
        winner=vote.winner,
        model_1=vote.names[0],
        model_2=vote.names[1],
        judge=voter_of(vote.voter),
    )
