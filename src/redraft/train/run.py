"""A whole run, from settings to a trained folder.

`get_ready` loads the tokenizer, prepares the data, loads the model and makes the loop, so that mistakes
show before the first step. `Ready.train` does the steps and saves. The caller locates models and caches, and
keeps the record of the run beside the output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.utils import logging

from redraft.counting import counted
from redraft.errors import OutputError, UsageError
from redraft.jobs.provenance import contents_of
from redraft.licences import Source, clash, remark
from redraft.machine import all_cores
from redraft.train import LOG, checkpoints
from redraft.train.batches import Data, Loader, Order, RowsOf, check_enough_rows
from redraft.train.checkpoints import SavedCheckpoint
from redraft.train.guards import is_out_of_memory, out_of_memory
from redraft.train.load import Method, default_method, skeleton, weights_dtype
from redraft.train.loop import Loop, state_of
from redraft.train.machine import training_arguments
from redraft.train.memory import MemoryPlan, plan_of
from redraft.train.options import OUTPUTS, DataOptions, RunOptions
from redraft.train.output import (
    alone,
    check_output,
    licensed,
    remove_result,
    results_in,
    save,
)
from redraft.train.prepare import ABOUT, TOKENS, Prepared, prepare
from redraft.train.processes import Say, check_same_start, gathered, leads, ranks
from redraft.train.settings import RunSettings
from redraft.train.stages import SFT_STAGES, Stages
from redraft.train.trained import check_optimizer
from redraft.weights.card import is_known

Opts = TypeVar("Opts", bound=RunOptions)


def choose_method(settings: RunSettings[RunOptions], model: str, *, say: Say) -> Method:
    """Return what to train: as the settings say, or what fits the machine."""
    own = settings.own
    if own.qlora and settings.theirs.get("use_cpu"):
        raise UsageError("--qlora needs a GPU, and --use_cpu disables it.", hint="--lora True")
    if own.qlora:
        return Method(lora=True, four_bits=True, why="--qlora")
    if own.lora is not None:
        return Method(lora=own.lora, four_bits=False, why=f"--lora {own.lora}")
    parameters = sum(each.numel() for each in skeleton(model).parameters())
    can_four_bits = own.dtype == "auto" and find_spec("bitsandbytes") is not None
    gpu_bytes = None
    if torch.cuda.is_available() and not settings.theirs.get("use_cpu"):
        shared = settings.theirs.get("fsdp") or settings.theirs.get("deepspeed")
        gpu_bytes = int(torch.cuda.get_device_properties(0).total_memory) * (ranks() if shared else 1)
    method = default_method(parameters, gpu_bytes, can_four_bits=can_four_bits)
    what = "an adapter" if method.lora else "the whole model"
    say(f"{what} is trained: {method.why} (--lora True or False decides).")
    return method


def settled(own: Opts, method: Method, *, gpu: bool) -> Opts:
    """Resolve every `auto`, so that another machine can resume the run."""
    dtype: Any = str(weights_dtype(own.dtype, lora=method.lora, gpu=gpu)).removeprefix("torch.")
    return own.model_copy(update={"lora": method.lora, "qlora": method.four_bits, "dtype": dtype})


def prepare_all(
    paths: Sequence[str],
    own: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    stages: Stages[Any],
    cache: Path,
    *,
    say: Say,
) -> Prepared:
    """Prepare the data, by the settings. `say` is called with progress."""
    return prepare(
        [Path(path) for path in paths],
        stages.encoder(own, tokenizer),
        Path(own.cache_dir) if own.cache_dir else cache,
        workers=own.workers or all_cores(),
        say=say,
    )


def rows_of(
    prepared: Prepared,
    own: DataOptions,
    args: TrainingArguments,
    stages: Stages[Any],
    *,
    pad: int | None,
    size: int | None = None,
) -> Data:
    """Return the rows of prepared data with their sampler and loader: padded with `pad`, or joined."""
    seed = args.seed if args.data_seed is None else args.data_seed
    packed = stages.rows(prepared, own, seed)
    order = Order(
        packed.lengths,
        size or args.train_batch_size,
        seed=seed,
        rank=args.process_index,
        ranks=args.world_size,
        times=args.gradient_accumulation_steps,
        grouped=args.train_sampling_strategy == "group_by_length",
    )
    rows = RowsOf(prepared, packed)
    collate = partial(stages.collate, pad=pad)
    loader = Loader(rows, order, collate, args.dataloader_num_workers)
    return Data(rows, order, loader, stages.counted)


def eval_rows(
    own: DataOptions,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    stages: Stages[Any],
    cache: Path,
    *,
    pad: int | None,
    say: Say,
) -> Data | None:
    """Return the rows to evaluate on, or None without an evaluation."""
    strategy = str(getattr(args.eval_strategy, "value", args.eval_strategy))
    if strategy == "no" and not stages.measures:
        return None
    if own.eval_data_path:
        prepared = prepare_all(own.eval_data_path, own, tokenizer, stages, cache, say=say)
        return rows_of(prepared, own, args, stages, pad=pad, size=args.eval_batch_size)
    if strategy == "no":
        return None
    raise UsageError(
        f"--eval_strategy {strategy} needs data to evaluate on.",
        hint="--eval_data_path FILE, or --eval_strategy no",
    )


_DECIDING = (
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "num_train_epochs",
    "max_steps",
    "optim",
    "optim_args",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "bf16",
    "fp16",
    "seed",
    "data_seed",
    "train_sampling_strategy",
)
"""Settings of transformers that decide the trained weights. The batch is recorded as rows per step."""

_ELSEWHERE = {
    *OUTPUTS,
    "data_path",
    "eval_data_path",
    "cache_dir",
    "workers",
    "overwrite_output_dir",
    "divergence_steps",
    "rollout_url",
    "stop_step_kl",
}
"""redraft's settings that do not decide the weights, or are recorded in another form."""

