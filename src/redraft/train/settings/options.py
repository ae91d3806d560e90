"""redraft's own settings of a training run, beside those of transformers' `TrainingArguments`.

Each has a name, a type and a help text. `settings.args` reads them from flags and recipes, and `--help`
prints them. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redraft.formats import Objective, TrainingFormat

MODEL, DATA, STEPS, RUN = "Model", "Data", "Training", "Run"


def own_setting(group: str, help: str, default: Any) -> Any:  # noqa: A002  (its name in the metadata)
    """Return a field of settings with its help text and the group that it is listed in."""
    return field(default=default, metadata={"help": help, "group": group})


@dataclass(frozen=True)
class RunOptions:
    """redraft's settings of any run. The help texts describe each."""

    model_name_or_path: str = own_setting(
        MODEL, "a folder, a .gguf file, org/name, or default; +FOLDER merges an adapter first", "default"
    )
    data_path: tuple[str, ...] = own_setting(DATA, "files of records in any shape that redraft reads", ())
    format: TrainingFormat = own_setting(DATA, "the training text (chat: the model's own template)", "selfee")
    model_max_length: int = own_setting(DATA, "the most tokens of a record, and of a packed row", 2048)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = own_setting(
        MODEL, "number format of the weights during training", "auto"
    )
    lora: bool | None = own_setting(MODEL, "train an adapter; by default if full training does not fit", None)
    qlora: bool = own_setting(
        MODEL, "train an adapter on 4-bit weights; needs a GPU and bitsandbytes", default=False
    )
    lora_r: int = own_setting(MODEL, "rank of the adapter", 16)
    lora_alpha: float = own_setting(MODEL, "scale of the adapter", 32.0)
    lora_dropout: float = own_setting(MODEL, "dropout before the adapter", 0.0)
    lora_target_modules: tuple[str, ...] = own_setting(MODEL, "layers that get an adapter", ("all-linear",))
    pad_token: str | None = own_setting(MODEL, "a token to add, as SelFee and Alpaca add [PAD]", None)
    workers: int | None = own_setting(DATA, "processes that tokenise; by default one per core", None)
    cache_dir: str | None = own_setting(DATA, "folder for prepared data", None)
    overwrite_output_dir: bool = own_setting(
        RUN,
        "start over: delete the checkpoints and the result in --output_dir",
        default=False,
    )
    preview: int | None = own_setting(RUN, "show this many training examples, and exit", None)
    estimate: bool = own_setting(RUN, "estimate the memory and time of the run, and exit", default=False)
    price_per_hour: float | None = own_setting(RUN, "price of all machines together, for --estimate", None)
    dry_run: bool = own_setting(RUN, "do everything except the steps", default=False)
    quiet: bool = own_setting(RUN, "hide progress and remarks", default=False)

    def usual_rate(self, *, lora: bool) -> float:
        """Return the default learning rate."""
        return LEARNING_RATE["lora" if lora else "full"]


@dataclass(frozen=True)
class DataOptions(RunOptions):
    """redraft's settings of a run whose loss is that of given data."""

    eval_data_path: tuple[str, ...] = own_setting(DATA, "files for the evaluation loss (--eval_strategy)", ())
    divergence_steps: int = own_setting(
        RUN, "stop after this many steps in a row with a loss far too high; 0: never", 20
    )


@dataclass(frozen=True)
class TrainOptions(DataOptions):
    """redraft's settings of supervised fine-tuning."""

    training_objective: Objective = own_setting(
        DATA,
        "what carries loss (all but rejected answers, all, one answer, all but answer 0, feedback)",
        "accepted",
    )
    answer: Literal["accepted", "first"] = own_setting(
        DATA,
        "the one that --training_objective answer learns (first: answer 0 even if rejected, as in SelFee)",
        "accepted",
    )
    packing: bool = own_setting(
        DATA, "fill rows with several records; otherwise a batch counts records", default=True
    )
    gguf: str | None = own_setting(RUN, "also write the result to this GGUF file", None)
    gguf_quant: Literal["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = own_setting(
        RUN, "number format of --gguf, for a whole model", "f16"
    )


