"""The settings of a training run that are redraft's own, beside those of transformers' `TrainingArguments`.

A value with a name, a type and a help text each: `args` reads them from flags and recipes, and `--help`
prints them. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

MODEL, DATA, STEPS, RUN = "Model", "Data", "Training", "Run"


def _own(group: str, help: str, default: Any) -> Any:  # noqa: A002  (what it is, there and here)
    return field(default=default, metadata={"help": help, "group": group})


@dataclass(frozen=True)
class Options:
    """What a run is made of. The help texts say what each one is."""

    model_name_or_path: str = _own(
        MODEL, "a folder, a .gguf file, org/name, or default; +FOLDER merges an adapter into it", "default"
    )
    data_path: tuple[str, ...] = _own(DATA, "files of records, of any shape that redraft reads", ())
    eval_data_path: tuple[str, ...] = _own(DATA, "files to measure the loss on, with --eval_strategy", ())
    format: Literal["selfee", "alpaca", "vicuna", "stablevicuna", "chat", "self-instruct"] = _own(
        DATA, "the text that records become (chat is the model's own)", "selfee"
    )
    training_objective: Literal["accepted", "full", "answer", "revision", "critic"] = _own(
        DATA,
        "what is learnt (all but rejected answers, everything, one answer, what follows answer 0, feedback)",
        "accepted",
    )
    answer: Literal["accepted", "first"] = _own(
        DATA,
        "which one --training_objective answer learns (first is SelFee's, whether it was accepted or not)",
        "accepted",
    )
    model_max_length: int = _own(DATA, "tokens of a record, and of a packed row, at most", 2048)
    packing: bool = _own(
        DATA, "fill rows with several records; otherwise a batch counts records", default=True
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _own(
        MODEL, "of the weights while they train", "auto"
    )
    lora: bool | None = _own(MODEL, "train an adapter; by default where full training does not fit", None)
    qlora: bool = _own(MODEL, "an adapter on weights of 4 bits: needs a GPU and bitsandbytes", default=False)
    lora_r: int = _own(MODEL, "rank of the adapter", 16)
    lora_alpha: float = _own(MODEL, "scale of the adapter", 32.0)
    lora_dropout: float = _own(MODEL, "dropout before the adapter", 0.0)
    lora_target_modules: tuple[str, ...] = _own(
        MODEL, "layers with an adapter; all-linear for all", ("all-linear",)
    )
    pad_token: str | None = _own(MODEL, "a token to add, as SelFee and Alpaca add [PAD]", None)
    workers: int | None = _own(DATA, "processes that make records into tokens; by default one a core", None)
    cache_dir: str | None = _own(DATA, "where tokens are kept", None)
    overwrite_output_dir: bool = _own(
        RUN,
        "begin anew each time it is said, and remove checkpoints and result that are there",
        default=False,
    )
    divergence_steps: int = _own(
        RUN, "stop when the loss is far off for so many steps in a row; 0: never", 20
    )
    gguf: str | None = _own(RUN, "write a GGUF of the result there as well", None)
    gguf_quant: Literal["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = _own(
        RUN, "its number format, for a whole model", "f16"
    )
    preview: int | None = _own(RUN, "show so many examples as they are trained on, and end", None)
    estimate: bool = _own(RUN, "say what memory and time the run takes, and end", default=False)
    price_per_hour: float | None = _own(RUN, "of all machines of the run, for --estimate", None)
    dry_run: bool = _own(RUN, "do everything but the steps", default=False)
    quiet: bool = _own(RUN, "no progress, no remarks", default=False)


NAMES: tuple[str, ...] = tuple(each.name for each in fields(Options))

OUTPUTS = frozenset({"gguf", "gguf_quant", "preview", "estimate", "price_per_hour", "dry_run", "quiet"})
"""Settings that change nothing in the weights that come out."""

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "save_steps": 200,
    "save_total_limit": 2,
    "report_to": ["none"],
    "ddp_find_unused_parameters": False,  # all are used, and looking for others costs time
}
"""Where redraft's defaults are not those of transformers. The learning rate's is in `LEARNING_RATE`."""

FIRST: dict[str, str] = {
    "output_dir": "the folder for the result, its checkpoints and log",
    "max_steps": "steps of the optimizer; by default --num_train_epochs decides",
    "num_train_epochs": "how often all of the data is read  [3]",
    "per_device_train_batch_size": "rows that a process takes at a time; with --packing False, records  [4]",
    "gradient_accumulation_steps": "how many times it takes them for a step  [1]",
    "learning_rate": "by default 2e-5 for all weights and 2e-4 for an adapter",
    "warmup_steps": "of the learning rate: a number of steps, or below 1 a share of all  [0.03]",
    "save_steps": "steps between two checkpoints  [200]",
    "seed": "of the order of records, and of all chance  [42]",
}
"""Settings of transformers that users type first: what `--help` says of them."""

REST = "and every other field of transformers' TrainingArguments, by its name"

LARGE = 4 << 20
"""Bytes of a block of memory that `redraft train` has go back to the system when it is freed. At 2 MB, just
less than activations of the default model at 2,048 tokens in bf16, a step took twice as long: what does not
fill torch's large pages is mapped anew in small ones."""

LEARNING_RATE = {"full": 2e-5, "lora": 2e-4}
"""SelFee's, Alpaca's and Vicuna's; and the usual one of adapters, ten times as high (Schulman et al., "LoRA
Without Regret", 2025)."""


def help_records() -> dict[str, list[tuple[str, str]]]:
    """Group to the settings in it, for `--help`: how each is written, and what it is."""
    groups: dict[str, list[tuple[str, str]]] = {MODEL: [], DATA: [], STEPS: [], RUN: []}
    groups[STEPS] = [*((f"--{name}", told) for name, told in FIRST.items()), ("--…", REST)]
    kinds = get_type_hints(Options)
    for each in fields(Options):
        shown, kind = _shown(each.default), kinds[each.name]
        choices = f": {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
        told = f"{each.metadata['help']}{choices}{f'  [{shown}]' if shown else ''}"
        groups[each.metadata["group"]].append((f"--{each.name}", told))
    return groups


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return " ".join(default)
    return "" if default is None else str(default)
