"""The recipes for several GPUs, as accelerate, transformers, torchrun and SkyPilot read them."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import signal
import subprocess
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from torch.distributed.run import get_args_parser
from transformers import TrainingArguments
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

from redraft.errors import UsageError
from redraft.jobs.signals import AGAIN
from redraft.train import machine
from redraft.train.settings import TrainSettings, parse
from tests.train.tiny import curve, data, llama, loop, prepared

SCALE = Path(str(resources.files("redraft"))) / "recipes" / "train" / "scale"
RANKS = {"selfee": 4, "selfee_1gpu": 1, "selfee_8gpu": 8, "selfee_2nodes": 16}
BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps", "save_total_limit", "fsdp_config"}
ADAPTER = {"learning_rate", "fsdp"}


def theirs(settings: TrainSettings) -> TrainingArguments:
    """The arguments of transformers. It only asks whether there is a GPU."""
    asked = {name: value for name, value in settings.theirs.items() if name != "tf32"}
    return TrainingArguments(**asked, output_dir="out", use_cpu=True)


@pytest.mark.parametrize("name", RANKS)
def test_a_step_has_as_many_records_on_any_number_of_gpus(name: str) -> None:
    args = theirs(parse([name]))
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps * RANKS[name] == 128


@pytest.mark.parametrize("name", RANKS)
def test_what_decides_the_training_is_the_same(name: str) -> None:
    selfee, other = parse(["selfee"]), parse([name])
    left_out = BATCH | (ADAPTER if other.own.lora else set())
    assert {key: value for key, value in other.theirs.items() if key not in left_out} == {
        key: value for key, value in selfee.theirs.items() if key not in left_out
    }
    for key in ("format", "training_objective", "model_max_length", "packing"):
        assert getattr(other.own, key) == getattr(selfee.own, key)


@pytest.mark.parametrize("name", ["selfee", "alpaca", "vicuna", "selfee_8gpu", "selfee_2nodes"])
def test_settings_of_fsdp_are_known(name: str) -> None:
    settings = parse([name])
    reads = inspect.getsource(TrainingArguments._process_fsdp_args)
    assert all(f'"{key}"' in reads for key in settings.theirs["fsdp_config"])
    args = theirs(settings)
    assert args.fsdp_plugin_args is not None
    assert set(args.fsdp_plugin_args) <= {each.name for each in fields(FullyShardedDataParallelPlugin)}
    plugin = FullyShardedDataParallelPlugin(**args.fsdp_plugin_args)
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward == settings.theirs["fsdp_config"]["reshard_after_forward"]


class Config(HfDeepSpeedConfig):
    """transformers' own, which has accelerate's as its base only where DeepSpeed is installed."""

    is_auto = HfTrainerDeepSpeedConfig.is_auto
    fill_match = HfTrainerDeepSpeedConfig.fill_match
    fill_only = HfTrainerDeepSpeedConfig.__dict__["fill_only"]
    trainer_config_process = HfTrainerDeepSpeedConfig.trainer_config_process
    trainer_config_finalize = HfTrainerDeepSpeedConfig.trainer_config_finalize


def test_transformers_fills_what_deepspeed_is_not_told() -> None:
    args = theirs(parse(["selfee_1gpu"]))
    config: Any = Config(str(SCALE / "zero2.json"))
    config.mismatches = []
    config.trainer_config_process(args)
    config.trainer_config_finalize(args, llama(), 100)
    assert config.get_value("zero_optimization.stage") == 2
    assert config.get_value("train_batch_size") == 128
    assert config.get_value("bf16.enabled") is True
    assert "auto" not in json.dumps(config.config)


def test_deepspeed_that_is_missing() -> None:
    settings = parse(["selfee_8gpu", "--fsdp", "False", "--deepspeed", "zero2", "--output_dir", "out"])
    with pytest.raises(UsageError, match="--deepspeed needs DeepSpeed") as error:
        machine.training_arguments(settings, lora=False, say=lambda _: None)
    assert error.value.hint == "pip install deepspeed"


def test_deepspeed_and_fsdp_together() -> None:
    settings = parse(["selfee_8gpu", "--deepspeed", "zero2", "--output_dir", "out"])
    with pytest.raises(UsageError, match="both shard the model") as error:
        machine.training_arguments(settings, lora=False, say=lambda _: None)
    assert error.value.hint == "--fsdp False"


def test_deepspeed_has_shipped_settings() -> None:
    assert machine.deepspeed_config("zero2") == str(SCALE / "zero2.json")
    assert machine.deepspeed_config("my/zero2.json") == "my/zero2.json"


def test_a_stage_that_shares_weights_is_refused(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 3}}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(config))
    for named in ("zero3", config, str(path)):
        with pytest.raises(UsageError, match="stage 3") as error:
            machine.deepspeed_config(named)
        assert "--fsdp True" in str(error.value.hint)


def test_an_optimizer_in_deepspeeds_settings_is_refused() -> None:
    for key in ("optimizer", "scheduler"):
        with pytest.raises(UsageError, match=f"--deepspeed: its '{key}'") as error:
            machine.deepspeed_config({"zero_optimization": {"stage": 2}, key: {"type": "X"}})
        assert "--optim" in str(error.value.hint)


def test_deepspeed_has_no_norm_of_the_gradient_at_first(tmp_path: Path) -> None:
    made = loop(tmp_path / "out", data(prepared(tmp_path / "data")), max_steps=2)
    made.trained.accelerator.clip_grad_norm_ = lambda *_: None  # type: ignore[method-assign]
    assert made.run() == 2
    assert [line.keys() & {"grad_norm"} for line in curve(tmp_path / "out")] == [set(), set()]


# SkyPilot, which cannot share an environment with transformers.

SKY = {
    "": {"name", "resources", "envs", "file_mounts", "setup", "run"},
    "resources": {"accelerators", "use_spot", "disk_size", "job_recovery"},
    "job_recovery": {"strategy", "recover_on_exit_codes", "max_restarts_on_errors"},
    "/output": {"name", "mode"},
}
"""Fields that its schema has (sky/utils/schemas.py) and that are used here."""


@pytest.fixture
def sky() -> Any:
    return yaml.safe_load((SCALE / "sky.yaml").read_text("utf-8"))


def test_skypilot_knows_the_fields(sky: Any) -> None:
    assert set(sky) == SKY[""]
    assert set(sky["resources"]) == SKY["resources"]
    assert all(re.fullmatch(r"[\w-]+:8", each) for each in sky["resources"]["accelerators"])
    recovery = sky["resources"]["job_recovery"]
    assert set(recovery) == SKY["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [AGAIN]
    assert set(sky["file_mounts"]["/output"]) == SKY["/output"]


def test_the_command_is_one_of_torchrun_and_of_redraft(sky: Any) -> None:
    text = sky["run"].replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.lstrip().startswith("torchrun")))
    values = {**sky["envs"], "MODEL": "org/name", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    words = [re.sub(r"\$(\w+)", lambda name: values[name[1]], word) for word in words if word != "&"]
    asked = get_args_parser().parse_args(words[1:])
    assert (asked.nproc_per_node, asked.shutdown_timeout, asked.training_script) == ("8", 300, "redraft")
    assert asked.training_script_args[:2] == ["train", "sft"]
    settings = parse(asked.training_script_args[2:])
    assert settings.own.model_name_or_path == "org/name"
    assert settings.own.data_path == ("/data/chains.jsonl",)


def torchrun(folder: Path, script: str) -> dict[str, str]:
    """An environment with another program of that name."""
    (folder / "torchrun").write_text(f"#!/bin/bash\n{script}\n")
    (folder / "torchrun").chmod(0o755)
    more = {"SKYPILOT_NUM_GPUS_PER_NODE": "8", "MODEL": "m", "DATA": "d", "RECIPE": "selfee_8gpu"}
    return {**os.environ, **more, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("status", [0, 1])
def test_the_job_ends_as_torchrun_does(sky: Any, tmp_path: Path, status: int) -> None:
    done = subprocess.run(["bash", "-c", sky["run"]], env=torchrun(tmp_path, f"exit {status}"), check=False)
    assert done.returncode == status


def test_after_sigterm_the_job_asks_to_be_started_again(sky: Any, tmp_path: Path) -> None:
    saves = f"trap 'kill $!; sleep 0.2; touch {tmp_path}/saved; exit 1' TERM; sleep 60 & echo begun; wait"
    surroundings = torchrun(tmp_path, saves)
    with subprocess.Popen(["bash", "-c", sky["run"]], env=surroundings, stdout=subprocess.PIPE) as job:
        assert job.stdout
        assert job.stdout.readline() == b"begun\n"
        job.send_signal(signal.SIGTERM)
    assert job.returncode == AGAIN
    assert (tmp_path / "saved").exists()
