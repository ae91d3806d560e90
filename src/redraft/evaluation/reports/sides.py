"""Find out which models a review compares, and their answers and question.

In the order of trust: the answers' files, the review's own `model_1` and `model_2`, the name of its file
(`NEW_vs_OLD.jsonl`, as released), and ids alone: then the model whose answer the first review shows first is
A, and all answers that are compared with one of A's are of B.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redraft.chain import Chain
from redraft.errors import RecordError
from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.evaluation.records import names_of, question_id, text_in_source
from redraft.evaluation.reports.inputs import Input
from redraft.formats.read.files import name_of, stem_of
from redraft.formats.read.records import read_records

_SHOWN = 5
_NAMING = 'Name the two models in each review ("model_1", "model_2"), or call the file NEW_vs_OLD.jsonl.'


@dataclass(frozen=True)
class Answer:
    """An answer that was judged. `name` is that of its file, `model` the one in its record."""

    name: str
    model: str
    question_id: str
    text: str


@dataclass(frozen=True)
class Question:
    """What was asked."""

    text: str
    category: str


@dataclass(frozen=True)
class Placed:
    """A review with the names of the models whose answers it shows, and the answers if they were given."""

    where: str
    review: Review
    names: tuple[str, str]
    answers: tuple[Answer, Answer] | None = None


@dataclass
class Material:
    """What reviews are about: answers by id and name of file, and questions by id. Empty if not given."""

    names: tuple[str, ...] = ()
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    where: str = ""

    @classmethod
    def read(cls, answers: Sequence[Path] = (), questions: Path | None = None) -> Material:
        """Read files of answers, in any shape that redraft reads, and of questions.

        Raises:
            RecordError: A file cannot be read, or has an id twice.
        """
        found = cls(names=names_of(answers))
        for path, name in zip(answers, found.names, strict=True):
            for chain in read_records(path):
                by_name = found.answers.setdefault(text_in_source(chain, "answer_id") or chain.id, {})
                if name in by_name:
                    raise RecordError(f"{path}: has the answer {chain.id!r} twice.")
                by_name[name] = _answer(chain, name)
        if questions:
            found.where = name_of(questions)
            for chain in read_records(questions):
                key, text = question_id(chain), chain.prompt.text
                if key in found.questions:
                    raise RecordError(
                        f"{found.where}: has question {key} twice.", hint="Give each its own id."
                    )
                found.questions[key] = Question(text, text_in_source(chain, "category") or "")
        return found

    def answer(self, answer_id: int | str, hint: str | None, where: str) -> Answer:
        """Return the answer of an id. If several files have the id, `hint` names the model.

        Raises:
            RecordError: There is none, or several.
        """
        found = self.answers.get(str(answer_id), {})
        named = [each for each in found.values() if len(found) == 1 or hint in (each.name, each.model)]
        if len(named) == 1:
            return named[0]
        if not found:
            raise RecordError(
                f"{where}: the answer {answer_id!r} is in none of {', '.join(self.names)}.",
                hint="Give the files of answers that were judged, one a model: --answers FILE",
            )
        raise RecordError(
            f"{where}: the answer {answer_id!r} is in {' and '.join(found)}: which of them was judged?",
            hint=_NAMING,
        )


def _answer(chain: Chain, name: str) -> Answer:
    model = chain.model.get("name") if isinstance(chain.model, Mapping) else None
    return Answer(name, str(model or ""), question_id(chain), chain.answer)


def place(inputs: Iterable[Input], material: Material) -> Iterator[Placed]:
    """Read reviews, and place each.

    Raises:
        RecordError: A file cannot be read, a review is there twice, is of other questions or answers than
            given, or its models cannot be told apart.
    """
    ids: dict[object, str] = {}
    sides: dict[str, str] = {}
    stray: defaultdict[str, list[str]] = defaultdict(list)
    for path, records, _ in inputs:
        from_file = _named_by(stem_of(path))
        for where, review in read_reviews(records):
            _check_once(review, where, ids)
            if material.questions and str(review.question_id) not in material.questions:
                stray[str(review.question_id)].append(where)
            else:
                yield _placed(where, review, from_file, material, sides)
    if stray:
        _refuse(stray, material.where)


def _refuse(stray: Mapping[str, Sequence[str]], where: str) -> None:
    count = sum(map(len, stray.values()))
    shown = ", ".join(list(stray)[:_SHOWN]) + (" …" if len(stray) > _SHOWN else "")
    [first, *_] = next(iter(stray.values()))
    raise RecordError(
        f"{first}: {count:,} review{'s' * (count > 1)} of questions that are not in {where}: {shown}.",
        hint="Give the questions that were asked: --questions FILE",
    )


def _check_once(review: Review, where: str, ids: dict[object, str]) -> None:
    """Raise if a review was there before. Without an id, it is known by all that it says."""
    key: object = str(review.review_id)
    if not key:
        key = (str(review.question_id), review.turn, review.answer1_id, review.answer2_id)
        key = (*key, review.judge, review.reviewer_id, review.text, review.score)
    if key in ids:
        what = f"the review {review.review_id!r}" if review.review_id else "this review"
        raise RecordError(
            f"{where}: {what} is also at {ids[key]}.", hint="Give each file once; each review counts once."
        )
    ids[key] = where


def _named_by(stem: str) -> tuple[str, str] | None:
    """Return the models that a file's name has: `NEW_vs_OLD`."""
    first, separator, second = stem.partition("_vs_")
    return (first, second) if separator and first and second and "_vs_" not in second else None


def _placed(
    where: str,
    review: Review,
    from_file: tuple[str, str] | None,
    material: Material,
    sides: dict[str, str],
) -> Placed:
    own = (review.model_1, review.model_2)
    hints = own if all(own) else from_file or (None, None)
    answers = None
    if material.answers and not review.control:  # a control's answers are in no file
        ids = (review.answer1_id, review.answer2_id)
        first, second = (material.answer(each, hint, where) for each, hint in zip(ids, hints, strict=True))
        answers, names = (first, second), (first.name, second.name)
        _check_question(review, answers, where)
    elif hints[0] and hints[1]:
        names = (hints[0], hints[1])
    else:
        names = _by_ids(str(review.answer1_id), str(review.answer2_id), sides)
    if names[0] == names[1]:
        raise RecordError(
            f"{where}: both answers, {review.answer1_id!r} and {review.answer2_id!r}, are of {names[0]}.",
            hint=_NAMING,
        )
    return Placed(where, review, names, answers)


def _check_question(review: Review, answers: Iterable[Answer], where: str) -> None:
    for answer in answers:
        if answer.question_id != str(review.question_id):
            raise RecordError(
                f"{where}: the review is of question {review.question_id!r}, and the answer of {answer.name} "
                f"is to question {answer.question_id!r}.",
                hint="Give the answers that were judged: --answers FILE",
            )


def _by_ids(first: str, second: str, sides: dict[str, str]) -> tuple[str, str]:
    """Return the sides of two answers, from those that were seen before."""
    other = {"A": "B", "B": "A"}
    if first not in sides:
        sides[first] = other[sides[second]] if second in sides else "A"
    sides.setdefault(second, other[sides[first]])
    return sides[first], sides[second]
