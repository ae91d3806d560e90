"""`--estimate`: two steps of the run, thrown away, and what all of them take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redraft.train.look import Estimate, estimate, thrown_away
from redraft.train.options import SftOptions, parse
from redraft.train.run import Ready, get_ready
from tests.train.tiny import chains, lines

USUAL = "--model_max_length 128 --per_device_train_batch_size 2 --lora False --num_train_epochs 2"


def ready(model: str, folder: Path, *words: str) -> Ready:
    data = chains(folder / "chains.jsonl")
    given = ["--data_path", str(data), "--output_dir", str(folder / "out"), *USUAL.split(), *words]
    own = thrown_away(parse(given, SftOptions), folder / "aside")
    return get_ready(own, model, folder / "cache", say=lambda _: None)


@pytest.mark.parametrize("words", ["--gradient_accumulation_steps 3", "--packing False", "--max_steps 1000"])
def test_two_steps_say_what_all_of_them_take(model: str, tmp_path: Path, words: str) -> None:
    made = ready(model, tmp_path, *words.split())
    steps, lengths = made.steps, made.data.rows.rows.lengths
    found = estimate(made)
    assert found
    rows = 2 * len(lengths) if made.own.max_steps is None else 2000  # two passes, or steps of two rows
    assert (found.steps, found.tokens) == (steps, pytest.approx(rows * lengths.mean(), rel=0.01))
    second = lines(tmp_path / "aside")[1]
    assert found.seconds == pytest.approx(found.tokens / second["tokens_per_second"])
    assert found.memory > 100e6


def test_nothing_is_left_of_it(model: str, tmp_path: Path) -> None:
    words = "--save_steps 1 --gguf x.gguf --eval_strategy steps"
    estimate(ready(model, tmp_path, *words.split()))
    assert {path.name for path in tmp_path.iterdir()} == {"aside", "cache", "chains.jsonl"}
    assert {path.name for path in (tmp_path / "aside").iterdir()} == {"log.jsonl"}


def test_it_is_said_in_words() -> None:
    found = Estimate(100, 4, steps=9, tokens=7200, tokens_per_second=2.0, memory=3_200_000_000)
    assert found.lines(None) == [
        "parameters  100, 4 of them trained (4.00%)",
        "memory      3.2 GB at most",
        "speed       2 tokens/s",
        "time        1:00:00 for 9 steps with 7,200 tokens",
    ]
    assert found.lines(36.0)[-1] == "cost        36.00, at 36 an hour"
    writes = replace(found, rollouts=60, writing=60.0)
    assert writes.seconds == 7200
    assert (
        writes.lines(None)[-1].strip()
        == "1:00:00 of it to write and judge answers, 1:00 for each rollout batch"
    )
