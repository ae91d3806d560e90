"""Settings that transformers has renamed or dropped since SelFee, Alpaca and Vicuna were trained.

Every translation gives a remark to print. `settings.args` rejects names that never existed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from redraft.errors import UsageError, fault_of
from redraft.formats.documents import json_of

YES = frozenset({"true", "yes", "t", "y", "1", "on"})
NO = frozenset({"false", "no", "f", "n", "0", "off"})  # words for True, and for False

RENAMED: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "xpu_backend": "ddp_backend",
    "torchdynamo": "torch_compile_backend",
    "max_seq_length": "model_max_length",
}
"""Old name, or that of another trainer, to the current name. The value stays the same."""

_READ = "rows are memory-mapped; --dataloader_num_workers sets the number of loading processes"
_MEASURED = "an evaluation measures only the loss"
_COLUMNS = "records have no columns"
_HUB = "nothing is uploaded; use hf upload NAME FOLDER"

DROPPED: Mapping[str, str] = {
    "save_safetensors": "weights are always saved as safetensors",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint",
    "logging_nan_inf_filter": "a loss that is not finite ends the run",
    "include_num_input_tokens_seen": "tokens are always counted",
    "skip_memory_metrics": "memory is always logged",
    "restore_callback_states_from_checkpoint": "there are no callbacks with a state",
    "include_tokens_per_second": "tokens a second are always logged",
    **dict.fromkeys(("half_precision_backend", "fp16_backend"), "torch has the only backend"),
    "fp16_opt_level": "it belonged to apex, which is no longer used",
    "sharded_ddp": "use --fsdp",
    "use_ipex": "torch now includes these optimisations",
    **dict.fromkeys(
        ("jit_mode_eval", "past_index", "ray_scope", "mp_parameters", "tpu_num_cores"),
        "transformers has removed it",
    ),
    "use_mps_device": "a run uses CUDA GPUs or the CPU",
    "do_train": "this command always trains",
    "do_eval": "--eval_strategy sets when the loss is measured",
    "disable_tqdm": "progress is shown without tqdm; --quiet hides it",
    "liger_kernel_config": "the loss never holds all logits anyway",
    **dict.fromkeys(("remove_unused_columns", "label_names", "length_column_name"), _COLUMNS),
    **dict.fromkeys(
        (
            *("dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
            *("dataloader_multiprocessing_context", "dataloader_in_order", "accelerator_config"),
        ),
        _READ,
    ),
    **dict.fromkeys(
        (
            *("eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics"),
            *("eval_do_concat_batches", "eval_use_gather_object", "prediction_loss_only"),
            *("bf16_full_eval", "fp16_full_eval"),
        ),
        _MEASURED,
    ),
    **dict.fromkeys(
        (
            *("hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
            *("hub_revision", "push_to_hub_token", "push_to_hub_model_id"),
        ),
        _HUB,
    ),
}
"""Names that have no effect, with the reason."""

UNSUPPORTED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "label_smoothing_factor": ((0,), "the loss has no label smoothing"),
    "neftune_noise_alpha": ((None, 0), "its noise would shrink with the length of the whole packed row"),
    "auto_find_batch_size": ((False,), "a resumed run would read other rows"),
    "average_tokens_across_devices": ((True,), "each token of a step counts the same"),
    "use_liger_kernel": ((False,), "the loss never holds all logits anyway"),
    "use_cache": ((False,), "a cache lets packed records see each other"),
    "ignore_data_skip": ((False,), "a resumed run continues in the data where it stopped"),
    "train_sampling_strategy": (("random", "group_by_length"), "the seed and the epoch set the order"),
    "push_to_hub": ((False,), "upload the folder when it is done: hf upload NAME FOLDER"),
    "do_predict": ((False,), "ask the trained model: redraft ask … --model FOLDER"),
    "save_on_each_node": ((False,), "a checkpoint is one folder that all nodes see"),
    "dataloader_drop_last": ((False,), "the last step of an epoch takes the remaining rows"),
    "metric_for_best_model": ((None, "loss", "eval_loss"), "only the loss is measured: leave it out"),
}
"""Settings of transformers that this trainer does not support: their neutral values, and why."""


_Special = Callable[[MutableMapping[str, Any], Any, Mapping[str, Any]], str]
"""Adds a translation of the value (second) to the new settings (first), given all old ones (third).

Returns a remark."""


def translate(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return settings of one place by their current names, and remarks on those that changed."""
    new: dict[str, Any] = {}
    remarks: list[str] = []
    for name, value in values.items():
        if name in DROPPED:
            remarks.append(f"--{name} is ignored: {DROPPED[name]}.")
        elif name in SPECIAL:
            remarks.append(SPECIAL[name](new, value, values))
        else:
            now = RENAMED.get(name, name)
            if now != name:
                remarks.append(f"--{name} is now --{now}.")
            _put(new, now, value, values, name)
    return new, [line for line in remarks if line]


