"""redraft's own settings of a training run, beside those of transformers' `TrainingArguments`.

Each has a name, a type and a help text. `settings.args` reads them from flags and recipes, and `--help`
prints them. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from redraft.formats import Objective, TrainingFormat
from redraft.options import OptionModel, option, options_of

MODEL, DATA, STEPS, RUN = "Model", "Data", "Training", "Run"


class RunOptions(OptionModel):
    """redraft's settings of any run. The help texts describe each."""

    model_name_or_path: str = option(
        "a folder, a .gguf file, org/name, or default; +FOLDER merges an adapter first",
        MODEL,
        default="default",
    )
    data_path: tuple[str, ...] = option("files of records in any shape that redraft reads", DATA, default=())
    format: TrainingFormat = option(
        "the training text (chat: the model's own template)", DATA, default="selfee"
    )
    model_max_length: int = option("the most tokens of a record, and of a packed row", DATA, default=2048)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "number format of the weights during training", MODEL, default="auto"
    )
    lora: bool | None = option("train an adapter; by default if full training does not fit", MODEL)
    qlora: bool = option(
        "train an adapter on 4-bit weights; needs a GPU and bitsandbytes", MODEL, default=False
    )
    lora_r: int = option("rank of the adapter", MODEL, default=16, ge=1)
    lora_alpha: float = option("scale of the adapter", MODEL, default=32.0, gt=0)
    lora_dropout: float = option("dropout before the adapter", MODEL, default=0.0, ge=0, lt=1)
    lora_from: str | None = option("the adapter to go on from: a folder, or a GGUF file", MODEL)
    lora_target_modules: tuple[str, ...] = option(
        "layers that get an adapter", MODEL, default=("all-linear",)
    )
    pad_token: str | None = option("a token to add, as SelFee and Alpaca add [PAD]", MODEL)
    rows_a_step: int | None = option(
        "rows in a step over all processes; --gradient_accumulation_steps follows from it", STEPS, ge=1
    )
    workers: int | None = option("processes that tokenise; by default one per core", DATA, ge=1)
    cache_dir: str | None = option("folder for prepared data", DATA)
    overwrite_output_dir: bool = option(
        "start over: delete the checkpoints and the result in --output_dir", RUN, default=False
    )
    preview: int | None = option("show this many training examples, and exit", RUN, ge=1)
    estimate: bool = option("estimate the memory and time of the run, and exit", RUN, default=False)
    price_per_hour: float | None = option("price of all machines together, for --estimate", RUN, ge=0)
    dry_run: bool = option("do everything except the steps", RUN, default=False)
    quiet: bool = option("hide progress and remarks", RUN, default=False)

    def usual_rate(self, *, lora: bool) -> float:
        """Return the default learning rate."""
        return LEARNING_RATE["lora" if lora else "full"]


class DataOptions(RunOptions):
    """redraft's settings of a run whose loss is that of given data."""

    eval_data_path: tuple[str, ...] = option(
        "files for the evaluation loss (--eval_strategy)", DATA, default=()
    )
    divergence_steps: int = option(
        "stop after this many steps in a row with a loss far too high; 0: never", RUN, default=20, ge=0
    )


class TrainOptions(DataOptions):
    """redraft's settings of supervised fine-tuning."""

    training_objective: Objective = option(
        "what carries loss (all but rejected answers, all, one answer, all but answer 0, feedback)",
        DATA,
        default="accepted",
    )
    answer: Literal["accepted", "first"] = option(
        "the one that --training_objective answer learns (first: answer 0 even if rejected, as in SelFee)",
        DATA,
        default="accepted",
    )
    packing: bool = option(
        "fill rows with several records; otherwise a batch counts records", DATA, default=True
    )
    gguf: str | None = option("also write the result to this GGUF file", RUN)
    gguf_quant: Literal["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = option(
        "number format of --gguf, for a whole model", RUN, default="f16"
    )


class RewardOptions(DataOptions):
    """redraft's settings of reward models."""

    eval_data_path: tuple[str, ...] = option(
        "files of pairs that the result is measured on", DATA, default=()
    )
    format: TrainingFormat = option(
        "the text of a prompt and its answer (chat: the model's own template)", DATA, default="chat"
    )
    model_max_length: int = option("the most tokens of a prompt with its answer", DATA, default=2048)
    loss: Literal["pairwise", "pairwise-tokens"] = option(
        "compare at the last token, or at each token from where the answers part, as in trlX",
        STEPS,
        default="pairwise",
    )
    margin: float | str = option(
        "by how much the chosen reward should be higher: a number, or a field of the records",
        DATA,
        default=0.0,
    )
    label_smoothing: float = option(
        "the share of pairs whose labels are wrong", STEPS, default=0.0, ge=0, lt=0.5
    )


