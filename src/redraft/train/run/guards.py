"""Stops a run that has gone wrong, and says where, with which records, and what to try.

A loss or gradient that is not finite stops a run before the optimizer takes the step, and the weights are
looked at for the cause. A loss that stays far above the best stretch so far, or above the first loss, stops
it too, after many steps in a row or at the end. Running out of memory names the settings that need less, the
cheapest first. What to change is for the user to decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, log
from typing import Any

from redraft.errors import ModelError
from redraft.train.plan.memory import Plan, size
from redraft.train.settings.options import LEARNING_RATE

MARGIN = 2.0
"""Nats above the best stretch that count as far off. Untrained models have 9 to 12, trained ones under 2, and
batches differ by tenths."""

GUESS = 0.5
"""The share of ln(vocabulary), the loss of a guess, that a loss must have to be far above the first one. The
first is of one batch, and may be low by chance: batches of short answers differ by nats. A broken model only
knows how often words come, and has 0.6 to 0.7 of it; a sound one has under 0.4 on text that it knows."""

LATE = 5
"""Steps at the end of a run that may not all be far off."""

STRETCH = 20
"""Steps whose mean loss is a stretch's."""

SEARCH = 25
"""Steps in a row whose gradients may be no numbers while fp16 looks for a scale. It begins at 2^16, and each
of them halves it: it is below 1 then, and not what is wrong."""

_NAMED = 8
"""Records that are named of those in a step."""


@dataclass(frozen=True)
class Moment:
    """One step of a run.

    Attributes:
        step: From 1.
        loss: Nats a trained token, over all processes.
        grad_norm: Of the gradient before it was clipped; None where it is not known.
        learning_rate: Of this step: the schedule's.
        asked: The learning rate that the schedule is of.
        records: Ids of the records in this process's part of the batch.
        checkpoint: The newest checkpoint, or None.
        usual: The learning rate that redraft takes by default for what is trained.
        begins: Whether no step was taken in this session, so that the weights are those it began with.
    """

    step: int
    loss: float
    grad_norm: float | None
    learning_rate: float
    asked: float
    records: Sequence[str]
    checkpoint: str | None
    usual: float = LEARNING_RATE["full"]
    begins: bool = False

    @property
    def lower(self) -> float:
        """A learning rate to try: a quarter of this one, and not more than the usual one."""
        return min(self.asked / 4, self.usual)

    def __str__(self) -> str:
        more = ", …" if len(self.records) > _NAMED else ""
        norm = "" if self.grad_norm is None else f", gradient norm {self.grad_norm:.3g}"
        saved = self.checkpoint or "none yet"
        return (
            f"loss {self.loss:.4g}{norm}, learning rate {self.learning_rate:.3g}; "
            f"records: {', '.join(self.records[:_NAMED])}{more}; newest checkpoint: {saved}"
        )


@dataclass(frozen=True)
class Unsound:
    """A tensor of a model with numbers that are not finite.

    Attributes:
        name: The tensor's.
        count: How many of its numbers.
        of: How many it has.
        trained: Whether the run changes it.
    """

    name: str
    count: int
    of: int
    trained: bool

    def __str__(self) -> str:
        return f"{self.name} has {self.count:,} of {self.of:,} numbers that are not finite"


def unsound(model: Any) -> Unsound | None:
    """Return the first weights of a model that are not finite; those that are trained come last.

    Of tensors that processes share, this process's part is looked at. Buffers are not: masks may be infinite.
    """
    for name, tensor in sorted(model.named_parameters(), key=lambda each: each[1].requires_grad):
        part = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if part.is_floating_point() and (bad := int((~part.isfinite()).sum())):
            return Unsound(name.removeprefix("base_model.model."), bad, part.numel(), tensor.requires_grad)
    return None


def no_number(moment: Moment, found: Unsound | None = None) -> ModelError:
    """Return the error to show when loss or gradient is NaN or infinite, and the optimizer has not used it.

    Args:
        moment: The step.
        found: Weights that are not finite, if there are any.
    """
    what = "the gradient" if isfinite(moment.loss) else "the loss"
    said = f"step {moment.step}: {what} is not a finite number"
    if found and (moment.begins or not found.trained):
        return _of_base(said, moment, found)
    anew = f"Begin anew (--overwrite_output_dir) with --learning_rate {moment.lower:.2g}"
    if found:
        return ModelError(
            f"{said}, because an earlier step broke the weights: {found} ({moment}).",
            hint=f"{anew}, --max_grad_norm 0.5 or --warmup_steps 0.1. Checkpoints may hold them too.",
        )
    if moment.begins:
        return ModelError(
            f"{said} ({moment}).",
            hint="No step was taken, and the weights are finite. Look at these records, and try --dtype "
            "float32 --bf16 False, without --fp16.",
        )
    return ModelError(
        f"{said} ({moment}).",
        hint=f"The weights before this step are finite. Look at these records. {anew}, --max_grad_norm 0.5, "
        "--warmup_steps 0.1, or --dtype float32 without --fp16.",
    )