@dataclass(frozen=True)
class RewardOptions(DataOptions):
    """redraft's settings of reward models."""

    eval_data_path: tuple[str, ...] = own_setting(DATA, "files of pairs that the result is measured on", ())
    format: TrainingFormat = own_setting(
        DATA, "the text of a prompt and its answer (chat: the model's own template)", "chat"
    )
    model_max_length: int = own_setting(DATA, "the most tokens of a prompt with its answer", 2048)
    loss: Literal["pairwise", "pairwise-tokens"] = own_setting(
        STEPS,
        "compare at the last token, or at each token from where the answers part, as in trlX",
        "pairwise",
    )
    margin: float | str = own_setting(
        DATA, "by how much the chosen reward should be higher: a number, or a field of the records", 0.0
    )
    label_smoothing: float = own_setting(STEPS, "the share of pairs whose labels are wrong", 0.0)


@dataclass(frozen=True)
class DpoOptions(DataOptions):
    """redraft's settings of DPO. TRL computes the loss, so its settings have TRL's names."""

    eval_data_path: tuple[str, ...] = own_setting(DATA, "files of pairs for --eval_strategy", ())
    format: TrainingFormat = own_setting(
        DATA, "the text of a prompt and its answer (chat: the model's own template)", "chat"
    )
    model_max_length: int = own_setting(DATA, "the most tokens of a prompt with its answer", 2048)
    beta: float = own_setting(STEPS, "how strongly the model is held to what it was before", 0.1)
    loss_type: Literal[
        "sigmoid",
        "sigmoid_norm",
        "hinge",
        "ipo",
        "robust",
        "exo_pair",
        "nca_pair",
        "bco_pair",
        "sppo_hard",
        "apo_zero",
        "apo_down",
        "discopop",
    ] = own_setting(STEPS, "the loss, in TRL's names; sigmoid is that of the paper", "sigmoid")
    label_smoothing: float = own_setting(
        STEPS, "the share of pairs whose labels are wrong, for robust and exo_pair", 0.0
    )

    def usual_rate(self, *, lora: bool) -> float:
        """Return the default learning rate: TRL's, and as everywhere ten times as much for an adapter."""
        return 1e-5 if lora else 1e-6


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
    """What the settings of a verb of `redraft train` are.

    Attributes:
        name: The verb.
        options: redraft's settings.
        defaults: Defaults that differ from those of transformers.
        first: Help texts of the settings of transformers that users need first.
    """

    name: str
    options: type[RunOptions]
    defaults: Mapping[str, Any]
    first: Mapping[str, str]


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

DPO = TrainVerb(
    "dpo",
    DpoOptions,
    REWARD.defaults,
    {
        **REWARD.first,
        "learning_rate": "the peak of the schedule; by default 1e-6 for all weights and 1e-5 for an adapter",
        "seed": FIRST["seed"],
    },
)


def help_records(verb: TrainVerb = SFT) -> dict[str, list[tuple[str, str]]]:
    """Return the flags of each group with their help texts, for `--help`."""
    groups: dict[str, list[tuple[str, str]]] = {MODEL: [], DATA: [], STEPS: [], RUN: []}
    groups[STEPS] = [*((f"--{name}", text) for name, text in verb.first.items()), ("--…", REST)]
    kinds = get_type_hints(verb.options)
    for each in fields(verb.options):
        shown, kind = _shown(each.default), kinds[each.name]
        choices = f": {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
        text = f"{each.metadata['help']}{choices}{f'  [{shown}]' if shown else ''}"
        groups.setdefault(each.metadata["group"], []).append((f"--{each.name}", text))
    return groups


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return " ".join(default)
    return "" if default is None else str(default)


ROLLOUTS, JUDGING, ALGORITHM = "Rollouts", "Reward", "Algorithm"


