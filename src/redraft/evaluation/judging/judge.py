"""Have judges review answers: one review for each question, turn, order and judge.

A judge is asked for a schema's JSON if its engine keeps to schemas and the wording is ours, and for text
otherwise. A reply without scores is asked for them once more; if they are missing then too, the review is
stored without them. A score is never made up.

Reviews have the shape of SelFee and FastChat (`reviews`). Grades of single answers have that of MT-bench.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import regex
from pydantic_core import from_json

from redraft.chain import Usage
from redraft.engines.base import Engine, Message, Sampling
from redraft.engines.journaled import JournaledEngine
from redraft.engines.price import Price
from redraft.engines.wrapped import MeteredEngine
from redraft.errors import EmptyReply
from redraft.evaluation.judging.orders import orders
from redraft.evaluation.judging.pairs import Match
from redraft.evaluation.judging.prompts import (
    FIELDS,
    JudgePrompt,
    Prompts,
    Shown,
    Way,
    again,
    schema_of,
)
from redraft.evaluation.judging.reviews import Review
from redraft.evaluation.judging.scores import Unreadable, Winner, checked, scores_in, winner_in
from redraft.ids import derived_seed
from redraft.jobs.harness import Session
from redraft.jobs.journal import Journal

TEMPERATURE, MAX_TOKENS = 0.0, 1024
"""Default sampling: greedy, so that a review can be repeated. The length is that of FastChat's reviewers."""

TRIED = 20  # reviews after which a run stops if most of them cannot be read
Said = tuple[float, ...] | Winner  # what a judge decided: two scores, one grade, or a verdict

_OF_SCORES = regex.compile(
    r"(?i)(?:[\W\d_]++|\b(?:my|the|final|overall|scores?|ratings?|grades?|verdict|winner|better|is|are|and|of|for|out|"
    r"tie|so|thus|therefore|result|assistants?|[abc])\b)*+"
)
"""A line of numbers and marks, with no other words than those that go with scores."""

_WINNERS: Mapping[str, Winner] = {"A": "1", "B": "2", "C": "tie"}


@dataclass(frozen=True)
class ReviewItem:
    """A review to make.

    Attributes:
        id: The `review_id`.
        turn: The turn that is judged; the first is 1.
        swapped: The second model's answer is shown first.
        judge: The reference of the judge.
    """

    id: str
    match: Match
    turn: int
    swapped: bool
    judge: str

    @property
    def answers(self) -> Sequence[Any]:
        """The answers in the order in which they are shown."""
        return self.match.answers[::-1] if self.swapped else self.match.answers


def items(
    matches: Sequence[Match], judges: Sequence[str], *, both_orders: bool, about: Any
) -> Iterator[ReviewItem]:
    """Yield every review to make.

    Args:
        matches: The answers to judge.
        judges: References of the judges.
        both_orders: Show each pair in both orders.
        about: JSON values that decide replies. Reviews of other replies get other ids.
    """
    for match in matches:
        for turn in range(1, len(match.question.turns) + 1):
            for swapped in orders(len(match.answers), both=both_orders):
                for judge in judges:
                    key = [asdict(match), turn, swapped, judge, about]
                    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
                    yield ReviewItem(f"{match.question.id}-{digest}", match, turn, swapped, judge)


def read_reply(reply: str, prompt: JudgePrompt) -> Said:
    """Return what a reply decides.

    To our own wording, it stands in JSON or alone on the last line: other numbers may be quoted from the
    answers.

    Raises:
        Unreadable: It decides nothing, or scores are not on the scale.
    """
    if prompt.is_ours:
        if (fields := _json_in(reply)) is not None:
            return _in_fields(fields, prompt.way)
        reply = reply.strip().rpartition("\n")[2]
        if not _OF_SCORES.fullmatch(reply):
            raise Unreadable("the last line is not the scores")
    if prompt.way == "verdicts":
        return winner_in(reply)
    found, wanted = scores_in(reply), 1 if prompt.way == "grades" else 2
    if len(found) != wanted:
        raise Unreadable(f"{len(found)} scores, not {wanted}")
    return found


def _json_in(reply: str) -> dict[str, Any] | None:
    text = _bare(reply)
    try:
        value = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _bare(reply: str) -> str:
    """Return JSON without the fence that some models put around it."""
    return reply.strip().removeprefix("```json").removesuffix("```").strip()


