"""The training loop: steps, guards, evaluations, checkpoints, and the log.

The loss of a step is the sum over all batches and processes, divided by the number of trained tokens. So the
loss does not depend on how rows are divided among batches and processes. After a step, callbacks of
transformers decide what to do next (`DefaultFlowCallback`), and report to TensorBoard and similar tools.

`log.jsonl` contains a JSON line per logged step. A resumed run deletes the lines of steps that are repeated,
so the log reads like the log of a run that never stopped.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from math import isfinite
from pathlib import Path
from threading import Event, Thread
from typing import Any, TextIO

import torch
import transformers
from peft import PeftModel
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from redraft.jobs.files import replace_file
from redraft.jobs.lines import parse_line, read_lines
from redraft.jobs.progress import ProgressLine, clock_time
from redraft.jobs.signals import Signals
from redraft.train import LOG, checkpoints
from redraft.train.batches import Batch, Data, Source
from redraft.train.guards import SEARCH, Divergence, Moment, diverged, no_number, unsound
from redraft.train.load import leave_inputs_to_autocast
from redraft.train.options import LEARNING_RATE
from redraft.train.trained import Trained, part_of


def peak_memory() -> int:
    """Return the peak memory of the GPU or, if no GPU is used, of this process, in bytes."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return torch.cuda.max_memory_allocated() or own


class Log:
    """The log of a run. The first process writes `log.jsonl` and shows progress."""

    slow = 30.0  # seconds between two lines of progress before the first line of the log
    show: Callable[[int, int, Mapping[str, Any]], object] | None = None  # called instead of showing progress

    def __init__(self, folder: Path, *, leads: bool = True, quiet: bool = False) -> None:
        self._path = folder / LOG if leads else None
        self._file: TextIO | None = None
        self._quiet = quiet

    @contextmanager
    def opened(self, step: int) -> Iterator[None]:
        """Open the log for a `with` block, and delete the lines of steps after `step`."""
        self._progress, ended = StepProgress(quiet=self._quiet), Event()
        watch = Thread(target=self._watch, args=(ended,), daemon=True)
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
                if not self.show:
                    self._progress.open()
                    watch.start()
            yield
        finally:
            ended.set()
            if watch.ident:
                watch.join()
            self._progress.close()
            if self._file:
                self._file.close()

    def _watch(self, ended: Event) -> None:
        while not ended.wait(self.slow) and self._progress.total is None:
            self._progress.update()

    def write(self, step: int, steps: int, numbers: Mapping[str, Any]) -> None:
        """Write the metrics of a step or an evaluation. Without `loss` or `eval_loss`, write nothing."""
        if self._file and {"loss", "eval_loss"} & numbers.keys():
            # JSON has no infinity, which is the norm of the first gradients with fp16.
            finite = {name: each if isfinite(each) else None for name, each in numbers.items()}
            self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")
            (self.show or self._progress.step)(step, steps, numbers)

    def note(self, text: str) -> None:
        """Show what the run is doing, until the next line of the log."""
        if self._file and not self.show:
            self._progress.note = text
            self._progress.open()
            self._progress.update()


class StepCounts:
    """Counts of tokens since the last line of the log, without padding, over all processes.

    `longest` is the number of tokens in this process's largest batch so far, with padding.
    """

    def __init__(self) -> None:
        self.tokens = self.trained = self.longest = 0
        self._since = time.monotonic()

    def add(self, tokens: int, trained: int, longest: int) -> None:
        """Add the counts of a step."""
        self.tokens += tokens
        self.trained += trained
        self.longest = max(self.longest, longest)

    def take(self) -> dict[str, float]:
        """Return the metrics for a line of the log, and reset the counts."""
        now = time.monotonic()
        taken = {
            "tokens": self.tokens,
            "trained_tokens": self.trained,
            "tokens_per_second": round(self.tokens / max(now - self._since, 1e-9), 1),
            "memory_gb": round(peak_memory() / 1e9, 3),
        }
        self.tokens = self.trained = 0
        self._since = now
        return taken


