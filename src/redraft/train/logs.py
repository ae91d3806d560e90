"""Log a run: a JSON line per step in `log.jsonl`, and progress on standard error.

A resumed run drops the lines of steps that it repeats, so the log reads like that of an unbroken run.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console

from redraft.jobs.files import replace_file
from redraft.jobs.lines import parse_line, read_lines
from redraft.jobs.progress import ProgressLine
from redraft.train import LOG


def peak_memory() -> int:
    """Return the peak memory in bytes: of the GPU if one is used, else of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.cuda.max_memory_allocated() or own


class Log:
    """Write the lines of a run to `log.jsonl`, in the first process only, and show progress."""

    def __init__(self, folder: Path, *, leads: bool = True, quiet: bool = False) -> None:
        self._path = folder / LOG if leads else None
        self._file: TextIO | None = None
        self._progress = StepProgress(quiet=quiet)

    @contextmanager
    def opened(self, step: int) -> Iterator[None]:
        """Open the log inside a `with` block, keeping the lines up to `step`."""
        try:
            if self._path:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                kept = []
                for line in read_lines(self._path) if step else ():
                    of = (parse_line(line) or {}).get("step")
                    if isinstance(of, int) and of <= step:
                        kept.append(line)
                replace_file(self._path, b"".join(kept))
                self._file = self._path.open("a", encoding="utf-8", buffering=1)  # flushed after each line
            yield
        finally:
            self.interrupt()
            if self._file:
                self._file.close()

    def write(self, step: int, steps: int, numbers: Mapping[str, Any]) -> None:
        """Write the numbers of a step or an evaluation. Others are not logged here."""
        if self._file and {"loss", "eval_loss"} & numbers.keys():
            # JSON has no infinity, which is the norm of the first gradients with fp16.
            finite = {name: each if isfinite(each) else None for name, each in numbers.items()}
            self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")
            self._progress.step(step, steps, numbers)

    def hide(self) -> None:
        """Show no progress."""
        self._progress = StepProgress(quiet=True)

    def interrupt(self) -> None:
        """End a line of progress that was being overwritten, so that others can print."""
        self._progress.close()


class StepCounts:
    """Counts since the last line of the log: without padding, over all processes.

    `longest` is of this process's longest batch, with padding, over the whole session.
    """

    def __init__(self) -> None:
        self.tokens = self.trained = self.longest = 0
        self._since = time.monotonic()

    def add(self, tokens: int, trained: int, longest: int) -> None:
        """Add the counts of a step."""
        self.tokens += tokens
        self.trained += trained
        self.longest = max(self.longest, longest)

    def kept(self) -> dict[str, float]:
        """Return the counts to save in a checkpoint."""
        return {"tokens": self.tokens, "trained": self.trained, "seconds": time.monotonic() - self._since}

    def add_kept(self, kept: Mapping[str, float]) -> None:
        """Add the counts saved in a checkpoint."""
        self.add(int(kept["tokens"]), int(kept["trained"]), 0)
        self._since -= kept["seconds"]

    def take(self) -> dict[str, float]:
        """Return the numbers for a line, and reset."""
        now = time.monotonic()
        pace = self.tokens / max(now - self._since, 1e-9)
        taken = {
            "tokens": self.tokens,
            "trained_tokens": self.trained,
            "tokens_per_second": round(pace, 1),
            "memory_gb": round(peak_memory() / 1e9, 3),
        }
        self.tokens = self.trained = 0
        self._since = now
        return taken


class StepProgress(ProgressLine):
    """Steps of a run. Their pace counts from the first step that is shown."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(quiet=quiet, console=console, clock=clock)
        self._logs: Mapping[str, Any] = {}

    def step(self, step: int, total: int, logs: Mapping[str, Any]) -> None:
        """Show a line of the log: a step, or an evaluation, which stays."""
        if "loss" not in logs:
            found = (f"{name} {each:.4f}" for name, each in logs.items() if name.startswith("eval_"))
            self.print(" · ".join((f"step {step} of {total}", *found)))
            return
        first = self.total is None
        if first:
            self.total, self.before, self._started = total, step, self._clock()
        self.done, self._logs = step, logs
        self.open()
        self.update(now=first or step == total)

    def parts(self) -> list[str]:
        """Return the step, what it was like, tokens a second, the memory, and the time left."""
        logs = self._logs
        return [
            f"step {self.done} of {self.total}",
            f"reward {logs['reward']:.3f}" if "reward" in logs else "",
            f"KL {logs['kl']:.3g}" if "kl" in logs else "",
            f"loss {logs['loss']:.4f}",
            f"lr {logs['learning_rate']:.2e}" if "learning_rate" in logs else "",
            f"{logs['tokens_per_second']:.0f} tokens/s",
            f"{logs['memory_gb']:.1f} GB",
            self._time_left(),
        ]
