"""Define the settings of `redraft train`: about 50 for any run, and some for each verb. Usage:

    redraft train VERB RECIPE --name value --switch --list a b

Settings of optimizer, schedule, checkpoints and logs are named like fields of transformers'
`TrainingArguments`, which `train/trained.py` makes. Other fields of `TrainingArguments` cannot be set. Flags
override the recipe. The commands of SelFee, Alpaca and Vicuna work unchanged: `OLD` maps old setting names to
current names. This module imports no module that is slow to import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from redraft.chain.documents import recipe_of, shipped_recipes
from redraft.errors import UsageError, nearest
from redraft.jobs.formats import Objective, TrainingFormat
from redraft.options import Option, OptionModel, option, options_of
from redraft.train.processes import ranks

MODEL, DATA, STEPS, RUN = "Model", "Data", "Training", "Run"

_Home = AfterValidator(lambda value: value and os.path.expanduser(value))  # noqa: PTH111
Place = Annotated[str, _Home]
"""A name on the hub (org/name), or a path with `~` expanded, because no shell expands `~` in a recipe."""
MaybePlace = Annotated[str | None, _Home]

_Several = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
Texts = Annotated[tuple[str, ...], _Several]
Places = Annotated[tuple[Place, ...], _Several]

_Text = BeforeValidator(lambda value: str(value) if isinstance(value, bool) else value)
_Strategy = BeforeValidator(lambda value: "no" if value is False else value)  # YAML reads no as False
Strategy = Annotated[Literal["no", "steps", "epoch"], _Strategy]
Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt"]


class RunOptions(OptionModel):
    """Settings of every training run."""

    model_config = ConfigDict(strict=False)  # flags are texts, and so is `1e-5` in YAML

    HYPHEN = "_"
    verb: ClassVar[str]  # the name in `redraft train VERB`

    model_name_or_path: Place = option(
        "the base model: a folder, a .gguf file, org/name, or default; +FOLDER merges an adapter first",
        MODEL,
        default="default",
    )
    data_path: Places = option("files of records in any format that redraft reads", DATA, default=())
    format: TrainingFormat = option("format of the text (chat: the model's template)", DATA, default="selfee")
    model_max_length: int = option("maximum tokens of a record, and of a packed row", DATA, default=2048)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "number format of the weights during training", MODEL, default="auto"
    )
    bf16: bool | None = option("compute layers in bf16; default on CPUs with bf16 instructions", MODEL)
    fp16: bool = option("compute layers in fp16; needs a GPU", MODEL, default=False)
    tf32: bool | None = option("compute 32-bit products in TF32; needs a GPU", MODEL)
    lora: bool | None = option("train an adapter; default without a large enough GPU", MODEL)
    lora_r: int = option("rank of the adapter", MODEL, default=16, ge=1)
    lora_alpha: float = option("the adapter's scale multiplied by its rank", MODEL, default=32.0, gt=0)
    lora_dropout: float = option("dropout on the adapter's input", MODEL, default=0.0, ge=0, lt=1)
    lora_target_modules: Texts = option("layers that get an adapter", MODEL, default=("all-linear",))
    pad_token: str | None = option("a padding token to add, such as SelFee's [PAD]", MODEL)
    output_dir: MaybePlace = option("the folder for the result, its checkpoints and log", STEPS)
    max_steps: int | None = option("steps of the optimizer, in place of --num_train_epochs", STEPS, ge=1)
    num_train_epochs: float = option("passes over the data", STEPS, default=3.0, gt=0)
    per_device_train_batch_size: int = option(
        "rows per batch and process (records, with --packing False)", STEPS, default=4, ge=1
    )
    gradient_accumulation_steps: int = option("accumulate this many batches per step", STEPS, default=1, ge=1)
    learning_rate: float | None = option(
        "the peak learning rate; by default 2e-5 for all weights and 2e-4 for an adapter", STEPS, ge=0
    )
    lr_scheduler_type: Schedule = option("schedule that changes the learning rate", STEPS, default="cosine")
    warmup_ratio: float = option(
        "share of steps in which the learning rate rises from 0", STEPS, default=0.03, ge=0, lt=1
    )
    warmup_steps: int | None = option("warm-up steps, in place of --warmup_ratio", STEPS, ge=0)
    optim: Literal["adamw_torch_fused", "adamw_torch", "adafactor", "sgd"] = option(
        "optimizer that updates the weights", STEPS, default="adamw_torch_fused"
    )
    weight_decay: float = option("weight decay, except for norms and biases", STEPS, default=0.0, ge=0)
    adam_beta1: float = option("decay of AdamW's first moment", STEPS, default=0.9, ge=0, lt=1)
    adam_beta2: float = option("decay of AdamW's second moment", STEPS, default=0.999, ge=0, lt=1)
    adam_epsilon: float = option("a value added to AdamW's denominator", STEPS, default=1e-8, ge=0)
    max_grad_norm: float = option("clip the gradient to this norm; 0: never", STEPS, default=1.0, ge=0)
    seed: int = option(
        "seed for the order of records and all other randomness", STEPS, default=42, ge=0, le=2**32 - 1
    )
    activation_checkpointing: bool = option(
        "recompute activations: less memory, a fifth slower (also: --gradient_checkpointing)",
        STEPS,
        default=False,
    )
    torch_compile: bool = option("compile the model first", STEPS, default=False)
    fsdp: Annotated[str, _Text] = option(
        "shard the model over GPUs: full_shard or shard_grad_op; offload keeps weights in CPU memory",
        STEPS,
        default="",
    )
    fsdp_transformer_layer_cls_to_wrap: str | None = option(
        "class of the layers that --fsdp wraps; by default, transformers' choice for the model", STEPS
    )
    use_cpu: bool = option("do not use a GPU", STEPS, default=False)
    workers: int | None = option("number of tokenising processes; by default one per core", DATA, ge=1)
    cache_dir: MaybePlace = option("keep prepared data in this folder", DATA)
    save_strategy: Strategy = option("when to save a checkpoint", RUN, default="steps")
    save_steps: int = option("steps between two checkpoints", RUN, default=200, ge=1)
    save_total_limit: int | None = option("keep only this many checkpoints, the newest", RUN, default=2, ge=1)
    logging_steps: int = option("steps between two lines of the log", RUN, default=1, ge=1)
    report_to: Texts = option("also log to tensorboard, wandb, mlflow …", RUN, default=("none",))
    run_name: str | None = option("name of the run for --report_to", RUN)
    overwrite_output_dir: bool = option(
        "start over: delete the checkpoints and the result in --output_dir", RUN, default=False
    )
    preview: int | None = option("show this many training examples, and exit", RUN, ge=1)
    estimate: bool = option("estimate time and memory from two steps, and exit", RUN, default=False)
    price_per_hour: float | None = option("price per hour of all machines, for --estimate", RUN, ge=0)
    dry_run: bool = option("prepare the run, and exit before its steps", RUN, default=False)
    quiet: bool = option("hide progress and remarks", RUN, default=False)

    def check(self) -> None:
        """Raise `UsageError` if settings contradict each other."""
        if unknown := [word for word in self.fsdp_words if word not in FSDP]:
            raise UsageError(f"--fsdp does not know {unknown[0]!r}.", hint=f"Known: {', '.join(FSDP)}")

    @property
    def fsdp_words(self) -> list[str]:
        """The values given to `--fsdp`; empty if FSDP is off."""
        words = self.fsdp.replace(",", " ").split()
        return [] if [word.lower() for word in words] == ["false"] else words


FSDP = {
    "full_shard": {"reshard_after_forward": True},
    "shard_grad_op": {"reshard_after_forward": False},
    "offload": {"cpu_offload": True},
    "auto_wrap": {},  # layers are wrapped one by one anyway
    "True": {},
}
"""Maps the values of `--fsdp` in commands of SelFee, Alpaca and Vicuna to settings of FSDP 2."""


class LossOptions(RunOptions):
    """Settings of `redraft train sft` and `redraft train reward`, which train on given texts."""

    eval_data_path: Places = option("evaluate on files like --data_path (--eval_strategy)", DATA, default=())
    eval_strategy: Strategy = option("when to evaluate (also: --evaluation_strategy)", RUN, default="no")
    eval_steps: int | None = option("steps between two evaluations; by default --logging_steps", RUN, ge=1)
    per_device_eval_batch_size: int | None = option(
        "rows per evaluation batch; by default, as in training", STEPS, ge=1
    )
    divergence_steps: int = option(
        "stop if the loss is far too high for this many steps or a third of all; 0: never",
        RUN,
        default=20,
        ge=0,
    )


class SftOptions(LossOptions):
    """The settings of supervised fine-tuning."""

    verb = "sft"

    training_objective: Objective = option(
        "texts with loss (accepted: all except rejected answers; full: all; answer: the answer that --answer "
        "names; revision: all except answer 0; critic: feedback)",
        DATA,
        default="accepted",
    )
    answer: Literal["accepted", "first"] = option(
        "the answer that --training_objective answer trains on (first: answer 0, as in SelFee)",
        DATA,
        default="accepted",
    )
    packing: bool = option(
        "fill each row with several records; False: one record per row", DATA, default=True
    )
    lora_from: MaybePlace = option("adapter to train further: a folder or a GGUF file", MODEL)
    gguf: MaybePlace = option("also write the result to this GGUF file", RUN)

    def check(self) -> None:
        """Raise `UsageError` if settings contradict each other."""
        super().check()
        if self.answer == "first" and self.training_objective != "answer":
            hint = "--training_objective answer --answer first"
            raise UsageError("--answer has no effect without --training_objective answer.", hint=hint)


class RewardOptions(LossOptions):
    """The settings of reward model training."""

    verb = "reward"

    eval_data_path: Places = option("files of pairs to measure the result on", DATA, default=())
    num_train_epochs: float = option(
        "passes over the data (a second one mostly memorises the pairs)", STEPS, default=1.0, gt=0
    )
    per_device_train_batch_size: int = option("pairs per batch and process", STEPS, default=4, ge=1)
    format: TrainingFormat = option(
        "format of a prompt with its answer (chat: the model's own template)", DATA, default="chat"
    )
    model_max_length: int = option("maximum tokens of a prompt with its answer", DATA, default=2048)


LARGE = 4 << 20
"""`redraft train` returns freed memory blocks of this many bytes or more to the system. When blocks of 2 MB
were returned, a step of the default model took twice as long: activations (2,048 tokens in bf16) are slightly
larger than 2 MB, so memory was mapped anew each time, in small pages."""

LEARNING_RATE = {"full": 2e-5, "lora": 2e-4}
"""The default learning rates: for all weights, the rate of SelFee, Alpaca and Vicuna; for an adapter, ten
times that rate (Schulman et al., "LoRA Without Regret", 2025)."""


def help_records(options: type[RunOptions]) -> dict[str, list[tuple[str, str]]]:
    """Return the flags of each group with their help texts, for `--help`."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, each in options_of(options).items():
        shown = " ".join(each.default) if isinstance(each.default, tuple) else each.default
        choices = f": {', '.join(get_args(each.type))}" if get_origin(each.type) is Literal else ""
        text = f"{each.text}{choices}{'' if shown in (None, '') else f'  [{shown}]'}"
        groups.setdefault(each.group, []).append((f"--{name}", text))
    return groups


