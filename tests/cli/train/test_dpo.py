"""`redraft train dpo`, from pairs to an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.cli import app
from redraft.train import api
from tests.train.reward.rewards import pairs

pytest.importorskip("trl", reason="TRL is not installed (the extra 'dpo')")

USUAL = (
    "--model_name_or_path model --data_path pairs.jsonl --output_dir out --model_max_length 128 "
    "--max_steps 4 --save_steps 2 --cache_dir cache --bf16 False --dtype float32 --format stablevicuna"
)


def train(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", "dpo", *USUAL.split(), *words], prog_name="redraft")


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    pairs(Path("pairs.jsonl"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("lora", "result"), [("True", "model+out"), ("False", "out")])
def test_from_pairs_to_an_answer(lora: str, result: str) -> None:
    done = train("--lora", lora)
    assert done.exit_code == 0, done.output
    assert f"Try it: redraft ask … --model {result}" in done.stderr
    record = json.loads(Path("out.run.json").read_text())
    assert (record["command"], record["config"]["beta"]) == ("train dpo", 0.1)
    assert record["config"]["learning_rate"] == (1e-5 if lora == "True" else 1e-6)
    words = ["ask", "Add 3 and 3.", "--model", result, "--max-tokens", "32", "--max-revisions", "0"]
    asked = CliRunner().invoke(app, words, prog_name="redraft")
    assert asked.exit_code == 0, asked.output


def test_a_preview_marks_the_answers() -> None:
    done = train("--preview", "1")
    assert done.exit_code == 0, done.output
    assert "⟦in answers⟧, in prompts" in done.stdout
    chosen, rejected = done.stdout.split("── ")[1:]
    assert "### Assistant:⟦ It is" in chosen
    assert "### Assistant:⟦ I do not know" in rejected
    assert not Path("out").exists()


def test_an_estimate_plans_the_memory_and_takes_a_few_steps() -> None:
    done = train("--estimate")
    assert done.exit_code == 0, done.output
    assert "memory " in done.stdout
    assert "time " in done.stdout
    assert "write and judge answers" not in done.output  # as in PPO
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--beta 0", "beta"),
        ("--loss_type sigmoit", "Did you mean 'sigmoid'?"),
        ("--betta 1", "Did you mean '--beta'?"),
        ("--loss_type exo_pair", "Label smoothing must be greater than 0.0"),
        ("--eval_strategy steps", "--eval_data_path FILE"),
    ],
)
def test_what_is_wrong_is_a_message(words: str, said: str) -> None:
    done = train(*words.split())
    assert done.exit_code == 2
    assert said in done.stderr


def test_without_trl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "find_spec", lambda _: None)
    done = train()
    assert done.exit_code == 2
    assert "needs the extra 'dpo'" in done.stderr
    assert ".[dpo]" in done.stderr
