"""A model with its optimizer and schedule, on accelerate: how they are made, saved and loaded.

accelerate does DDP, FSDP, DeepSpeed and number formats. A model that one process holds whole is saved as
safetensors, without pickling. FSDP and DeepSpeed have formats of their own. The classes of optimizers and
their settings are transformers' public choice for `--optim`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, FullyShardedDataParallelPlugin
from accelerate.utils import (
    TorchDynamoPlugin,
    load_fsdp_model,
    load_fsdp_optimizer,
    save_fsdp_model,
    save_fsdp_optimizer,
)
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import GreedyLR, Trainer, TrainingArguments, get_scheduler
from transformers.trainer_utils import align_special_tokens

from redraft.errors import ModelError, UsageError
from redraft.train.checkpoints import load_state, save_state, unreadable
from redraft.train.load import contents, leave_inputs_to_autocast, save_weights
from redraft.weights.card import CARD

_STEPS = 1000  # steps of the trial schedule

_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)")
"""Names of parameters without weight decay, as in transformers."""

MEASURED = (ReduceLROnPlateau, GreedyLR)  # schedules that step after an evaluation, with its loss


def make_optimizer(model: nn.Module, args: TrainingArguments) -> Optimizer:
    """Return the optimizer of `--optim` for the trained parameters of a model."""
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, model)  # type: ignore[arg-type]
    groups = settings.pop("params", None) or _groups(model, args.weight_decay)  # GaLore brings its own
    made: Optimizer = kind(groups, **settings)
    if settings.get("optim_bits") == 8:  # embeddings get unstable with it, and transformers exempts them too
        import bitsandbytes

        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        for part in (each for each in model.modules() if isinstance(each, nn.Embedding)):
            manager.register_module_override(part, "weight", {"optim_bits": 32})
    return made


def make_schedule(optimizer: Optimizer, args: TrainingArguments, steps: int) -> Any:
    """Return the schedule of `--lr_scheduler_type` for a run of `steps`."""
    return get_scheduler(
        args.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=args.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}),  # type: ignore[arg-type]
    )


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters: those with weight decay, and the others."""
    parts = (part for part in model.modules() if isinstance(part, nn.LayerNorm))
    norms = {id(each) for part in parts for each in part.parameters()}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, each in model.named_parameters():
        if each.requires_grad:
            groups[id(each) not in norms and not _NO_DECAY.search(name.lower())].append(each)
    return [{"params": groups[True], "weight_decay": decay}, {"params": groups[False], "weight_decay": 0.0}]


def check_optimizer(args: TrainingArguments) -> None:
    """Try the optimizer and the schedule on one weight, since their libraries often do not name the setting.

    Names of layers (`optim_target_modules`) depend on the model and are not checked.
    """
    name = str(getattr(args.optim, "value", args.optim))
    if "lomo" in name or name.endswith("_layerwise"):
        raise UsageError(
            f"--optim {name} is not supported: it updates weights during the backward pass, before their "
            "gradients can be checked and clipped.",
            hint=f"--optim {name.removesuffix('_layerwise') if 'lomo' not in name else 'adafactor'}",
        )
    tried = copy(args)
    tried.warmup_steps = 0
    if tried.optim_target_modules:
        tried.optim_target_modules = "all-linear"
    with _named(args, "optim", "optim_args", hint="--optim_args NAME=VALUE,NAME=VALUE has its own settings."):
        optimizer = make_optimizer(nn.Linear(1, 1), tried)
    own = """--lr_scheduler_kwargs '{"NAME": VALUE}' has its own settings."""
    with _named(args, "lr_scheduler_type", "lr_scheduler_kwargs", hint=own):
        make_schedule(optimizer, tried, _STEPS)


@contextmanager
def _named(args: TrainingArguments, *names: str, hint: str) -> Iterator[None]:
    """Turn any exception into an error that names the settings."""
    try:
        yield
    except Exception as error:
        given = [(name, getattr(args, name)) for name in names]
        shown = " ".join(f"--{name} {getattr(value, 'value', value)}" for name, value in given if value)
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{shown} cannot be used: {first:.300}", hint=hint) from error


OPTIMIZER = "optimizer.safetensors"  # the states of optimizer, schedule and fp16's scale, in a checkpoint

_WHOLE = "without FSDP or DeepSpeed"
_SHARDS = {"with FSDP": "pytorch_model_fsdp*", "with DeepSpeed": "global_step*"}
"""Other ways to save states, and the files that tell them apart."""


