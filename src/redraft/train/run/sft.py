"""Supervised fine-tuning: transformers' Trainer on packed rows, with checkpoints that survive and guards.

What is ours: the order of rows and their tensors (`train.batches`), the loss (`train.loss`), checkpoints
(`train.checkpoints`), what processes tell each other (before a step how many tokens carry loss and what the
last loss was, after it whether somebody was asked to stop), and what is logged. Steps, schedules, optimizers,
precision, DDP, FSDP and DeepSpeed are Trainer's.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerState, TrainingArguments

from redraft.errors import ModelError
from redraft.jobs.signals import Signals
from redraft.train.data.batches import IGNORED, Batch, Loader, Order, RowsOf
from redraft.train.model.folder import there
from redraft.train.model.lora import leave_inputs_to_autocast
from redraft.train.run import checkpoints
from redraft.train.run.checkpoints import Checkpoint
from redraft.train.run.contention import Contention
from redraft.train.run.distributed import Say
from redraft.train.run.guards import SEARCH, Divergence, Moment, diverged, no_number, unsound
from redraft.train.run.logs import Counts, StepProgress, open_log
from redraft.train.run.state import load_state, random_state, save_state, set_random_state, unreadable
from redraft.train.settings.options import LEARNING_RATE

OPTIMIZER = "optimizer.safetensors"
"""Optimizer and schedule, in a checkpoint."""

STATE = "trainer_state.json"

UNLOGGED = "unlogged.safetensors"
"""What the next line of the log will say of steps that are done, in a checkpoint between two lines."""

_WHOLE = "without FSDP or DeepSpeed"
_IN_PARTS = {"with FSDP": "pytorch_model_fsdp*", "with DeepSpeed": "global_step*"}
"""How states may be saved in other ways than ours, and the files that tell so."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Signals that ask to stop. The first decides how a run ends: what sends it starts the run again."""


class Data(NamedTuple):
    """Rows of examples, in which order a process reads them, and what reads them."""

    rows: RowsOf
    order: Order
    loader: Loader