ROLLOUTS, JUDGING, ALGORITHM = "Rollouts", "Reward", "Algorithm"
_ALL = "answers are drawn from all tokens, because the loss uses every token's probability"


class PpoOptions(RunOptions):
    """The settings of PPO training."""

    verb = "ppo"

    format: TrainingFormat = option(
        "format of a prompt (chat: the model's own template)", DATA, default="chat"
    )
    model_max_length: int = option("maximum tokens of a prompt with its answer", DATA, default=1024)
    num_train_epochs: float = option("passes over the prompts", STEPS, default=1.0, gt=0)
    per_device_train_batch_size: int = option("answers in a minibatch", STEPS, default=16, ge=1)
    lr_scheduler_type: Schedule = option("schedule that changes the learning rate", STEPS, default="constant")
    warmup_ratio: float = option(
        "share of steps in which the learning rate rises from 0", STEPS, default=0.0, ge=0, lt=1
    )
    lora: bool | None = option(
        "train an adapter (required: the reference of PPO is the model without it)", MODEL, default=True
    )
    algorithm: Literal["ppo", "rloo", "grpo"] = option("how to estimate advantages", ALGORITHM, default="ppo")
    reward: Texts = option(
        "how to judge answers: CHECK, reward:MODEL or python:module.function; a weighted sum: A 2*B",
        JUDGING,
        default=(),
    )
    num_rollouts: int = option("answers per rollout batch, over all processes", ROLLOUTS, default=128, ge=1)
    chunk_size: int = option("answers written at once, and judged together", ROLLOUTS, default=16, ge=1)
    num_generations: int = option("answers per prompt, for rloo and grpo", ROLLOUTS, default=4, ge=2)
    max_new_tokens: int = option("maximum tokens of an answer", ROLLOUTS, default=128, ge=1)
    max_length: int | None = option(
        "maximum tokens of a prompt with its answer, in place of --max_new_tokens", ROLLOUTS, ge=2
    )
    min_new_tokens: int = option("minimum tokens of an answer", ROLLOUTS, default=0, ge=0)
    temperature: float = option("temperature for sampling answers", ROLLOUTS, default=1.0, gt=0)
    top_k: int = option("must be 0, as in StableVicuna", ROLLOUTS, default=0, what=f"0: {_ALL}", ge=0, le=0)
    top_p: float = option(
        "must be 1, as in StableVicuna", ROLLOUTS, default=1.0, what=f"1: {_ALL}", ge=1, le=1
    )
    do_sample: bool = option("must be True, as in StableVicuna", ROLLOUTS, default=True)
    missing_eos_penalty: float = option(
        "subtract this from the reward of an answer that was cut off", JUDGING, default=0.0, ge=0
    )
    scale_reward: Literal["none"] = option("must be none, as in StableVicuna", JUDGING, default="none")
    cliprange_reward: float | None = option("clip rewards to plus or minus this (trlX: 10)", JUDGING, gt=0)
    ppo_epochs: int = option("passes over each rollout batch", ALGORITHM, default=4, ge=1)
    init_kl_coef: float = option(
        "the initial KL coefficient: penalty per nat of KL from the reference", ALGORITHM, default=0.05, ge=0
    )
    target: float | None = option(
        "target KL of an answer, in nats; without it, the KL coefficient stays the same", ALGORITHM, gt=0
    )
    horizon: int = option(
        "KL coefficient changes by about 20 % at most in this many answers", ALGORITHM, default=10_000, ge=1
    )
    gamma: float = option("discount factor of later rewards", ALGORITHM, default=1.0, ge=0, le=1)
    lam: float = option("lambda of generalised advantage estimation", ALGORITHM, default=0.95, ge=0, le=1)
    cliprange: float = option("clip probability ratios to 1 plus or minus this", ALGORITHM, default=0.2, gt=0)
    importance_sampling_clip_max: float = option(
        "limit of a token's importance weight, P(trainer) / P(sampler); 0: no weights",
        ALGORITHM,
        default=2.0,
        ge=0,
    )
    cliprange_value: float = option(
        "clip the change of values to plus or minus this", ALGORITHM, default=0.2, gt=0
    )
    vf_coef: float = option("weight of the value loss", ALGORITHM, default=0.1, ge=0)

    def check(self) -> None:
        """Raise `UsageError` if settings contradict each other."""
        super().check()
        if not self.lora:
            hint = "Merge the adapter afterwards: redraft weights merge-lora"
            raise UsageError("PPO trains only adapters; set --lora True.", hint=hint)
        if not self.do_sample:
            raise UsageError("--do_sample False is not supported.", hint=f"Leave it out: {_ALL}.")
        if 0 < (most := self.importance_sampling_clip_max) < 1:
            agreed = "the weight of a token on which sampler and trainer agree"
            hint = "Set it to 1 or more. Or set it to 0 for no importance weights."
            raise UsageError(f"--importance_sampling_clip_max {most:g} is below 1, {agreed}.", hint=hint)
        if self.fsdp_words:
            raise UsageError(
                "--fsdp splits the weights over processes, but PPO needs the whole model to write answers.",
                hint="Leave out --fsdp: each process then loads the whole model.",
            )
        if not self.max_length and self.min_new_tokens > self.max_new_tokens:
            raise UsageError(
                f"--min_new_tokens {self.min_new_tokens} is above --max_new_tokens {self.max_new_tokens}.",
                hint=f"--max_new_tokens {self.min_new_tokens}",
            )
        if self.least >= self.longest:
            why = f"an answer of {self.least} tokens leaves no room for a prompt in"
            hint = f"{self.longest_flag} {2 * self.least}"
            raise UsageError(f"{why} {self.longest_flag} {self.longest}.", hint=hint)
        self._check_rollouts()

    @property
    def longest(self) -> int:
        """The maximum number of tokens in a prompt and answer together."""
        return self.max_length or self.model_max_length

    @property
    def longest_flag(self) -> str:
        """The flag with which the user sets `longest`."""
        return "--max_length" if self.max_length else "--model_max_length"

    @property
    def least(self) -> int:
        """The number of tokens that a prompt must leave for an answer."""
        return max(self.min_new_tokens, 1) if self.max_length else self.max_new_tokens

    def _check_rollouts(self) -> None:
        step = self.per_device_train_batch_size * self.gradient_accumulation_steps * ranks()
        processes = f" × {ranks()} processes" if ranks() > 1 else ""
        for name, size in {
            "--chunk_size": min(self.chunk_size, self.num_rollouts),
            f"--per_device_train_batch_size × --gradient_accumulation_steps{processes}": step,
            "--num_generations": samples_each(self),
        }.items():
            if self.num_rollouts % size:
                message = f"--num_rollouts {self.num_rollouts} must be a multiple of {size} ({name})."
                raise UsageError(message, hint=f"--num_rollouts {-(-self.num_rollouts // size) * size}")


