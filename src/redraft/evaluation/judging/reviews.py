"""Read a judge's records: reviews of two answers, in SelFee's and FastChat's format, and grades of answers.

Reading and writing a review preserves unknown fields and numeric ids. A line of MT-bench's pair judgements
becomes two reviews, one for each order. Grades have the format of MT-bench's single judgements.

If a record has no field for scores or a verdict, the text is parsed. Scores are never guessed. Judges are
asked for two numbers on the first line or in brackets at the end. The text may also quote answers, which may
contain numbers, tuples and scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, ValidationError

from redraft.chain import describe
from redraft.chain.read.files import decode
from redraft.chain.read.records import RawRecord
from redraft.errors import RecordError, shown

LOWEST, HIGHEST = 1.0, 10.0  # the scale of SelFee's and FastChat's judges

Winner = Literal["1", "2", "tie"]  # the better answer: the one shown first, the second, or neither

# Repeated spaces are bounded and possessive, so that a hostile text cannot cost quadratic time.
_GAP, _MARKS, _BOLD = r"\s{0,8}+", r"[\s\ufeff*_`#>]{0,16}+", r"[*_`]{0,3}+"
_VALUE = rf"{_BOLD}(-?\d{{1,4}}(?:\.\d{{1,4}})?){_BOLD}"
_OUT_OF = rf"\s?(?:/|out\sof)\s?{_BOLD}10(?!\.?\d){_BOLD}"
_NUMBER = rf"{_VALUE}(?:{_OUT_OF})?+"
_LABEL = rf"(?:final\s|overall\s)?(?:score|rating)s?{_MARKS}:?{_MARKS}"
_BETWEEN = rf"(?:{_GAP}[,;]{_GAP}|\s{{1,8}}+(?:and\s{{1,8}}+)?+)"
_END = rf"{_GAP}[)\]]?\.?{_MARKS}"
_FIRST_LINE = regex.compile(rf"(?i){_MARKS}(?:{_LABEL})?+[(\[]?{_GAP}{_NUMBER}{_BETWEEN}{_NUMBER}{_END}")
_ALONE = regex.compile(rf"(?i){_MARKS}(?:{_LABEL}[(\[]?{_NUMBER}|{_VALUE}{_OUT_OF}){_END}")
_BRACKETS = regex.compile(rf"\[\[{_GAP}{_NUMBER}(?:{_GAP},{_GAP}{_NUMBER})?{_GAP}\]\]")
_BLANK = " \t\r\n\ufeff"
_VERDICT = regex.compile(rf"\[\[{_GAP}([ABC]){_GAP}\]\]")
WINNERS: dict[str, Winner] = {"A": "1", "B": "2", "C": "tie"}


class Unreadable(ValueError):
    """A review has no usable score. The message is the reason."""


def checked(scores: tuple[float, ...]) -> tuple[float, ...]:
    """Return the scores. Raise `Unreadable` if a score is not on the scale."""
    if not all(LOWEST <= score <= HIGHEST for score in scores):
        shown = " and ".join(f"{score:g}" for score in scores)
        raise Unreadable(f"scores outside {LOWEST:g} to {HIGHEST:g}: {shown}")
    return scores


def scores_in(text: str) -> tuple[float, ...]:
    """Return the scores in a review's text: two, or one for a grade.

    These are tried in order: two numbers as the first line; MT-bench's `[[8]]` or `[[8, 9]]`, on the last
    line that has one; a score as the first or the last line, such as `Score: 8` or `8 out of 10`.

    Raises:
        Unreadable: No score is found, a score is off the scale, or a line has several: `[[8]] or [[9]]`.
    """
    first, last = (text.strip(_BLANK).split("\n")[place] for place in (0, -1))
    match = _FIRST_LINE.fullmatch(first)
    found = list(match.groups()) if match else [score for score in _on_last_line(_BRACKETS, text) if score]
    alone = [match[1] or match[2] for match in map(_ALONE.fullmatch, (first, last)) if match]
    if found := found or alone[:1]:
        return checked(tuple(map(float, found)))
    raise Unreadable("no scores in the text" if text.strip() else "an empty text")


def winner_in(text: str) -> Winner:
    """Return MT-bench's verdict: `[[A]]`, `[[B]]` or `[[C]]` (a tie) on the last line with a verdict.

    Raise `Unreadable` if there is no verdict, or if there are several on that line.
    """
    # FastChat decides for A if `[[A]]` is anywhere, even if a judge only repeats the request.
    if found := _on_last_line(_VERDICT, text):
        return WINNERS[found[0]]
    raise Unreadable("no verdict in the text" if text.strip() else "an empty text")


def _on_last_line(pattern: regex.Pattern[str], text: str) -> tuple[str, ...]:
    if not (found := list(pattern.finditer(text))):
        return ()
    line = text.rfind("\n", 0, found[-1].start())
    shown = {match.groups(): match[0] for match in found if match.start() > line}
    if len(shown) > 1:
        raise Unreadable(f"{' and '.join(shown.values())} on one line")
    return found[-1].groups("")


_HINT = (
    'A review is {"review_id", "question_id", "answer1_id", "answer2_id", "reviewer_id", "metadata", '
    '"text", "score": [8, 9]}, one per line. In place of scores: "winner": "1", "2" or "tie".'
)


class Review(BaseModel):
    """A judge's review of two answers to a question."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    review_id: int | str = ""  # unique among all reviews; empty if there is none
    question_id: int | str
    answer1_id: int | str  # the answer shown first
    answer2_id: int | str
    reviewer_id: int | str | None = None  # the judge's task, as in FastChat's `reviewer.jsonl`
    metadata: dict[str, Any] = {}
    text: str = ""
    score: tuple[float, float] | None = None  # scores of the first and the second answer, 1 to 10
    winner: Winner | Literal["error"] | None = None  # the verdict of a judge that gives no scores
    model_1: str | None = None  # the name of the model that gave the first answer, if known
    model_2: str | None = None  # the name of the model that gave the second answer
    judge: str | None = None  # the judge's model, if known
    turn: int = 1  # the judged turn of the question

    @classmethod
    def of(cls, record: Mapping[str, Any], where: str = "review") -> Review:
        """Validate a decoded record. `where` names the record in errors."""
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            raise RecordError(f"{where}: {describe(error)}", hint=_HINT) from None

    def to_json(self) -> str:
        """Return the review as a JSON line. A `turn` of 1, and names and verdicts of None, are left out."""
        absent = {name for name in {"winner", "model_1", "model_2", "judge"} if getattr(self, name) is None}
        return self.model_dump_json(exclude=absent | ({"turn"} if self.turn == 1 else set()))

    @property
    def drawn(self) -> bool:
        """Whether the order of the answers was drawn at random, as in votes by people."""
        return self.metadata.get("sides") == "drawn"

    def verdict(self) -> int:
        """Return 1 if the first answer won, -1 if the second won, 0 for a tie. May raise `Unreadable`."""
        if self.score is None and self.winner is not None:
            if self.winner == "error":
                raise Unreadable("the judge's verdict could not be read")
            return {"1": 1, "2": -1, "tie": 0}[self.winner]
        first, second = self.scores()
        return (first > second) - (first < second)

    def scores(self) -> tuple[float, float]:
        """Return the scores of the first and the second answer, from the field `score` or else from the text.

        Raise `Unreadable` if there are no two scores on the scale.
        """
        # FastChat writes (-1, -1) for an unreadable review.
        found = checked(self.score) if self.score and self.score != (-1, -1) else scores_in(self.text)
        if len(found) != 2:
            raise Unreadable("one score, for two answers")
        return found[0], found[1]


