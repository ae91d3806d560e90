"""Make the optimizer and the schedule of a run, and check them before anything is loaded.

The classes and their settings are transformers' public choice for `--optim`. Optimizers that update weights
during the backward pass are refused: there, no gradient is left to check and to clip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import GreedyLR, Trainer, TrainingArguments, get_scheduler

from redraft.errors import UsageError

_STEPS = 1000
"""Steps of the trial schedule."""

_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)")
"""Names of parameters without weight decay, as in transformers."""

MEASURED = (ReduceLROnPlateau, GreedyLR)
"""Schedules that step after an evaluation, with its loss."""


def make_optimizer(model: nn.Module, args: TrainingArguments) -> Optimizer:
    """Return the optimizer of `--optim` for the trained parameters of a model."""
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, model)  # type: ignore[arg-type]
    groups = settings.pop("params", None) or _groups(model, args.weight_decay)  # GaLore brings its own
    made: Optimizer = kind(groups, **settings)
    if settings.get("optim_bits") == 8:
        _keep_embeddings_in_32_bits(model)
    return made


def make_schedule(optimizer: Optimizer, args: TrainingArguments, steps: int) -> Any:
    """Return the schedule of `--lr_scheduler_type` for a run of so many steps."""
    return get_scheduler(
        args.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=args.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}),  # type: ignore[arg-type]
    )


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters: those with weight decay, and the others."""
    parts = (part for part in model.modules() if isinstance(part, nn.LayerNorm))
    norms = {id(each) for part in parts for each in part.parameters()}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, each in model.named_parameters():
        if each.requires_grad:
            groups[id(each) not in norms and not _NO_DECAY.search(name.lower())].append(each)
    return [{"params": groups[True], "weight_decay": decay}, {"params": groups[False], "weight_decay": 0.0}]


def _keep_embeddings_in_32_bits(model: nn.Module) -> None:
    """Exempt embeddings from 8-bit states, as transformers does: they get unstable."""
    import bitsandbytes

    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    for part in model.modules():
        if isinstance(part, nn.Embedding):
            manager.register_module_override(part, "weight", {"optim_bits": 32})


def check_optimizer(args: TrainingArguments) -> None:
    """Try the optimizer and the schedule on one weight, since their libraries often do not name the setting.

    Names of layers (`optim_target_modules`) depend on the model and are not checked.

    Raises:
        UsageError: One of them cannot be made, or is refused.
    """
    name = str(getattr(args.optim, "value", args.optim))
    if "lomo" in name or name.endswith("_layerwise"):
        raise UsageError(
            f"--optim {name} is not supported: it updates weights during the backward pass, before their "
            "gradients can be checked and clipped.",
            hint=f"--optim {name.removesuffix('_layerwise') if 'lomo' not in name else 'adafactor'}",
        )
    tried = copy(args)
    tried.warmup_steps = 0
    if tried.optim_target_modules:
        tried.optim_target_modules = "all-linear"
    with _named(args, "optim", "optim_args", hint="--optim_args NAME=VALUE,NAME=VALUE has its own settings."):
        optimizer = make_optimizer(nn.Linear(1, 1), tried)
    own = """--lr_scheduler_kwargs '{"NAME": VALUE}' has its own settings."""
    with _named(args, "lr_scheduler_type", "lr_scheduler_kwargs", hint=own):
        make_schedule(optimizer, tried, _STEPS)


@contextmanager
def _named(args: TrainingArguments, *names: str, hint: str) -> Iterator[None]:
    """Turn any exception into an error that names the settings."""
    try:
        yield
    except Exception as error:
        given = [(name, getattr(args, name)) for name in names]
        shown = " ".join(f"--{name} {getattr(value, 'value', value)}" for name, value in given if value)
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{shown} cannot be used: {first:.300}", hint=hint) from error