class Sft(Trainer):
    """Trainer on rows of examples.

    Attributes:
        counts: What was read since the last line of the log.
        contention: Whether other processes use the cores that the run computes on.
        signals: Whether somebody asked this process to stop.
        stopped: The signal for which all processes stop after the step that is done, or None. Where they got
            different ones, SIGTERM.
    """

    model: Any
    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        data: Data,
        eval_data: Data | None = None,
        *,
        tokenizer: Any = None,
        divergence_steps: int = 0,
        quiet: bool = False,
        say: Say = lambda _: None,
    ) -> None:
        self.data, self.eval_data = data, eval_data
        self.counts, self.signals = Counts(), Signals()
        config: Any = model.config
        self._divergence = Divergence(divergence_steps, config.get_text_config().vocab_size)
        self.contention = Contention(torch.get_num_threads() if args.device.type == "cpu" else 1)
        self._say = say
        self._began = 0  # the step that this session goes on from
        self._losses: list[torch.Tensor] = []
        self._grad_norm: float | None = None
        self._endless = 0  # steps in a row whose gradients are no numbers
        self.stopped: int | None = None
        self._seen = 0  # the step after which Trainer asked last what is due
        self._log: TextIO | None = None
        self._progress = StepProgress(quiet=quiet)
        args.disable_tqdm = True
        # Trainer, at its end, would remove all checkpoints but the best: also the one that a signal saved.
        self._most_checkpoints, args.save_total_limit = args.save_total_limit, None
        _add_up_in_32_bits(args)
        if args.bf16 or args.fp16:
            leave_inputs_to_autocast(model)
        super().__init__(
            model,
            args,
            data_collator=data.loader.collate_fn,
            train_dataset=data.rows,
            eval_dataset=None if eval_data is None else eval_data.rows,
            processing_class=tokenizer,
        )
        for shown in (PrinterCallback, ProgressCallback):
            self.remove_callback(shown)

    # Data.

    def get_train_dataloader(self) -> Loader:
        """The rows of this process. They are shared among processes already."""
        return self.data.loader

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """The batches of the next step, and how many tokens carry loss in it, on all processes.

        Here processes also look at the loss of the last step.
        """
        batches = list(islice(epoch_iterator, num_batches))
        tokens = sum(_unpadded(batch) for batch in batches)
        trained = sum(int((batch["labels"][..., 1:] != IGNORED).sum()) for batch in batches)
        sums = self._over_processes([trained, tokens, self._last_loss()], device)
        loss = sums[2] / self.args.world_size
        if self._losses and self._divergence.add(loss):
            raise diverged(self._moment(self.state.global_step, loss), self._divergence)
        self._losses = []
        longest = max((batch["input_ids"].numel() for batch in batches), default=0)
        self.counts.add(int(sums[1]), int(sums[0]), longest)
        return batches, torch.tensor(int(sums[0]), device=device)

    def _over_processes(self, numbers: Sequence[float], device: torch.device) -> list[float]:
        """The sum of each number over all processes."""
        if self.args.world_size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.all_reduce(shared)
        return shared.tolist()

    # Guards.

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """A batch forward and backward. Its loss is kept for the guards."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._losses.append(loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm of the gradient, which comes before the optimizer's step: the last chance to stop it."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        self._grad_norm = None if norm is None else float(norm)  # DeepSpeed has none at its first step
        self._endless = 0 if isfinite(self._grad_norm or 0.0) else self._endless + 1
        # With fp16, gradients that are no numbers are part of the search for a scale. The loss is not scaled.
        searches = getattr(self.accelerator, "scaler", None) is not None
        loss = self._last_loss()
        if not isfinite(loss) or self._endless > (SEARCH if searches else 0):
            raise no_number(self._moment(self.state.global_step + 1, loss), unsound(self.model))
        return norm

    def _insist_on_good_end(self) -> None:
        """See that the last losses are not far off, before the last checkpoint is saved.

        Raises:
            ModelError: They are, and the result would not be the best checkpoint, which may be good.
        """
        (loss,) = self._over_processes([self._last_loss()], self.args.device)
        loss /= self.args.world_size
        far = self._divergence.add(loss) or self._divergence.ends_off
        if far and not self.args.load_best_model_at_end:
            raise diverged(self._moment(self.state.global_step, loss), self._divergence)

    def _last_loss(self) -> float:
        """The sum of the losses of the step's batches: nats a trained token, from this process's data."""
        return float(torch.stack(self._losses).sum()) if self._losses else 0.0

    def _moment(self, step: int, loss: float) -> Moment:
        saved = [each for each in checkpoints.checkpoints(self.folder) if each.complete]
        return Moment(
            step=step,
            loss=loss,
            grad_norm=self._grad_norm,
            learning_rate=self._get_learning_rate(),
            asked=self.args.learning_rate,
            records=self.records(step),
            checkpoint=str(saved[0].folder) if saved else None,
            usual=LEARNING_RATE["lora" if isinstance(self.model, PeftModel) else "full"],
            begins=step == self._began + 1,
        )

    def records(self, step: int) -> list[str]:
        """Ids of the records that this process reads at a step, from 1."""
        order, times = self.data.order, self.args.gradient_accumulation_steps
        epoch, number = divmod(step - 1, -(-len(order) // times))
        batches = range(number * times, min((number + 1) * times, len(order)))
        return [name for batch in batches for name in self.data.rows.names(order.batch(epoch, batch))]

    # Checkpoints.

    @property
    def folder(self) -> Path:
        """Where the run's output is."""
        return Path(str(self.args.output_dir))

    @property
    def sharded(self) -> bool:
        """Whether FSDP or DeepSpeed hold the states in parts, and save them in their way."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _insist_on_way(self, folder: Path) -> None:
        """Sees that a checkpoint was saved in the way that this run saves and reads.

        Raises:
            ModelError: It was not.
        """
        own = {"with FSDP": self.is_fsdp_enabled, "with DeepSpeed": self.is_deepspeed_enabled}
        ours = next((way for way, is_own in own.items() if is_own), _WHOLE)
        theirs = next((way for way, files in _IN_PARTS.items() if any(folder.glob(files))), _WHOLE)
        if ours != theirs:
            raise ModelError(
                f"{folder} was saved {theirs}, and this run is {ours}.",
                hint=f"Go on {theirs}, or begin from it, with another --output_dir: "
                f"--model_name_or_path {folder}",
            )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ARG002 - Trainer's signature
        """Saves all that a run needs to go on as if it had not stopped, or nothing."""
        self.store_flos()
        step, lead = self.state.global_step, self.args.should_save
        best = self.folder / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and (best.is_dir() or self.state.best_global_step == step):
            self.state.best_model_checkpoint = str(best)
        with checkpoints.saving(self.folder, step, leads=lead, wait=self.accelerator.wait_for_everyone) as to:
            self.save_model(str(to), _internal_call=True)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(to))
                self._save_scaler(str(to))
                self._save_rng_state(str(to))
                self._save_unlogged(to / UNLOGGED)
            if lead:
                self.state.save_to_json(str(to / STATE))
        if lead:
            keep = self.state.best_model_checkpoint
            checkpoints.prune(self.folder, self._most_checkpoints, Path(keep) if keep else None)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Writes weights, configuration and tokenizer: not Trainer's pickled arguments, nor an empty card."""
        folder = Path(output_dir or self.folder)
        if not self.args.should_save:
            return
        model: Any = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        model.save_pretrained(folder, state_dict=state_dict)
        (folder / "README.md").unlink(missing_ok=True)  # peft's, about nothing
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            both = {"optimizer": self.optimizer.state_dict(), "schedule": self.lr_scheduler.state_dict()}
            save_state(Path(output_dir) / OPTIMIZER, both)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.sharded:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        both = load_state(self._part(checkpoint, OPTIMIZER))
        self.optimizer.load_state_dict(both["optimizer"])
        self.lr_scheduler.load_state_dict(both["schedule"])

    def _save_rng_state(self, output_dir: str) -> None:
        save_state(Path(output_dir) / _random(self.args.process_index), random_state())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Random generators as they were. A process that was not there before keeps its own.

        Trainer calls it once, before the first step and after it has begun all anew: so the log goes on here.
        """
        if checkpoint is not None:
            path = Path(checkpoint) / _random(self.args.process_index)
            if path.is_file() or self.args.world_size == 1:
                set_random_state(load_state(self._part(checkpoint, path.name)))
            self._load_unlogged(Path(checkpoint) / UNLOGGED)

    def _save_unlogged(self, path: Path) -> None:
        steps = self.state.global_step - self._globalstep_last_logged
        if not steps:
            return
        loss = float(self._tr_loss)
        own = [loss if rank == self.args.process_index else 0.0 for rank in range(self.args.world_size)]
        losses = self._over_processes(own, self.args.device)
        if self.args.should_save:
            save_state(path, {"steps": steps, "losses": losses, "counts": self.counts.kept()})

    def _load_unlogged(self, path: Path) -> None:
        if not path.is_file():
            return  # the last step had a line
        kept = load_state(path)
        losses = kept["losses"]
        as_many = len(losses) == self.args.world_size  # else the mean, as a line has that over all processes
        mean = sum(losses) / len(losses)
        self._tr_loss += losses[self.args.process_index] if as_many else mean
        self._total_loss_scalar -= mean  # at its end, Trainer divides it by the steps of this session
        self._globalstep_last_logged -= kept["steps"]
        self.counts.add_kept(kept["counts"])

    def _part(self, checkpoint: str, name: str) -> Path:
        path = Path(checkpoint) / name
        if not path.is_file():
            raise ModelError(
                f"{checkpoint} has no {name}, so the run cannot go on from it ({there(path.parent)}).",
                hint="Checkpoints of other trainers, or with --save_only_model, can be begun from: "
                f"--model_name_or_path {checkpoint}",
            )
        return path

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Sees that a checkpoint had all weights; those that share another's memory are not saved twice.

        Raises:
            ModelError: It had not, or had others.
        """
        named = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        absent = [name for name in load_result.missing_keys if name in named]
        if absent or load_result.unexpected_keys:
            what = f"lacks {absent[0]}" if absent else f"has {load_result.unexpected_keys[0]}"
            raise ModelError(
                f"the checkpoint is of another model: it {what}.",
                hint="Start over with --overwrite_output_dir, or name another --output_dir.",
            )

    # What is said.

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds counts, pace and memory to the numbers of a step, and puts them into the log."""
        if "loss" in logs:
            logs = {**logs, **self.counts.take()}
        super().log(logs, start_time)
        if self._log and {"loss", "eval_loss"} & logs.keys():
            # JSON has no infinity, which is the norm of the first gradients with fp16.
            said = {name: number if isfinite(number) else None for name, number in logs.items()}
            line = json.dumps({"step": self.state.global_step, **said}, allow_nan=False)
            self._log.write(line + "\n")
            self._progress.step(self.state.global_step, self.state.max_steps, logs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Once after each step: stops with a checkpoint if a process was asked to.

        Trainer calls it again at the end of an epoch, and takes any stop for one. At a true end, what is due
        after the step and after the epoch is done together, so that the checkpoint knows of all.
        """
        step, last = self.state.global_step, self.state.max_steps
        again, self._seen = step == self._seen, step
        if again != (step == last or self.state.epoch.is_integer()):
            return
        if said := self.contention.look():
            self._progress.close()
            self._say(said)
        if step == last:
            self._insist_on_good_end()
        self.stopped = self._asked()
        if self.stopped is not None and step < last:
            self.control.should_save = self.control.should_training_stop = True
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether `--save_strategy best` saves: also for a stop, which does that whatever the metric is."""
        return super()._determine_best_metric(metrics, trial) or self.control.should_save

    def _asked(self) -> int | None:
        """The signal that a process got, or None. All have the same answer."""
        got = [self.signals.received == number for number in _STOPPING]
        counts = self._over_processes(got, self.args.device)
        return next((number for number, count in zip(_STOPPING, counts, strict=True) if count), None)

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ARG002 - Trainer's signature
        ignore_keys: list[str] | None = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The mean loss of the evaluation data's trained tokens, over all processes."""
        if self.eval_data is None:
            return {}
        model, total, count = self.model, 0.0, 0
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self.eval_data.loader:
                inputs = self._prepare_inputs(batch)
                total += float(model(**inputs, num_items_in_batch=1).loss)
                count += int((inputs["labels"][..., 1:] != IGNORED).sum())
        model.train()
        total, counted = self._over_processes([total, count], self.args.device)
        metrics = {f"{metric_key_prefix}_loss": total / max(counted, 1)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Takes the weights of a checkpoint.

        Raises:
            ModelError: They are damaged.
        """
        try:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        except SafetensorError as error:
            raise unreadable(Path(resume_from_checkpoint), error) from error

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes the weights of a checkpoint that has all steps, which Trainer would go beyond.

        Raises:
            ModelError: It is damaged.
        """
        folder = self.chosen(checkpoint)
        self._insist_on_way(folder)
        self._load_from_checkpoint(str(folder))

    def chosen(self, checkpoint: Checkpoint) -> Path:
        """The checkpoint whose weights are the result: the best one beside the last if that was asked for.

        Raises:
            ModelError: It is damaged, or not there.
        """
        best = _state_of(checkpoint).best_model_checkpoint if self.args.load_best_model_at_end else None
        if not best:
            return checkpoint.folder
        folder = checkpoint.folder.parent / Path(best).name  # all may have been moved since it was recorded
        if not folder.is_dir():
            raise ModelError(
                f"the best checkpoint, {folder}, is not there ({there(folder.parent)}).",
                hint="Bring it back, or take the last one: --load_best_model_at_end False",
            )
        return folder

    def run(self, checkpoint: Checkpoint | None = None) -> int:
        """Trains to the end, or until a signal.

        Args:
            checkpoint: What to go on from.

        Returns:
            The steps that are done.

        Raises:
            ModelError: A guard stopped it, or the checkpoint is damaged or of another kind of run.
            OutputError: A checkpoint cannot be written.
        """
        if self.is_world_process_zero():
            self._log = open_log(self.folder, checkpoint.step if checkpoint else 0)
        try:
            if checkpoint:
                self._remember(_state_of(checkpoint))  # Trainer would not say which file is damaged
                self._insist_on_way(checkpoint.folder)
            self.contention.look()  # from here on: a step on busy cores may take minutes
            with self.signals:
                self.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        finally:
            leave_inputs_to_autocast(self.model, leave=False)
            self._progress.close()
            if self._log:
                self._log.close()
                self._log = None
        return int(self.state.global_step)

    def _remember(self, state: TrainerState) -> None:
        """Show the losses before a checkpoint to the guard. The log is on the disk of one machine only."""
        self._began = int(state.global_step)
        for line in state.log_history:
            if "loss" in line:
                self._divergence.add(float(line["loss"]))


def _unpadded(batch: Batch) -> int:
    """Tokens of a batch that are of records."""
    return int(batch["attention_mask"].sum() if "attention_mask" in batch else batch["input_ids"].numel())


def _add_up_in_32_bits(args: TrainingArguments) -> None:
    """Lets FSDP add up gradients in 32 bits, and leave the loss in them; accelerate has it do both in 16."""
    plugin = args.fsdp_plugin_args
    if plugin and plugin["fsdp_version"] == 2 and (args.bf16 or args.fp16):
        half = torch.bfloat16 if args.bf16 else torch.float16
        plugin["mixed_precision_policy"] = MixedPrecisionPolicy(half, torch.float32)


def _state_of(checkpoint: Checkpoint) -> TrainerState:
    """What Trainer has to know to go on.

    Raises:
        ModelError: It is damaged.
    """
    path = checkpoint.folder / STATE
    try:
        state: TrainerState = TrainerState.load_from_json(str(path))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise unreadable(path, error) from error
    return state


def _random(rank: int) -> str:
    """The file with the states of a process's random generators."""
    return f"random-{rank}.safetensors"
