from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from redraft.train.batches import padded
from redraft.train.estimate import Estimate, TrialPace, estimate, thrown_away
from redraft.train.run import Ready, get_ready
from redraft.train.settings import parse
from tests.train.tiny import chains, lines

USUAL = "--model_max_length 128 --per_device_train_batch_size 2 --lora False --num_train_epochs 2"


def ready(model: str, folder: Path, *words: str) -> Ready:
    data = chains(folder / "chains.jsonl")
    settings = parse(["--data_path", str(data), "--output_dir", str(folder / "out"), *USUAL.split(), *words])
    return get_ready(thrown_away(settings, folder / "aside"), model, folder / "cache", say=lambda _: None)


def test_a_few_steps_say_what_all_of_them_take(model: str, tmp_path: Path) -> None:
    made = ready(model, tmp_path, "--gradient_accumulation_steps", "3", "--price_per_hour", "36")
    steps, whole = made.steps, int(made.data.rows.rows.lengths.sum())
    found = estimate(made)
    assert (found.steps, found.tokens) == (steps, 2 * whole)
    assert found.pace
    assert found.hours
    assert found.hours == pytest.approx(found.tokens / found.pace.tokens_per_second / 3600)
    assert found.pace.memory > 100e6
    assert found.fits
    said = "\n".join(found.lines())
    assert "parameters  " in said
    assert "--per_device_train_batch_size 24 fits into" in said
    assert "that a run can have (now 2; the data has no more rows)\n" in said
    assert f"for {steps} steps with {2 * whole:,} tokens" in said
    assert f"cost        {found.hours * 36:,.2f}, at 36 an hour" in said
    busy = replace(found, busy="other processes use the cores").lines()
    assert busy[-1] == "busy        other processes use the cores"


def test_nothing_is_left_of_it(model: str, tmp_path: Path) -> None:
    words = "--save_steps 1 --report_to none --gguf x.gguf --eval_strategy steps --push_to_hub False"
    assert "cost" not in "\n".join(estimate(ready(model, tmp_path, *words.split())).lines())
    assert {path.name for path in tmp_path.iterdir()} == {"aside", "cache", "chains.jsonl"}
    assert {path.name for path in (tmp_path / "aside").iterdir()} == {"log.jsonl"}


def test_what_does_not_fit_is_not_tried(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.train.estimate.room", lambda _: 1000)
    found = estimate(ready(model, tmp_path))
    assert (found.fits, found.pace, found.hours) == (False, None, None)
    said = "\n".join(found.lines())
    assert "does not fit. Less is needed with:\n  --per_device_train_batch_size 1 " in said
    assert "no batch fits into the 0.0 MB that a run can have (now 2)\n" in said
    assert "time        not tried" in said


def test_steps_that_are_given_count(model: str, tmp_path: Path) -> None:
    made = ready(model, tmp_path, "--max_steps", "1000")
    found = estimate(made)
    rows = made.data.rows.rows
    assert found.steps == 1000
    assert found.tokens == pytest.approx(1000 * 2 * rows.lengths.mean(), rel=0.1)


def test_memory_that_is_shared_is_not_estimated() -> None:
    shared = Estimate(1, 1, None, 1, 1, 1, 1, 1, 10, TrialPace(1, 5.0, 1), {})
    assert shared.fits
    assert shared.lines()[1] == "memory      not estimated: it is shared among processes"
    assert shared.lines()[2].endswith("in 1 step")
    assert "for 1 step with" in shared.lines()[3]
    assert replace(shared, pace=None).hours is None


def test_the_hours_count_answers_that_are_written_between_steps() -> None:
    pace = TrialPace(1, 2.0, 1, writing=60.0)
    found = Estimate(1, 1, None, 1, 1, 1, 1, 1, 7200, pace, {}, rollouts=60)
    assert found.hours == 2.0
    assert (
        found.lines()[-1].strip() == "1:00:00 of it to write and judge answers, 1:00 for each rollout batch"
    )
    assert not any("memory" in line for line in found.lines())


def test_processes_that_load_the_whole_model_each_need_the_machines_memory(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # 13B in 32 bits would be 416 GB
    monkeypatch.setattr("redraft.train.estimate.room", lambda _: 1000)  # nothing is tried
    found = estimate(ready(model, tmp_path))
    assert (found.processes, found.weights) == (8, 4 * found.parameters)
    gb = f"{8 * 4 * found.parameters / 1e6:.1f} MB"
    assert found.lines()[1] == f"loading     {gb} of the machine: each of 8 processes loads the whole model"
    assert "loading" not in "\n".join(replace(found, processes=1).lines())


def test_padding_is_no_pace(model: str, tmp_path: Path) -> None:
    made = ready(model, tmp_path, "--packing", "False", "--max_steps", "4")
    made.data.loader.collate_fn = partial(padded, pad=0)
    estimate(made)
    read = [made.data.order.batch(0, step) for step in range(4)]
    lengths = made.data.rows.rows.lengths
    assert [line["tokens"] for line in lines(tmp_path / "aside")] == [
        int(lengths[batch].sum()) for batch in read
    ]


def test_a_run_that_logs_no_steps_is_measured_all_the_same(model: str, tmp_path: Path) -> None:
    found = estimate(ready(model, tmp_path, "--logging_strategy", "epoch"))
    assert found.pace
    assert found.pace.steps == 3


def test_a_trial_that_takes_long_ends_within_an_epoch(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redraft.train.estimate.PATIENCE", 0.0)
    found = estimate(ready(model, tmp_path, "--packing", "False", "--logging_strategy", "epoch"))
    assert found.pace
    assert found.pace.steps == 1