def _of_base(said: str, moment: Moment, found: Unsound) -> ModelError:
    """The error where the run began with broken weights: neither records nor settings are at fault."""
    return ModelError(
        f"{said}, because the model that the run begins with is damaged: {found} ({moment}).",
        hint="The records are not the cause. Begin from a model that is whole: --model_name_or_path FOLDER",
    )


@dataclass
class Divergence:
    """Knows when the loss has been far off for too long: above its best stretch, or above the first loss.

    The first loss is that of the model before any step, so that a run that blows up early is found as well.
    Only a loss that is near to a guess's is far above it (`GUESS`).

    Attributes:
        patience: Steps in a row; 0 for never.
        vocabulary: Tokens that the model knows.
        best: The lowest mean of a stretch so far, in nats.
        first: The first loss, in nats.
    """

    patience: int
    vocabulary: int = 2
    best: float = float("inf")
    first: float | None = None
    _stretch: deque[float] = field(default_factory=lambda: deque(maxlen=STRETCH))
    _off: int = 0

    def add(self, loss: float) -> bool:
        """Take the next step's loss. Return whether it is the last of too many that are far off."""
        if self.first is None:
            self.first = loss
        near = loss <= self.level  # NaN is not
        self._off = 0 if near else self._off + 1
        self._stretch.append(loss)
        if len(self._stretch) == STRETCH:
            self.best = min(self.best, sum(self._stretch) / STRETCH)
        return 0 < self.patience <= self._off

    @property
    def level(self) -> float:
        """The loss above which it is far off, in nats."""
        first = float("inf") if self.first is None else self.first
        return min(self.best + MARGIN, max(first + MARGIN, GUESS * log(self.vocabulary)))

    @property
    def ends_off(self) -> bool:
        """Whether the last losses were far off: a run that ends with them has no good result."""
        return self.patience > 0 and self._off >= min(LATE, self.patience)

    def __str__(self) -> str:
        """Say how it is far off."""
        if self.best + MARGIN <= self.level:
            above = f"more than {MARGIN:g} above {self.best:.4g}, its best over {STRETCH} steps"
        else:
            above = f"above {self.level:.4g}, and it began at {self.first:.4g}"
        return f"For {self._off} steps the loss has been {above}"


def diverged(moment: Moment, divergence: Divergence) -> ModelError:
    """Return the error to show when the loss has been far off for too long."""
    return ModelError(
        f"step {moment.step}: training diverges. {divergence} ({moment}).",
        hint=f"Begin anew (--overwrite_output_dir) with --learning_rate {moment.lower:.2g}, "
        "--warmup_steps 0.1 or --max_grad_norm 0.5. --divergence_steps 0 turns this guard off.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, of a GPU or of the machine."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in said or "out of memory" in said)


def out_of_memory(
    error: BaseException, used: Mapping[str, Any], tokens: int, plan: Plan | None = None
) -> ModelError:
    """The error to show when memory has run out.

    Args:
        error: What was raised.
        used: The run's settings by name.
        tokens: Of the longest batch so far; 0 before the first.
        plan: What the run was estimated to take, if it was.
    """
    said = f" ({str(error).splitlines()[0]:.160})" if str(error) else ""
    when = f"with batches of up to {tokens:,} tokens" if tokens else "before the first batch"
    about = f" The run takes about {size(plan.peak)}." if plan else ""
    return ModelError(
        f"out of memory {when}{said}.{about}",
        hint="One of these needs less, the cheapest first. With --lora or --model_max_length, begin anew "
        "(--overwrite_output_dir):\n" + "\n".join(f"  {line}" for line in smaller(used, plan)),
    )


def smaller(used: Mapping[str, Any], plan: Plan | None = None) -> list[str]:
    """Settings that need less memory than those in use, the one that costs the least first.

    With a plan, how much each of them comes to is said as well.
    """
    batch, times = used["per_device_train_batch_size"], used["gradient_accumulation_steps"]
    lines = []
    if batch > 1:
        rows = batch * times
        half = next(count for count in range(batch // 2, 0, -1) if rows % count == 0)
        flags = f"--per_device_train_batch_size {half} --gradient_accumulation_steps {rows // half}"
        lines.append(f"{flags}   as many records a step{_about(plan and plan.part(half / batch))}")
    if not used["activation_checkpointing"]:
        lines.append(
            f"--activation_checkpointing True   a fifth slower{_about(plan and plan.computed_anew())}"
        )
    if not used["lora"]:
        lines.append(f"--lora True   an adapter instead of all weights{_about(plan and plan.adapter())}")
    shorter = f"--model_max_length {used['model_max_length'] // 2}   longer records are cut"
    return [*lines, shorter + _about(plan and plan.part(0.5))]


def _about(plan: Plan | None) -> str:
    return f", about {size(plan.peak)}" if plan else ""
