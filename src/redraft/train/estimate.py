"""Estimate a run: do its first steps in a temporary folder, and multiply.

The steps are those of the run, with at most two batches each. The first one does not count: it allocates and
compiles. The second already finds gradients in memory, so its peak is that of the run. A run that writes its
own data (rollouts) writes one whole batch of them first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.jobs.counting import counted, size_in_words
from redraft.jobs.progress import clock_time
from redraft.train import LOG
from redraft.train.logs import peak_memory
from redraft.train.options import RunOptions
from redraft.train.run import Ready

_STEPS = 2
_THROWN_AWAY: dict[str, Any] = {
    "quiet": True,
    "report_to": ("none",),
    "save_strategy": "no",
    "resume_from_checkpoint": None,
    "overwrite_output_dir": False,
}
_WITHOUT_EVALUATION: dict[str, Any] = {
    "eval_data_path": (),
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "divergence_steps": 0,
    "gguf": None,
}


@dataclass(frozen=True)
class Estimate:
    """The estimate of a run."""

    parameters: int  # parameters of the model with its adapter
    trained: int
    steps: int
    tokens: int  # tokens read in all steps and processes
    tokens_per_second: float  # over all processes
    memory: int  # peak bytes of this process, or of its GPU
    rollouts: int = 0  # how often a batch of rollouts is written
    writing: float = 0.0  # seconds for a batch of rollouts

    @property
    def seconds(self) -> float:
        """The time of all steps."""
        return self.tokens / self.tokens_per_second + self.rollouts * self.writing

    def lines(self, price: float | None) -> list[str]:
        """Return the estimate as lines of text, with the cost at a price per hour."""
        share = self.trained / max(self.parameters, 1)
        whole = f"{counted(self.steps, 'step')} with {self.tokens:,} tokens"
        lines = [
            f"parameters  {self.parameters:,}, {self.trained:,} of them trained ({share:.2%})",
            f"memory      {size_in_words(self.memory)} at most",
            f"speed       {self.tokens_per_second:,.0f} tokens/s",
            f"time        {clock_time(self.seconds)} for {whole}",
        ]
        if self.rollouts:
            one, whole = (clock_time(count * self.writing) for count in (1, self.rollouts))
            lines.append(
                f"            {whole} of it to write and judge answers, {one} for each rollout batch"
            )
        if price is not None:
            lines.append(f"cost        {self.seconds / 3600 * price:,.2f}, at {price:g} an hour")
        return lines


def thrown_away(own: RunOptions, folder: Path) -> RunOptions:
    """Return the settings changed so that the run writes only to `folder`."""
    changed = {**_THROWN_AWAY, **_WITHOUT_EVALUATION, "output_dir": str(folder)}
    return own.model_copy(update={name: changed[name] for name in changed.keys() & vars(own).keys()})


def estimate(ready: Ready) -> Estimate | None:
    """Estimate a run whose settings are `thrown_away`, or None if a signal stopped it.

    Its model is trained a little and must not be used.
    """
    args, steps, epoch = ready.args, ready.steps, ready.loop.steps_an_epoch
    weights = list(ready.loop.trained.model.parameters())
    times = args.gradient_accumulation_steps
    args.max_steps, args.logging_steps = _STEPS, 1
    args.gradient_accumulation_steps = min(times, 2)
    ready.steps_alone()
    log = ready.loop.folder / LOG
    lines = [json.loads(line) for line in log.read_bytes().splitlines()] if args.should_save else []
    if len(lines) < _STEPS:
        return None
    first, second = lines
    pace, a_batch = second["tokens_per_second"], second["tokens"] / args.gradient_accumulation_steps
    whole = int(ready.data.rows.rows.lengths.sum()) * steps / epoch
    begun = first["tokens"] / first["tokens_per_second"] - first["tokens"] / pace
    return Estimate(
        parameters=sum(each.numel() for each in weights),
        trained=sum(each.numel() for each in weights if each.requires_grad),
        steps=steps,
        tokens=round(steps * times * a_batch if ready.writes else whole),
        tokens_per_second=pace,
        memory=peak_memory(),
        rollouts=-(-steps // epoch) if ready.writes else 0,
        writing=max(0.0, begun) if ready.writes else 0.0,
    )
