"""Fit the settings to this machine, with a remark for everything that is left out or done differently.

accelerate is silent about some of it: with `fsdp` on a CPU it shards nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from redraft.errors import MissingExtra, UsageError
from redraft.formats.documents import json_of
from redraft.train.options import RunOptions
from redraft.train.processes import Say, ranks
from redraft.train.settings import RunSettings

_WHOLE = "FULL_STATE_DICT"  # how FSDP saves a model that others can load: transformers' default
_ALL_GPUS = "torchrun --nproc_per_node={} -m redraft train …"


def computes_bf16(*, gpu: bool = True) -> bool:
    """Return whether the GPU, or else the CPU, has bf16 instructions. Without, it is slower than 32 bits."""
    if gpu and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))


def training_arguments(settings: RunSettings[RunOptions], *, lora: bool, say: Say) -> TrainingArguments:
    """Return transformers' arguments, fitted to this machine."""
    asked = dict(settings.theirs)
    asked.setdefault("learning_rate", settings.own.usual_rate(lora=lora))
    asked.setdefault("per_device_eval_batch_size", asked["per_device_train_batch_size"])
    _check_evaluation(asked)
    if asked.get("deepspeed"):
        if asked.get("fsdp"):
            raise UsageError("--deepspeed and --fsdp both shard the model.", hint="--fsdp False")
        asked["deepspeed"] = deepspeed_config(asked["deepspeed"])
    logging_dir = asked.pop("logging_dir", None)
    if logging_dir:
        os.environ["TENSORBOARD_LOGGING_DIR"] = logging_dir
    if not torch.cuda.is_available() or asked.get("use_cpu"):
        fitted = _on_cpu(asked, settings.own.dtype, say)
    elif ranks() > 1:
        fitted = asked
    else:
        fitted = _without_fsdp(asked, say, f"--fsdp: {_ALL_GPUS.format('N')}")
    _check_libraries(fitted)
    try:
        with warnings.catch_warnings():
            # Old names are translated already, so these warnings are about transformers itself.
            warnings.simplefilter("ignore", FutureWarning)
            made = TrainingArguments(**fitted)
            device = made.device
    except Exception as error:
        why = str(error) or type(error).__name__
        raise UsageError(f"these settings do not work together: {why:.300}") from error
    kind = str((made.fsdp_plugin_args or {}).get("state_dict_type", _WHOLE))
    if kind.upper() != _WHOLE:
        raise UsageError(
            f"--fsdp_config: {kind} saves the model in shards, one per process.",
            hint="Leave state_dict_type out of --fsdp_config.",
        )
    if device.type == "cuda" and made.n_gpu > 1:
        say(f"{made.n_gpu} GPUs and one process: one GPU is used. For all: {_ALL_GPUS.format(made.n_gpu)}")
        made._n_gpu = 1  # noqa: SLF001  (the size of a batch is for one GPU)
    return made


def deepspeed_config(named: Any) -> Any:
    """Return the value of `--deepspeed`, with the path of a shipped file for `zero2`.

    Raises:
        UsageError: It asks for stage 3, which shards the weights while they load: checks of the loaded
            model, rows for new tokens and saving the result would find empty tensors.
    """
    content = _content(named)
    zero = content.get("zero_optimization")
    if named == "zero3" or (isinstance(zero, dict) and zero.get("stage") == 3):
        raise UsageError(
            "--deepspeed: stage 3, which shards the weights, is not supported.",
            hint="FSDP shards them too: --fsdp True, without --deepspeed. Or --deepspeed zero2.",
        )
    if own := [each for each in ("optimizer", "scheduler") if each in content]:
        raise UsageError(
            f"--deepspeed: its {own[0]!r} is not supported.",
            hint="Leave it out of that file: --optim, --lr_scheduler_type and their settings decide.",
        )
    if named != "zero2":
        return named
    return str(resources.files("redraft") / "recipes" / "train" / "scale" / "zero2.json")


def _content(config: Any) -> dict[str, Any]:
    """Return the content of a DeepSpeed config. It is empty if DeepSpeed itself reports what is wrong."""
    try:
        content = json_of(Path(config).read_text("utf-8"), config) if isinstance(config, str) else config
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_evaluation(asked: dict[str, Any]) -> None:
    best = asked.get("save_strategy") == "best"
    if best:
        asked.setdefault("metric_for_best_model", "loss")
    if asked.get("eval_strategy", "no") != "no":
        return
    named = ["--save_strategy best"] if best else []
    named += [f"--{name}" for name in ("load_best_model_at_end", "metric_for_best_model") if asked.get(name)]
    if named:
        raise UsageError(
            f"{named[0]} needs an evaluation, and --eval_strategy is no.",
            hint="--eval_strategy steps --eval_data_path FILE",
        )


def _on_cpu(asked: Mapping[str, Any], dtype: str, say: Say) -> dict[str, Any]:
    fitted = {**asked, "use_cpu": True}
    if {"bf16", "fp16"}.isdisjoint(asked) and dtype in ("auto", "bfloat16") and computes_bf16(gpu=False):
        # For an adapter of the default model it gave 349 instead of 151 tokens/s on weights in 32 bits, and
        # 341 instead of 290 on weights in bf16 (2 cores with avx512_bf16).
        say("layers compute in bf16, which is faster on this CPU (--bf16 False: 32 bits).")
        fitted["bf16"] = True
    if fitted.get("tf32"):
        say("--tf32 is left out: it needs a GPU, and none is used.")
    fitted.pop("tf32", None)
    if fitted.get("fp16"):
        say("--fp16 is left out: it needs a GPU, and none is used. --dtype sets the number format.")
        fitted["fp16"] = False
    if fitted.get("bf16") and not computes_bf16(gpu=False):
        say("--bf16 is slower than 32 bits here: this CPU has no instructions for it (--bf16 False).")
    return _without_fsdp(fitted, say, "FSDP needs GPUs")


def _without_fsdp(fitted: dict[str, Any], say: Say, why: str) -> dict[str, Any]:
    if fitted.get("fsdp"):
        each = f"each of the {ranks()} processes" if ranks() > 1 else "one process"
        say(f"--fsdp is left out: {each} holds the whole model, with the same loss. {why}.")
    fitted["fsdp"] = None
    fitted.pop("fsdp_config", None)
    return fitted


def _check_libraries(fitted: Mapping[str, Any]) -> None:
    asked = fitted["report_to"]
    for name in [asked] if isinstance(asked, str) else asked:
        if name not in ("none", "all"):
            _check_report(name)
    if fitted.get("deepspeed") and not find_spec("deepspeed"):
        raise UsageError("--deepspeed needs DeepSpeed.", hint="pip install deepspeed")
    if "bnb" in str(fitted.get("optim")) and not find_spec("bitsandbytes"):
        raise UsageError(f"--optim {fitted['optim']} needs bitsandbytes.", hint="pip install bitsandbytes")


def _check_report(name: str) -> None:
    if name in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
        return
    if name == "tensorboard":
        raise MissingExtra("--report_to tensorboard", "train")
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise UsageError(f"--report_to has no {name!r}.", hint=f"none, all, {known}")
    raise UsageError(f"--report_to {name} needs its library.", hint=f"pip install {name.replace('_', '-')}")
