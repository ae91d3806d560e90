"""Stops a run that has gone wrong, and says where, with which records, and what to try.

A loss or gradient that is no number stops a run before the optimizer takes the step, so the weights stay
good. A loss that stays far above the best stretch so far, for many steps in a row, stops it too. Running out
of memory names the settings that need less, the cheapest first. What to change is for the user to decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from redraft.errors import ModelError
from redraft.train.memory import Plan, size

MARGIN = 2.0
"""Nats above the best stretch that count as far off. Untrained models have 9 to 12, trained ones under 2, and
batches differ by tenths."""

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
    """

    step: int
    loss: float
    grad_norm: float | None
    learning_rate: float
    asked: float
    records: Sequence[str]
    checkpoint: str | None

    def __str__(self) -> str:
        more = ", …" if len(self.records) > _NAMED else ""
        norm = "" if self.grad_norm is None else f", gradient norm {self.grad_norm:.3g}"
        saved = self.checkpoint or "none yet"
        return (
            f"loss {self.loss:.4g}{norm}, learning rate {self.learning_rate:.3g}; "
            f"records: {', '.join(self.records[:_NAMED])}{more}; newest checkpoint: {saved}"
        )


def no_number(moment: Moment) -> ModelError:
    """The error to show when loss or gradient is NaN or infinite, and the optimizer has not used it."""
    what = "the gradient" if isfinite(moment.loss) else "the loss"
    return ModelError(
        f"step {moment.step}: {what} is not a finite number ({moment}).",
        hint="The weights before this step are good. Look at these records. Begin anew "
        f"(--overwrite_output_dir) with --learning_rate {moment.asked / 4:.2g}, --max_grad_norm 0.5, "
        "--warmup_steps 0.1, or --dtype float32 without --fp16.",
    )


@dataclass
class Divergence:
    """Knows when the loss has been far off for too long.

    Attributes:
        patience: Steps in a row; 0 for never.
        best: The lowest mean of a stretch so far, in nats.
    """

    patience: int
    best: float = float("inf")
    _stretch: deque[float] = field(default_factory=lambda: deque(maxlen=STRETCH))
    _off: int = 0

    def add(self, loss: float) -> bool:
        """Takes the next step's loss. Returns whether it is the last of too many that are far off."""
        near = loss <= self.best + MARGIN  # NaN is not
        self._off = 0 if near else self._off + 1
        self._stretch.append(loss)
        if len(self._stretch) == STRETCH:
            self.best = min(self.best, sum(self._stretch) / STRETCH)
        return 0 < self.patience <= self._off


def diverged(moment: Moment, divergence: Divergence) -> ModelError:
    """The error to show when the loss has been far off for too long."""
    return ModelError(
        f"step {moment.step}: training diverges. For {divergence.patience} steps the loss has been more than "
        f"{MARGIN:g} above {divergence.best:.4g}, its best over {STRETCH} steps ({moment}).",
        hint=f"Begin anew (--overwrite_output_dir) with --learning_rate {moment.asked / 4:.2g}, "
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