def _in_fields(fields: Mapping[str, Any], way: Way) -> Said:
    values = [fields.get(name) for name in FIELDS[way]]
    if way == "verdicts":
        [verdict] = values
        if isinstance(verdict, str) and verdict in _WINNERS:
            return _WINNERS[verdict]
    elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return checked(tuple(map(float, values)))  # type: ignore[arg-type]
    raise Unreadable("no scores in the reply")


@dataclass(frozen=True)
class OpenJudge:
    """A judge whose model is open.

    Attributes:
        name: The `judge` of its reviews.
        identity: JSON values that tell it from every other model.
    """

    name: str
    engine: Engine
    identity: Any
    price: Price | None = None


@dataclass(frozen=True)
class Reply:
    """A judge's text, what it decides (None if that cannot be read), and what it cost."""

    text: str
    said: Said | None
    asked_again: bool
    usage: Usage


@dataclass(frozen=True)
class Judging:
    """What all reviews of a run share.

    Attributes:
        judges: The open judges, by reference.
        gold: Show gold answers where there are some.
        given: Options of sampling that the user gave. They override those of a file of reviewers.
        calling: Returns a context in which a review is made.
    """

    judges: Mapping[str, OpenJudge]
    prompts: Prompts
    gold: bool
    given: Mapping[str, Any]
    journal: Journal
    session: Session
    calling: Callable[[], AbstractContextManager[Any]]

    async def line(self, item: ReviewItem) -> str:
        """Make a review, as a line of JSON.

        Raises:
            EngineError: The judge or its server failed.
        """
        judge, what = self.judges[item.judge], shown(item, gold=self.gold)
        prompt = self.prompts.prompt(item.match.question.category, what)
        sampling = self._sampling(prompt, item.id)
        with self.calling():
            reply = await self._ask(item, judge, prompt, what, sampling)
        metadata: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        metadata |= {"asked_again": True} if reply.asked_again else {}
        metadata |= {"swapped": True} if item.swapped else {}
        usage = reply.usage
        metadata |= {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        if judge.price:
            metadata["cost_usd"] = judge.price.cost(usage)
        if prompt.way == "grades":
            return _grade(item, judge, prompt, reply, metadata)
        return _review(item, judge, prompt, reply, metadata)

    def _sampling(self, prompt: JudgePrompt, item_id: str) -> Sampling:
        options = {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS, **prompt.sampling, **self.given}
        if (seed := options.get("seed")) is not None:
            options["seed"] = derived_seed(seed, item_id)
        return Sampling(**options)

    async def _ask(
        self, item: ReviewItem, judge: OpenJudge, prompt: JudgePrompt, what: Shown, sampling: Sampling
    ) -> Reply:
        """Ask a judge, and once more if its reply cannot be read."""
        paid = MeteredEngine(judge.engine, lambda: self._pay(judge, paid.take()))
        journaled = JournaledEngine(paid, self.journal, identity=judge.identity, scope=item.id)
        engine = MeteredEngine(journaled)
        as_json = prompt.is_ours and judge.engine.info.schemas
        messages = prompt.fill(what, as_json=as_json)
        text = await _text(engine, messages, _with_schema(sampling, prompt.way, as_json=as_json))
        said = _read_or_none(text, prompt)
        if said is not None:
            return Reply(_review_of(text), said, asked_again=False, usage=engine.take())
        first: list[Message] = [{"role": "assistant", "content": text}] if text.strip() else []
        messages = [*messages, *first, again(prompt.way, as_json=as_json)]
        last = await _text(
            engine, messages, _with_schema(sampling, prompt.way, as_json=as_json, review=False)
        )
        return Reply(
            f"{_review_of(text)}\n\n{last}".strip(),
            _read_or_none(last, replace(prompt, is_ours=True)),
            asked_again=True,
            usage=engine.take(),
        )

    def _pay(self, judge: OpenJudge, usage: Usage) -> None:
        self.session.pay(usage.completion_tokens, judge.price.cost(usage) if judge.price else None)


def shown(item: ReviewItem, *, gold: bool) -> Shown:
    """Return what the judge of a review sees."""
    question = item.match.question
    texts = tuple(answer.turns[: item.turn] for answer in item.answers)
    return Shown(question.turns[: item.turn], texts, question.gold if gold else ())


def _with_schema(sampling: Sampling, way: Way, *, as_json: bool, review: bool = True) -> Sampling:
    return replace(sampling, schema=schema_of(way, review=review)) if as_json else sampling


async def _text(engine: Engine, messages: Sequence[Message], sampling: Sampling) -> str:
    """Return the reply to messages; an empty text if the model says nothing."""
    pieces: list[str] = []
    try:
        async with aclosing(engine.chat(messages, sampling)) as deltas:
            pieces = [delta.text async for delta in deltas]
    except EmptyReply:
        return ""
    return "".join(pieces)


def _read_or_none(text: str, prompt: JudgePrompt) -> Said | None:
    try:
        return read_reply(text, prompt)
    except Unreadable:
        return None


def _review_of(reply: str) -> str:
    """Return the words of a reply in JSON, also of one that was cut; another reply as it is."""
    try:
        fields = from_json(_bare(reply), allow_partial="trailing-strings")
    except ValueError:
        return reply
    review = fields.get("review") if isinstance(fields, dict) else None
    return review if isinstance(review, str) and review.strip() else reply


def _review(
    item: ReviewItem, judge: OpenJudge, prompt: JudgePrompt, reply: Reply, metadata: dict[str, Any]
) -> str:
    """Return a review. One that cannot be read says so: its text is not searched for numbers again."""
    first, second = item.answers
    record: dict[str, Any] = {
        "review_id": item.id,
        "question_id": item.match.question.id,
        "answer1_id": first.id,
        "answer2_id": second.id,
        "reviewer_id": prompt.id,
        "metadata": metadata,
        "text": reply.text,
        "score": reply.said if isinstance(reply.said, tuple) else None,
        "model_1": first.name,
        "model_2": second.name,
        "judge": judge.name,
        "turn": item.turn,
    }
    if not isinstance(reply.said, tuple):
        record["winner"] = reply.said or "error"
    if item.match.control:
        record["control"] = item.match.control
    return Review.of(record).to_json()


def _grade(
    item: ReviewItem, judge: OpenJudge, prompt: JudgePrompt, reply: Reply, metadata: dict[str, Any]
) -> str:
    """Return a grade in the shape of MT-bench's single judgements; null for a score that cannot be read."""
    [answer] = item.answers
    record: dict[str, Any] = {
        "review_id": item.id,
        "question_id": item.match.question.id,
        "model": answer.name,
        "answer_id": answer.id,
        "judge": [judge.name, prompt.id],
        "judgment": reply.text,
        "score": reply.said[0] if reply.said else None,
        "turn": item.turn,
        "metadata": metadata,
    }
    if item.match.control:
        record["control"] = item.match.control
    return json.dumps(record, ensure_ascii=False)


@dataclass
class ReviewTally:
    """Counts of reviews, those from before included.

    Attributes:
        unreadable: The questions of those without a score, once for each.
        unreadable_before: How many of them are from before.
        last: The text of the last one of this run.
        grades: The grades of single answers.
    """

    reviews: int = 0
    before: int = 0
    asked_again: int = 0
    unreadable: list[str] = field(default_factory=list)
    unreadable_before: int = 0
    last: str = ""
    grades: list[dict[str, Any]] = field(default_factory=list)

    @property
    def hopeless(self) -> bool:
        """Whether most reviews cannot be read."""
        return 2 * len(self.unreadable) > self.reviews

    def stop(self) -> str:
        """Return why this run is not worth its cost, if most of its reviews cannot be read; else nothing."""
        made, bad = self.reviews - self.before, len(self.unreadable) - self.unreadable_before
        if made < TRIED or 2 * bad <= made:
            return ""
        return (
            f"{bad} of the first {made} reviews cannot be read: the last reply ends with "
            f"{self.last[-60:]!r}. Another judge may keep to the form (-m MODEL, and another -o)"
        )

    def find(self, line: bytes) -> None:
        """Count a review of an earlier run."""
        self.before += 1
        self.add(line)
        self.unreadable_before = len(self.unreadable)

    def add(self, line: str | bytes) -> None:
        """Count a review."""
        record = json.loads(line)
        self.reviews += 1
        self.asked_again += bool((record.get("metadata") or {}).get("asked_again"))
        if record.get("score") is None and record.get("winner") in (None, "error"):
            self.unreadable.append(str(record.get("question_id")))
            self.last = " ".join(str(record.get("text", record.get("judgment"))).split())
        elif "judgment" in record:
            self.grades.append(
                {name: record[name] for name in ("question_id", "model", "judge", "turn", "score")}
            )
