"""What a run says while it goes: a JSON line a step in `log.jsonl`, and progress for people.

The file is the record: a run that goes on drops the lines of steps that it will do again, so that it reads as
one that never stopped. Progress is one line that is written over on a terminal, and a new line now
and then elsewhere. TensorBoard and others are Trainer's own (`--report_to`), and get the same numbers.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from redraft.files import replace_file

LOG = "log.jsonl"
"""The file's name, in the output folder."""

LINE_SECONDS = 15.0
"""Seconds between two lines of progress where they are not written over."""


def open_log(folder: Path, step: int) -> TextIO:
    """The log, with the lines of steps up to this one. A line that is written is on its way at once."""
    path = folder / LOG
    kept = [line for line in _lines(path) if _step_of(line) <= step] if step else []
    replace_file(path, b"".join(kept))
    return path.open("a", encoding="utf-8", buffering=1)


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]


def _step_of(line: bytes) -> float:
    """The step of a line; one that cannot be read is later than any."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
    return step if isinstance(step, int) else float("inf")


class Counts:
    """What was read since the last line of the log.

    Attributes:
        tokens: Of records, over all processes: no padding.
        trained: Those with loss.
        longest: Tokens of the longest batch of this process, with its padding, over the whole session.
    """

    def __init__(self) -> None:
        self.tokens = self.trained = self.longest = 0
        self._since = time.monotonic()

    def add(self, tokens: int, trained: int, longest: int) -> None:
        """Counts a step's."""
        self.tokens += tokens
        self.trained += trained
        self.longest = max(self.longest, longest)

    def kept(self) -> dict[str, float]:
        """What a run that goes on gives to `add_kept`."""
        return {"tokens": self.tokens, "trained": self.trained, "seconds": time.monotonic() - self._since}

    def add_kept(self, kept: Mapping[str, float]) -> None:
        """Counts what was read before the run was stopped."""
        self.add(int(kept["tokens"]), int(kept["trained"]), 0)
        self._since -= kept["seconds"]

    def take(self) -> dict[str, float]:
        """The numbers for a line, and begins anew."""
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


def peak_memory() -> int:
    """The most bytes so far: of the GPU where one is used, else of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.cuda.max_memory_allocated() or own


class Progress:
    """Shows steps on standard error."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._over = self._stream.isatty()
        self._quiet = quiet
        self._began = time.monotonic()
        self._first: int | None = None
        self._next = 0.0
        self._open = False

    def step(self, step: int, total: int, logs: Mapping[str, Any]) -> None:
        """Takes a line of the log: of a step, or of an evaluation, which is not written over."""
        if self._quiet:
            return
        if "loss" not in logs:
            self.close()
            line = f"step {step} of {total} · eval_loss {logs['eval_loss']:.4f}"
            print(line, file=self._stream, flush=True)
            return
        if self._first is None:
            self._first, self._began = step, time.monotonic()
        now = time.monotonic()
        line = self._line(step, total, logs, now)
        if self._over:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
            self._open = True
        elif now >= self._next or step == total:
            self._next = now + LINE_SECONDS
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Ends a line that was being written over."""
        if self._open:
            print(file=self._stream, flush=True)
        self._open = False

    def _line(self, step: int, total: int, logs: Mapping[str, Any], now: float) -> str:
        parts = [f"step {step} of {total}", f"loss {logs['loss']:.4f}"]
        if "learning_rate" in logs:
            parts.append(f"lr {logs['learning_rate']:.2e}")
        parts.append(f"{logs['tokens_per_second']:.0f} tokens/s")
        parts.append(f"{logs['memory_gb']:.1f} GB")
        done = step - (self._first or 0)
        if done and step < total:
            parts.append(f"{clock_time((now - self._began) / done * (total - step))} left")
        return " · ".join(parts)


def clock_time(seconds: float) -> str:
    """Seconds as `4:10` or `1:04:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
