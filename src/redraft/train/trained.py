"""Make, save and load a model with its optimizer and schedule, on top of accelerate.

accelerate handles DDP, FSDP and number formats. Without FSDP, a model is saved as safetensors, and nothing is
pickled. FSDP has another format. For `--optim`, a public function of transformers chooses the optimizer's
class and settings.

Settings become `TrainingArguments` that fit this machine. A remark is printed for each ignored or changed
setting, because accelerate may ignore settings silently: on a CPU, `fsdp` shards nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, FullyShardedDataParallelPlugin, utils
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from transformers.trainer_pt_utils import get_parameter_names
from transformers.trainer_utils import align_special_tokens

from redraft.errors import MissingExtra, ModelError, UsageError
from redraft.train.checkpoints import load_state, save_state, unreadable
from redraft.train.load import computes_bf16, contents, leave_inputs_to_autocast, save_weights
from redraft.train.options import FSDP, LEARNING_RATE, RunOptions
from redraft.train.processes import Say, ranks
from redraft.weights.card import CARD

_ALL_GPUS = "torchrun --nproc_per_node={} -m redraft train …"

_THEIRS = (
    *("output_dir", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("lr_scheduler_type", "optim", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("max_grad_norm", "seed", "activation_checkpointing", "torch_compile", "use_cpu", "fp16", "tf32"),
    *("save_strategy", "save_steps", "save_total_limit", "run_name"),
    *("logging_steps", "eval_strategy", "eval_steps"),
)
"""Settings that are passed to transformers unchanged."""


def training_arguments(own: RunOptions, *, lora: bool, say: Say) -> TrainingArguments:
    """Return transformers' arguments for these settings, adapted to this machine."""
    share = own.warmup_ratio if own.warmup_steps is None else own.warmup_steps
    eval_size = getattr(own, "per_device_eval_batch_size", None)
    usual = LEARNING_RATE["lora" if lora else "full"]
    asked: dict[str, Any] = {
        **{name: getattr(own, name) for name in _THEIRS if name in type(own).model_fields},
        "learning_rate": usual if own.learning_rate is None else own.learning_rate,
        "max_steps": own.max_steps or -1,
        "warmup_steps": share,
        "bf16": bool(own.bf16),
        "per_device_eval_batch_size": eval_size or own.per_device_train_batch_size,
        "report_to": list(own.report_to),
        "ddp_find_unused_parameters": False,  # all parameters are used, and the search costs time
        **_sharding(own),
    }
    if not torch.cuda.is_available() or own.use_cpu:
        _fit_to_cpu(asked, own, say)
    elif ranks() == 1:
        _leave_fsdp_out(asked, say, f"To shard the model: {_ALL_GPUS.format('N')}")
    for name in own.report_to:
        _check_report(name)
    try:
        with warnings.catch_warnings():
            # transformers' warnings use setting names that the user did not type.
            warnings.simplefilter("ignore", FutureWarning)
            made = TrainingArguments(**asked)
            device = made.device
    except Exception as error:
        why = str(error) or type(error).__name__
        raise UsageError(f"these settings do not work together: {why:.300}") from error
    if device.type == "cuda" and made.n_gpu > 1:
        say(f"one process uses one of {made.n_gpu} GPUs. To use all: {_ALL_GPUS.format(made.n_gpu)}")
        made._n_gpu = 1  # noqa: SLF001  (the size of a batch is for one GPU)
    return made


def _sharding(own: RunOptions) -> dict[str, Any]:
    if not own.fsdp_words:
        return {}
    config: dict[str, Any] = {key: on for word in own.fsdp_words for key, on in FSDP[word].items()}
    if own.fsdp_transformer_layer_cls_to_wrap:
        config["transformer_layer_cls_to_wrap"] = own.fsdp_transformer_layer_cls_to_wrap
    return {"fsdp": True, "fsdp_config": config}