VERBS: dict[str, type[RunOptions]] = {each.verb: each for each in (SftOptions, RewardOptions, PpoOptions)}


def room(own: PpoOptions, prompt: int) -> int:
    """Return the maximum number of tokens in an answer after a prompt of `prompt` tokens."""
    return own.max_new_tokens if own.max_length is None else own.max_length - prompt


def samples_each(own: PpoOptions) -> int:
    """Return the number of answers per prompt in a rollout batch."""
    return own.num_generations if own.algorithm in ("rloo", "grpo") else 1


Own = TypeVar("Own", bound=RunOptions)

_DATA = (".jsonl", ".json", ".txt", ".gz", ".csv", ".parquet")
"""Extensions of data files. Users sometimes type a data file in place of a recipe."""

LAZY = "lazy_preprocess"  # FastChat's switch that turns packing off: each row is one record
OLD = {
    "evaluation_strategy": "eval_strategy",
    "gradient_checkpointing": "activation_checkpointing",
    LAZY: "packing",
}
"""Maps names of settings in commands of 2023 to current names."""


def parse(words: Sequence[str], options: type[Own]) -> Own:
    """Return the settings in the words after a verb of `redraft train`: a recipe, if any, and flags."""
    recipe, words = (words[0], words[1:]) if words and not words[0].startswith("--") else (None, words)
    return settings_of(options, recipe, lambda: read_flags(words, options))


