"""Reviews, answers and questions for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redraft.evaluation.reports.report import AnyReport
    from redraft.evaluation.reports.reviews import Report


def review(
    question: int | str, first: str, second: str, score: Sequence[float] | None, **more: Any
) -> dict[str, Any]:
    return {
        "review_id": f"{first}>{second}:{question}",
        "question_id": question,
        "answer1_id": f"{first}-{question}",
        "answer2_id": f"{second}-{question}",
        "reviewer_id": 1,
        "metadata": {},
        "text": "" if score is None else f"{score[0]:g} {score[1]:g}\nBoth are fine.",
        "score": score and list(score),
        **more,
    }


def both(question: int | str, ours: Sequence[float], theirs: Sequence[float]) -> list[dict[str, Any]]:
    return [
        review(question, "new", "old", (ours[0], theirs[0])),
        review(question, "old", "new", (theirs[1], ours[1])),
    ]


def answer(model: str, question: int | str, text: str) -> dict[str, Any]:
    return {
        "answer_id": f"{model}-{question}",
        "model_id": f"{model}-7b",
        "question_id": question,
        "text": text,
        "metadata": {},
    }


def report(files: Sequence[Path], **more: Any) -> Report:
    from redraft.evaluation.reports.report import describe
    from redraft.evaluation.reports.reviews import Report

    found = describe(files, **more)
    assert isinstance(found, Report)
    return found


def lines(found: AnyReport) -> list[str]:
    from redraft.evaluation.tables import as_text

    return [" ".join(line.split()) for line in as_text(found.sections())]
