"""A whole run, from settings to a trained folder: everything but the steps first, so that it fails early.

`get_ready` loads the tokenizer, prepares the data, loads the model and makes the trainer; `Ready.train` does
the steps and saves. Where models and caches are on this machine the caller says, and it also keeps the record
of the run beside the output.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed
from transformers.utils import logging

from redraft.errors import ModelError, OutputError, UsageError
from redraft.train import checkpoints
from redraft.train.args import Settings
from redraft.train.attention import insist_on_segments, use_segments
from redraft.train.batches import Loader, Order, RowsOf, insist_on_a_step, joined, padded
from redraft.train.checkpoints import Checkpoint
from redraft.train.guards import is_out_of_memory, out_of_memory
from redraft.train.logs import LOG
from redraft.train.lora import NATIVE, Adapter, add_adapter, default_method, mark_native
from redraft.train.loss import fuse
from redraft.train.machine import ranks, training_arguments
from redraft.train.model import Say, load_model, load_tokenizer, skeleton, weights_dtype
from redraft.train.options import OUTPUTS, Options
from redraft.train.pack import one_a_row, pack
from redraft.train.prepare import prepare
from redraft.train.sft import Data, Sft
from redraft.train.store import ABOUT, TOKENS, Prepared
from redraft.train.tokens import Encoder

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
    "neftune_noise_alpha",
    "bf16",
    "fp16",
    "seed",
    "data_seed",
    "train_sampling_strategy",
)
"""The settings of transformers that decide what weights come out. The batch is recorded as rows a step."""

_ELSEWHERE = OUTPUTS | {
    "data_path",
    "eval_data_path",
    "cache_dir",
    "workers",
    "overwrite_output_dir",
    "divergence_steps",
}
"""Our settings that do not decide it, or are recorded as what they came to."""


@dataclass(frozen=True)
class Ready:
    """A run of which everything is done but the steps.

    Attributes:
        settings: What was asked.
        base: The model that it begins from: a folder, or org/name on the hub.
        args: Trainer's arguments, as this machine follows them.
        trainer: What does the steps.
        prepared: The data.
        method: What is trained, in words.
        lora: Whether that is an adapter.
        checkpoint: What it goes on from, or None.
    """

    settings: Settings
    base: str
    args: TrainingArguments
    trainer: Sft
    prepared: Prepared
    method: str
    lora: bool
    checkpoint: Checkpoint | None

    @property
    def steps(self) -> int:
        """All steps of the run."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        times = self.args.gradient_accumulation_steps
        epochs = self.args.num_train_epochs * -(-len(self.trainer.data.order) // times)
        return -int(-epochs // 1)

    @property
    def rows_a_step(self) -> int:
        """Rows that a step of the optimizer takes, over all processes."""
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    @property
    def config(self) -> dict[str, Any]:
        """All that decides what weights come out, as JSON values."""
        own, theirs = self.settings.own, as_dict(self.args)
        ours = {each.name: getattr(own, each.name) for each in fields(Options) if each.name not in _ELSEWHERE}
        about = json.loads((self.prepared.folder / ABOUT).read_bytes())
        return {
            **ours,
            **{name: theirs[name] for name in _DECIDING},
            "method": self.method,
            "rows_a_step": self.rows_a_step,
            "steps": self.steps,
            "tokens_sha256": about["files"][TOKENS],
        }

    def lines(self) -> list[str]:
        """What is about to be done, in words."""
        rows, data = self.trainer.data.rows.rows, self.prepared.report
        kind = f"{len(rows):,} rows" + (f", {rows.efficiency:.1%} full" if self.settings.own.packing else "")
        plan = (
            f"{self.steps:,} steps of {self.rows_a_step:,} rows ({kind}), learning rate "
            f"{self.args.learning_rate:g}, {self.method}"
        )
        begun = [f"goes on from {self.checkpoint.folder}"] if self.checkpoint else []
        return [*data.lines(), plan, *begun]

    def train(self) -> int:
        """Does the steps, and saves the result unless a signal came.

        Returns:
            The steps that are done.

        Raises:
            ModelError: A guard stopped it, or memory ran out.
            OutputError: Something cannot be written.
        """
        try:
            done = self.trainer.run(self.checkpoint)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            used = {
                **as_dict(self.args),
                "lora": self.lora,
                "model_max_length": self.settings.own.model_max_length,
            }
            raise out_of_memory(error, used, self.trainer.counts.longest) from error
        if self.trainer.signals.received is None:
            save(self.trainer)
        return done


def get_ready(settings: Settings, model: str, cache: Path, *, say: Say) -> Ready:
    """Does everything but the steps.

    Args:
        settings: What was asked.
        model: The model as a folder, or org/name on the hub.
        cache: Where prepared data is kept, unless the settings say.
        say: Told what people should know; only the first process tells it.

    Raises:
        RedraftError: Anything is missing, damaged, or does not go together.
    """
    own = settings.own
    tell = say if int(os.environ.get("RANK", "0")) == 0 else _nobody
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    seed = int(settings.theirs.get("seed", 42))
    set_seed(seed)
    tokenizer = load_tokenizer(model, pad_token=own.pad_token, say=tell)
    prepared = prepare_all(own.data_path, own, tokenizer, cache)
    trained, method, lora = load_trained(settings, model, tokenizer, say=tell)
    args = training_arguments(settings, lora=lora, say=tell)
    pad = None if _can_join(trained, own, tell) else int(tokenizer.pad_token_id)
    checkpoint = _begin(args, own, tell)
    data = rows_of(prepared, own, args, pad=pad)
    insist_on_a_step(
        data.rows.rows,
        size=args.train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        ranks=args.world_size,
    )
    trainer = Sft(
        trained,
        args,
        data,
        _eval_data(own, tokenizer, args, cache, pad),
        tokenizer=tokenizer,
        divergence_steps=own.divergence_steps,
        quiet=own.quiet,
    )
    return Ready(settings, model, args, trainer, prepared, method, lora, checkpoint)


def as_dict(args: TrainingArguments) -> dict[str, Any]:
    """Trainer's arguments as JSON values."""
    values: dict[str, Any] = args.to_dict()  # type: ignore[no-untyped-call]
    return values


def _nobody(line: str) -> None:
    """Tells nobody."""


def prepare_all(
    paths: Sequence[str], own: Options, tokenizer: PreTrainedTokenizerBase, cache: Path
) -> Prepared:
    """The data as tokens. Several processes may ask at once: one does it."""
    encoder = Encoder(tokenizer, own.format, own.training_objective, own.model_max_length)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return prepare(
        [Path(path) for path in paths],
        encoder,
        Path(own.cache_dir) if own.cache_dir else cache,
        workers=own.workers or cores,
    )


def load_trained(
    settings: Settings, model: str, tokenizer: PreTrainedTokenizerBase, *, say: Say
) -> tuple[PreTrainedModel | PeftModel, str, bool]:
    """The model as it is trained, what that is in words, and whether it is an adapter."""
    own = settings.own
    lora, four_bits, why = own.lora or own.qlora, own.qlora, ""
    if own.lora is None and not own.qlora:
        parameters = sum(each.numel() for each in skeleton(model).parameters())
        lora, four_bits, why = default_method(
            parameters, _gpu_bytes(settings), can_four_bits=own.dtype == "auto" and _has_bitsandbytes()
        )
        say(
            f"{'an adapter' if lora else 'the whole model'} is trained: {why} (--lora True or False decides)."
        )
    dtype = weights_dtype(own.dtype, lora=bool(lora))
    loaded = load_model(model, tokenizer, dtype=dtype, four_bits=four_bits, say=say)
    native = own.format == "selfee" and own.training_objective != "answer"
    bits = " on 4 bits" if four_bits else ""
    if not lora:
        if native:
            mark_native(loaded)
        return loaded, f"all weights in {_name(dtype)}", False
    adapter = Adapter(own.lora_r, own.lora_alpha, own.lora_dropout, own.lora_target_modules)
    set_seed(int(settings.theirs.get("seed", 42)))  # of the adapter's first values, whatever was drawn before
    adapted = add_adapter(
        loaded, adapter, base=own.model_name_or_path, redraft_format=NATIVE if native else None
    )
    return adapted, f"an adapter of rank {own.lora_r}{bits} on weights in {_name(dtype)}", True


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gpu_bytes(settings: Settings) -> int | None:
    """Memory of the GPU, or of all that share the model; None without one."""
    if not torch.cuda.is_available() or settings.theirs.get("use_cpu"):
        return None
    shared = settings.theirs.get("fsdp") or settings.theirs.get("deepspeed")
    return int(torch.cuda.get_device_properties(0).total_memory) * (ranks() if shared else 1)


def _has_bitsandbytes() -> bool:
    from importlib.util import find_spec

    return find_spec("bitsandbytes") is not None


def _can_join(model: PreTrainedModel | PeftModel, own: Options, say: Say) -> bool:
    """Gives the model attention that keeps joined examples apart, and its loss. False: rows are padded."""
    bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    try:
        insist_on_segments(bare)
        use_segments(bare)
    except ModelError as error:
        if own.packing:
            raise
        say(f"batches are padded: {error.message}")
        return False
    finally:
        fuse(bare)
    return True


def rows_of(prepared: Prepared, own: Options, args: TrainingArguments, *, pad: int | None) -> Data:
    """The rows of prepared data and what reads them: joined without padding, or padded with a token."""
    seed = args.seed if args.data_seed is None else args.data_seed
    length = own.model_max_length
    packed = pack(prepared.lengths, length, seed) if own.packing else one_a_row(prepared.lengths, length)
    order = Order(
        packed.lengths,
        args.train_batch_size,
        seed=seed,
        rank=args.process_index,
        ranks=args.world_size,
        grouped=args.train_sampling_strategy == "group_by_length",
    )
    rows = RowsOf(prepared, packed)
    collate = joined if pad is None else _Padding(pad)
    return Data(rows, order, Loader(rows, order, collate, args.dataloader_num_workers))


@dataclass(frozen=True)
class _Padding:
    """`padded` with a token: a value, so that a process that loads data can be sent it."""

    pad: int

    def __call__(self, rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        return padded(rows, pad=self.pad)


def _eval_data(
    own: Options, tokenizer: PreTrainedTokenizerBase, args: TrainingArguments, cache: Path, pad: int | None
) -> Data | None:
    if args.eval_strategy == "no":
        return None
    if not own.eval_data_path:
        raise UsageError(
            f"--eval_strategy {as_dict(args)['eval_strategy']} needs data to measure the loss on.",
            hint="--eval_data_path FILE, or --eval_strategy no",
        )
    return rows_of(prepare_all(own.eval_data_path, own, tokenizer, cache), own, args, pad=pad)


def _begin(args: TrainingArguments, own: Options, say: Say) -> Checkpoint | None:
    """The checkpoint to go on from; None for a run from the beginning.

    Raises:
        ModelError: The checkpoint cannot be used.
        OutputError: The output folder cannot be made.
    """
    output, asked = Path(str(args.output_dir)), args.resume_from_checkpoint
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be made: {error.strerror}.", hint="--output_dir FOLDER") from None
    if own.overwrite_output_dir:
        if args.should_save and not own.dry_run:
            checkpoints.remove_all(output)
            (output / LOG).unlink(missing_ok=True)
        return None
    if asked and asked.lower() not in {"true", "auto"}:
        return checkpoints.named(Path(asked))
    found, remarks = checkpoints.newest(output)
    for line in remarks:
        say(line)
    return found


def save(trainer: Sft) -> None:
    """Saves the trained model or adapter into the output folder, with `config.json` as the last file.

    Raises:
        OutputError: It cannot be written.
    """
    output = trainer.folder
    aside = output / ".saving-result"
    try:
        trainer.save_model(str(aside))
        if not trainer.args.should_save:
            return
        for path in sorted(aside.iterdir(), key=lambda each: each.name.endswith("config.json")):
            path.replace(output / path.name)
        shutil.rmtree(aside)
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror}. The last checkpoint is whole.",
            hint="Make room, and run the same command again.",
        ) from error