def settings_of(options: type[Own], recipe: str | None, given: Callable[[], Mapping[str, Any]]) -> Own:
    """Return a recipe's settings, overridden by the user's settings, which `given()` returns."""
    merged = _by_current_names(read_recipe(recipe, options)) if recipe else {}
    merged |= _by_current_names(given())
    for name in merged.keys() - options_of(options).keys():
        raise no_setting(name, options, f"{name!r:.60}")  # flags were checked before
    own = options.read({name: value for name, value in merged.items() if value is not None}, table="--")
    own.check()
    return own


def _by_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for old, value in values.items():
        name = OLD.get(old, old)
        if old != name and name in values:
            raise UsageError(f"--{old} and --{name} are the same setting.", hint=f"Give only --{name}.")
        if old != LAZY:
            found[name] = value
        elif str(value).lower() == "true":
            found[name] = False
    return found


def read_flags(words: Sequence[str], options: type[RunOptions]) -> dict[str, Any]:
    """Parse flags into names and values. The words after a flag are the flag's values.

    A flag without values is a switch. A repeated flag adds to a list, or replaces a single value.
    """
    values: dict[str, list[str]] = {}
    known, flag = _known(options), ""
    for word in words:
        word = "--quiet" if word == "-q" else word  # as in all other commands
        if word.startswith("--") and word != "--":
            flag, equals, value = word[2:].partition("=")
            flag, off = flag.replace("-", "_"), False
            if flag not in known and flag.removeprefix("no_") in known:
                flag, off = flag.removeprefix("no_"), True
            if flag not in known:
                raise no_setting(flag, options, f"--{flag:.60}", prefix="--")
            given = [value] if equals else ["False"] if off else []
            before = values.get(flag, []) if _is_list(known[flag]) else []  # otherwise the last value counts
            values[flag] = [*before, *given]
        elif not flag:
            hint = f"redraft train {options.verb} [RECIPE] --name value …"
            raise UsageError(f"{word!r} has no flag before it.", hint=hint)
        else:
            values[flag].append(word)
    return {name: _value(name, several, known[name], options) for name, several in values.items()}


