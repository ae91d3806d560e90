"""`redraft train dpo`, from pairs to an adapter."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import DefaultFlowCallback
from typer.testing import CliRunner, Result

from redraft.cli import app
from redraft.jobs.signals import AGAIN
from redraft.train import api
from tests.cli.train.test_ranks import TORCHRUN, ended
from tests.train.reward.rewards import pairs
from tests.train.tiny import curve, model_folder

pytest.importorskip("trl", reason="TRL is not installed (the extra 'dpo')")

USUAL = (
    "--model_name_or_path model --data_path pairs.jsonl --output_dir out --model_max_length 128 "
    "--max_steps 4 --save_steps 2 --cache_dir cache --bf16 False --dtype float32 --format stablevicuna"
)


def train(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", "dpo", *USUAL.split(), *words], prog_name="redraft")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("cli") / "model")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    Path("model").symlink_to(model)
    pairs(Path("pairs.jsonl"))
    return tmp_path


@pytest.mark.parametrize(("lora", "result"), [("True", "model+out"), ("False", "out")])
def test_from_pairs_to_an_answer(lora: str, result: str) -> None:
    done = train("--lora", lora)
    assert done.exit_code == 0, done.output
    assert f"Try it: redraft ask … --model {result}" in done.stderr
    record = json.loads(Path("out.run.json").read_text())
    assert (record["command"], record["config"]["beta"]) == ("train dpo", 0.1)
    assert record["config"]["learning_rate"] == (1e-5 if lora == "True" else 1e-6)
    words = ["ask", "Add 3 and 3.", "--model", result, "--max-tokens", "4", "--max-revisions", "0"]
    asked = CliRunner().invoke(app, words, prog_name="redraft")
    assert asked.exit_code == 0, asked.output


def test_sigterm_saves_and_the_same_command_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(_: Any, __: Any, state: Any, ___: Any, **____: Any) -> None:
        if state.global_step + 1 == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(DefaultFlowCallback, "on_step_begin", send)
        assert train().exit_code == AGAIN
    done = train()
    assert done.exit_code == 0, done.output
    assert "resumes from out/checkpoint-3" in done.stderr
    other = train("--beta", "0.5")
    assert other.exit_code == 2
    assert "beta" in other.stderr


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
        ("--loss_type sigmoit", "Did you mean sigmoid?"),
        ("--betta 1", "Did you mean --beta?"),
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


@pytest.mark.slow
def test_two_processes_train_as_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the end of an epoch, where one has fewer pairs."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    pairs(Path("pairs.jsonl"), 11)
    verb = ["-m", "redraft", "train", "dpo", *USUAL.split(), "--max_steps", "3", "--learning_rate", "1e-3"]
    one = ended([sys.executable, *verb, "--per_device_train_batch_size", "4"])
    assert one.returncode == 0, one.stderr
    port = f"--master_port={20000 + os.getpid() % 20000}"
    words = ["--per_device_train_batch_size", "2", "--output_dir", "two"]
    two = ended([*TORCHRUN, port, *verb, *words])
    assert two.returncode == 0, two.stderr
    for each, other in zip(curve(Path("out")), curve(Path("two")), strict=True):
        assert each == pytest.approx(other, rel=1e-5)
    logs = [Path(folder, "log.jsonl").read_text().splitlines() for folder in ("out", "two")]
    for line, same in zip(*(map(json.loads, each) for each in logs), strict=True):
        for name in ("rewards/margins", "rewards/accuracies"):
            assert line[name] == pytest.approx(same[name], abs=1e-5)
