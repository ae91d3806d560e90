"""Make transformers' `TrainingArguments` of the settings, fitted to this machine.

A remark is printed for everything that is left out or done differently. accelerate is silent about some of
it: with `fsdp` on a CPU it shards nothing.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from redraft.errors import MissingExtra, UsageError
from redraft.train.options import FSDP, RunOptions
from redraft.train.processes import Say, ranks

_ALL_GPUS = "torchrun --nproc_per_node={} -m redraft train …"

_THEIRS = (
    *("output_dir", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("lr_scheduler_type", "optim", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("max_grad_norm", "seed", "activation_checkpointing", "torch_compile", "use_cpu", "fp16", "tf32"),
    *("save_strategy", "save_steps", "save_total_limit", "run_name"),
    *("resume_from_checkpoint", "logging_steps", "eval_strategy", "eval_steps", "load_best_model_at_end"),
)
"""Settings that are passed on as they are."""


def computes_bf16(*, gpu: bool = True) -> bool:
    """Return whether the GPU, or else the CPU, has bf16 instructions. Without, it is slower than 32 bits."""
    if gpu and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))


def training_arguments(own: RunOptions, *, lora: bool, say: Say) -> TrainingArguments:
    """Return transformers' arguments, fitted to this machine."""
    share = own.warmup_ratio if own.warmup_steps is None else own.warmup_steps
    eval_size = getattr(own, "per_device_eval_batch_size", None)
    asked: dict[str, Any] = {
        **{name: getattr(own, name) for name in _THEIRS if name in type(own).model_fields},
        "learning_rate": own.usual_rate(lora=lora) if own.learning_rate is None else own.learning_rate,
        "max_steps": own.max_steps or -1,
        "warmup_steps": share,
        "bf16": bool(own.bf16),
        "per_device_eval_batch_size": eval_size or own.per_device_train_batch_size,
        "report_to": list(own.report_to),
        "ddp_find_unused_parameters": False,  # all are used, and the search costs time
        **_sharding(own),
    }
    if not torch.cuda.is_available() or own.use_cpu:
        _fit_to_cpu(asked, own, say)
    elif ranks() == 1:
        _leave_fsdp_out(asked, say, f"--fsdp: {_ALL_GPUS.format('N')}")
    for name in own.report_to:
        _check_report(name)
    try:
        with warnings.catch_warnings():
            # transformers warns of settings by names that a user did not type.
            warnings.simplefilter("ignore", FutureWarning)
            made = TrainingArguments(**asked)
            device = made.device
    except Exception as error:
        why = str(error) or type(error).__name__
        raise UsageError(f"these settings do not work together: {why:.300}") from error
    if device.type == "cuda" and made.n_gpu > 1:
        say(f"{made.n_gpu} GPUs and one process: one GPU is used. For all: {_ALL_GPUS.format(made.n_gpu)}")
        made._n_gpu = 1  # noqa: SLF001  (the size of a batch is for one GPU)
    return made


def _sharding(own: RunOptions) -> dict[str, Any]:
    """Return the arguments of FSDP 2: on or off, with the rest in `fsdp_config`."""
    if not own.fsdp_words:
        return {}
    config: dict[str, Any] = {key: on for word in own.fsdp_words for key, on in FSDP[word].items()}
    if own.fsdp_transformer_layer_cls_to_wrap:
        config["transformer_layer_cls_to_wrap"] = own.fsdp_transformer_layer_cls_to_wrap
    return {"fsdp": True, "fsdp_config": config}


def _fit_to_cpu(asked: dict[str, Any], own: RunOptions, say: Say) -> None:
    asked["use_cpu"] = True
    if own.bf16 is None and not own.fp16 and own.dtype in ("auto", "bfloat16") and computes_bf16(gpu=False):
        # For an adapter of the default model it gave 349 instead of 151 tokens/s on weights in 32 bits, and
        # 341 instead of 290 on weights in bf16 (2 cores with avx512_bf16).
        say("layers compute in bf16, which is faster on this CPU (--bf16 False: 32 bits).")
        asked["bf16"] = True
    if asked.pop("tf32"):
        say("--tf32 is left out: it needs a GPU, and none is used.")
    if own.fp16:
        say("--fp16 is left out: it needs a GPU, and none is used. --dtype sets the number format.")
        asked["fp16"] = False
    if asked["bf16"] and not computes_bf16(gpu=False):
        say("--bf16 is slower than 32 bits here: this CPU has no instructions for it (--bf16 False).")
    _leave_fsdp_out(asked, say, "FSDP needs GPUs")


def _leave_fsdp_out(asked: dict[str, Any], say: Say, why: str) -> None:
    if asked.pop("fsdp", None):
        each = f"each of the {ranks()} processes" if ranks() > 1 else "one process"
        say(f"--fsdp is left out: {each} holds the whole model, with the same loss. {why}.")
    asked.pop("fsdp_config", None)


def _check_report(name: str) -> None:
    if name in ("none", "all") or name in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
        return
    if name == "tensorboard":
        raise MissingExtra("--report_to tensorboard", "train")
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise UsageError(f"--report_to has no {name!r}.", hint=f"none, all, {known}")
    raise UsageError(f"--report_to {name} needs its library.", hint=f"pip install {name.replace('_', '-')}")
