"""What this machine can do of what was asked: the rest is left out or done otherwise, and said.

Trainer itself is silent about some of it: with `fsdp` on a CPU it shards nothing, and with several GPUs and
one process it splits batches in a way that packed rows do not survive. Nothing here looks at the model.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from importlib import resources
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
from redraft.train.run.distributed import Say, ranks
from redraft.train.settings.args import Settings
from redraft.train.settings.options import LEARNING_RATE

_WHOLE = "FULL_STATE_DICT"
"""How FSDP saves a model that others load. It is transformers' default."""


def computes_bf16(*, gpu: bool = True) -> bool:
    """Whether the GPU, or else the CPU, has instructions for bf16: without, it is slower than 32 bits.

    Args:
        gpu: Whether a GPU is used if one is here.
    """
    if gpu and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))


def training_arguments(settings: Settings, *, lora: bool, say: Say) -> TrainingArguments:
    """The arguments of Trainer, as far as this machine can follow them.

    Args:
        settings: What was asked.
        lora: Whether an adapter is trained: it decides the learning rate, if none is given.
        say: Told what is left out or done otherwise.

    Raises:
        UsageError: Values that do not go together, or a library that is missing.
    """
    asked = dict(settings.theirs)
    asked.setdefault("learning_rate", LEARNING_RATE["lora" if lora else "full"])
    asked.setdefault("per_device_eval_batch_size", asked["per_device_train_batch_size"])
    _insist_on_evaluation(asked)
    if asked.get("deepspeed"):
        _insist_on_one_way(asked)
        asked["deepspeed"] = deepspeed_config(asked["deepspeed"])
    logging_dir = asked.pop("logging_dir", None)
    if logging_dir:
        os.environ["TENSORBOARD_LOGGING_DIR"] = logging_dir
    fitted = (
        _with_gpus(asked, say)
        if torch.cuda.is_available() and not asked.get("use_cpu")
        else _on_cpu(_in_bf16(asked, settings.own.dtype, say), say)
    )
    _insist_on_libraries(fitted)
    try:
        with warnings.catch_warnings():
            # Old names are translated before, so this is about what transformers says of itself.
            warnings.simplefilter("ignore", FutureWarning)
            made = TrainingArguments(**fitted)
            device = made.device
    except Exception as error:
        said = str(error) or type(error).__name__
        raise UsageError(f"these settings do not go together: {said:.300}") from error
    _insist_on_a_whole(made)
    if device.type == "cuda" and made.n_gpu > 1:
        say(f"{made.n_gpu} GPUs and one process: one is used. All of them: {_all_gpus(made.n_gpu)}")
        made._n_gpu = 1  # noqa: SLF001  (as Trainer does where it must not split batches itself)
    return made


def deepspeed_config(named: Any) -> Any:
    """What `--deepspeed` names: a shipped file for `zero2`, or else what it is.

    Raises:
        UsageError: It asks for stage 3, which shares the weights while they are loaded: checks of what was
            loaded, rows for new tokens, and what is saved at the end would find nothing in them.
    """
    if named == "zero3" or _stage(named) == 3:
        raise UsageError(
            "--deepspeed: stage 3, which shares the weights themselves, is not supported.",
            hint="FSDP shares them as well: --fsdp True, without --deepspeed. Or --deepspeed zero2.",
        )
    if named != "zero2":
        return named
    return str(resources.files("redraft") / "recipes" / "train" / "scale" / "zero2.json")


def _stage(config: Any) -> Any:
    """Which stage settings of DeepSpeed ask for, or None. Files that are none are for it to tell."""
    if isinstance(config, str):
        try:
            config = json_of(Path(config).read_text("utf-8"), config)
        except (OSError, ValueError, RecursionError):
            return None
    zero = config.get("zero_optimization") if isinstance(config, dict) else None
    return zero.get("stage") if isinstance(zero, dict) else None


def _insist_on_a_whole(args: TrainingArguments) -> None:
    """Sees that the model is saved as one: of parts, which FSDP can save as well, no result is made."""
    kind = str((args.fsdp_plugin_args or {}).get("state_dict_type", _WHOLE))
    if kind.upper() != _WHOLE:
        raise UsageError(
            f"--fsdp_config: {kind} saves the model in parts, one a process.",
            hint="Leave state_dict_type out of --fsdp_config.",
        )