class StepProgress(ProgressLine):
    """The progress line of a run."""

    moves = True
    _logs: Mapping[str, Any] = {}  # the numbers of the last step
    _end: float | None = None  # when the run will probably end
    _first = 0.0  # seconds of the first step, which is slow, so the time left is estimated without it
    note = ""  # what the run does before the next step

    def step(self, step: int, total: int, logs: Mapping[str, Any]) -> None:
        """Show a step's metrics, or print an evaluation's metrics as a line."""
        if "loss" not in logs:
            found = (f"{name} {each:.4f}" for name, each in logs.items() if name.startswith("eval_"))
            self.print(" · ".join((f"step {step} of {total}", *found)))
            return
        if first := self.total is None:
            self._first = self.seconds
            self.total, self.before, self._started = total, step, self._clock()
        self.done, self._logs, self.note = step, logs, ""
        self._end = None if self.left is None else self._clock() + self.left
        self.open()
        self.update(now=first or step == total)

    def parts(self) -> list[str]:
        """Return the step, the time left or elapsed, the step's metrics, tokens per second, and memory."""
        spent = f"{clock_time(self._first + self.seconds)} elapsed" * (self.done != self.total)
        time_left = f"{clock_time(max(end - self._clock(), 0))} left" if (end := self._end) else spent
        if not (logs := self._logs) or self.note:
            return [f"step {self.done} of {self.total}" if logs else "", self.note, time_left]
        return [
            f"step {self.done} of {self.total}",
            time_left,
            f"reward {logs['reward']:.3f}" if "reward" in logs else "",
            f"KL {logs['kl']:.3g}" if "kl" in logs else "",
            f"loss {logs['loss']:.4f}",
            f"{logs['tokens_per_second']:.0f} tokens/s",
            f"{logs['memory_gb']:.1f} GB",
            f"lr {logs['learning_rate']:.2e}" if "learning_rate" in logs else "",
        ]


STATE = "trainer_state.json"

SOURCE = "source.safetensors"  # the state of the source of batches, the same in all processes
RANDOM = "random-{}.safetensors"  # the states of a process's random generators

_STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that stop a run. If processes receive different signals, SIGTERM takes precedence, because
schedulers send SIGTERM, and restart the run."""


class Loop:
    """Trains a model on data. `state` is transformers' `TrainerState`."""

    def __init__(
        self,
        model: Any,
        args: transformers.TrainingArguments,
        data: Source,
        eval_data: Source | None = None,
        *,
        around: Any = None,
        tokenizer: Any = None,
        divergence_steps: int = 0,
        quiet: bool = False,
    ) -> None:
        transformers.set_seed(args.seed)
        self.args, self.data, self.eval_data = args, data, eval_data
        self.trained = Trained(model, args, tokenizer, around=around)
        self.folder = Path(str(args.output_dir))
        self.state, self.control = transformers.TrainerState(), transformers.TrainerControl()
        self.callbacks: list[transformers.TrainerCallback] = [
            transformers.DefaultFlowCallback(),
            *(kind() for kind in get_reporting_integration_callbacks(args.report_to)),  # type: ignore[no-untyped-call]
        ]
        self.counts, self.signals = StepCounts(), Signals()
        self.stopped: int | None = None  # the signal that stops all processes, or None
        self.log = Log(self.folder, leads=bool(args.should_save), quiet=quiet)
        self._divergence = Divergence(min(divergence_steps, max(self.steps // 3, 3)))
        self._resumed: checkpoints.SavedCheckpoint | None = None
        self._losses: list[torch.Tensor] = []  # the losses of a step's batches
        self._grad_norm = math.nan
        self._not_finite = 0  # steps in a row with gradients that are not finite
        self._unlogged = torch.zeros((), device=args.device)  # loss of the steps since the log's last line
        self._logged, self._logged_loss = 0, 0.0  # last logged step; sum of logged losses
        if not isinstance(data, Data):
            data.note = self.log.note
        self._tell("init_end")

    @property
    def steps_an_epoch(self) -> int:
        """The number of optimizer steps in an epoch."""
        return -(-len(self.data) // self.args.gradient_accumulation_steps)

    @property
    def steps(self) -> int:
        """The number of steps in the whole run."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        return math.ceil(self.args.num_train_epochs * self.steps_an_epoch)

    def run(self, checkpoint: checkpoints.SavedCheckpoint | None = None) -> int:
        """Train to the end, or until a signal arrives. Return the number of steps done."""
        try:
            with self.log.opened(checkpoint.step if checkpoint else 0), self.signals:
                self._begin(checkpoint)
                for batches in self._batches():
                    self._step(batches)
                    self._after_step()
                    if self.control.should_training_stop:
                        break
                steps = self.state.global_step - (self._resumed.step if self._resumed else 0)
                self._report({"train_loss": (self._logged_loss + float(self._unlogged)) / max(steps, 1)})
                self._tell("train_end")
        finally:
            leave_inputs_to_autocast(self.trained.model, leave=False)
        return int(self.state.global_step)

    def _begin(self, checkpoint: checkpoints.SavedCheckpoint | None) -> None:
        if checkpoint:
            path = checkpoint.folder / STATE
            try:
                self.state = transformers.TrainerState.load_from_json(str(path))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise checkpoints.unreadable(path, error) from error
            self.trained.check_way(checkpoint.folder)
        self.state.is_local_process_zero = self.args.local_process_index == 0
        self.state.is_world_process_zero = self.args.process_index == 0
        self.state.max_steps = self.steps
        self.state.num_train_epochs = math.ceil(self.steps / self.steps_an_epoch)
        self.state.train_batch_size = self.args.train_batch_size
        self.state.compute_steps(self.args, self.steps)  # type: ignore[no-untyped-call]
        self.control.should_training_stop = self.state.global_step >= self.steps
        self.trained.prepare(self.steps)
        self._logged = self.state.global_step
        if checkpoint:
            self._resume(checkpoint)
        self.trained.wrapped.train()
        self._tell("train_begin")

    def _resume(self, checkpoint: checkpoints.SavedCheckpoint) -> None:
        self._resumed = checkpoint
        for line in self.state.log_history:  # the log file is on one machine only
            if "loss" in line:
                self._divergence.add(float(line["loss"]))
        self.trained.load_model(checkpoint.folder)
        self.trained.load_states(checkpoint.folder)
        if (kept := checkpoint.folder / SOURCE).is_file():
            self.data.load_state_dict(checkpoints.load_state(kept))
        name = RANDOM.format(self.args.process_index)
        if (checkpoint.folder / name).is_file() or self.args.world_size == 1:  # otherwise the process is new
            checkpoints.set_random_state(checkpoints.load_state(part_of(checkpoint.folder, name)))

    def _batches(self) -> Iterator[list[Batch]]:
        times = self.args.gradient_accumulation_steps
        epoch, step = divmod(self.state.global_step, self.steps_an_epoch)
        while self.state.global_step < self.steps and self.stopped is None:
            read = self.data.batches(epoch, first=step * times, stops=self._stops)
            while batches := list(islice(read, times)):
                yield batches
            epoch, step = epoch + 1, 0
        if self.stopped is not None:
            self._log_step()
            self._save_checkpoint()
            self._tell("save")

    def _stops(self) -> bool:
        counts = self.trained.sums([self.signals.received == number for number in _STOPPING])
        self.stopped = next((each for each, count in zip(_STOPPING, counts, strict=True) if count), None)
        return self.stopped is not None

    def _step(self, batches: list[Batch]) -> None:
        self.control = transformers.TrainerControl()
        self._tell("step_begin")
        count = self._count(batches)
        self._losses = []
        for number, batch in enumerate(batches, 1):
            self._backward(batch, count, last=number == len(batches))
        most = self.args.max_grad_norm if self.args.max_grad_norm > 0 else math.inf
        norm = self.trained.accelerator.clip_grad_norm_(self.trained.wrapped.parameters(), most)
        self._grad_norm = float(norm)
        self._not_finite = 0 if math.isfinite(self._grad_norm) else self._not_finite + 1
        # While fp16 searches for a loss scale, gradients may be infinite. The checked loss is not scaled.
        searches = self.trained.accelerator.scaler is not None
        loss = self._last_loss()
        if not math.isfinite(loss) or self._not_finite > (SEARCH if searches else 0):
            raise no_number(self._moment(self.state.global_step + 1, loss), unsound(self.trained.around))
        self.trained.optimizer.step()
        self._learning_rate = self.trained.learning_rate()
        if not self.trained.accelerator.optimizer_step_was_skipped:
            self.trained.schedule.step()
        self.trained.wrapped.zero_grad()
        epoch, done = divmod(self.state.global_step, self.steps_an_epoch)
        self.state.global_step += 1
        read = min((done + 1) * self.args.gradient_accumulation_steps, len(self.data))
        self.state.epoch = epoch + read / len(self.data)

    def _count(self, batches: list[Batch]) -> torch.Tensor:
        # The previous step's loss is exchanged together with the counts, because each exchange takes time.
        tokens = sum(self.data.tokens(batch) for batch in batches)
        counted = sum(self.data.counted(batch) for batch in batches)
        sums = self.trained.sums([counted, tokens, self._last_loss()])
        loss = sums[2] / self.args.world_size
        if self._losses and self._divergence.add(loss):
            raise diverged(self._moment(self.state.global_step, loss), self._divergence)
        self.counts.add(int(sums[1]), int(sums[0]), max(batch["input_ids"].numel() for batch in batches))
        return torch.tensor(int(sums[0]), device=self.args.device)

    def _backward(self, batch: Batch, count: torch.Tensor, *, last: bool) -> None:
        accelerator, wrapped = self.trained.accelerator, self.trained.wrapped
        accelerator.sync_gradients = last
        self.trained.optimizer.train()
        with accelerator.no_sync(wrapped) if not last else nullcontext():
            there = {name: each.to(self.args.device) for name, each in batch.items()}
            loss = wrapped(**there, num_items_in_batch=count).loss
            loss = loss * self.args.world_size  # processes take the mean of their gradients
            accelerator.backward(loss)
        self._losses.append(loss.detach())
        self._unlogged += self._losses[-1]

    def _last_loss(self) -> float:
        return float(torch.stack(self._losses).sum()) if self._losses else 0.0

    def _moment(self, step: int, loss: float) -> Moment:
        saved = [each for each in checkpoints.checkpoints(self.folder) if each.complete]
        return Moment(
            step=step,
            loss=loss,
            grad_norm=self._grad_norm,
            learning_rate=self.trained.learning_rate(),
            asked=self.args.learning_rate,
            records=self.records(step),
            checkpoint=str(saved[0].folder) if saved else None,
            usual=LEARNING_RATE["lora" if isinstance(self.trained.model, PeftModel) else "full"],
            begins=step == (self._resumed.step if self._resumed else 0) + 1,
            resumed=str(self._resumed.folder) if self._resumed else None,
        )

    def records(self, step: int) -> list[str]:
        """Return the ids of the records that this process reads in step number `step` (1-based)."""
        times = self.args.gradient_accumulation_steps
        epoch, number = divmod(step - 1, self.steps_an_epoch)
        batches = range(number * times, min((number + 1) * times, len(self.data)))
        return [name for batch in batches for name in self.data.names(epoch, batch)]

    def _after_step(self) -> None:
        step, last = self.state.global_step, self.steps
        self._tell("step_end")
        if step == last or step % self.steps_an_epoch == 0:
            self._tell("epoch_end")
        stops = self._stops() and step < last
        if self.control.should_log or self.control.should_save or stops or step == last:
            self._log_step()
        if self.control.should_evaluate:
            self.evaluate()
        if self.control.should_save or stops:
            self._save_checkpoint()
            self._tell("save")
        self.control.should_training_stop |= stops

    def _log_step(self) -> None:
        if self.state.global_step == self._logged:
            return
        loss = float(self.trained.accelerator.gather(self._unlogged).mean())
        mean = loss / (self.state.global_step - self._logged)
        logs = {"loss": mean, "grad_norm": self._grad_norm, "learning_rate": self._learning_rate}
        self._report({**logs, **self.counts.take(), **self.data.metrics()})
        self._unlogged.zero_()
        self._logged, self._logged_loss = self.state.global_step, self._logged_loss + loss

    def _report(self, logs: dict[str, Any]) -> None:
        logs = {**logs, "epoch": self.state.epoch}
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._tell("log", logs=logs)
        self.log.write(self.state.global_step, self.steps, logs)

    def evaluate(self) -> float:
        """Log and return the mean evaluation loss, per trained token or pair (infinity without data)."""
        if self.eval_data is None:
            return math.inf
        trained, count = self.trained, 0
        model = trained.model if trained.fsdp else trained.around
        totals: dict[str, float] = {"eval_loss": 0.0}
        model.eval()
        with torch.no_grad():
            for batch in self.eval_data.batches(0):
                there = {name: each.to(self.args.device) for name, each in batch.items()}
                output = model(**there, num_items_in_batch=1)
                for name, total in {"loss": output.loss, **(getattr(output, "sums", None) or {})}.items():
                    totals[f"eval_{name}"] = totals.get(f"eval_{name}", 0.0) + float(total)
                count += self.eval_data.counted(batch)
        model.train()
        *sums, counted = self.trained.sums([*totals.values(), count])
        found = {name: each / max(counted, 1) for name, each in zip(totals, sums, strict=True)}
        self._report(found)
        self._tell("evaluate", metrics=found)
        return found["eval_loss"]

    def _save_checkpoint(self) -> None:
        state, args = self.state, self.args
        wait = self.trained.accelerator.wait_for_everyone
        with checkpoints.saving(self.folder, state.global_step, leads=args.should_save, wait=wait) as to:
            self.trained.save_model(to)
            self.trained.save_states(to)
            checkpoints.save_state(to / RANDOM.format(args.process_index), checkpoints.random_state())
            if (of_source := self.data.state_dict()) and args.should_save:
                checkpoints.save_state(to / SOURCE, of_source)
            if args.should_save:
                state.save_to_json(str(to / STATE))
        if args.should_save:
            checkpoints.prune(self.folder, args.save_total_limit)

    def _tell(self, event: str, **more: Any) -> None:
        objects = {"model": self.trained.model, "processing_class": self.trained.tokenizer}
        for each in self.callbacks:
            tell = getattr(each, f"on_{event}")
            self.control = tell(self.args, self.state, self.control, **objects, **more) or self.control
