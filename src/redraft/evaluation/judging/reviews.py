"""What a judge says: reviews of two answers, in SelFee's and FastChat's shape, and grades of single ones.

Unknown fields of a review survive a round trip, as do ids that are numbers. Of MT-bench's pair judgements, a
line is two reviews, one for each order. Grades have the shape of MT-bench's single judgements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.chain import describe
from redraft.chain.read.files import decode
from redraft.chain.read.records import RawRecord
from redraft.errors import RecordError, shown
from redraft.evaluation.judging.scores import HIGHEST, LOWEST, Unreadable, Winner, checked, scores_in
from redraft.evaluation.records import JudgeUsage

_HINT = (
    'A review is {"review_id", "question_id", "answer1_id", "answer2_id", "reviewer_id", "metadata", '
    '"text", "score": [8, 9]}, one a line.'
)
_IDS = ("answer1_id", "answer2_id")


class Review(BaseModel):
    """What a judge says about two answers to a question."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    review_id: int | str = ""  # unique among all reviews; empty if there is none
    question_id: int | str
    answer1_id: int | str | None = None  # of the one shown first; None if nothing says which it was
    answer2_id: int | str | None = None  # the other; None with `answer1_id` alone
    reviewer_id: int | str | None = None  # the judge's task, as in `reviewer.jsonl`
    metadata: dict[str, Any] = {}
    text: str = ""
    score: tuple[float, float] | None = None  # of the first and the second answer, 1 to 10
    winner: Winner | Literal["error"] | None = None  # the verdict of a judge that gives no scores
    model_1: str | None = None  # the name of the model that gave the first answer, if known
    model_2: str | None = None  # the name of the model that gave the second answer
    judge: str | None = None  # the judge's model, if known
    turn: int = 1  # which turn of the question was judged

    @classmethod
    def of(cls, record: Mapping[str, Any], where: str = "review") -> Review:
        """Check a decoded record. It has the ids of both answers or of none, as in two of SelFee's files."""
        without = [name for name in _IDS if record.get(name) is None]
        if len(without) == 1 or (without and record.keys().isdisjoint(("text", "score", "winner"))):
            raise RecordError(f"{where}: {without[0]}: Field required.", hint=_HINT)
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            raise RecordError(f"{where}: {describe(error)}", hint=_HINT) from None

    def to_json(self) -> str:
        """Return the review as a line of JSON. Optional fields that it does not have are left out."""
        optional = {*_IDS, "winner", "model_1", "model_2", "judge"}
        absent = {name for name in optional if getattr(self, name) is None}
        return self.model_dump_json(exclude=absent | ({"turn"} if self.turn == 1 else set()))

    @property
    def drawn(self) -> bool:
        """Whether the order of the answers was drawn at random, as in votes by people."""
        return self.metadata.get("sides") == "drawn"

    def verdict(self) -> int:
        """Return 1 if the answer shown first is better, -1 if the second is, else 0; or raise Unreadable."""
        if self.score is None and self.winner is not None:
            if self.winner == "error":
                raise Unreadable("the judge's verdict could not be read")
            return {"1": 1, "2": -1, "tie": 0}[self.winner]
        first, second = self.scores()
        return (first > second) - (first < second)

    def scores(self) -> tuple[float, float]:
        """Return the scores of the first and the second answer: those of the field, or else of the text.

        FastChat writes [-1, -1] for a review that it could not read. Without scores on the scale, it raises
        Unreadable.
        """
        if self.score is not None and self.score != (-1, -1):
            found = checked(self.score)
        else:
            found = scores_in(self.text)
        if len(found) != 2:
            raise Unreadable("one score, for two answers")
        return found[0], found[1]


def usage_in(metadata: Iterable[Mapping[str, Any]]) -> JudgeUsage:
    """Return what reviews or grades say that they cost. Values that are no numbers do not count."""
    found: dict[str, Any] = {"records": 0, "counted": 0, "priced": 0}
    for each in metadata:
        told = {
            name: value
            for name in ("prompt_tokens", "completion_tokens", "cost_usd")
            if isinstance(value := each.get(name), int | float) and 0 <= value < math.inf
        }
        counts = {
            "records": 1,
            "counted": "completion_tokens" in told or "prompt_tokens" in told,
            "priced": "cost_usd" in told,
        }
        for name, value in {**told, **counts}.items():
            found[name] = found.get(name, 0) + value
    return JudgeUsage.model_construct(None, **found)


def read_reviews(records: Iterable[RawRecord]) -> Iterator[tuple[str, Review]]:
    """Read the place and the record of each review."""
    for raw in records:
        record = decode(raw.data, raw.where)
        if not isinstance(record, dict):
            raise RecordError(f"{raw.where}: is {shown(record)}, not a review.", hint=_HINT)
        if "g1_winner" in record:
            yield from ((raw.where, each) for each in _mt_bench(record, raw.where))
        elif "judgment" in record and "model" in record:
            raise RecordError(
                f"{raw.where}: is the grade of a single answer, not a review of two.",
                hint="Give grades and reviews to a report of their own.",
            )
        elif "answer1_id" not in record and "question_id" not in record:
            fields = ", ".join(list(map(str, record))[:6])
            raise RecordError(f"{raw.where}: is not a review; its fields are {fields}.", hint=_HINT)
        else:
            yield raw.where, Review.of(record, raw.where)


def _mt_bench(record: Mapping[str, Any], where: str) -> Iterator[Review]:
    """Read a pair judgement: in game 1 `model_1` is shown first, in game 2 `model_2`."""
    missing = [name for name in ("question_id", "model_1", "model_2", "g2_winner") if name not in record]
    if missing:
        raise RecordError(f"{where}: an MT-bench judgement without {', '.join(missing)}.", hint=_HINT)
    judge = record.get("judge")
    names = [record["model_1"], record["model_2"]]
    for game, shown_names in (("g1", names), ("g2", names[::-1])):
        said = record[f"{game}_winner"]
        winner = str(shown_names.index(record[said]) + 1) if said in ("model_1", "model_2") else said
        yield Review.of(
            {
                "question_id": record["question_id"],
                "answer1_id": shown_names[0],
                "answer2_id": shown_names[1],
                "text": record.get(f"{game}_judgment", ""),
                "winner": winner,
                "model_1": shown_names[0],
                "model_2": shown_names[1],
                "judge": judge[0] if isinstance(judge, list) and judge else judge,
                "turn": record.get("turn", 1),
            },
            where,
        )


Key = tuple[str, int]  # a question and its turn


class Grade(BaseModel):
    """What a judge says about an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    review_id: int | str = ""
    question_id: int | str
    model: str
    answer_id: int | str = ""
    judge: str | list[str] = ""  # the name of the judge's model, and perhaps that of its prompt
    judgment: str = ""
    score: float | None = None  # 1 to 10; None or -1 if there is none
    turn: int = 1
    metadata: dict[str, Any] = {}

    @property
    def key(self) -> Key:
        """The question and its turn."""
        return str(self.question_id), self.turn

    @property
    def judge_name(self) -> str:
        """The name of the judge's model."""
        return self.judge if isinstance(self.judge, str) else "".join(self.judge[:1])

    @property
    def is_readable(self) -> bool:
        """Whether it has a score on the scale."""
        return self.score is not None and LOWEST <= self.score <= HIGHEST
