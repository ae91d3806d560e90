"""Trainers as functions: what they return and tell, and that they go on where the command stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import DefaultFlowCallback

import redraft
from redraft.errors import OutputError, UsageError
from redraft.jobs.progress import RunMessage
from redraft.train.api import TrainEvent, TrainStep
from tests.cli import verbs
from tests.train.rewards import pairs
from tests.train.tiny import chains


@pytest.fixture
def settings(here: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> dict[str, Any]:
    monkeypatch.setenv("REDRAFT_CACHE", str(here / "cache"))
    Path("model").symlink_to(model)
    chains(Path("chains.jsonl"))
    pairs(Path("pairs.jsonl"))
    return {
        "model_name_or_path": Path("model"), "output_dir": "out", "model_max_length": 128, "max_steps": 4,
        "save_steps": 2, "bf16": False,
    }  # fmt: skip


def test_a_run_tells_its_steps_and_returns_what_it_made(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[TrainEvent] = []
    result = redraft.train_sft(data_path=Path("chains.jsonl"), on_event=told.append, **settings)
    steps = [each for each in told if isinstance(each, TrainStep)]
    log = [json.loads(line) for line in Path("out/log.jsonl").read_text().splitlines()]
    assert [(each.step, each.steps, each.numbers["loss"]) for each in steps] == [
        (line["step"], 4, line["loss"]) for line in log
    ]
    assert (result.folder, result.steps, result.loss) == (Path("out"), 4, log[-1]["loss"])
    assert result.stopped_by is None
    assert told[-1] == RunMessage(result.message)
    assert capsys.readouterr().err == ""
    assert Path("out/adapter_model.safetensors").is_file()


def test_what_a_function_began_a_command_goes_on_with(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Any, __: Any, state: Any, ___: Any, **____: Any) -> None:
        if state.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(DefaultFlowCallback, "on_step_begin", stop)
        result = redraft.train_sft(data_path="chains.jsonl", quiet=True, **settings)
    assert (result.steps, result.stopped_by) == (2, signal.SIGINT)
    assert "To resume, type the same command again." in result.message
    with pytest.raises(OutputError, match="max_steps was 4 and is 5") as caught:
        redraft.train_sft(data_path="chains.jsonl", quiet=True, **settings | {"max_steps": 5})
    assert "--lora_from" not in str(caught.value.hint)
    words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    done = verbs.redraft("train", "sft", "--data_path", "chains.jsonl", *words)
    assert done.exit_code == 0, done.output
    assert "resumes from out/checkpoint-2" in done.stderr
    assert redraft.train_sft(data_path="chains.jsonl", quiet=True, **settings).steps == 4


def test_a_run_is_not_resumed_on_another_base(settings: dict[str, Any]) -> None:
    """An adapter has none of the base's weights: a finished run said "all steps are done" on any."""
    settings["model_name_or_path"] = shutil.copytree(settings["model_name_or_path"], "base")
    redraft.train_sft(data_path="chains.jsonl", quiet=True, **settings)
    assert redraft.train_sft(data_path="chains.jsonl", quiet=True, **settings).steps == 4
    weights = next(Path("base").glob("*.safetensors"))
    tensors = {name: tensor + 1e-3 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    settings["max_steps"], said = 5, "max_steps was 4 and is 5; the content of model_name_or_path changed."
    with pytest.raises(OutputError, match=f"differently: {said}") as caught:
        redraft.train_sft(data_path="chains.jsonl", quiet=True, **settings)
    assert "--lora_from out trains that" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("train", "more"),
    [
        (redraft.train_reward, {"data_path": "pairs.jsonl", "format": "stablevicuna"}),
        (
            redraft.train_ppo,
            {
                "data_path": "chains.jsonl", "format": "selfee", "reward": "words<=3", "num_rollouts": 2,
                "per_device_train_batch_size": 2, "max_new_tokens": 4,
            },
        ),
    ],
)  # fmt: skip
def test_each_trainer_is_a_function(settings: dict[str, Any], train: Any, more: dict[str, Any]) -> None:
    result = train(**settings | more | {"quiet": True, "max_steps": 2})
    assert (result.steps, result.stopped_by) == (2, None)
    assert result.loss is not None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"learning_rat": 1}, "there is no setting 'learning_rat'."),
        ({"data_path": ()}, "there is no data to train on."),
        ({"estimate": True}, "the settings preview and estimate work only on the command line."),
    ],
)
def test_a_wrong_setting_is_refused_as_by_the_command(
    settings: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as raised:
        redraft.train_sft(**{"data_path": "chains.jsonl", "quiet": True} | settings | wrong)
    assert said in raised.value.message