def _fit_to_cpu(asked: dict[str, Any], own: RunOptions, say: Say) -> None:
    asked["use_cpu"] = True
    if own.bf16 is None and not own.fp16 and own.dtype in ("auto", "bfloat16") and computes_bf16(gpu=False):
        # For an adapter of the default model, bf16 gave 349 instead of 151 tokens/s on weights in 32 bits,
        # and 341 instead of 290 on weights in bf16 (2 cores with avx512_bf16).
        say("layers compute in bf16, which is faster on this CPU (--bf16 False for 32 bits).")
        asked["bf16"] = True
    if asked.pop("tf32"):
        say("--tf32 is ignored: it needs a GPU, and none is used.")
    if own.fp16:
        say("--fp16 is ignored: it needs a GPU, and none is used. --dtype sets the number format.")
        asked["fp16"] = False
    if asked["bf16"] and not computes_bf16(gpu=False):
        say("--bf16 is slower than 32 bits here: this CPU lacks the instructions (try --bf16 False).")
    _leave_fsdp_out(asked, say, "FSDP needs GPUs")


def _leave_fsdp_out(asked: dict[str, Any], say: Say, why: str) -> None:
    if asked.pop("fsdp", None):
        each = f"each of the {ranks()} processes" if ranks() > 1 else "one process"
        say(f"--fsdp is ignored, so {each} loads the whole model. The loss is the same. {why}.")
    asked.pop("fsdp_config", None)


def _check_report(name: str) -> None:
    if name in ("none", "all") or name in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
        return
    if name == "tensorboard":
        raise MissingExtra("--report_to tensorboard", "train")
    if name not in INTEGRATION_TO_CALLBACK:
        known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
        raise UsageError(f"--report_to does not know {name!r}.", hint=f"Known: none, all, {known}")
    raise UsageError(f"--report_to {name} needs its library.", hint=f"pip install {name.replace('_', '-')}")