def _known(options: type[RunOptions]) -> dict[str, Option]:
    current = options_of(options)
    return {**current, **{old: current[name] for old, name in OLD.items() if name in current}}


def _is_list(option: Option) -> bool:
    return get_origin(option.type) is tuple


def _value(name: str, words: list[str], option: Option, options: type[RunOptions]) -> Any:
    if _is_list(option) and words:
        return words
    if len(words) > 1:
        last, hint = words[-1], None
        if last in shipped_recipes("train") or Path(last).suffix in (".yaml", ".yml"):
            hint = f"The recipe comes first: redraft train {options.verb} {last} --{name} {words[0]}"
        raise UsageError(f"--{name} accepts one value, not {len(words)}: {' '.join(words):.60}.", hint=hint)
    if not words and option.type not in (bool, bool | None) and name != "fsdp":
        raise UsageError(f"--{name} has no value.", hint=f"--{name} VALUE: {option.text}")
    return words[0] if words else True


def no_setting(name: str, options: type[RunOptions], shown: str, *, prefix: str = "") -> UsageError:
    """Return the error for an unknown setting. The hint suggests a similar name."""
    near = nearest(name, _known(options), prefix)
    others = [each.verb for each in VERBS.values() if name in options_of(each)]
    elsewhere = [f"redraft train {verb} has that setting." for verb in others]
    leave = "Leave it out: redraft train accepts only about 30 of transformers' settings."
    lines = [*(elsewhere or [near or leave]), f"redraft train {options.verb} --help-all lists all settings."]
    return UsageError(f"there is no setting {shown}.", hint="\n".join(lines))


def read_recipe(ref: str, options: type[RunOptions]) -> dict[str, Any]:
    """Return the settings in a recipe, without the key `about`. `ref` is the recipe's name or path."""
    if ref.lower().endswith(_DATA):
        raise UsageError(f"{ref} looks like a data file, not a recipe.", hint=f"--data_path {ref}")
    _, document = recipe_of(ref, "train")
    for name in document:
        if name not in _known(options):
            error = no_setting(str(name), options, f"{name!r:.60}")
            raise UsageError(f"{ref}: {error.message}", hint=error.hint)
    return document