class Trained:
    """A model that is trained.

    Attributes:
        model: The model, to evaluate and to save.
        around: The module that computes the loss: the model, or one around it with weights of its own, such
            as a value head. What is trained of those is saved with the states: the result does not need it.
        wrapped: The model to call for gradients: DDP or DeepSpeed may be around it.
    """

    card: str | None = None  # the text of the model card, or None
    optimizer: Any  # from `prepare`
    schedule: Any  # from `prepare`

    def __init__(
        self, model: Any, args: TrainingArguments, tokenizer: Any = None, *, around: Any = None
    ) -> None:
        self.model, self.args, self.tokenizer = model, args, tokenizer
        self.around = self.wrapped = around or model
        self.accelerator = _accelerator(args)  # accelerate's, for the backward pass and for clipping
        self._uses_cache = getattr(model.config, "use_cache", None)  # of the result; training uses none
        model.config.use_cache = False
        if args.bf16 or args.fp16:
            leave_inputs_to_autocast(model)
        if tokenizer is not None:
            align_special_tokens(model, tokenizer)  # type: ignore[no-untyped-call]

    @property
    def fsdp(self) -> Any:
        """Accelerate's settings of FSDP, or None without it."""
        return getattr(self.accelerator.state, "fsdp_plugin", None)

    @property
    def deepspeed(self) -> Any:
        """Accelerate's settings of DeepSpeed, or None without it."""
        return getattr(self.accelerator.state, "deepspeed_plugin", None)

    @property
    def sharded(self) -> bool:
        """Whether FSDP or DeepSpeed hold the states in shards, and save them in their own way."""
        return bool(self.fsdp or self.deepspeed)

    def prepare(self, steps: int) -> None:
        """Make the optimizer and the schedule for a run of `steps`, and wrap the model."""
        if self.args.activation_checkpointing:
            asked: Any = self.args.activation_checkpointing_kwargs
            settings = dict(asked or {})
            self.model.activation_checkpointing_enable(
                every_n_layers=settings.pop("every_n_layers", 1),
                offload=settings.pop("offload", False),
                activation_checkpointing_kwargs=settings or None,
            )
        if self.deepspeed:
            self.deepspeed.hf_ds_config.trainer_config_finalize(self.args, self.model, steps)
        optimizer = make_optimizer(self.around, self.args)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.around, optimizer)
        self.schedule = make_schedule(self.optimizer, self.args, steps)
        if self.fsdp:
            self.model = self.wrapped

    def learning_rate(self) -> float:
        """Return the learning rate of the next step of the optimizer."""
        return float(self.optimizer.param_groups[0]["lr"])

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all processes."""
        if self.args.world_size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64, device=self.args.device)
        distributed.all_reduce(shared)
        return shared.tolist()

    def save_model(self, folder: Path) -> None:
        """Save weights, configuration and tokenizer, as `from_pretrained` loads them."""
        weights = self.accelerator.get_state_dict(self.wrapped) if self.sharded else None
        if not self.args.should_save:
            return
        model: Any = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        model.config.use_cache = self._uses_cache
        try:
            save_weights(model, folder, weights)
        finally:
            model.config.use_cache = False
        self.save_texts(folder)

    def save_texts(self, folder: Path) -> None:
        """Save what belongs to a model beside its weights: the tokenizer, and the card."""
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        if self.card is not None:
            (folder / CARD).write_text(self.card, "utf-8")

    def save_states(self, folder: Path) -> None:
        """Save the states of optimizer, schedule and scale; for FSDP and DeepSpeed with the weights."""
        states = {}
        if self.fsdp:
            one = (self.fsdp, self.accelerator)
            save_fsdp_model(*one, self.wrapped, str(folder), adapter_only=True)
            save_fsdp_optimizer(*one, self.optimizer, self.wrapped, str(folder))
        elif self.deepspeed:
            frozen = {"exclude_frozen_parameters": True} if isinstance(self.model, PeftModel) else {}
            self.wrapped.save_checkpoint(str(folder), **frozen)
        else:
            states["optimizer"] = self.optimizer.state_dict()
        states["schedule"] = self.schedule.state_dict()
        inside = {id(each) for each in self.model.parameters()}
        trained = (pair for pair in self.around.named_parameters() if pair[1].requires_grad)
        states["around"] = {name: each.data for name, each in trained if id(each) not in inside}
        if self.accelerator.scaler is not None:
            states["scaler"] = self.accelerator.scaler.state_dict()
        if self.args.should_save:
            save_state(folder / OPTIMIZER, states)

    def load_states(self, folder: Path) -> None:
        """Load what `save_states` saved, except weights."""
        states = load_state(part_of(folder, OPTIMIZER))
        if self.fsdp:
            load_fsdp_optimizer(
                self.fsdp, self.accelerator, self.optimizer, self.wrapped, str(folder), adapter_only=True
            )
        elif not self.deepspeed:  # which loads the optimizer with the weights
            self.optimizer.load_state_dict(states["optimizer"])
        self.schedule.load_state_dict(states["schedule"])
        self.around.load_state_dict(states.get("around", {}), strict=False)
        if self.accelerator.scaler is not None and "scaler" in states:
            self.accelerator.scaler.load_state_dict(states["scaler"])

    def load_model(self, folder: Path) -> None:
        """Load the weights of a checkpoint."""
        self.check_way(folder)
        try:
            if self.fsdp:
                load_fsdp_model(self.fsdp, self.accelerator, self.wrapped, str(folder), adapter_only=True)
            elif self.deepspeed:
                self.wrapped.load_checkpoint(
                    str(folder), load_module_strict=not isinstance(self.model, PeftModel)
                )
            elif isinstance(self.model, PeftModel):
                self.model.load_adapter(str(folder), self.model.active_adapter, is_trainable=True)
            else:
                _load_whole(self.model, folder)
        except SafetensorError as error:
            raise unreadable(folder, error) from error

    def check_way(self, folder: Path) -> None:
        """Raise `ModelError` if a checkpoint was saved in another way than this run saves."""
        ours = "with FSDP" if self.fsdp else "with DeepSpeed" if self.deepspeed else _WHOLE
        theirs = next((way for way, files in _SHARDS.items() if any(folder.glob(files))), _WHOLE)
        if ours != theirs:
            raise ModelError(
                f"{folder} was saved {theirs}, and this run is {ours}.",
                hint=f"Resume {theirs}, or start a new run from it, with another --output_dir: "
                f"--model_name_or_path {folder}",
            )


def part_of(folder: Path, name: str) -> Path:
    """Return a file of a checkpoint. Raise `ModelError` if it is missing."""
    path = folder / name
    if not path.is_file():
        raise ModelError(
            f"{folder} has no {name}, so a run cannot resume from it ({contents(folder)}).",
            hint="Start a new run from a checkpoint of another trainer, or of --save_only_model, with: "
            f"--model_name_or_path {folder}",
        )
    return path


def _accelerator(args: TrainingArguments) -> Accelerator:
    names = ("find_unused_parameters", "bucket_cap_mb", "broadcast_buffers", "static_graph")
    ddp = {name: getattr(args, f"ddp_{name}") for name in names}
    shards = dict(args.fsdp_plugin_args or {})
    if shards.get("fsdp_version") == 2 and (args.bf16 or args.fp16):
        # Gradients are added up in 32 bits, and the loss stays in them. accelerate would do both in 16.
        half = torch.bfloat16 if args.bf16 else torch.float16
        shards["mixed_precision_policy"] = MixedPrecisionPolicy(half, torch.float32)
    return Accelerator(
        mixed_precision=args.mixed_precision,
        fsdp_plugin=FullyShardedDataParallelPlugin(**shards) if shards else None,
        deepspeed_plugin=args.deepspeed_plugin,
        dynamo_plugin=TorchDynamoPlugin(backend=args.torch_compile_backend, mode=args.torch_compile_mode),
        kwargs_handlers=[
            DistributedDataParallelKwargs(**{name: value for name, value in ddp.items() if value is not None})
        ],
    )


def _load_whole(model: torch.nn.Module, folder: Path) -> None:
    """Load all weights. Those that share another's memory are saved once."""
    missing = dict(model.named_parameters()).keys() | dict(model.named_buffers()).keys()
    unexpected: list[str] = []
    for path in sorted(folder.glob("model*.safetensors")) or [part_of(folder, "model.safetensors")]:
        result = model.load_state_dict(load_file(path), strict=False)
        missing &= set(result.missing_keys)
        unexpected += result.unexpected_keys
    if missing or unexpected:
        what = f"lacks {min(missing)}" if missing else f"has {unexpected[0]}"
        raise ModelError(
            f"{folder} is a checkpoint of another model: it {what}.",
            hint="Start over with --overwrite_output_dir, or name another --output_dir.",
        )
