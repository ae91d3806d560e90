"""Find out which models a review compares, and their answers and question.

In the order of trust: the answers' files, the review's own `model_1` and `model_2`, the name of its file
(`NEW_vs_OLD.jsonl`, as released), and ids alone: then the model whose answer the first review shows first is
A, and all answers that are compared with one of A's are of B. Two of the released files have no ids: theirs
are found by question and name. A file whose name gives its answers to other models than the names of most
other files do is left out: its name is in reverse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from redraft.chain import Chain
from redraft.counting import counted
from redraft.errors import RecordError
from redraft.evaluation.judging.reviews import Review, read_reviews
from redraft.evaluation.records import listed, names_of, question_id, text_in_source
from redraft.evaluation.reports.inputs import BadFiles, Input
from redraft.formats.read.files import name_of, stem_of
from redraft.formats.read.records import read_records

_NAMING = 'Name the two models in each review ("model_1", "model_2"), or call the file NEW_vs_OLD.jsonl.'


Names = tuple[str, str]  # the models of the answers that a review shows first and second


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
    """What reviews are about: answers by id and name of file, and questions by id. Empty if not given.

    Attributes:
        by_question: The answers to each question.
    """

    names: tuple[str, ...] = ()
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)
    by_question: dict[str, list[Answer]] = field(default_factory=dict)
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
                answer = by_name[name] = _answer(chain, name)
                found.by_question.setdefault(answer.question_id, []).append(answer)
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

    def shown(self, review: Review, names: Names | None, where: str) -> tuple[Answer, Answer]:
        """Return both answers of a review, by their ids or else by question and name.

        Raises:
            RecordError: One is in none of the files, or in several.
        """
        first, second = names or (None, None)
        if review.answer1_id is None or review.answer2_id is None:
            question = str(review.question_id)
            return self._to(question, first, where), self._to(question, second, where)
        return self.answer(review.answer1_id, first, where), self.answer(review.answer2_id, second, where)

    def _to(self, question: str, name: str | None, where: str) -> Answer:
        if name is None:
            raise _nameless(where)
        for answer in self.by_question.get(question, ()):
            if name in (answer.name, answer.model):
                return answer
        raise RecordError(
            f"{where}: there is no answer of {name} to question {question} in {', '.join(self.names)}.",
            hint="Give the files of answers that were judged, one a model: --answers FILE",
        )

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


@dataclass(frozen=True)
class Given:
    """What a report is made of.

    Attributes:
        inputs: The files.
        material: The answers that were judged, and what was asked.
        bad: Takes the files that cannot be read.
        against: The JSON of an earlier report, to say what changed.
        draws: Number of resamples.
        seed: Decides the resamples.
    """

    inputs: Sequence[Input]
    material: Material
    bad: BadFiles
    against: Path | None
    draws: int
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(name_of(each.path) for each in self.inputs)


class _File(NamedTuple):
    """A file's reviews, each with its place, and the models that its name has."""

    path: Path
    named: Names | None
    reviews: list[tuple[str, Review]]

    @classmethod
    def read(cls, given: Input) -> _File:
        """Read a file."""
        return cls(given.path, _named_by(stem_of(given.path)), [*read_reviews(given.records)])

    def claims(self) -> Iterator[tuple[str, str, str]]:
        """Yield the place and the id of each answer, and the model that the file's name gives it to."""
        for where, review in self.reviews:
            if self.named and review.answer1_id is not None and not (review.model_1 and review.model_2):
                yield where, str(review.answer1_id), self.named[0]
                yield where, str(review.answer2_id), self.named[1]


def _check_name(file: _File, owners: Mapping[str, Mapping[str, set[Path]]]) -> _File:
    """Return a file whose name fits the ids of its answers.

    Args:
        file: The file.
        owners: The files whose names give an answer to a model, by the answer's id and the model.

    Raises:
        RecordError: As many or more names of files speak against it as for it.
    """
    agree, differ, first = set[Path](), set[Path](), ""
    for where, answer_id, name in file.claims():
        given = owners[answer_id]
        if sum(map(len, given.values())) > len(set().union(*given.values())):
            continue  # a file has the id for both models: it tells nothing
        for model, files in given.items():
            (agree if model == name else differ).update(files)
            if model != name and not first:
                other = name_of(min(files))
                first = f"{where}: the answer {answer_id!r} is of {name} by the name of this file, "
                first += f"and of {model} by that of {other}."
    if differ and len(differ) >= len(agree):
        hint = (
            "One of the names is in reverse, or has another name of a model. Rename that file, or say whose "
        )
        hint += "the answers are: --answers FILE"
        raise RecordError(first, hint=hint)
    return file


