"""The grade record: what a judge says of a single answer, in the shape of MT-bench's single judgements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from redraft.evaluation.judging.scores import HIGHEST, LOWEST

if TYPE_CHECKING:
    from redraft.stats import Estimate

Key = tuple[str, int]  # a question and its turn


class Grade(BaseModel):
    """What a judge says about an answer.

    Attributes:
        judge: The name of the judge's model, and perhaps that of its prompt.
        score: 1 to 10; None or -1 if there is none.
        control: Which kind of control the answer is, if it tests the judge.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    review_id: int | str = ""
    question_id: int | str
    model: str
    answer_id: int | str = ""
    judge: str | list[str] = ""
    judgment: str = ""
    score: float | None = None
    turn: int = 1
    metadata: dict[str, Any] = {}
    control: str | None = None

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


def mean_of(scores: Mapping[Key, float], *, draws: int | None = None, seed: int | None = None) -> Estimate:
    """Return the mean of scores with its interval over questions.

    Raises:
        MissingExtra: The package that computes intervals is not installed.
    """
    import numpy as np

    from redraft import stats

    rows = np.reshape([[score, 1] for score in scores.values()], (-1, 2))
    sums = stats.clustered(rows, [question for question, _ in scores])
    sample = stats.Bootstrap(sums, draws=draws or stats.DRAWS, seed=stats.SEED if seed is None else seed)
    return sample.estimate(stats.ratio_of, (LOWEST, HIGHEST))
