"""Estimate a run: parameters, memory, the largest batch, tokens/s, hours and money.

Memory is computed (`model.memory`). Speed is measured in a few real steps, in a temporary folder, without
evaluations and checkpoints. A run that writes its own data (rollouts) writes one whole batch of them first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from transformers import TrainerCallback

from redraft.counting import counted
from redraft.jobs.progress import clock_time
from redraft.train import LOG
from redraft.train.guards import smaller
from redraft.train.memory import MemoryPlan, peak_memory, room, size
from redraft.train.options import DataOptions
from redraft.train.run import Ready
from redraft.train.settings import RunSettings

STEPS = 4  # trial steps. The first does not count: it allocates and compiles.
PATIENCE = 60.0  # seconds after which the trial ends, once it has two steps

_THROWN_AWAY: dict[str, Any] = {
    "report_to": ["none"],
    "logging_strategy": "steps",
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "resume_from_checkpoint": None,
}


@dataclass(frozen=True)
class TrialPace:
    """The measured speed and memory."""

    steps: int
    tokens_per_second: float  # the median, over all processes
    memory: int  # peak bytes of this process, or of its GPU
    tokens: float = 0.0  # tokens of a batch of each process, in the mean
    writing: float = 0.0  # seconds for a batch of rollouts before the first step


@dataclass(frozen=True)
class Estimate:
    """The estimate of a run."""

    parameters: int  # parameters of the model with its adapter
    trained: int
    plan: MemoryPlan | None  # the memory, or None if it is sharded
    room: int  # bytes that the run can have
    rows: int
    row: int  # tokens of the longest row
    batch: int  # rows of a process's batch
    steps: int
    tokens: int  # tokens read in all steps and processes
    pace: TrialPace | None  # the measured speed, or None if the run does not fit
    used: Mapping[str, Any]
    price: float | None = None
    weights: int = 0  # bytes of the loaded model
    processes: int = 1  # processes on this machine
    busy: str | None = None  # a notice that other processes use the cores, or None
    rollouts: int = 0  # how often a batch of rollouts is written

    @property
    def fits(self) -> bool:
        """Whether the run fits into memory."""
        return self.plan is None or self.plan.peak <= self.room

    @property
    def hours(self) -> float | None:
        """The hours of all steps."""
        if self.pace is None:
            return None
        return (self.tokens / self.pace.tokens_per_second + self.rollouts * self.pace.writing) / 3600

    def lines(self) -> list[str]:
        """Return the estimate as lines of text."""
        share = self.trained / max(self.parameters, 1)
        lines = [f"parameters  {self.parameters:,}, {self.trained:,} of them trained ({share:.2%})"]
        if self.processes > 1:  # before the model moves to GPUs
            whole = f"{size(self.processes * self.weights)} of the machine"
            lines.append(f"loading     {whole}: each of {self.processes} processes loads the whole model")
        return [*lines, *self._of_memory(), *self._of_time()]

    def _of_memory(self) -> list[str]:
        if self.rollouts:
            return []  # measured
        if self.plan is None:
            return ["memory      not estimated: it is shared among processes"]
        parts = ", ".join(f"{name} {size(count)}" for name, count in self.plan.parts().items())
        largest = self.plan.largest(self.room, self.row)
        most = min(largest, self.rows)
        fits = f"--per_device_train_batch_size {most}" if most else "no batch"
        now = f"now {self.batch}" + ("; the data has no more rows" if most < largest else "")
        lines = [
            f"memory      {size(self.plan.peak)} at most, with batches of {self.plan.tokens:,} tokens",
            f"            {parts} (not all at once)",
            f"largest     {fits} fits into the {size(self.room)} that a run can have ({now})",
        ]
        less = [f"  {line}" for line in smaller(self.used, self.plan)]
        return lines if self.fits else [*lines, "does not fit. Less is needed with:", *less]

    def _of_time(self) -> list[str]:
        if self.pace is None or self.hours is None:
            return ["time        not tried, as it does not fit"]
        pace = f"{self.pace.tokens_per_second:,.0f} tokens/s"
        clock = clock_time(self.hours * 3600)
        lines = [
            f"measured    {pace} and {size(self.pace.memory)} at most, in {counted(self.pace.steps, 'step')}",
            f"time        {clock} for {counted(self.steps, 'step')} with {self.tokens:,} tokens",
        ]
        if self.rollouts:
            one, whole = (clock_time(count * self.pace.writing) for count in (1, self.rollouts))
            lines.append(
                f"            {whole} of it to write and judge answers, {one} for each rollout batch"
            )
        if self.price is not None:
            lines.append(f"cost        {self.hours * self.price:,.2f}, at {self.price:g} an hour")
        return [*lines, f"busy        {self.busy}"] if self.busy else lines


def thrown_away(settings: RunSettings[DataOptions], folder: Path) -> RunSettings[DataOptions]:
    """Return the settings changed so that the run writes only to `folder`."""
    quiet = {"quiet": True, "eval_data_path": (), "divergence_steps": 0, "overwrite_output_dir": False}
    own = settings.own.model_copy(update=quiet)
    return replace(settings, own=own, theirs={**settings.theirs, **_THROWN_AWAY, "output_dir": str(folder)})


def estimate(ready: Ready) -> Estimate:
    """Estimate a run whose settings are `thrown_away`. Its model is trained a little and must not be used."""
    rows, args = ready.data.rows.rows, ready.args
    weights = list(ready.loop.trained.model.parameters())
    found = Estimate(
        parameters=sum(each.numel() for each in weights),
        trained=sum(each.numel() for each in weights if each.requires_grad),
        plan=ready.plan,
        room=room(args.device),
        rows=len(rows),
        row=int(rows.lengths.max()),
        batch=int(args.train_batch_size),
        steps=ready.steps,
        tokens=round(int(rows.lengths.sum()) * ready.steps / ready.loop.steps_an_epoch),
        pace=None,
        used=ready.used,
        price=ready.settings.own.price_per_hour,
        weights=sum(each.numel() * each.element_size() for each in weights),
        processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )
    if not found.fits:
        return found
    times, epoch = args.gradient_accumulation_steps, ready.loop.steps_an_epoch
    pace = _pace(ready)
    found = replace(found, pace=pace, busy=ready.loop.contention.notice)
    if not (ready.writes and pace):
        return found
    return replace(found, tokens=round(found.steps * times * pace.tokens), rollouts=-(-found.steps // epoch))


class _Patience(TrainerCallback):
    def __init__(self) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - transformers'
        """Stop the trial after `PATIENCE` seconds."""
        if state.global_step >= 2 and time.monotonic() - self._began > PATIENCE:
            control.should_training_stop = True


def _pace(ready: Ready) -> TrialPace | None:
    """Measure a few steps, with at most two batches each: the second already finds gradients in memory."""
    args = ready.args
    args.max_steps = min(STEPS, max(ready.steps, 2))
    args.gradient_accumulation_steps = min(args.gradient_accumulation_steps, 2)
    args.logging_steps = 1
    ready.loop.callbacks.append(_Patience())
    ready.steps_alone()
    if not ready.args.should_save:
        return None
    lines = (ready.loop.folder / LOG).read_text("utf-8").splitlines()
    steps = [json.loads(line) for line in lines if '"loss"' in line]
    if len(steps) < 2:
        return None  # stopped by a signal
    paces = [step["tokens_per_second"] for step in steps]
    pace, tokens = median(paces[1:]), [step["tokens"] for step in steps]
    return TrialPace(
        len(paces) - 1,
        pace,
        peak_memory(),
        tokens=sum(tokens) / len(tokens) / args.gradient_accumulation_steps,
        writing=max(0.0, tokens[0] / paces[0] - tokens[0] / pace) if ready.writes else 0.0,
    )
