from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from redraft.train.options import RewardOptions, parse
from tests.cli.verbs import redraft
from tests.train.rewards import pairs

USUAL = (
    "--model_name_or_path model --data_path pairs.jsonl --output_dir out --model_max_length 128 "
    "--max_steps 4 --save_steps 2 --cache_dir cache --bf16 False --dtype float32 "
    "--format stablevicuna --lora False"
)


def train(*words: str) -> Result:
    return redraft("train", "reward", *words)


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    pairs(Path("pairs.jsonl"))
    return folder


def test_from_pairs_to_a_check(here: Path) -> None:
    held_out = ["--eval_data_path", "pairs.jsonl"]
    done = train(*USUAL.split(), "--learning_rate", "1e-2", "--max_steps", "12", *held_out)
    assert done.exit_code == 0, done.output
    assert "training pairs, which proves nothing.\nredraft: 24 pairs: accuracy 100.0%" in done.stderr
    assert "Try it: redraft ask … --mode best-of --check reward:out" in done.stderr
    assert json.loads(Path("out/eval.json").read_text())["pairs"] == 24
    assert json.loads(Path("out.run.json").read_text())["command"] == "train reward"
    Path("replies.jsonl").write_text('"It is 6."\n')
    words = ["ask", "Add 3 and 3.", "--model", "script:replies.jsonl", "--check", "reward:out", "--json"]
    (check,) = json.loads(redraft(*words).stdout)["steps"][0]["feedback"]["checks"]
    assert check["name"] == "reward:out"
    assert 0 < check["score"] < 1


def test_a_preview_shows_both_answers_from_where_they_part(here: Path) -> None:
    done = train(*USUAL.split(), "--preview", "1")
    assert done.exit_code == 0, done.output
    assert "⟦from the first difference on⟧, the same in both answers" in done.stdout
    chosen, rejected = done.stdout.split("── ")[1:]
    assert " chosen: " in chosen
    assert " rejected: " in rejected
    assert "### Assistant: I⟦t is" in chosen
    assert "### Assistant: I⟦ do not know" in rejected
    assert not Path("out").exists()


def test_the_shipped_recipe_is_read() -> None:
    own = parse(["reward_hh", "--data_path", "x"], RewardOptions)
    assert (own.model_max_length, len(own.lora_target_modules)) == (192, 70)