_NO_DECAY = ("bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Names of parameters without weight decay, as in transformers."""


OPTIMIZER = "optimizer.safetensors"  # the states of optimizer, schedule and fp16's scale, in a checkpoint


class Trained:
    """A model in training, with its optimizer and schedule.

    `around` is the module that computes the loss: the model, or a module that adds weights to the model,
    such as a value head. Added weights are saved with the optimizer's state. `wrapped` is the module to call
    for gradients, such as a DDP wrapper.
    """

    card: str | None = None  # the text of the model card, or None
    optimizer: Any  # set by `prepare`
    schedule: Any  # set by `prepare`

    def __init__(
        self, model: Any, args: TrainingArguments, tokenizer: Any = None, *, around: Any = None
    ) -> None:
        self.model, self.args, self.tokenizer = model, args, tokenizer
        self.around = self.wrapped = around or model
        shards = dict(args.fsdp_plugin_args or {})
        if shards.get("fsdp_version") == 2 and (args.bf16 or args.fp16):
            # Gradients are summed in 32 bits, and the loss has 32 bits. accelerate would use 16 for both.
            half = torch.bfloat16 if args.bf16 else torch.float16
            shards["mixed_precision_policy"] = MixedPrecisionPolicy(half, torch.float32)
        unused = bool(args.ddp_find_unused_parameters)
        self.accelerator = Accelerator(  # for the backward pass and for clipping
            mixed_precision=args.mixed_precision,
            fsdp_plugin=FullyShardedDataParallelPlugin(**shards) if shards else None,
            dynamo_plugin=utils.TorchDynamoPlugin(backend=args.torch_compile_backend),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        )
        self._uses_cache = getattr(model.config, "use_cache", None)  # the setting to save with the result
        model.config.use_cache = False
        if args.bf16 or args.fp16:
            leave_inputs_to_autocast(model)
        if tokenizer is not None:
            align_special_tokens(model, tokenizer)  # type: ignore[no-untyped-call]

    @property
    def fsdp(self) -> Any:
        """Accelerate's FSDP settings, or None without FSDP."""
        return getattr(self.accelerator.state, "fsdp_plugin", None)

    def prepare(self, steps: int) -> None:
        """Make the optimizer and the schedule for a run of `steps` steps, and wrap the model."""
        if self.args.activation_checkpointing:
            self.model.activation_checkpointing_enable()
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(self.args)
        decayed = set(get_parameter_names(self.around, [nn.LayerNorm], _NO_DECAY))  # type: ignore[no-untyped-call]
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, each in self.around.named_parameters():
            if each.requires_grad:
                groups[name in decayed].append(each)
        own = {"params": groups[True], "weight_decay": self.args.weight_decay}
        optimizer = kind([own, {"params": groups[False], "weight_decay": 0.0}], **settings)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.around, optimizer)
        warming = self.args.get_warmup_steps(steps)
        self.schedule = get_scheduler(self.args.lr_scheduler_type, self.optimizer, warming, steps)
        if self.fsdp:
            self.model = self.wrapped

    def learning_rate(self) -> float:
        """Return the learning rate of the optimizer's next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all processes."""
        if self.args.world_size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64, device=self.args.device)
        distributed.all_reduce(shared)
        return shared.tolist()

    def save_model(self, folder: Path) -> None:
        """Save weights, configuration and tokenizer in the format that `from_pretrained` loads."""
        weights = self.accelerator.get_state_dict(self.wrapped) if self.fsdp else None
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
        """Save the tokenizer and the model card."""
        if self.tokenizer is not None:
            try:
                self.tokenizer.save_pretrained(folder)
            except Exception as error:
                if "os error" not in str(error):
                    raise
                raise OSError(str(error)) from error  # of the library tokenizers, such as on a full disk
        if self.card is not None:
            (folder / CARD).write_text(self.card, "utf-8")

    def save_states(self, folder: Path) -> None:
        """Save the states of optimizer, schedule and fp16 loss scaler. With FSDP, also save the weights."""
        states = {}
        if self.fsdp:
            one = (self.fsdp, self.accelerator)
            utils.save_fsdp_model(*one, self.wrapped, str(folder), adapter_only=True)
            utils.save_fsdp_optimizer(*one, self.optimizer, self.wrapped, str(folder))
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
        """Load the states that `save_states` saved, but not the model's weights."""
        states = load_state(part_of(folder, OPTIMIZER))
        if self.fsdp:
            one = (self.fsdp, self.accelerator)
            utils.load_fsdp_optimizer(*one, self.optimizer, self.wrapped, str(folder), adapter_only=True)
        else:
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
                one = (self.fsdp, self.accelerator)
                utils.load_fsdp_model(*one, self.wrapped, str(folder), adapter_only=True)
            elif isinstance(self.model, PeftModel):
                self.model.load_adapter(str(folder), self.model.active_adapter, is_trainable=True)
            else:
                _load_whole(self.model, folder)
        except SafetensorError as error:
            raise unreadable(folder, error) from error

    def check_way(self, folder: Path) -> None:
        """Raise `ModelError` unless the checkpoint and this run both use FSDP, or neither does."""
        ways = {True: "with FSDP", False: "without FSDP"}
        ours, theirs = ways[bool(self.fsdp)], ways[any(folder.glob("pytorch_model_fsdp*"))]
        if ours != theirs:
            hint = f"Resume {theirs}. Or start a new run from the checkpoint: --output_dir NEW "
            hint += f"--model_name_or_path {folder}"
            raise ModelError(f"{folder} was saved {theirs}, but this run is {ours}.", hint=hint)


def part_of(folder: Path, name: str) -> Path:
    """Return the path of a checkpoint's file. Raise `ModelError` if the file is missing."""
    path = folder / name
    if not path.is_file():
        message = f"{folder} has no {name}, so a run cannot resume from it ({contents(folder)})."
        hint = f"If another trainer made it, start a new run from it: --model_name_or_path {folder}"
        raise ModelError(message, hint=hint)
    return path


def _load_whole(model: torch.nn.Module, folder: Path) -> None:
    missing = dict(model.named_parameters()).keys() | dict(model.named_buffers()).keys()
    unexpected: list[str] = []
    for path in sorted(folder.glob("model*.safetensors")) or [part_of(folder, "model.safetensors")]:
        result = model.load_state_dict(load_file(path), strict=False)
        missing &= set(result.missing_keys)
        unexpected += result.unexpected_keys
    if missing or unexpected:
        what = f"lacks {min(missing)}" if missing else f"has {unexpected[0]}"
        hint = "Start over with --overwrite_output_dir, or name another --output_dir."
        raise ModelError(f"{folder} is a checkpoint of another model: it {what}.", hint=hint)
