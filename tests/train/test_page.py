"""The page of a run that goes on: charts of what its log has, and the answers of the last rollout batch."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("vl_convert")

from redraft.chain import Chain, Prompt, Step
from redraft.train.page import MOST_POINTS, SHOWN, page_of
from tests.pages.reading import BAD, read


def test_each_kind_of_run_has_its_charts() -> None:
    rows = [
        {"step": 1, "loss": 2.5, "grad_norm": None, "rewards/accuracies": 0.5, "eval_accuracy": math.inf},
        {"step": 2, "loss": 1.25, "grad_norm": 3.0, "rewards/accuracies": 0.75, "eval_accuracy": 0.9},
        {"step": 2, "eval_loss": 1.5},
    ]
    html = page_of("out", rows, [], "The run goes on.", steps=9, every=5)
    text = " ".join(read(html).text)
    for part in (
        "of 9 steps",
        "1.250",
        "loss of held-out data",
        "eval_loss, step 2: 1.5",
        "pairs told right",
    ):
        assert part in text, part
    assert "grad_norm, step 2: 3" in text
    assert "grad_norm, step 1" not in text
    assert "KL" not in text
    assert '<meta http-equiv="refresh" content="5">' in html
    assert 'http-equiv="refresh"' not in page_of("out", rows, [], "It has ended.", steps=9, every=0)


def test_neighbours_of_a_long_line_are_one_point_with_their_mean() -> None:
    rows = [{"step": step, "loss": float(step)} for step in range(10 * MOST_POINTS)]
    text = " ".join(read(page_of("out", rows, [], "", steps=0, every=0)).text)
    assert "loss, step 9: 4.5" in text
    assert text.count("loss, step") == MOST_POINTS


def test_the_best_and_the_worst_answers_are_listed_whatever_they_say() -> None:
    def answer(row: int, text: str) -> tuple[Chain, str]:
        source = {"rollout": 0, "row": row, "reward": row}
        chain = Chain(
            prompt=Prompt(instruction=BAD), steps=(Step(answer=text),), best=0, meta={"source": source}
        )
        return chain, f"x.html#0%2F{row}"

    samples = [answer(row, BAD if row else "") for row in range(3 * SHOWN)]
    html = page_of(BAD, [], samples, BAD, steps=0, every=5)
    reader = read(html)
    assert reader.scripts == []
    shown = [f'href="x.html#0%2F{row}"' in html for row in range(3 * SHOWN)]
    assert shown == [True] * SHOWN + [False] * SHOWN + [True] * SHOWN
    assert "an empty answer" in " ".join(reader.text)
