"""Read the inputs of a report: files of one kind of record, the judged answers, and the questions.

The names of a review's models come from the first available source: the files of answers; the review's
`model_1` and `model_2`; the file's name (`NEW_vs_OLD.jsonl`); the ids of answers. If there are only ids, the
first answer of the first review belongs to A, and all answers compared with answers of A belong to B.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from redraft.chain.read.files import decode, name_of, stem_of
from redraft.chain.read.logs import logged
from redraft.chain.read.records import RawRecord, raw_records, read_records
from redraft.chain.read.shapes import is_chain
from redraft.errors import RecordError, UsageError, shown
from redraft.evaluation.judging.pairs import AskedQuestion, read_questions
from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.evaluation.records import names_of, question_id, text_in_source

Kind = Literal["reviews", "grades", "chains"]  # judged pairs, grades of single answers, or chains

_HINT = "Give reviews or grades (from redraft judge), or chains (from redraft answer or redraft eval)."
_NAMING = 'Name the two models in each review ("model_1", "model_2"), or call the file NEW_vs_OLD.jsonl.'
_JUDGED = "Give the files of answers that were judged, one per model: --answers FILE"

Names = tuple[str, str]  # the models of the answers that a review shows first and second


class Input(NamedTuple):
    """A file, the records, and the kind of the first record (None for an empty file)."""

    path: Path
    records: Iterable[RawRecord]
    kind: Kind | None


def opened(path: Path) -> Input:
    """Open a file or standard input, and detect the kind of records from the first record."""
    records = raw_records(path)
    if (first := next(records, None)) is None:
        return Input(path, (), None)
    return Input(path, chain([first], records), record_kind(decode(first.data, first.where), first.where))


def record_kind(record: Any, where: str) -> Kind:
    """Return the kind of a file, given the first record. Raise `RecordError` if no report reads this kind."""
    if not isinstance(record, Mapping):
        raise RecordError(f"{where}: the record is {shown(record)}, which no report can read.", hint=_HINT)
    if "g1_winner" in record or "answer1_id" in record:
        return "reviews"
    if "judgment" in record and "model" in record:
        return "grades"
    if is_chain(record) or logged(record):
        return "chains"
    if "winner" in record or record.keys() >= {"question_id", "score"}:
        return "reviews"  # some fields are missing: the reader names them
    fields = ", ".join(list(map(str, record))[:6]) or "none"
    raise RecordError(f"{where}: no report can read this record; its fields are {fields}.", hint=_HINT)


def kind_of(inputs: Sequence[Input]) -> Kind:
    """Return the kind of all files. Raise `UsageError` if kinds differ, `RecordError` if all are empty."""
    found: dict[Kind, list[str]] = {}
    for each in inputs:
        if each.kind:
            found.setdefault(each.kind, []).append(name_of(each.path))
    if not found:
        names = ", ".join(name_of(each.path) for each in inputs)
        raise RecordError(f"there is no record in {names}.", hint=_HINT)
    if len(found) > 1:
        which = "; ".join(f"{kind} in {', '.join(names)}" for kind, names in found.items())
        raise UsageError(f"the files have several kinds of records: {which}.", hint="Report each kind alone.")
    return next(iter(found))


@dataclass(frozen=True)
class Answer:
    """An answer that was judged. `name` is the name of the file, and `model` comes from the record."""

    name: str
    model: str
    question_id: str
    text: str


@dataclass
class Material:
    """Answers by id and file name, and questions by id. Both may be empty."""

    names: tuple[str, ...] = ()
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)
    questions: dict[str, AskedQuestion] = field(default_factory=dict)
    where: str = ""
    prompts: dict[str, str] = field(default_factory=dict)  # of the answers, by the id of the question

    @classmethod
    def read(cls, answers: Sequence[Path] = (), questions: Path | None = None) -> Material:
        """Read files of answers and a file of questions, in any format of redraft. Ids must be unique."""
        found = cls(names=names_of(answers))
        for path, name in zip(answers, found.names, strict=True):
            for record in read_records(path):
                by_name = found.answers.setdefault(text_in_source(record, "answer_id") or record.id, {})
                if name in by_name:
                    raise RecordError(f"{path} has the answer {record.id!r} twice.")
                if questions is None:
                    found.prompts.setdefault(question_id(record), record.prompt.said)
                model = str(record.model.get("name") or "")
                by_name[name] = Answer(name, model, question_id(record), record.answer)
        if questions:
            found.where = name_of(questions)
            found.questions = read_questions(questions)
        return found

    def check_asked(self, question_id: int | str, where: str) -> None:
        """Raise `RecordError` if questions were given and no question has this id."""
        if self.questions and str(question_id) not in self.questions:
            said = f"{where}: the record belongs to question {question_id}, which is not in {self.where}."
            raise RecordError(said, hint="Give the questions that were asked: --questions FILE")

    def answer(self, answer_id: int | str, hint: str | None, where: str) -> Answer:
        """Return the answer with this id. If several files contain the id, `hint` must name the model."""
        found = self.answers.get(str(answer_id), {})
        named = [each for each in found.values() if len(found) == 1 or hint in (each.name, each.model)]
        if len(named) == 1:
            return named[0]
        if not found:
            message = f"{where}: the answer {answer_id!r} is not in {' or '.join(self.names)}."
            raise RecordError(message, hint=_JUDGED)
        raise RecordError(
            f"{where}: answer {answer_id!r} is in {' and '.join(found)}; nothing says which one was judged.",
            hint=_NAMING,
        )


@dataclass(frozen=True)
class Placed:
    """A review with the names of both models, and with both answers if available."""

    where: str
    review: Review
    names: Names
    answers: tuple[Answer, Answer] | None = None


def place(inputs: Iterable[Input], material: Material) -> Iterator[Placed]:
    """Read reviews, and find the models of each, for example by a file's name: `NEW_vs_OLD`.

    Raises:
        RecordError: A file cannot be read, or a review is repeated, has unclear models, or has no question or
            answers.
    """
    ids, sides = dict[str, str](), dict[str, str]()
    for given in inputs:
        first, _, second = stem_of(given.path).partition("_vs_")
        named = (first, second) if first and second and "_vs_" not in second else None
        for where, review in read_reviews(given.records):
            key = str(review.review_id) or review.to_json()  # without an id, reviews are compared by content
            if key in ids:
                what = f"the review {review.review_id!r}" if review.review_id else "this review"
                hint = "Give each file once. Each review is counted once."
                raise RecordError(f"{where}: {what} is also at {ids[key]}.", hint=hint)
            ids[key] = where
            material.check_asked(review.question_id, where)
            yield _placed(where, review, named, material, sides)


def _placed(
    where: str, review: Review, from_file: Names | None, material: Material, sides: dict[str, str]
) -> Placed:
    hints = (review.model_1, review.model_2) if review.model_1 and review.model_2 else from_file
    answers = None
    if material.answers:
        named = hints or (None, None)
        answers = (
            material.answer(review.answer1_id, named[0], where),
            material.answer(review.answer2_id, named[1], where),
        )
        names = answers[0].name, answers[1].name
        for answer in answers:
            if answer.question_id != str(review.question_id):
                raise RecordError(
                    f"{where}: the review is about question {review.question_id!r}, but the answer of "
                    f"{answer.name} belongs to question {answer.question_id!r}.",
                    hint="Give the answers that were judged: --answers FILE",
                )
    elif hints:
        names = hints
    else:
        first, second = str(review.answer1_id), str(review.answer2_id)
        other = {"A": "B", "B": "A"}
        if first not in sides:
            sides[first] = other[sides[second]] if second in sides else "A"
        names = sides[first], sides.setdefault(second, other[sides[first]])
    if names[0] == names[1]:
        raise RecordError(
            f"{where}: both answers, {review.answer1_id!r} and {review.answer2_id!r}, belong to {names[0]}.",
            hint=_NAMING,
        )
    return Placed(where, review, names, answers)