@dataclass(frozen=True)
class PpoOptions(DataOptions):
    """redraft's settings of a run of PPO. The help texts describe each."""

    format: TrainingFormat = own_setting(
        DATA, "the text of a prompt (chat: the model's own template)", "chat"
    )
    model_max_length: int = own_setting(DATA, "the most tokens of a prompt with its answer", 1024)
    divergence_steps: int = own_setting(RUN, "the loss of PPO does not fall, so it is not watched", 0)
    num_layers_unfrozen: int | None = own_setting(
        MODEL, "with --lora False, how many of the top layers are trained  [2]", None
    )
    algorithm: Literal["ppo", "ppo-trlx", "rloo", "grpo"] = own_setting(
        ALGORITHM, "how advantages are made (ppo-trlx: as StableVicuna was trained, faults included)", "ppo"
    )
    reward: tuple[str, ...] = own_setting(
        JUDGING,
        "what judges an answer: a check, reward:MODEL, python:module.function, score:PROGRAM or https://…; "
        "several add up: A 2*B",
        (),
    )
    revision_bonus: float = own_setting(
        JUDGING,
        "credit answer 0 of --chains by itself, and what follows with this times what revising changed, too",
        0.0,
    )
    chains: bool = own_setting(
        ROLLOUTS, "let the policy write chains (--format selfee); the final answer is judged", default=False
    )
    num_rollouts: int = own_setting(ROLLOUTS, "answers in a rollout batch, over all processes", 128)
    chunk_size: int = own_setting(ROLLOUTS, "answers that are written and judged together", 16)
    num_generations: int = own_setting(ROLLOUTS, "answers to each prompt, for rloo and grpo", 4)
    max_new_tokens: int = own_setting(ROLLOUTS, "the most tokens of an answer", 128)
    max_length: int | None = own_setting(
        ROLLOUTS, "the most tokens of a prompt with its answer, in place of --max_new_tokens", None
    )
    min_new_tokens: int = own_setting(ROLLOUTS, "the fewest tokens of an answer", 0)
    rollout_url: str | None = own_setting(
        ROLLOUTS,
        "let a server of vLLM write the answers, such as http://127.0.0.1:8000/v1; it loads each adapter",
        None,
    )
    temperature: float = own_setting(ROLLOUTS, "temperature of the answers", 1.0)
    missing_eos_penalty: float = own_setting(
        JUDGING, "subtracted from the reward of an answer that does not end by itself", 0.0
    )
    scale_reward: Literal["none", "running", "ref"] = own_setting(
        JUDGING, "divide by the deviation of all rewards so far (running), or of the first (ref)", "none"
    )
    cliprange_reward: float | None = own_setting(
        JUDGING, "clip rewards to plus or minus this (trlX: 10)", None
    )
    ppo_epochs: int = own_setting(ALGORITHM, "passes over a rollout batch", 4)
    init_kl_coef: float = own_setting(
        ALGORITHM, "price of a nat of KL from the reference policy, at first", 0.05
    )
    target: float | None = own_setting(
        ALGORITHM, "KL of an answer in nats that the price is adapted to; without it, the price stays", None
    )
    first_kl_coef: float | None = own_setting(
        ALGORITHM, "price of KL in answer 0 of --chains, if it is not that of the rest", None
    )
    horizon: int = own_setting(ALGORITHM, "answers over which the price adapts", 10_000)
    gamma: float = own_setting(ALGORITHM, "discount of later rewards", 1.0)
    lam: float = own_setting(ALGORITHM, "lambda of generalised advantage estimation", 0.95)
    cliprange: float = own_setting(ALGORITHM, "clip the ratio of probabilities to 1 plus or minus this", 0.2)
    importance_sampling_clip_max: float = own_setting(
        ALGORITHM,
        "weigh a token by the trainer's probability of it over the sampler's, at most this (0: do not)",
        2.0,
    )
    cliprange_value: float = own_setting(ALGORITHM, "clip the change of values to plus or minus this", 0.2)
    stop_kl: float | None = own_setting(RUN, "end the run when an answer has more nats of KL", None)
    stop_step_kl: float | None = own_setting(
        RUN, "end the run when the steps on a rollout batch move a token by more nats of KL", None
    )
    stop_entropy: float | None = own_setting(RUN, "end the run when a token has fewer nats of entropy", None)
    vf_coef: float = own_setting(ALGORITHM, "weight of the value loss", 0.1)


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


def room(own: PpoOptions, prompt: int) -> int:
    """Return the most tokens of an answer to a prompt of so many tokens."""
    return own.max_new_tokens if own.max_length is None else own.max_length - prompt


def samples_each(own: PpoOptions) -> int:
    """Return how many answers a prompt gets in a rollout batch."""
    return own.num_generations if own.algorithm in ("rloo", "grpo") else 1


def layers_unfrozen(own: PpoOptions) -> int:
    """Return how many layers are trained without an adapter: by default as many as in trlX's default."""
    return 2 if own.num_layers_unfrozen is None else own.num_layers_unfrozen