def _insist_on_evaluation(asked: dict[str, Any]) -> None:
    """Sees that the loss is measured where the best checkpoint is asked for."""
    best = asked.get("save_strategy") == "best"
    if best:
        asked.setdefault("metric_for_best_model", "loss")
    if asked.get("eval_strategy", "no") != "no":
        return
    named = ["--save_strategy best"] if best else []
    named += [f"--{name}" for name in ("load_best_model_at_end", "metric_for_best_model") if asked.get(name)]
    if named:
        raise UsageError(
            f"{named[0]} needs the loss to be measured, and --eval_strategy is no.",
            hint="--eval_strategy steps --eval_data_path FILE",
        )


def _insist_on_one_way(asked: Mapping[str, Any]) -> None:
    if asked.get("fsdp"):
        raise UsageError("--deepspeed and --fsdp both share the model among GPUs.", hint="--fsdp False")


def _in_bf16(asked: Mapping[str, Any], dtype: str, say: Say) -> dict[str, Any]:
    """What was asked, and computing in bf16 where that was left open and the CPU gains by it.

    An adapter of the default model made 349 instead of 151 tokens a second on weights in 32 bits, and 341
    instead of 290 on weights in bf16 (2 cores with avx512_bf16).
    """
    left_open = {"bf16", "fp16"}.isdisjoint(asked) and dtype in ("auto", "bfloat16")
    if not left_open or not computes_bf16(gpu=False):
        return dict(asked)
    say("layers compute in bf16, at which this CPU is faster (--bf16 False: in 32 bits).")
    return {**asked, "bf16": True}


def _on_cpu(asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
    fitted = {**asked, "use_cpu": True}
    if fitted.get("tf32"):
        say("--tf32 is left out: it is of GPUs, and none is used.")
    fitted.pop("tf32", None)
    if fitted.get("fp16"):
        say("--fp16 is left out: it needs a GPU, and none is used. Weights train as --dtype says.")
        fitted["fp16"] = False
    if fitted.get("bf16") and not computes_bf16(gpu=False):
        say("--bf16 is slower than 32 bits here: this CPU has no instructions for it (--bf16 False).")
    return _without_fsdp(fitted, say, "FSDP needs GPUs")


def _with_gpus(asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
    return dict(asked) if ranks() > 1 else _without_fsdp(dict(asked), say, f"--fsdp: {_all_gpus(None)}")


def _without_fsdp(fitted: dict[str, Any], say: Say, why: str) -> dict[str, Any]:
    if fitted.get("fsdp"):
        processes = ranks()
        whole = (
            f"each of the {processes} processes holds the whole model"
            if processes > 1
            else ("one process holds the whole model")
        )
        say(f"--fsdp is left out: {whole}, with the same loss. {why}.")
    fitted["fsdp"] = None
    fitted.pop("fsdp_config", None)
    return fitted


def _all_gpus(count: int | None) -> str:
    return f"torchrun --nproc_per_node={count or 'N'} -m redraft train sft …"


def _insist_on_libraries(fitted: Mapping[str, Any]) -> None:
    from importlib.util import find_spec

    asked = fitted["report_to"]
    for name in [asked] if isinstance(asked, str) else asked:
        if name not in ("none", "all"):
            _insist_on_report(name)
    if fitted.get("deepspeed") and not find_spec("deepspeed"):
        raise UsageError("--deepspeed needs the library of that name.", hint="pip install deepspeed")
    if "bnb" in str(fitted.get("optim")) and not find_spec("bitsandbytes"):
        raise UsageError(f"--optim {fitted['optim']} needs bitsandbytes.", hint="pip install bitsandbytes")


def _insist_on_report(name: str) -> None:
    """Sees that what steps are reported to is known to Trainer, and installed."""
    if name in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
        return
    if name == "tensorboard":
        raise MissingExtra("--report_to tensorboard", "train")
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise UsageError(f"--report_to has no {name!r}.", hint=f"none, all, {known}")
    raise UsageError(f"--report_to {name} needs its library.", hint=f"pip install {name.replace('_', '-')}")
