"""Try the optimizer and the schedule on one weight before anything is loaded, so that mistakes show early.

They come from transformers, torch and other libraries, whose errors often do not name the setting. Names of
layers (`optim_target_modules`) depend on the model and are not checked.
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
"""Steps of the trial schedule."""


class _Trial(Trainer):
    """The part of Trainer that makes the optimizer and the schedule."""

    def __init__(self, args: TrainingArguments) -> None:
        self.args, self.model = args, nn.Linear(1, 1)
        self.optimizer: Any = None
        self.lr_scheduler: Any = None
        self.optimizer_cls_and_kwargs = None


def insist_on_optimizer(args: TrainingArguments) -> None:
    """Raise `UsageError` if the optimizer or the schedule cannot be created."""
    tried = copy(args)
    tried.warmup_steps = 0  # skip the warm-up
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
    """Turn any exception into an error that names the settings."""
    try:
        yield
    except Exception as error:
        given = [(name, getattr(args, name)) for name in names]
        shown = " ".join(f"--{name} {getattr(value, 'value', value)}" for name, value in given if value)
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{shown} cannot be used: {first:.300}", hint=hint) from error
