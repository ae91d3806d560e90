"""Optimizer and schedule, made of one weight before anything is loaded: what is wrong with them shows early.

They come from transformers, torch, and libraries that transformers knows by name; each has errors of its own,
some of which say little. Names of layers (`optim_target_modules`) are the model's, and are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from torch import nn
from transformers import Trainer, TrainingArguments

from redraft.errors import UsageError

_STEPS = 1000
"""Steps of the schedule that is tried."""


class _Trial(Trainer):
    """As much of Trainer as its optimizer and its schedule need."""

    def __init__(self, args: TrainingArguments) -> None:
        self.args, self.model = args, nn.Linear(1, 1)
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        self.optimizer_cls_and_kwargs = None


def insist_on_optimizer(args: TrainingArguments) -> None:
    """Sees that the optimizer and the schedule that are asked for can be made.

    Raises:
        UsageError: A library is missing, or a setting of theirs is missing or wrong.
    """
    tried = copy(args)
    tried.warmup_steps = 0  # so that the schedule is past it at once
    if tried.optim_target_modules:
        tried.optim_target_modules = "all-linear"
    trial = _Trial(tried)
    with _named(args, "optim", "optim_args", hint="--optim_args NAME=VALUE,NAME=VALUE has its own settings."):
        trial.create_optimizer()
    own = """--lr_scheduler_kwargs '{"NAME": VALUE}' has its own settings."""
    with _named(args, "lr_scheduler_type", "lr_scheduler_kwargs", hint=own):
        trial.create_scheduler(_STEPS)


@contextmanager
def _named(args: TrainingArguments, *names: str, hint: str) -> Iterator[None]:
    """Whatever is raised, as an error that has the settings by name."""
    try:
        yield
    except Exception as error:
        given = [(name, getattr(args, name)) for name in names]
        shown = " ".join(f"--{name} {getattr(value, 'value', value)}" for name, value in given if value)
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{shown} cannot be used: {first:.300}", hint=hint) from error