OUTPUTS = frozenset({"gguf", "gguf_quant", "preview", "estimate", "price_per_hour", "dry_run", "quiet"})
"""Settings that do not affect the trained weights."""

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "logging_steps": 1,
    "save_steps": 200,
    "save_total_limit": 2,
    "report_to": ["none"],
    "ddp_find_unused_parameters": False,  # all are used, and the search costs time
}
"""redraft's defaults that differ from those of transformers. For the learning rate, see `LEARNING_RATE`."""

FIRST: dict[str, str] = {
    "output_dir": "the folder for the result, its checkpoints and log",
    "max_steps": "steps of the optimizer; by default --num_train_epochs decides",
    "num_train_epochs": "passes over the data  [3]",
    "per_device_train_batch_size": "rows in a batch of a process; with --packing False, records  [4]",
    "gradient_accumulation_steps": "batches in a step  [1]",
    "learning_rate": "the peak of the schedule; by default 2e-5 for all weights and 2e-4 for an adapter",
    "warmup_steps": "steps of warm-up, or below 1 their share of all steps  [0.03]",
    "save_steps": "steps between two checkpoints  [200]",
    "seed": "seed of the order of records and of all other randomness  [42]",
}
"""Help texts of the settings of transformers that users need first."""

REST = "and every other field of transformers' TrainingArguments, by its name"

LARGE = 4 << 20
"""Bytes from which `redraft train` returns a freed block of memory to the system. At 2 MB, just below the
activations of the default model at 2,048 tokens in bf16, a step took twice as long: blocks that do not fill
torch's large pages are mapped again in small ones."""

LEARNING_RATE = {"full": 2e-5, "lora": 2e-4}
"""For all weights, that of SelFee, Alpaca and Vicuna; for adapters, ten times as much (Schulman et al., "LoRA
Without Regret", 2025)."""


@dataclass(frozen=True, eq=False)
class TrainVerb:
    """What the settings of a verb of `redraft train` are."""

    name: str
    options: type[RunOptions]
    defaults: Mapping[str, Any]  # defaults that differ from those of transformers
    first: Mapping[str, str]  # help texts of the settings of transformers that users need first


SFT = TrainVerb("sft", TrainOptions, DEFAULTS, FIRST)

REWARD = TrainVerb(
    "reward",
    RewardOptions,
    {**DEFAULTS, "num_train_epochs": 1},
    {
        **FIRST,
        "num_train_epochs": "passes over the data: a second one mostly learns the pairs by heart  [1]",
        "per_device_train_batch_size": "pairs in a batch of a process  [4]",
        "seed": "seed of the new head, the order of pairs, and all other randomness  [42]",
    },
)


def help_records(verb: TrainVerb = SFT) -> dict[str, list[tuple[str, str]]]:
    """Return the flags of each group with their help texts, for `--help`."""
    groups: dict[str, list[tuple[str, str]]] = {MODEL: [], DATA: [], STEPS: [], RUN: []}
    groups[STEPS] = [*((f"--{name}", text) for name, text in verb.first.items()), ("--…", REST)]
    for name, each in options_of(verb.options).items():
        shown = " ".join(each.default) if isinstance(each.default, tuple) else each.default
        choices = f": {', '.join(get_args(each.type))}" if get_origin(each.type) is Literal else ""
        text = f"{each.text}{choices}{'' if shown in (None, '') else f'  [{shown}]'}"
        groups.setdefault(each.group, []).append((f"--{name}", text))
    return groups


ROLLOUTS, JUDGING, ALGORITHM = "Rollouts", "Reward", "Algorithm"