def read_reviews(records: Iterable[RawRecord]) -> Iterator[tuple[str, Review]]:
    """Yield each review with the file and line number, such as `file.jsonl:3`."""
    for raw in records:
        record = decode(raw.data, raw.where)
        if not isinstance(record, dict):
            raise RecordError(f"{raw.where}: the record is {shown(record)}, not a review.", hint=_HINT)
        if "g1_winner" in record:
            yield from ((raw.where, each) for each in _mt_bench(record, raw.where))
        else:
            yield raw.where, Review.of(record, raw.where)


def _mt_bench(record: Mapping[str, Any], where: str) -> Iterator[Review]:
    if missing := [name for name in ("question_id", "model_1", "model_2", "g2_winner") if name not in record]:
        raise RecordError(f"{where}: the MT-bench judgement lacks {', '.join(missing)}.", hint=_HINT)
    judge = record.get("judge")
    names = [record["model_1"], record["model_2"]]
    for game, shown_names in (("g1", names), ("g2", names[::-1])):
        said = record[f"{game}_winner"]
        winner = str(shown_names.index(record[said]) + 1) if said in ("model_1", "model_2") else said
        given = dict(zip(("answer1_id", "answer2_id", "model_1", "model_2"), shown_names * 2, strict=True))
        given |= {"question_id": record["question_id"], "turn": record.get("turn", 1), "winner": winner}
        given |= {"judge": judge[0] if isinstance(judge, list) and judge else judge}
        yield Review.of(given | {"text": record.get(f"{game}_judgment", "")}, where)


SAME = "same_text"  # in `Review.metadata`: the answers are identical, so they tie, and no judge was asked
Key = tuple[str, int]  # a question and its turn


class Grade(BaseModel):
    """A judge's grade of an answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    question_id: int | str
    model: str
    answer_id: int | str = ""
    judge: str | list[str] = ""  # the name of the judge's model, optionally followed by its prompt's name
    judgment: str = ""
    score: float | None = None  # 1 to 10; None or -1 if the judge gave none
    turn: int = 1
    metadata: dict[str, Any] = {}

    @property
    def key(self) -> Key:
        """The question's id and the turn."""
        return str(self.question_id), self.turn

    @property
    def judge_name(self) -> str:
        """The name of the judge's model."""
        return self.judge if isinstance(self.judge, str) else "".join(self.judge[:1])

    @property
    def is_readable(self) -> bool:
        """Whether the grade has a score on the scale."""
        return self.score is not None and LOWEST <= self.score <= HIGHEST
