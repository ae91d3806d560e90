from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from redraft.errors import MissingExtra, UsageError
from redraft.train import trained
from redraft.train.options import SftOptions, parse
from redraft.train.trained import training_arguments

CPU = torch.device("cpu")


def asked(*words: str, lora: bool = False) -> tuple[Any, list[str]]:
    said: list[str] = []
    own = parse(["--output_dir", "out", *words], SftOptions)
    return training_arguments(own, lora=lora, say=said.append), said


@pytest.fixture(autouse=True)
def in_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    has = getattr(request, "param", False)
    monkeypatch.setattr(trained, "computes_bf16", lambda **_: has)


def test_a_cpu_needs_no_flag() -> None:
    args, said = asked()
    assert (args.device, said) == (torch.device("cpu"), [])


def test_what_a_cpu_cannot_do_is_left_out_and_said() -> None:
    fsdp = ("--fsdp", "shard_grad_op auto_wrap", "--fsdp_transformer_layer_cls_to_wrap", "LlamaDecoderLayer")
    args, said = asked("--tf32", "True", "--fp16", "True", *fsdp)
    assert (args.tf32, args.fp16, args.fsdp) == (None, False, None)
    assert said == [
        "--tf32 is ignored: it needs a GPU, and none is used.",
        "--fp16 is ignored: it needs a GPU, and none is used. --dtype sets the number format.",
        "--fsdp is ignored, so one process loads the whole model. The loss is the same. FSDP needs GPUs.",
    ]


def test_bf16_is_done_by_the_cpu_and_it_is_said_where_that_is_slow() -> None:
    args, said = asked("--bf16", "True")
    assert (args.bf16, args.mixed_precision) == (True, "bf16")
    assert said == ["--bf16 is slower than 32 bits here: this CPU lacks the instructions (try --bf16 False)."]


@pytest.mark.parametrize("in_bf16", [True], indirect=True)
@pytest.mark.usefixtures("in_bf16")
def test_a_cpu_with_bf16_computes_in_it_unless_told() -> None:
    args, said = asked()
    assert args.bf16
    assert said == ["layers compute in bf16, which is faster on this CPU (--bf16 False for 32 bits)."]
    assert asked("--dtype", "bfloat16")[0].bf16
    for words in (("--bf16", "False"), ("--dtype", "float32")):
        args, said = asked(*words)
        assert (args.bf16, said) == (False, [])
    assert not asked("--fp16", "True")[0].bf16
    assert asked("--bf16", "True")[1] == []


def test_with_processes_fsdp_on_a_cpu_is_the_whole_model_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(trained, "TrainingArguments", lambda **fitted: SimpleNamespace(device=CPU, **fitted))
    args, said = asked("--fsdp", "full_shard offload")
    assert not hasattr(args, "fsdp_config")
    assert "each of the 3 processes loads the whole model" in said[0]


def test_on_one_gpu_fsdp_has_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    of_gpu = {"device": torch.device("cuda"), "n_gpu": 1}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trained, "TrainingArguments", lambda **fitted: SimpleNamespace(**fitted, **of_gpu))
    args, said = asked("--fsdp", "True", "--bf16", "True")
    assert (hasattr(args, "fsdp"), args.bf16) == (False, True)
    assert "torchrun --nproc_per_node=N -m redraft train …" in said[0]
    monkeypatch.setenv("WORLD_SIZE", "2")
    args, said = asked("--fsdp", "True")
    assert (args.fsdp, said) == (True, [])


def test_the_learning_rate_is_that_of_an_adapter() -> None:
    assert asked(lora=True)[0].learning_rate == 2e-4
    assert asked(lora=False)[0].learning_rate == 2e-5
    assert asked("--learning_rate", "1", lora=True)[0].learning_rate == 1


def test_where_steps_are_reported_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "get_available_reporting_integrations", lambda: ["wandb"])
    asked("--report_to", "wandb", "none")
    with pytest.raises(MissingExtra, match="'train'"):
        asked("--report_to", "tensorboard")
    with pytest.raises(UsageError, match="mlflow needs its library"):
        asked("--report_to", "mlflow")
