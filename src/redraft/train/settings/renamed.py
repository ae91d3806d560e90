"""Names of settings that transformers has renamed or dropped since SelFee, Alpaca and Vicuna were trained.

What is translated is said, never done quietly: each function returns remarks to print. Names that nobody ever
had are found by `args`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from redraft.errors import UsageError
from redraft.formats.documents import json_of

YES = frozenset({"true", "yes", "t", "y", "1", "on"})
NO = frozenset({"false", "no", "f", "n", "0", "off"})
"""Words for True, and for False."""

RENAMED: Mapping[str, str] = MappingProxyType(
    {
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
)
"""Old name, or that of another trainer, to the name of today. The value stays as it is."""

_READ = "rows are read where they lie, and --dataloader_num_workers says by how many processes"
_MEASURED = "an evaluation measures one number, the loss, as training does"
_COLUMNS = "records have no columns to choose from"
_HUB = "nothing is uploaded: hf upload NAME FOLDER does it"

DROPPED: Mapping[str, str] = MappingProxyType(
    {
        "save_safetensors": "weights are always saved as safetensors",
        "enable_jit_checkpoint": "SIGTERM always saves a checkpoint",
        "include_tokens_per_second": "tokens a second are always logged",
        "half_precision_backend": "torch's own is the only one",
        "fp16_backend": "torch's own is the only one",
        "fp16_opt_level": "it belonged to apex, which is no longer used",
        "sharded_ddp": "use --fsdp",
        "use_ipex": "torch itself has what it gave",
        "jit_mode_eval": "it is gone from transformers",
        "past_index": "it is gone from transformers",
        "ray_scope": "it is gone from transformers",
        "mp_parameters": "it is gone from transformers",
        "tpu_num_cores": "it is gone from transformers",
        "use_mps_device": "a run uses GPUs through CUDA, or else the CPU",
        "do_train": "this command trains",
        "do_eval": "--eval_strategy says when the loss is measured",
        "disable_tqdm": "steps are shown in a way of their own, and --quiet hides them",
        "liger_kernel_config": "the loss here never holds all logits anyway",
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
)
"""Names that mean nothing any more, or nothing here, with the reason. Their values change nothing."""

UNSUPPORTED: Mapping[str, tuple[frozenset[object], str]] = MappingProxyType(
    {
        "label_smoothing_factor": (frozenset({0}), "the loss here is that of the words alone"),
        "neftune_noise_alpha": (
            frozenset({None, 0}),
            "its noise would shrink with the length of all joined records together",
        ),
        "auto_find_batch_size": (
            frozenset({False}),
            "a step would take other rows than a run that goes on expects",
        ),
        "average_tokens_across_devices": (frozenset({True}), "each token of a step counts the same"),
        "use_liger_kernel": (frozenset({False}), "the loss here never holds all logits anyway"),
        "use_cache": (frozenset({False}), "a cache lets packed records see each other"),
        "ignore_data_skip": (frozenset({False}), "a resumed run goes on in the data where it stopped"),
        "train_sampling_strategy": (
            frozenset({"random", "group_by_length"}),
            "the order comes from --seed and the epoch",
        ),
        "push_to_hub": (frozenset({False}), "upload the folder when it is done: hf upload NAME FOLDER"),
        "do_predict": (frozenset({False}), "ask the trained model: redraft ask … --model FOLDER"),
        "save_on_each_node": (frozenset({False}), "a checkpoint is one folder that all nodes see"),
        "dataloader_drop_last": (frozenset({False}), "the last step of an epoch takes what is left"),
        "metric_for_best_model": (
            frozenset({None, "loss", "eval_loss"}),
            "the loss is all that is measured: leave it out",
        ),
    }
)
"""Settings of transformers that this trainer does not follow: the values that ask for nothing, and why."""


_Special = Callable[[MutableMapping[str, Any], Any, Mapping[str, Any]], str]
"""Puts a setting's translation into the first, and says what it did. The last is all that was given."""


def translate(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings by the names of today, and what to say about those that had others.

    Args:
        values: Name to value, all from one place: a recipe, or the command line.

    Raises:
        UsageError: One setting has two names here, or an old one cannot be translated.
    """
    new: dict[str, Any] = {}
    said: list[str] = []
    for name, value in values.items():
        if name in DROPPED:
            said.append(f"--{name} is passed over: {DROPPED[name]}.")
        elif name in SPECIAL:
            said.append(SPECIAL[name](new, value, values))
        else:
            now = RENAMED.get(name, name)
            if now != name:
                said.append(f"--{name} is now --{now}.")
            _put(new, now, value, values, name)
    return new, [line for line in said if line]


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
    return "--warmup_ratio is now --warmup_steps, which takes a share of the steps as well."


def _is_on(value: Any) -> bool:
    return str(value).lower() in YES


def _lazy(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
    """FastChat's way, of which the batch is kept: so many records, however long each is."""
    said = "--lazy_preprocess is passed over: records are made into tokens once, and kept."
    if "packing" in values or not _is_on(value):
        return said
    new["packing"] = False
    return f"{said} As in FastChat, a batch counts records (--packing False)."


def _fsdp(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
    """FSDP 1 had its strategy as words; FSDP 2 is on or off, with the rest in `fsdp_config`."""
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
        except ValueError as error:
            raise UsageError(f"--fsdp_config is no JSON: {error}.", hint=_AS_JSON) from None
    if not isinstance(config, dict):
        raise UsageError(
            f"{', '.join(more)} cannot be added to {config}, the file that --fsdp_config names.",
            hint="Write it into that file, and leave the flag out.",
        )
    new["fsdp_config"] = {**config, **more}


def _fsdp_config(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:  # noqa: ARG001
    new.setdefault("fsdp_config", value)  # flags before it may have added to it already
    return ""


def _inside_fsdp(key: str) -> _Special:
    """A flag that became a key of `fsdp_config`."""

    def put(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
        _into_fsdp_config(new, values, {key: value})
        return f'--fsdp_{key} is now "{key}" in --fsdp_config.'

    return put


def _switch(name: str, now: str, wanted: str) -> _Special:
    """An old switch that became one value of a newer setting."""

    def put(new: MutableMapping[str, Any], value: Any, values: Mapping[str, Any]) -> str:
        on = _is_on(value)
        if on:
            _put(new, now, wanted, values, name)
        return f"--{name} {value} is now " + (f"--{now} {wanted}." if on else f"the default of --{now}.")

    return put


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
}
