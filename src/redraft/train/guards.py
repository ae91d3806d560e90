"""Stop a run that has gone wrong. The error names the step, the records of the step, and what to try.

A loss or gradient that is not finite stops a run before the optimizer's step. A run also stops if, for
many steps, the loss stays far above its lowest mean over up to 20 steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from redraft.errors import ModelError
from redraft.train.options import LEARNING_RATE, RunOptions

MARGIN = 2.0  # a loss this many nats above the lowest mean is too high: batches differ by tenths

STRETCH = 20  # the number of steps in a mean loss
BEGINNING = 3  # the number of steps in the first mean, so that a run can be stopped early

SEARCH = 25
"""In fp16, this many steps in a row may have non-finite gradients while the loss scale adapts. The scale
starts at 2^16 and halves each time. After 25 steps, the scale is below 1, so the fault is elsewhere."""

_NAMED = 8  # maximum records named in a message


@dataclass(frozen=True)
class Moment:
    """The loss, gradient norm, learning rate and records of a step, for error messages."""

    step: int  # counted from 1
    loss: float  # mean loss of a trained token in nats, over all processes
    grad_norm: float  # norm of the gradient before clipping
    learning_rate: float  # the learning rate of this step
    asked: float  # the peak learning rate of the schedule
    records: Sequence[str]  # ids of this process's records
    checkpoint: str | None  # the newest checkpoint, or None
    usual: float = LEARNING_RATE["full"]  # redraft's default learning rate for a whole model or an adapter
    begins: bool = False  # whether this is the session's first step, which uses the weights as loaded
    resumed: str | None = None  # the checkpoint that the session resumed from, or None

    @property
    def lower(self) -> float:
        """A learning rate to try next: a quarter of the peak learning rate, but at most redraft's default."""
        return min(self.asked / 4, self.usual)

    def __str__(self) -> str:
        more = ", …" if len(self.records) > _NAMED else ""
        saved = self.checkpoint or "none yet"
        return (
            f"loss {self.loss:.4g}, gradient norm {self.grad_norm:.3g}, "
            f"learning rate {self.learning_rate:.3g}; "
            f"records: {', '.join(self.records[:_NAMED])}{more}; newest checkpoint: {saved}"
        )


def unsound(model: Any) -> tuple[str, bool] | None:
    """Find a weight that is not finite. Return a description, and whether the weight is trained.

    Return None if all weights are finite. If weights are sharded, only this process's shards are searched.
    """
    # Frozen weights come first. Buffers are left out, because masks may be infinite.
    for name, tensor in sorted(model.named_parameters(), key=lambda each: each[1].requires_grad):
        part = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if part.is_floating_point() and (bad := int((~part.isfinite()).sum())):
            share = f"{bad:,} of {part.numel():,} numbers are not finite"
            return f"in {name.removeprefix('base_model.model.')}, {share}", tensor.requires_grad
    return None


def no_number(moment: Moment, found: tuple[str, bool] | None = None) -> ModelError:
    """Return the error for a loss or gradient that is NaN or infinite. `found` is the result of `unsound`."""
    what = "the gradient" if isfinite(moment.loss) else "the loss"
    again = f"Start over (--overwrite_output_dir) with --learning_rate {moment.lower:.2g}"
    fault, trained = found or ("", False)
    why = ""
    if trained and moment.begins and moment.resumed:
        why = f", because the checkpoint {moment.resumed} contains broken weights: {fault}"
        hint = "The records are not the cause. Move that checkpoint away, and the same command resumes from "
        hint += "the checkpoint before it. Or start over (--overwrite_output_dir)."
    elif found and (moment.begins or not trained):
        why = f", because the model was damaged before training: {fault}"
        hint = "The records are not the cause. Start from an intact model: --model_name_or_path FOLDER"
    elif found:
        why = f", because an earlier step broke the weights: {fault}"
        hint = f"Checkpoints may be broken as well. {again}, --max_grad_norm 0.5 or --warmup_ratio 0.1."
    elif moment.begins:
        hint = "No step was taken, and the weights are finite. Check the listed records, and try "
        hint += "--dtype float32 --bf16 False, without --fp16."
    else:
        hint = f"The weights were finite before this step. Check the listed records. {again}, "
        hint += "--max_grad_norm 0.5, --warmup_ratio 0.1, or --dtype float32 without --fp16."
    return ModelError(f"step {moment.step}: {what} is not a finite number{why} ({moment}).", hint=hint)


@dataclass
class Divergence:
    """Detect a loss more than `MARGIN` above its lowest mean (`best`) for `patience` steps in a row."""

    patience: int  # steps in a row; 0 for never
    best: float = float("inf")  # the lowest mean over up to `STRETCH` steps so far, in nats
    _stretch: deque[float] = field(default_factory=lambda: deque(maxlen=STRETCH))
    _off: int = 0

    def add(self, loss: float) -> bool:
        """Add a step's loss. Return whether the loss was too high in each of the last `patience` steps."""
        self._off = 0 if loss <= self.best + MARGIN else self._off + 1  # NaN is too high
        self._stretch.append(loss)
        if len(self._stretch) >= BEGINNING:
            self.best = min(self.best, sum(self._stretch) / len(self._stretch))
        return 0 < self.patience <= self._off

    def __str__(self) -> str:
        above = f"more than {MARGIN:g} above {self.best:.4g}, its lowest mean over up to {STRETCH} steps"
        return f"For {self._off} steps the loss has been {above}"


def diverged(moment: Moment, divergence: Divergence) -> ModelError:
    """Return the error for a loss that has been too high for too many steps."""
    hint = f"Start over (--overwrite_output_dir) with --learning_rate {moment.lower:.2g}, "
    hint += "--warmup_ratio 0.1 or --max_grad_norm 0.5. --divergence_steps 0 turns this guard off."
    return ModelError(f"step {moment.step}: training diverges. {divergence} ({moment}).", hint=hint)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU or the machine is out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def out_of_memory(error: BaseException, own: RunOptions, tokens: int) -> ModelError:
    """Return the error for too little memory. `tokens` is the size of the largest batch so far, or 0."""
    why = f" ({str(error).splitlines()[0]:.160})" if str(error) else ""
    when = f"with batches of up to {tokens:,} tokens" if tokens else "before the first batch"
    hint = "If you change --lora or --model_max_length, start over (--overwrite_output_dir). "
    hint += "Each line below saves memory; the first costs least:"
    return ModelError(f"out of memory {when}{why}.", hint="\n  ".join([hint, *_smaller(own)]))


def _smaller(own: RunOptions) -> Iterator[str]:
    batch = own.per_device_train_batch_size
    if batch > 1:
        rows = batch * own.gradient_accumulation_steps
        half = next(count for count in range(batch // 2, 0, -1) if rows % count == 0)
        flags = f"--per_device_train_batch_size {half} --gradient_accumulation_steps {rows // half}"
        yield f"{flags}   the same number of records per step"
    if not own.activation_checkpointing:
        yield "--activation_checkpointing True   makes steps a fifth slower"
    if not own.lora:
        yield "--lora True   trains an adapter instead of all weights"
    yield f"--model_max_length {own.model_max_length // 2}   cuts longer records"
