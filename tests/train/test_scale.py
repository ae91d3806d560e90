"""The recipes for several GPUs, as accelerate, transformers, torchrun and SkyPilot read them."""

from __future__ import annotations

import inspect
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
from torch.distributed.run import get_args_parser
from transformers import TrainingArguments

from redraft.jobs.signals import AGAIN
from redraft.options import options_of
from redraft.train import trained
from redraft.train.options import SftOptions, parse

SCALE = Path(str(resources.files("redraft"))) / "recipes" / "train" / "scale"
RANKS = {"selfee": 4, "selfee_1gpu": 1, "selfee_8gpu": 8, "selfee_2nodes": 16}
BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps", "save_total_limit", "fsdp"}
ADAPTER = {"learning_rate", "dtype", "lora", "lora_r", "lora_alpha", "pad_token"}


@pytest.mark.parametrize("name", RANKS)
def test_a_step_has_as_many_records_on_any_number_of_gpus(name: str) -> None:
    own = parse([name], SftOptions)
    assert own.per_device_train_batch_size * own.gradient_accumulation_steps * RANKS[name] == 128


@pytest.mark.parametrize("name", RANKS)
def test_what_decides_the_training_is_the_same(name: str) -> None:
    selfee, other = parse(["selfee"], SftOptions), parse([name], SftOptions)
    for key in options_of(SftOptions).keys() - (BATCH | (ADAPTER if other.lora else set())):
        assert getattr(other, key) == getattr(selfee, key), key


@pytest.mark.parametrize("name", ["selfee", "alpaca", "vicuna", "selfee_8gpu", "selfee_2nodes"])
def test_settings_of_fsdp_are_known(name: str) -> None:
    sharding = trained._sharding(parse([name], SftOptions))
    reads = inspect.getsource(TrainingArguments._process_fsdp_args)
    assert all(f'"{key}"' in reads for key in sharding["fsdp_config"])
    args = TrainingArguments(**sharding, output_dir="out", use_cpu=True)
    assert args.fsdp_plugin_args is not None
    assert set(args.fsdp_plugin_args) <= {each.name for each in fields(FullyShardedDataParallelPlugin)}
    plugin = FullyShardedDataParallelPlugin(**args.fsdp_plugin_args)
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, name != "selfee")


# SkyPilot, which cannot share an environment with transformers.


@pytest.fixture
def sky() -> Any:
    return yaml.safe_load((SCALE / "sky.yaml").read_text("utf-8"))


def test_the_command_is_one_of_torchrun_and_of_redraft(sky: Any) -> None:
    text = sky["run"].replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.lstrip().startswith("torchrun")))
    values = {**sky["envs"], "MODEL": "org/name", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    words = [re.sub(r"\$(\w+)", lambda name: values[name[1]], word) for word in words if word != "&"]
    asked = get_args_parser().parse_args(words[1:])
    assert (asked.nproc_per_node, asked.shutdown_timeout, asked.training_script) == ("8", 300, "redraft")
    assert asked.training_script_args[:2] == ["train", "sft"]
    own = parse(asked.training_script_args[2:], SftOptions)
    assert (own.model_name_or_path, own.data_path) == ("org/name", ("/data/chains.jsonl",))


def torchrun(folder: Path, script: str) -> dict[str, str]:
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
