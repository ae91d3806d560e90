"""Have a judge review answers: one review for each question, turn and order.

If the judge's engine enforces schemas, the judge writes JSON, otherwise text. If a reply contains no scores,
the judge is asked again for the scores. If the second reply contains no scores either, the review is stored
without scores. Scores are never guessed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import regex
from pydantic_core import from_json

from redraft.chain import Usage
from redraft.chain.thoughts import apart
from redraft.engines.base import Engine, Message, Price, Sampling
from redraft.engines.wrapped import JournaledEngine, MeteredEngine
from redraft.errors import EmptyReply
from redraft.evaluation.judging import reviews
from redraft.evaluation.judging.pairs import Match
from redraft.evaluation.judging.prompts import FIELDS, Shown, Way, again, category_of, messages_of, schema_of
from redraft.jobs.harness import Session
from redraft.jobs.ids import derived_seed
from redraft.jobs.journal import Journal

TEMPERATURE, MAX_TOKENS = 0.0, 1024
"""Default sampling: greedy, for repeatable reviews, with the token limit of FastChat's reviewers."""

TRIED = 20  # a run may stop after this many reviews, if most of them cannot be read
Said = tuple[float, ...] | reviews.Winner  # a judge's decision: two scores, one grade, or a verdict

_OF_SCORES = regex.compile(
    r"(?i)(?:[\W\d_]++|\b(?:my|the|final|overall|scores?|ratings?|grades?|verdict|winner|better|is|are|and|of|for|out|"
    r"tie|so|thus|therefore|result|assistants?|[abc])\b)*+"
)
"""Matches a line of numbers, punctuation and words that usually accompany scores."""


@dataclass(frozen=True)
class ReviewItem:
    """A review to make."""

    id: str  # the `review_id`
    match: Match
    turn: int  # the turn to judge; the first is 1
    swapped: bool  # whether the second model's answer is shown first
    judge: str  # the model reference of the judge, or the name of a voter

    @property
    def answers(self) -> Sequence[Any]:
        """The answers in the order shown to the judge."""
        return self.match.answers[::-1] if self.swapped else self.match.answers

    def review(self, **said: Any) -> reviews.Review:
        """Return the review of the two answers. `said` contains the fields that the judge decides."""
        first, second = self.answers
        said |= {"question_id": self.match.question.id, "answer1_id": first.id, "answer2_id": second.id}
        names = {"model_1": first.name, "model_2": second.name}
        return reviews.Review(review_id=self.id, turn=self.turn, **names, **said)


def items(matches: Sequence[Match], judge: str, *, both_orders: bool, about: Any) -> Iterator[ReviewItem]:
    """Yield every review to make. The reviews' ids also depend on the JSON values `about`."""
    for match in matches:
        for turn in range(1, len(match.question.turns) + 1):
            for swapped in (False, True) if both_orders and len(match.answers) > 1 else (False,):
                key = [asdict(match), turn, swapped, judge, about]
                digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
                yield ReviewItem(f"{match.question.id}-{digest}", match, turn, swapped, judge)


def read_reply(reply: str, way: Way) -> Said:
    """Return the scores or verdict in a JSON reply or in a text's last line. Raise `Unreadable` otherwise.

    The last line may have labels, such as "Score: 8", but no other words.
    """
    text, fields = _bare(reply), None
    with suppress(ValueError, RecursionError):
        fields = json.loads(text) if text.startswith("{") else None
    if isinstance(fields, dict):
        return _in_fields(fields, way)
    last = reply.strip().rpartition("\n")[2]
    if not _OF_SCORES.fullmatch(last):
        raise reviews.Unreadable("the last line is not the scores")
    if way == "verdicts":
        return reviews.winner_in(last)
    found, wanted = reviews.scores_in(last), 1 if way == "grades" else 2
    if len(found) != wanted:
        raise reviews.Unreadable(f"{len(found)} scores, not {wanted}")
    return found


def _in_fields(fields: Mapping[str, Any], way: Way) -> Said:
    values = [fields.get(name) for name in FIELDS[way]]
    if way == "verdicts":
        [verdict] = values
        if isinstance(verdict, str) and verdict in reviews.WINNERS:
            return reviews.WINNERS[verdict]
    elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return reviews.checked(tuple(map(float, values)))  # type: ignore[arg-type]
    raise reviews.Unreadable("no scores in the reply")


def _bare(reply: str) -> str:
    return reply.strip().removeprefix("```json").removesuffix("```").strip()


@dataclass(frozen=True)
class Reply:
    """A judge's text, the scores or verdict (None if unreadable), and the token usage."""

    text: str
    said: Said | None
    asked_again: bool
    usage: Usage


