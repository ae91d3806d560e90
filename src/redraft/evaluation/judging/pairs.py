"""Match the answers of models by question, for a judge. The key is `question_id` or else the record's id.

Answers without a match are an error, because figures from half of the questions, or from answers to different
questions, would look right but be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redraft.chain import Chain, meta_of
from redraft.chain.read.files import name_of
from redraft.chain.read.records import read_records
from redraft.chain.texts import gold_answers
from redraft.chain.thoughts import apart
from redraft.errors import RecordError, UsageError
from redraft.evaluation.records import listed, names_of, question_id


@dataclass(frozen=True)
class AskedQuestion:
    """A question, one text per turn."""

    id: int | str
    turns: tuple[str, ...]
    category: str = ""
    gold: tuple[str, ...] = ()  # the gold answer of each turn; empty if there are none


@dataclass(frozen=True)
class GivenAnswer:
    """A model's answer, one text per turn. `name` is the name of the file with the answer."""

    id: int | str
    name: str
    turns: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """A question with the answers to judge, from one or two models."""

    question: AskedQuestion
    answers: tuple[GivenAnswer, ...]


Found = tuple[Chain, GivenAnswer]  # a record, and the answer in it


def read_matches(files: Sequence[Path], questions: Path | None = None) -> list[Match]:
    """Return the questions in order with the answers of one or two models, each in its own file."""
    if len({file.resolve() for file in files}) < len(files):
        raise UsageError(f"{files[0]} is given twice.", hint="Give the answers of two models.")
    tables = [_answers(file, name) for file, name in zip(files, names_of(files), strict=True)]
    names = list(map(name_of, files))
    asked = read_questions(questions) if questions else _asked_in(tables, names)
    wanted = name_of(questions) if questions else names[0]
    for table, name in zip(tables, names, strict=True):
        if other := [key for key in table if key not in asked]:
            raise RecordError(
                f"{name} has answers to questions that are not in {wanted}: {listed(other, 5)}.",
                hint="Both files need the same questions, with equal question_id (or id, if there is none).",
            )
        if missing := [key for key in asked if key not in table]:
            raise RecordError(
                f"{name} has no answer to {len(missing):,} of {len(asked):,} questions of {wanted}: "
                f"{listed(missing, 5)}.",
                hint="To retry failed prompts, run the same redraft answer command again. "
                f"Or remove these questions from {wanted}.",
            )
        for key, question in asked.items():
            said = table[key][0].prompt.said
            if said.strip() and said.split() != question.turns[0].split():
                said = f"question {key} is {said!r:.60} in {name}, but {question.turns[0]!r:.60} in {wanted}."
                raise RecordError(said, hint="Give answers to the same questions.")
    return [_match(asked[key], tuple(table[key][1] for table in tables), names) for key in asked]


def _answers(file: Path, name: str) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for chain in read_records(file):
        key = question_id(chain)
        if key in found:
            hint = "Keep one of the answers, or write each model's answers to a separate file."
            raise RecordError(f"{name_of(file)} has two answers to question {key}.", hint=hint)
        if not chain.steps:
            hint = "To give the questions, use --questions FILE."
            raise RecordError(f"{name_of(file)}: the record of question {key} has no answer.", hint=hint)
        source = meta_of(chain, "source")
        answer_id, choices = source.get("answer_id") or chain.id, source.get("choices")
        turns = _texts(choices[0].get("turns") if isinstance(choices, list) and choices else None)
        answers = tuple(apart(text)[1] for text in turns) or (chain.answer,)
        found[key] = chain, GivenAnswer(answer_id, name, answers)
    if not found:
        raise RecordError(f"{name_of(file)} contains no answer.", hint="Write one answer per line.")
    return found


def _texts(turns: Any) -> tuple[str, ...]:
    if isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
        return tuple(turns)
    return ()


def _question(chain: Chain, key: str) -> AskedQuestion:
    source = meta_of(chain, "source")
    own = source.get("question_id")
    return AskedQuestion(
        own if isinstance(own, int) else key,
        _texts(source.get("turns")) or (chain.prompt.said,),
        str(source.get("category") or ""),
        tuple(gold_answers(chain)),
    )


def read_questions(file: Path) -> dict[str, AskedQuestion]:
    """Read questions by id. Raise `RecordError` if an id is repeated or a question is empty."""
    found: dict[str, AskedQuestion] = {}
    for chain in read_records(file):
        key = question_id(chain)
        if key in found:
            raise RecordError(f"{name_of(file)} has question {key} twice.", hint="Make the ids unique.")
        found[key] = _question(chain, key)
        if not found[key].turns[0].strip():
            hint = "Give the questions, not the answers."
            raise RecordError(f"{name_of(file)}: question {key} is empty.", hint=hint)
    return found


def _asked_in(tables: Sequence[Mapping[str, Found]], names: Sequence[str]) -> dict[str, AskedQuestion]:
    asked: dict[str, AskedQuestion] = {}
    lacking = []
    for key, (first, _) in tables[0].items():
        others = [table[key][0] for table in tables if key in table]
        if (chain := next((each for each in others if each.prompt.text.strip()), None)) is None:
            lacking.append(key)
        else:
            asked[key] = replace(_question(chain, key), id=_question(first, key).id)
    if lacking:
        said = f"the text of these questions is not in {' or '.join(names)}: {listed(lacking, 5)}."
        raise RecordError(said, hint="Give the questions: --questions FILE")
    return asked


def _match(question: AskedQuestion, answers: tuple[GivenAnswer, ...], names: Sequence[str]) -> Match:
    counts = {len(answer.turns) for answer in answers}
    turns = counts.pop()
    if counts or turns not in (1, len(question.turns)):
        shown = " and ".join(f"{len(each.turns)} in {n}" for each, n in zip(answers, names, strict=True))
        said = f"the number of turns is {len(question.turns)} in question {question.id}, but {shown}."
        raise RecordError(said, hint="Give answers to every turn, or to the first one only.")
    return Match(replace(question, turns=question.turns[:turns]), answers)