class PpoOptions(DataOptions):
    """redraft's settings of a run of PPO. The help texts describe each."""

    format: TrainingFormat = option(
        "the text of a prompt (chat: the model's own template)", DATA, default="chat"
    )
    model_max_length: int = option("the most tokens of a prompt with its answer", DATA, default=1024)
    divergence_steps: int = option(
        "the loss of PPO does not fall, so it is not watched", RUN, default=0, ge=0
    )
    num_layers_unfrozen: int | None = option(
        "with --lora False, how many of the top layers are trained  [2]", MODEL, ge=1
    )
    algorithm: Literal["ppo", "rloo", "grpo"] = option(
        "how advantages are made",
        ALGORITHM,
        default="ppo",
    )
    reward: tuple[str, ...] = option(
        "what judges an answer: a check, reward:MODEL, python:module.function, score:PROGRAM or https://…; "
        "several add up: A 2*B",
        JUDGING,
        default=(),
    )
    num_rollouts: int = option("answers in a rollout batch, over all processes", ROLLOUTS, default=128, ge=1)
    chunk_size: int = option("answers that are written and judged together", ROLLOUTS, default=16, ge=1)
    num_generations: int = option("answers to each prompt, for rloo and grpo", ROLLOUTS, default=4, ge=2)
    max_new_tokens: int = option("the most tokens of an answer", ROLLOUTS, default=128, ge=1)
    max_length: int | None = option(
        "the most tokens of a prompt with its answer, in place of --max_new_tokens", ROLLOUTS, ge=2
    )
    min_new_tokens: int = option("the fewest tokens of an answer", ROLLOUTS, default=0, ge=0)
    rollout_url: str | None = option(
        "let a server of vLLM write the answers, such as http://127.0.0.1:8000/v1; it loads each adapter",
        ROLLOUTS,
    )
    temperature: float = option("temperature of the answers", ROLLOUTS, default=1.0, gt=0)
    missing_eos_penalty: float = option(
        "subtracted from the reward of an answer that does not end by itself", JUDGING, default=0.0, ge=0
    )
    scale_reward: Literal["none", "running", "ref"] = option(
        "divide by the deviation of all rewards so far (running), or of the first (ref)",
        JUDGING,
        default="none",
    )
    cliprange_reward: float | None = option("clip rewards to plus or minus this (trlX: 10)", JUDGING, gt=0)
    ppo_epochs: int = option("passes over a rollout batch", ALGORITHM, default=4, ge=1)
    init_kl_coef: float = option(
        "price of a nat of KL from the reference policy, at first", ALGORITHM, default=0.05, ge=0
    )
    target: float | None = option(
        "KL of an answer in nats that the price is adapted to; without it, the price stays", ALGORITHM, gt=0
    )
    horizon: int = option("answers over which the price adapts", ALGORITHM, default=10_000, ge=1)
    gamma: float = option("discount of later rewards", ALGORITHM, default=1.0, ge=0, le=1)
    lam: float = option("lambda of generalised advantage estimation", ALGORITHM, default=0.95, ge=0, le=1)
    cliprange: float = option(
        "clip the ratio of probabilities to 1 plus or minus this", ALGORITHM, default=0.2, gt=0
    )
    importance_sampling_clip_max: float = option(
        "weigh a token by the trainer's probability of it over the sampler's, at most this (0: do not)",
        ALGORITHM,
        default=2.0,
        ge=0,
    )
    cliprange_value: float = option(
        "clip the change of values to plus or minus this", ALGORITHM, default=0.2, gt=0
    )
    stop_kl: float | None = option("end the run when an answer has more nats of KL", RUN, gt=0)
    stop_step_kl: float | None = option(
        "end the run when the steps on a rollout batch move a token by more nats of KL", RUN, gt=0
    )
    stop_entropy: float | None = option("end the run when a token has fewer nats of entropy", RUN, gt=0)
    vf_coef: float = option("weight of the value loss", ALGORITHM, default=0.1, ge=0)


PPO_DEFAULTS: dict[str, Any] = {
    **DEFAULTS,
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "num_train_epochs": 1,
}
"""A rollout batch is a new problem, so the learning rate stays."""

PPO = TrainVerb(
    "ppo",
    PpoOptions,
    PPO_DEFAULTS,
    {
        **FIRST,
        "max_steps": "steps of the optimizer; by default --num_train_epochs decides",
        "num_train_epochs": "passes over the prompts  [1]",
        "per_device_train_batch_size": "answers in a minibatch  [16]",
        "warmup_steps": "steps of warm-up, or below 1 their share of all steps  [0]",
        "seed": "seed of the order of prompts, of sampling, and of all other randomness  [42]",
    },
)


VERBS = {verb.name: verb for verb in (SFT, REWARD, PPO)}  # the verbs of `redraft train` by name


def room(own: PpoOptions, prompt: int) -> int:
    """Return the most tokens of an answer to a prompt of `prompt` tokens."""
    return own.max_new_tokens if own.max_length is None else own.max_length - prompt


def samples_each(own: PpoOptions) -> int:
    """Return how many answers a prompt gets in a rollout batch."""
    return own.num_generations if own.algorithm in ("rloo", "grpo") else 1


def layers_unfrozen(own: PpoOptions) -> int:
    """Return how many layers are trained without an adapter: by default as many as in trlX's default."""
    return 2 if own.num_layers_unfrozen is None else own.num_layers_unfrozen