_OWN_BEGINNING = ("constant", "reduce_lr_on_plateau", "greedy", "cosine_warmup_with_min_lr")
"""Schedules without a warm-up, or with one that does not start at 0."""

NEWEST = {"true", "auto"}
"""Values of `--resume_from_checkpoint` that mean the default: the newest checkpoint, if there is one."""


@dataclass(frozen=True)
class Ready:
    """A run with everything done except the steps."""

    settings: RunSettings[DataOptions]
    base: str  # the base model: a folder, or org/name on the hub
    args: TrainingArguments
    loop: Loop
    prepared: Prepared
    data: Data
    eval_data: Data | None  # the rows to evaluate on, or None
    stages: Stages[Any]  # what the verb does differently from others
    padded: bool
    tokenizer: PreTrainedTokenizerBase  # the model's, with a token to pad with
    checkpoint: SavedCheckpoint | None  # the checkpoint to resume from, or None
    sources: tuple[Source, ...] = ()  # what the result is made from, with licences

    @property
    def method(self) -> str:
        """A description of what is trained."""
        own = self.settings.own
        if not own.lora:
            return f"all weights in {own.dtype}"
        return f"an adapter of rank {own.lora_r} on weights in {'4 bits' if own.qlora else own.dtype}"

    @property
    def steps(self) -> int:
        """All steps of the run."""
        return self.loop.steps

    @property
    def rows_a_step(self) -> int:
        """Rows per step of the optimizer, over all processes."""
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    @property
    def writes(self) -> bool:
        """Whether the run writes what it learns from (rollouts)."""
        return not isinstance(self.loop.data, Data)

    @cached_property
    def plan(self) -> MemoryPlan | None:
        """The memory of the run, or None if FSDP or DeepSpeed shard the model, or it writes its own data."""
        if self.loop.trained.sharded or self.writes:
            return None
        rows, report = self.data.rows.rows, self.prepared.report
        batch = np.argsort(rows.lengths)[-self.args.train_batch_size :]
        lengths = rows.lengths[batch]
        tokens = int(lengths.max() * len(batch) if self.padded else lengths.sum())
        share = report.trained / max(report.tokens, 1)
        examples = self.prepared.lengths[np.concatenate([rows[row] for row in batch])].tolist()
        with self._memory():
            return plan_of(self.loop.trained.model, self.args, tokens=tokens, share=share, examples=examples)

    @property
    def used(self) -> dict[str, Any]:
        """The settings that decide the memory, by name."""
        own = self.settings.own
        theirs: dict[str, Any] = self.args.to_dict()  # type: ignore[no-untyped-call]
        return {**theirs, "lora": own.lora, "model_max_length": own.model_max_length}

    @cached_property
    def tokens_sha256(self) -> str:
        """The hash of the tokens to train on."""
        return str(json.loads((self.prepared.folder / ABOUT).read_bytes())["files"][TOKENS])

    @cached_property
    def config(self) -> dict[str, Any]:
        """All that decides the trained weights, as JSON values. Files and folders count by their content."""
        ours = {name: each for name, each in vars(self.settings.own).items() if name not in _ELSEWHERE}
        return {
            **ours,
            **{name: self.used[name] for name in _DECIDING},
            "method": self.method,
            "rows_a_step": self.rows_a_step,
            "steps": self.steps,
            "tokens_sha256": self.tokens_sha256,
            **contents_of({**ours, "model_name_or_path": self.base}),
        }

    @property
    def replaces(self) -> bool:
        """Whether a new run would overwrite an output without `--overwrite_output_dir`."""
        if self.checkpoint or self.settings.own.overwrite_output_dir:
            return False
        output = self.loop.folder
        log = output / LOG
        begun = log.is_file() and log.stat().st_size > 0  # a run without a step leaves an empty one
        return begun or bool(results_in(output)) or bool(checkpoints.checkpoints(output))

    def lines(self) -> list[str]:
        """Return the plan of the run as lines of text."""
        rows, data = self.data.rows.rows, self.prepared.report
        full = f", {rows.efficiency:.1%} full" if getattr(self.settings.own, "packing", False) else ""
        row = "answer" if self.writes else self.stages.row
        plan = (
            f"{counted(self.steps, 'step')} of {counted(self.rows_a_step, row)} "
            f"(of {counted(len(rows), self.stages.row)}{full}), learning rate "
            f"{self.args.learning_rate:g}, {self.method}"
        )
        lines = [*data.lines(self.stages.marked[0]), plan]
        warm_up = int(self.args.get_warmup_steps(self.steps))
        if warm_up >= self.steps and self.args.lr_scheduler_type not in _OWN_BEGINNING:
            rate = f"0 in the first, and stays below {self.args.learning_rate:g}"
            lines.append(
                f"the warm-up takes all steps: the learning rate is {rate} (--warmup_steps 0: no warm-up)"
            )
        if is_known(self.sources) and not clash(self.sources):
            lines.append(remark(self.sources))
        if self.checkpoint is not None:
            done = ": all steps are done" if self.checkpoint.step >= self.steps else ""
            lines.append(f"resumes from {self.checkpoint.folder}{done}")
        return lines

    @property
    def caution(self) -> str:
        """What a user should know before publishing the result: licences that clash."""
        return remark(self.sources) if clash(self.sources) else ""

    def train(self, begin: Callable[[], object] | None = None) -> int:
        """Train, and save the result unless a signal stopped the run. `begin` is called before any write."""
        with alone(self.loop.folder) if self.args.should_save else nullcontext():
            step = self.checkpoint.step if self.checkpoint else 0
            mine = (step, self.tokens_sha256[:12], len(self.data.rows.rows))
            check_same_start(gathered(mine))
            if self.settings.own.overwrite_output_dir and self.args.should_save:
                checkpoints.remove_all(self.loop.folder)
                remove_result(self.loop.folder)
            if begin:
                begin()
            if self.checkpoint and self.checkpoint.step >= self.steps:
                return self._finish(self.checkpoint)
            done = self.steps_alone()
            if not self.stopped_early(done):
                with self.loop.signals:  # schedulers repeat them, and saving is quick
                    save(self.loop)
            return done

    def stopped_early(self, done: int) -> bool:
        """Return whether a signal stopped the run before its last step."""
        return self.loop.stopped is not None and done < self.steps

    def steps_alone(self) -> int:
        """Train without saving a result, and return the steps done."""
        plan = self.plan  # while there is memory
        try:
            with self._memory(plan):
                return self.loop.run(self.checkpoint)
        except (OSError, SafetensorError) as error:
            raise checkpoints.unwritable(self.loop.folder, error) from error

    @contextmanager
    def _memory(self, plan: MemoryPlan | None = None) -> Iterator[None]:
        """Turn errors about memory into `ModelError`, with the plan in the message."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error, self.used, self.loop.counts.longest, plan) from error

    def _finish(self, checkpoint: SavedCheckpoint) -> int:
        """Save the result of a run that was stopped after its last step."""
        chosen = self.loop.best(state_of(checkpoint)) or checkpoint.folder
        if not self.loop.trained.sharded:
            self.loop.trained.load_model(chosen)
        save(self.loop, chosen if self.loop.trained.sharded else None)
        return checkpoint.step


def get_ready(
    settings: RunSettings[DataOptions],
    model: str,
    cache: Path,
    *,
    stages: Stages[Any] = SFT_STAGES,
    say: Say,
    warn: Say | None = None,
) -> Ready:
    """Do everything except the steps, quick checks first. Even a quiet run tells what `warn` gets."""
    tell, alarm = (say, warn or say) if leads() else (lambda _: None,) * 2
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    method = choose_method(settings, model, say=tell)
    args = training_arguments(settings, lora=method.lora, say=tell)
    check_optimizer(args)
    own = settled(settings.own, method, gpu=not args.use_cpu)
    stages.check(own, args)
    output = Path(str(args.output_dir))
    check_output(output, model, own.model_name_or_path)
    checkpoint = _begin(args, own, alarm)
    tokenizer = stages.tokenizer(own, model, say=tell)
    prepared = prepare_all(own.data_path, own, tokenizer, stages, cache, say=say)
    trained = stages.model(own, model, tokenizer, seed=args.seed, say=tell)
    pad = None if stages.joins(trained, own, say=tell) else int(tokenizer.pad_token_id)
    data = rows_of(prepared, own, args, stages, pad=pad)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{output} cannot be created: {error.strerror}."
        raise OutputError(why, hint="--output_dir FOLDER") from None
    eval_data = eval_rows(own, tokenizer, args, stages, cache, pad=pad, say=say)
    source, around = stages.source(trained, data, own, args, tokenizer, warn=alarm)
    if isinstance(source, Data):
        check_enough_rows(
            data.rows.rows,
            size=args.train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            ranks=args.world_size,
        )
    loop = Loop(
        trained,
        args,
        source,
        eval_data,
        around=around,
        tokenizer=tokenizer,
        divergence_steps=own.divergence_steps,
        quiet=own.quiet,
        say=tell,
    )
    sources, loop.trained.card = licensed(output.name, model, prepared, own.data_path)
    return Ready(
        replace(settings, own=own),
        model,
        args,
        loop,
        prepared,
        data,
        eval_data,
        stages,
        pad is not None,
        tokenizer,
        checkpoint,
        sources,
    )


def _begin(args: TrainingArguments, own: RunOptions, say: Say) -> SavedCheckpoint | None:
    """Return the checkpoint to resume from, or None for a new run."""
    asked = args.resume_from_checkpoint
    output = Path(str(args.output_dir))
    afresh = (asked or "").lower() in {"false", "no", "none"}
    if own.overwrite_output_dir:
        if asked and not afresh:
            raise UsageError(
                f"--overwrite_output_dir starts over, and --resume_from_checkpoint {asked} resumes.",
                hint="Leave one of them out. Starting over deletes all checkpoints.",
            )
        return None
    if afresh:
        if found := checkpoints.checkpoints(output):
            raise UsageError(
                f"--resume_from_checkpoint False: {found[0].folder} is there already.",
                hint="Start over with --overwrite_output_dir, which deletes it, or name another "
                "--output_dir.",
            )
        return None
    if asked and asked.lower() not in NEWEST:
        return checkpoints.named(Path(asked).expanduser(), output)
    newest, remarks = checkpoints.newest(output)
    for line in remarks:
        say(line)
    return newest