@dataclass(frozen=True)
class Judging:
    """The settings that all reviews of a run share."""

    judge: Engine
    identity: Any  # JSON values that identify the judge among all models
    price: Price | None
    way: Way
    gold: bool  # whether to show gold answers, if a question has them
    given: Mapping[str, Any]  # the user's sampling options
    journal: Journal
    session: Session
    calling: Callable[[], AbstractContextManager[Any]]  # returns a context manager for making a review

    async def line(self, item: ReviewItem) -> str:
        """Return a review as a line of JSON. Identical answers are a tie, without a request to the judge."""
        one, *other = (answer.turns[: item.turn] for answer in item.answers)
        if other == [one]:
            return item.review(winner="tie", metadata={reviews.SAME: True}).to_json()
        what = shown(item, gold=self.gold)
        options = {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS, **self.given}
        if (seed := options.get("seed")) is not None:
            options["seed"] = derived_seed(seed, item.id)
        sampling = Sampling(**options)
        with self.calling():
            reply = await self._ask(item, what, sampling)
        usage = reply.usage
        metadata: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        metadata |= {"asked_again": True} if reply.asked_again else {}
        metadata |= {"swapped": True} if item.swapped else {}
        metadata |= {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        if self.price:
            metadata["cost_usd"] = self.price.cost(usage)
        prompt_id = f"{self.way}-{category_of(item.match.question.category)}"
        judge, said = self.judge.info.name, reply.said
        if self.way == "grades":
            record = _grade(item, judge, prompt_id, reply) | {"metadata": metadata}
            return json.dumps(record, ensure_ascii=False)
        # An unreadable review is marked as an error, so that its text is not searched for scores again.
        decided = {"score": said} if isinstance(said, tuple) else {"winner": said or "error"}
        told = {"reviewer_id": prompt_id, "metadata": metadata, "text": reply.text, "judge": judge}
        return item.review(**told, **decided).to_json()

    async def _ask(self, item: ReviewItem, what: Shown, sampling: Sampling) -> Reply:
        category = category_of(item.match.question.category)

        def pay() -> None:
            usage = paid.take()
            self.session.pay(usage.completion_tokens, self.price.cost(usage) if self.price else None)

        paid = MeteredEngine(self.judge, pay, self.session.progress.write)
        engine = MeteredEngine(JournaledEngine(paid, self.journal, identity=self.identity, scope=item.id))
        as_json = self.judge.info.schemas
        messages = messages_of(self.way, category, what, as_json=as_json)
        schema = schema_of(self.way) if as_json else None
        text = await _text(engine, messages, replace(sampling, schema=schema))
        with suppress(reviews.Unreadable):
            return Reply(_review_of(text), read_reply(text, self.way), asked_again=False, usage=engine.take())
        first: list[Message] = [{"role": "assistant", "content": text}] if text.strip() else []
        messages = [*messages, *first, again(self.way, as_json=as_json)]
        schema = schema_of(self.way, review=False) if as_json else None
        last, said = await _text(engine, messages, replace(sampling, schema=schema)), None
        with suppress(reviews.Unreadable):
            said = read_reply(last, self.way)
        return Reply(f"{_review_of(text)}\n\n{last}".strip(), said, asked_again=True, usage=engine.take())


def shown(item: ReviewItem, *, gold: bool) -> Shown:
    """Return the question and answers that the judge of a review sees."""
    question = item.match.question
    texts = tuple(answer.turns[: item.turn] for answer in item.answers)
    return Shown(question.turns[: item.turn], texts, question.gold if gold else ())


async def _text(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> str:
    pieces: list[str] = []
    try:
        async with aclosing(engine.chat(messages, sampling)) as deltas:
            pieces = [delta.text async for delta in deltas]
    except EmptyReply:
        return ""
    return apart("".join(pieces))[1]


def _review_of(reply: str) -> str:
    try:
        fields = from_json(_bare(reply), allow_partial="trailing-strings")
    except ValueError:
        return reply
    review = fields.get("review") if isinstance(fields, dict) else None
    return review if isinstance(review, str) and review.strip() else reply


def _grade(item: ReviewItem, judge: str, prompt_id: str, reply: Reply) -> dict[str, Any]:
    [answer] = item.answers
    return {
        "review_id": item.id,
        "question_id": item.match.question.id,
        "model": answer.name,
        "answer_id": answer.id,
        "judge": [judge, prompt_id],
        "judgment": reply.text,
        "score": reply.said[0] if reply.said else None,
        "turn": item.turn,
    }


@dataclass
class ReviewTally:
    """Counts of reviews, including reviews of earlier runs."""

    reviews: int = 0
    same: int = 0  # ties of identical texts, which are not counted as reviews
    before: int = 0  # reviews of earlier runs
    asked_again: int = 0  # reviews whose judge was asked twice
    unreadable: list[str] = field(default_factory=list)  # the questions of reviews without a score
    unreadable_before: int = 0  # unreadable reviews of earlier runs
    last: str = ""  # the text of the last unreadable review

    def stop(self) -> str:
        """Return the reason to stop the run if most reviews of this run are unreadable, otherwise ""."""
        made, bad = self.reviews - self.before, len(self.unreadable) - self.unreadable_before
        if made < TRIED or 2 * bad <= made:
            return ""
        return (
            f"{bad} of the first {made} reviews cannot be read. The last reply ends with "
            f"{self.last[-60:]!r}. Another judge may follow the format (-m MODEL, and another -o)"
        )

    def find(self, line: bytes) -> None:
        """Count a review of an earlier run."""
        self.add(line)
        self.before, self.unreadable_before = self.reviews, len(self.unreadable)

    def add(self, line: str | bytes) -> None:
        """Count a review."""
        record = json.loads(line)
        metadata = record.get("metadata") or {}
        if metadata.get(reviews.SAME):
            self.same += 1
            return
        self.reviews += 1
        self.asked_again += bool(metadata.get("asked_again"))
        if record.get("score") is None and record.get("winner") in (None, "error"):
            self.unreadable.append(str(record.get("question_id")))
            self.last = " ".join(str(record.get("text", record.get("judgment"))).split())
