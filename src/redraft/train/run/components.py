"""The components of a run: the method, the model, the prepared data, and its rows in batches.

Each is made from the settings alone, so that a preview or an estimate needs no more than it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from redraft.errors import UsageError
from redraft.machine import all_cores
from redraft.train.data.batches import Data, Loader, Order, RowsOf
from redraft.train.data.prepare import prepare
from redraft.train.data.store import Prepared
from redraft.train.model.load import skeleton, weights_dtype
from redraft.train.model.lora import Method, default_method
from redraft.train.processes import Say, ranks
from redraft.train.settings.args import RunSettings
from redraft.train.settings.options import DataOptions, RunOptions
from redraft.train.stages import Stages

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
    method = default_method(parameters, _gpu_bytes(settings), can_four_bits=can_four_bits)
    what = "an adapter" if method.lora else "the whole model"
    say(f"{what} is trained: {method.why} (--lora True or False decides).")
    return method


def _gpu_bytes(settings: RunSettings[RunOptions]) -> int | None:
    """Return the memory of the GPU, or of all GPUs that shard the model; None without a GPU."""
    if not torch.cuda.is_available() or settings.theirs.get("use_cpu"):
        return None
    shared = settings.theirs.get("fsdp") or settings.theirs.get("deepspeed")
    return int(torch.cuda.get_device_properties(0).total_memory) * (ranks() if shared else 1)


def settled(own: Opts, method: Method, *, gpu: bool) -> Opts:
    """Resolve every `auto`, so that another machine can resume the run."""
    dtype: Any = str(weights_dtype(own.dtype, lora=method.lora, gpu=gpu)).removeprefix("torch.")
    return own.model_copy(update={"lora": method.lora, "qlora": method.four_bits, "dtype": dtype})


def describe(own: RunOptions) -> str:
    """Describe what is trained, from settings that are `settled`."""
    if not own.lora:
        return f"all weights in {own.dtype}"
    return f"an adapter of rank {own.lora_r} on weights in {'4 bits' if own.qlora else own.dtype}"


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
    """Return the rows of prepared data with their sampler and loader.

    Args:
        pad: The token to pad with, or None to join examples without padding.
        size: Rows of a process's batch; by default as in training.
    """
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