def _put(new: MutableMapping[str, Any], now: str, value: Any, values: Mapping[str, Any], name: str) -> None:
    if now in new or (now != name and now in values):
        raise UsageError(f"--{name} and --{now} are two names of one setting.", hint=f"Give --{now} alone.")
    new[now] = value


def _warmup(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share < 1:
        raise UsageError(f"--warmup_ratio is {value!r}, and should be from 0 to below 1.", hint="0.03")
    _put(new, "warmup_steps", share, values, "warmup_ratio")
    return "--warmup_ratio is now --warmup_steps, which also takes a share of the steps."


def _is_on(value: Any) -> bool:
    return str(value).lower() in YES


def _lazy(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
    """FastChat's switch. Its batches count records, however long each is, and so do ours then."""
    ignored = "--lazy_preprocess is ignored: records are tokenised once and cached."
    if "packing" in values or not _is_on(value):
        return ignored
    new["packing"] = False
    return f"{ignored} As in FastChat, a batch counts records (--packing False)."


def _fsdp(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
    """Translate FSDP 1's words: FSDP 2 is on or off, with the rest in `fsdp_config`."""
    words = str(value).replace(",", " ").split()
    if isinstance(value, bool) or [word.lower() for word in words] in (["true"], ["false"]):
        new["fsdp"] = str(value).lower() == "true"
        return ""
    if unknown := [word for word in words if word not in _FSDP_WORDS]:
        raise UsageError(f"--fsdp has no {unknown[0]!r}.", hint="Known: True, " + ", ".join(_FSDP_WORDS))
    new["fsdp"] = bool(words)
    config = {key: on for word in words for key, on in _FSDP_WORDS[word].items()}
    if config:
        _into_fsdp_config(new, values, config)
    return f"--fsdp {value!r} is now --fsdp {bool(words)}" + (
        f" with {config} in --fsdp_config." if config else "."
    )


_AS_JSON = """--fsdp_config '{"cpu_offload": true}'"""


def _into_fsdp_config(
    new: MutableMapping[str, Any], values: Mapping[str, Any], more: Mapping[str, Any]
) -> None:
    config = new.get("fsdp_config") or values.get("fsdp_config") or {}
    if isinstance(config, str) and config.lstrip().startswith("{"):
        try:
            config = json_of(config, "--fsdp_config")
        except (ValueError, RecursionError) as error:
            raise UsageError(f"--fsdp_config is not JSON: {fault_of(error)}.", hint=_AS_JSON) from None
    if not isinstance(config, dict):
        raise UsageError(
            f"{', '.join(more)} cannot be added to {config}, the file that --fsdp_config names.",
            hint="Write it into that file, and leave the flag out.",
        )
    new["fsdp_config"] = {**config, **more}


def _fsdp_config(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:  # noqa: ARG001
    new.setdefault("fsdp_config", value)  # an earlier flag may have filled it
    return ""


def _inside_fsdp(key: str) -> _Special:
    """Translate a flag that became a key of `fsdp_config`."""

    def put(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
        _into_fsdp_config(new, values, {key: value})
        return f'--fsdp_{key} is now "{key}" in --fsdp_config.'

    return put


def _switch(name: str, now: str, wanted: str) -> _Special:
    """Translate a switch that became one value of a newer setting."""

    def put(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
        on = _is_on(value)
        if on:
            _put(new, now, wanted, values, name)
        return f"--{name} {value} is now " + (f"--{now} {wanted}." if on else f"the default of --{now}.")

    return put


def _only(name: str, neutral: frozenset[str]) -> _Special:
    """Take a setting of rollouts at its neutral value alone."""

    def check(_: MutableMapping[str, Any], value: Any, __: Mapping[str, Any]) -> str:
        if str(value).lower() not in neutral:
            raise UsageError(
                f"--{name} {value} is not supported.",
                hint="Leave it out: an answer is drawn from all tokens, whose probabilities the loss reads.",
            )
        return ""

    return check


_FSDP_WORDS: Mapping[str, Mapping[str, bool]] = {
    "full_shard": {"reshard_after_forward": True},
    "shard_grad_op": {"reshard_after_forward": False},
    "offload": {"cpu_offload": True},
    "auto_wrap": {},  # layers are wrapped one by one anyway
}

SPECIAL: Mapping[str, _Special] = {
    "fsdp": _fsdp,
    "fsdp_config": _fsdp_config,
    "warmup_ratio": _warmup,
    "lazy_preprocess": _lazy,
    "fsdp_transformer_layer_cls_to_wrap": _inside_fsdp("transformer_layer_cls_to_wrap"),
    "fsdp_min_num_params": _inside_fsdp("min_num_params"),
    "group_by_length": _switch("group_by_length", "train_sampling_strategy", "group_by_length"),
    "adafactor": _switch("adafactor", "optim", "adafactor"),
    "top_k": _only("top_k", frozenset({"0", "0.0"})),
    "top_p": _only("top_p", frozenset({"1", "1.0"})),
    "do_sample": _only("do_sample", YES),
}
