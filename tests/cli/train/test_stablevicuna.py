"""The commands of docs/rlhf.md that make StableVicuna: with all settings of the card, and scaled down."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from redraft.train.options import PpoOptions, RewardOptions, SftOptions, parse
from tests.cli.verbs import redraft, write
from tests.train.rewards import pairs
from tests.train.tiny import model_folder

ROOT = Path(__file__).resolve().parents[3]
SMALL = {
    "sft": "--per_device_train_batch_size 2 --gradient_accumulation_steps 1",
    "reward": "--per_device_train_batch_size 2 --gradient_accumulation_steps 1",
    "ppo": "--num_rollouts 4 --chunk_size 4 --per_device_train_batch_size 4 --max_length 128 "
    "--min_new_tokens 4",
}
ALL = "--max_steps 1 --bf16 False --dtype float32 --quiet"


def commands() -> list[list[str]]:
    page = (ROOT / "docs" / "rlhf.md").read_text("utf-8")
    section = page.partition("### StableVicuna, from the mix to PPO")[2]
    return [shlex.split(line) for line in section.partition("```sh\n")[2].partition("```")[0].splitlines()]


def test_the_recipe_has_every_setting_of_the_card() -> None:
    own = parse(["stablevicuna", "--data_path", "x"], PpoOptions)
    card = {
        "num_rollouts": 128, "chunk_size": 16, "ppo_epochs": 4, "init_kl_coef": 0.1, "target": 6,
        "horizon": 10_000, "gamma": 1, "lam": 0.95, "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 1.0,
        "scale_reward": "none", "cliprange_reward": 10, "max_length": 512, "min_new_tokens": 48,
        "temperature": 1.0,
    }  # fmt: skip
    assert {name: getattr(own, name) for name in card} == card
    recipe = yaml.safe_load((ROOT / "src/redraft/recipes/train/stablevicuna.yaml").read_text("utf-8"))
    assert (recipe["top_k"], recipe["top_p"], recipe["do_sample"]) == (0, 1.0, True)
    assert (own.format, own.algorithm, own.lora) == ("stablevicuna", "ppo", True)


def test_the_commands_parse() -> None:
    parsed = {words[2]: words[3:] for words in commands() if words[1] == "train"}
    assert parse(parsed["sft"], SftOptions).format == "stablevicuna"
    assert parse(parsed["reward"], RewardOptions).format == "stablevicuna"
    assert parse(parsed["ppo"], PpoOptions).reward == ("reward:sft+reward",)


@pytest.mark.slow
def test_the_commands_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    for name in ("vicuna-13b", "llama-13b"):
        model_folder(Path(name))
    records = [{"instruction": f"Add {n} and {n}.", "output": f"It is {2 * n}."} for n in range(8)]
    for name in ("oasst1", "gpt4all", "alpaca"):
        write(f"{name}.jsonl", records)
    for name in ("oasst1_trees", "hh", "shp"):
        pairs(Path(f"{name}.jsonl"), 4)
    for words in commands():
        more = f"{SMALL[words[2]]} {ALL}".split() if words[1] == "train" else []
        more += ["--skip-missing"] if words[2] == "merge" else []
        done = redraft(*words[1:], *more)
        assert done.exit_code == 0, f"{words}: {done.output}"
    assert load_file("stable-vicuna-delta/model.safetensors")
