"""Votes from the page of `redraft serve`, where people compare two models on questions of their own.

A vote is a review as in `redraft vote`, so `redraft report` reads it. It holds the question and both answers,
which are nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from redraft.chain import Chain
from redraft.evaluation.judging.reviews import Review
from redraft.evaluation.judging.scores import Winner
from redraft.evaluation.voting.ballots import voter_of
from redraft.evaluation.voting.store import VoteStore
from redraft.jobs.provenance import Provenance, now


class PageVotes:
    """The file of votes. It is made when the first vote comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: VoteStore | None = None

    def add(
        self,
        *,
        id: str,  # noqa: A002
        question: str,
        chains: tuple[Chain, Chain],
        names: tuple[str, str],
        winner: Winner,
        voter: str,
        swapped: bool,
    ) -> None:
        """Store a vote.

        Args:
            id: Of the question, unlike any other.
            question: Its text.
            chains: The answers, in the order in which they were shown. The sides were drawn.
            names: Of the models that gave them, in the same order.
            winner: Which is better.
            voter: Who says so.
            swapped: Whether the first model that was chosen is shown second.

        Raises:
            OutputError: The file cannot be written, or holds votes on other answers.
            RecordError: It holds something else.
            UsageError: The voter has no name that can be stored.
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
                "answers": [chain.answer for chain in chains],
            },
            winner=winner,
            model_1=names[0],
            model_2=names[1],
            judge=voter_of(voter),
        )
        if self._store is None:
            self._store = VoteStore(self._path, Provenance("serve", {"votes": "page"}))
        self._store.add(review)
