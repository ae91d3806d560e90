"""The components of a run: the method, the model, the prepared data, and its rows in batches.

Each is made from the settings alone, so that a preview or an estimate needs no more than it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from redraft.errors import ModelError, UsageError
from redraft.formats.selfee import NATIVE_FORMAT
from redraft.formats.tokens.encoder import Encoder
from redraft.machine import all_cores
from redraft.train.data.batches import Data, Loader, Order, RowsOf, joined, padded
from redraft.train.data.packing import Rows, one_a_row, pack
from redraft.train.data.prepare import prepare
from redraft.train.data.store import Prepared
from redraft.train.model.attention import use_segments
from redraft.train.model.load import DTYPES, fit_vocabulary, load_model, skeleton, weights_dtype
from redraft.train.model.lora import Method, add_adapter, default_method, mark_native
from redraft.train.model.loss import fuse
from redraft.train.processes import Say, ranks
from redraft.train.settings.args import TrainSettings
from redraft.train.settings.options import TrainOptions


def choose_method(settings: TrainSettings, model: str, *, say: Say) -> Method:
    """Return what to train: as the settings say, or what fits the machine.

    Raises:
        UsageError: --qlora and --use_cpu contradict each other.
        ModelError: The model's configuration is missing or damaged.
    """
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


def _gpu_bytes(settings: TrainSettings) -> int | None:
    """Return the memory of the GPU, or of all GPUs that shard the model; None without a GPU."""
    if not torch.cuda.is_available() or settings.theirs.get("use_cpu"):
        return None
    shared = settings.theirs.get("fsdp") or settings.theirs.get("deepspeed")
    return int(torch.cuda.get_device_properties(0).total_memory) * (ranks() if shared else 1)


def settled(own: TrainOptions, method: Method, *, gpu: bool) -> TrainOptions:
    """Resolve every `auto`, so that another machine can resume the run.

    Args:
        own: The settings.
        method: What is trained.
        gpu: Whether to use a GPU if there is one.

    Raises:
        UsageError: Weights of that dtype cannot be trained.
    """
    dtype: Any = str(weights_dtype(own.dtype, lora=method.lora, gpu=gpu)).removeprefix("torch.")
    return replace(own, lora=method.lora, qlora=method.four_bits, dtype=dtype)


def describe(own: TrainOptions) -> str:
    """Describe what is trained, from settings that are `settled`."""
    if not own.lora:
        return f"all weights in {own.dtype}"
    return f"an adapter of rank {own.lora_r} on weights in {'4 bits' if own.qlora else own.dtype}"


def load_trained(
    own: TrainOptions, model: str, tokenizer: PreTrainedTokenizerBase, *, seed: int, say: Say
) -> PreTrainedModel | PeftModel:
    """Load the model to train, with an adapter if the settings say so.

    Args:
        own: The settings, `settled`.
        model: A folder, or org/name on the hub.
        tokenizer: Its tokenizer.
        seed: Seed of the adapter's initial values.
        say: Called with remarks.

    Raises:
        ModelError: The model is incomplete, or does not fit its tokenizer.
        UsageError: Settings contradict each other.
    """
    loaded = load_model(model, dtype=DTYPES[own.dtype], four_bits=own.qlora)
    grown = fit_vocabulary(loaded, tokenizer, ref=model, say=say)
    native = own.format == "selfee" and own.training_objective != "answer"
    if not own.lora:
        if native:
            mark_native(loaded)
        return loaded
    if grown and own.gguf:
        raise UsageError(
            f"--gguf: a GGUF adapter cannot hold the token {own.pad_token!r} that --pad_token adds.",
            hint="Leave --pad_token out: padding then uses a token of the vocabulary, without loss.",
        )
    set_seed(seed)
    return add_adapter(
        loaded,
        own,
        redraft_format=NATIVE_FORMAT if native else None,
        whole_vocabulary=grown,
    )


def can_join(model: PreTrainedModel | PeftModel, own: TrainOptions, say: Say) -> bool:
    """Set up the loss, and attention that keeps joined examples apart. Return False if rows need padding."""
    bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if getattr(bare.config, "output_router_logits", False):
        say("output_router_logits: the loss that spreads tokens over experts is left out.")
    fuse(bare)
    try:
        use_segments(bare)
    except ModelError as error:
        if own.packing:
            raise
        say(f"batches are padded: {error.message}")
        return False
    return True


def prepare_all(
    paths: Sequence[str], own: TrainOptions, tokenizer: PreTrainedTokenizerBase, cache: Path, *, say: Say
) -> Prepared:
    """Prepare the data, by the settings. `say` is called with progress."""
    encoder = Encoder(
        tokenizer, own.format, own.training_objective, own.model_max_length, first=own.answer == "first"
    )
    return prepare(
        [Path(path) for path in paths],
        encoder,
        Path(own.cache_dir) if own.cache_dir else cache,
        workers=own.workers or all_cores(),
        say=say,
    )


def in_rows(prepared: Prepared, own: TrainOptions, seed: int) -> Rows:
    """Assign examples to rows: as many as fit, or one each."""
    if own.packing:
        return pack(prepared.lengths, own.model_max_length, seed)
    return one_a_row(prepared.lengths, own.model_max_length)


def rows_of(
    prepared: Prepared,
    own: TrainOptions,
    args: TrainingArguments,
    *,
    pad: int | None,
    size: int | None = None,
) -> Data:
    """Return the rows of prepared data with their sampler and loader.

    Args:
        prepared: The data.
        own: The settings.
        args: transformers' arguments.
        pad: The token to pad with, or None to join examples without padding.
        size: Rows of a process's batch; by default as in training.
    """
    seed = args.seed if args.data_seed is None else args.data_seed
    packed = in_rows(prepared, own, seed)
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
    collate = joined if pad is None else partial(padded, pad=pad)
    return Data(rows, order, Loader(rows, order, collate, args.dataloader_num_workers))


def eval_rows(
    own: TrainOptions,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    cache: Path,
    *,
    pad: int | None,
    say: Say,
) -> Data | None:
    """Return the rows to evaluate on, or None without an evaluation.

    Raises:
        UsageError: There is no data to evaluate on.
    """
    strategy = str(getattr(args.eval_strategy, "value", args.eval_strategy))
    if strategy == "no":
        return None
    if not own.eval_data_path:
        raise UsageError(
            f"--eval_strategy {strategy} needs data to evaluate on.",
            hint="--eval_data_path FILE, or --eval_strategy no",
        )
    prepared = prepare_all(own.eval_data_path, own, tokenizer, cache, say=say)
    return rows_of(prepared, own, args, pad=pad, size=args.eval_batch_size)
