"""Report on grades of single answers: means by model and judge, with intervals over questions.

A grade without a score on the scale is counted and listed as unreadable. No score is guessed from the text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from pydantic import ValidationError

from redraft.chain import describe
from redraft.chain.read.files import decode, name_of
from redraft.errors import RecordError
from redraft.evaluation import stats
from redraft.evaluation.judging.reviews import HIGHEST, LOWEST, Grade, Key
from redraft.evaluation.records import listed
from redraft.evaluation.reports.inputs import Input, Material
from redraft.evaluation.reports.paired import Paired, Scores, sections, side_by_side
from redraft.evaluation.stats import Estimate, without_nan
from redraft.evaluation.tables import Line, Part, plain
from redraft.jobs.counting import counted

_SCALE = (float(LOWEST), float(HIGHEST))


@dataclass(frozen=True)
class Grades:
    """The grades of a model's answers by one judge."""

    model: str
    judge: str
    found: tuple[tuple[str, Grade], ...]  # all grades with their places

    @cached_property
    def scores(self) -> Scores:
        """The scores that could be read from the replies."""
        found = (each for _, each in self.found if each.is_readable)
        values = {each.key: each.score for each in found if each.score is not None}
        return Scores(self.model, self.judge, values, bounds=_SCALE)

    @property
    def unreadable(self) -> list[str]:
        """The files and lines of the grades without a readable score, such as `grades.jsonl:3`."""
        return [where for where, each in self.found if not each.is_readable]

    @property
    def questions(self) -> int:
        """The number of questions with a readable score."""
        return len({question for question, _ in self.scores.values})

    def mean(self, keys: Iterable[Key] | None = None) -> Estimate:
        """Return the mean of all scores, or of the scores with these keys."""
        values = self.scores.values
        chosen = list(values) if keys is None else [key for key in keys if key in values]
        return stats.mean([values[key] for key in chosen], [question for question, _ in chosen], _SCALE)

    def categories(self, material: Material) -> dict[str, tuple[int, Estimate]]:
        """Map each category to the number of questions and the mean score."""
        keys: dict[str, list[Key]] = {each.category: [] for each in material.questions.values()}
        for key in self.scores.values if keys else ():
            keys[material.questions[key[0]].category].append(key)
        return {
            name: (len({question for question, _ in found}), self.mean(found))
            for name, found in keys.items()
            if found
        }

    def lines(self, material: Material) -> Iterator[Line]:
        """Yield the rows of the table."""
        yield Line("mean", *plain(self.mean(), 2), "of 1 to 10")
        if self.unreadable:
            yield Line("unreadable", f"{len(self.unreadable):,}", "", listed(self.unreadable, 5))
        if categories := self.categories(material):
            yield Line("by category")
            for name, (questions, mean) in categories.items():
                yield Line(f"  {name}", *plain(mean, 2), counted(questions, "question"))

    def record(self, material: Material) -> dict[str, Any]:
        """Return all figures and scores as JSON values."""
        return {
            "model": self.model,
            "judge": self.judge,
            "questions": self.questions,
            "mean": self.mean(),
            "categories": {name: mean for name, (_, mean) in self.categories(material).items()},
            "unreadable": self.unreadable,
            "scores": [
                {"id": id_, "turn": turn, "score": score} for (id_, turn), score in self.scores.values.items()
            ],
        }


def graded(places: Iterable[tuple[str, Grade]]) -> tuple[Grades, ...]:
    """Group the grades by model and judge."""
    groups: defaultdict[tuple[str, str], list[tuple[str, Grade]]] = defaultdict(list)
    for where, each in places:
        groups[each.model, each.judge_name].append((where, each))
    return tuple(Grades(*key, tuple(found)) for key, found in groups.items())


@dataclass(frozen=True)
class GradeReport:
    """Grades by model and judge, and differences between models."""

    files: tuple[str, ...]
    material: Material
    grades: tuple[Grades, ...]
    differences: tuple[Paired, ...]

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"Report on {counted(sum(len(each.found) for each in self.grades), 'grade')}"

    def sections(self) -> Iterator[Part]:
        """Yield the sections of the report: grades, then differences."""
        for each in self.grades:
            title = f"{each.model} graded" + f" by {each.judge}" * bool(each.judge)
            note = f"{counted(each.questions, 'question')}, {counted(len(each.found), 'grade')}"
            yield Part(title, note, lines=[*each.lines(self.material)])
        yield from sections(self.differences, "question", as_percent=False)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        grades = [each.record(self.material) for each in self.grades]
        return without_nan({"files": self.files, "grades": grades, "differences": self.differences})


def describe_grades(inputs: Sequence[Input], material: Material) -> GradeReport:
    """Return a report on grades. Raise `RecordError` for a repeated grade or an unknown question."""
    seen: dict[object, str] = {}
    found = graded(chain.from_iterable(_read(each, material, seen) for each in inputs))
    if not any(each.scores.values for each in found):
        places = [where for each in found for where in each.unreadable]
        message = f"found {counted(len(places), 'grade')}, but none is readable: {listed(places, 5)}."
        raise RecordError(message)
    differences = side_by_side([each.scores for each in found])
    return GradeReport(tuple(name_of(each.path) for each in inputs), material, found, differences)


def _read(given: Input, material: Material, seen: dict[object, str]) -> Iterator[tuple[str, Grade]]:
    for raw in given.records:
        try:
            grade = Grade.model_validate(decode(raw.data, raw.where))
        except ValidationError as error:
            raise RecordError(f"{raw.where}: the record is not a grade: {describe(error)}.") from None
        key = (grade.model, grade.judge_name, grade.key)
        if key in seen:
            raise RecordError(
                f"{raw.where}: {grade.judge_name or 'the judge'} already graded {grade.model}'s answer to "
                f"question {grade.question_id} in {seen[key]}.",
                hint="Give each file once. A judge may grade each answer only once.",
            )
        material.check_asked(grade.question_id, raw.where)
        if material.answers:
            material.answer(grade.answer_id, grade.model, raw.where)
        seen[key] = raw.where
        yield raw.where, grade