@dataclass
class _Seen:
    """Where each review is, and the sides of answers that are known by their ids alone."""

    ids: dict[object, str] = field(default_factory=dict)
    sides: dict[str, str] = field(default_factory=dict)


def place(inputs: Iterable[Input], material: Material, bad: BadFiles) -> Iterator[Placed]:
    """Read reviews, and place each.

    Args:
        inputs: The files.
        material: The answers that were judged, and what was asked.
        bad: Takes a file that cannot be read, that has a review twice or of other questions or answers than
            given, whose models cannot be told apart, or whose name is in reverse.

    Raises:
        RecordError: No file is left.
    """
    files = bad.read(inputs, _File.read)
    if not material.answers:
        owners: defaultdict[str, defaultdict[str, set[Path]]] = defaultdict(lambda: defaultdict(set))
        for file in files:
            for _, answer_id, name in file.claims():
                owners[answer_id][name].add(file.path)
        files = bad.read(files, partial(_check_name, owners=owners))
    for placed in bad.read(files, partial(_place_file, material=material, seen=_Seen())):
        yield from placed


def _place_file(file: _File, material: Material, seen: _Seen) -> list[Placed]:
    mine = _Seen(dict(seen.ids), dict(seen.sides))
    found: list[Placed] = []
    stray: defaultdict[str, list[str]] = defaultdict(list)
    for where, review in file.reviews:
        _check_once(review, where, mine.ids, file.named)
        if material.questions and str(review.question_id) not in material.questions:
            stray[str(review.question_id)].append(where)
        else:
            found.append(_placed(where, review, file.named, material, mine.sides))
    if stray:
        _refuse(stray, material.where)
    seen.ids, seen.sides = mine.ids, mine.sides
    return found


def _refuse(stray: Mapping[str, Sequence[str]], where: str) -> None:
    count = sum(map(len, stray.values()))
    [first, *_] = next(iter(stray.values()))
    raise RecordError(
        f"{first}: {counted(count, 'review')} of questions that are not in {where}: {listed([*stray], 5)}.",
        hint="Give the questions that were asked: --questions FILE",
    )


def _check_once(review: Review, where: str, ids: dict[object, str], named: Names | None) -> None:
    """Raise if a review was there before. Without an id, it is known by all that it says."""
    key: object = str(review.review_id)
    if not key:
        key = (str(review.question_id), review.turn, review.answer1_id, review.answer2_id)
        key = (*key, review.judge, review.reviewer_id, review.text, review.score)
        key = (*key, named) if review.answer1_id is None else key
    if key in ids:
        what = f"the review {review.review_id!r}" if review.review_id else "this review"
        raise RecordError(
            f"{where}: {what} is also at {ids[key]}.", hint="Give each file once; each review counts once."
        )
    ids[key] = where


def _named_by(stem: str) -> Names | None:
    """Return the models that a file's name has: `NEW_vs_OLD`."""
    first, separator, second = stem.partition("_vs_")
    return (first, second) if separator and first and second and "_vs_" not in second else None


def _nameless(where: str) -> RecordError:
    return RecordError(
        f"{where}: the review has no ids of answers, and the name of the file does not name the models.",
        hint=_NAMING,
    )


def _placed(
    where: str, review: Review, from_file: Names | None, material: Material, sides: dict[str, str]
) -> Placed:
    hints = (review.model_1, review.model_2) if review.model_1 and review.model_2 else from_file
    answers = None
    if material.answers and not review.control:  # a control's answers are in no file
        answers = material.shown(review, hints, where)
        names = answers[0].name, answers[1].name
        _check_question(review, answers, where)
    elif hints:
        names = hints
    elif review.answer1_id is None:
        raise _nameless(where)
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
