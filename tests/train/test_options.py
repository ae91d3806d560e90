from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from redraft.chain.documents import shipped_recipes
from redraft.errors import UsageError
from redraft.options import options_of
from redraft.train import trained
from redraft.train.options import PpoOptions, RunOptions, SftOptions, parse
from redraft.train.trained import training_arguments

# Vicuna's and Alpaca's commands differ from SelFee's in these words.
SHARED = (
    "--bf16 True --num_train_epochs 3 --evaluation_strategy no --save_strategy steps --learning_rate 2e-5 "
    "--weight_decay 0. --warmup_ratio 0.03 --lr_scheduler_type cosine --logging_steps 1 --tf32 True "
    "--fsdp 'full_shard auto_wrap' --fsdp_transformer_layer_cls_to_wrap LlamaDecoderLayer "
)
VICUNA = SHARED + (
    "--model_name_or_path ~/model_weights/llama-7b --data_path data/dummy_conversation.json "
    "--output_dir output_vicuna --per_device_train_batch_size 2 --per_device_eval_batch_size 2 "
    "--gradient_accumulation_steps 16 --save_steps 1200 --save_total_limit 10 --model_max_length 2048 "
    "--gradient_checkpointing True --lazy_preprocess True"
)
ALPACA = SHARED + (
    "--model_name_or_path llama --data_path ./alpaca_data.json --output_dir out "
    "--per_device_train_batch_size 4 --per_device_eval_batch_size 4 --gradient_accumulation_steps 8 "
    "--save_steps 2000 --save_total_limit 1"
)
SELFEE = r"""
    --model_name_or_path llama-7b \
    --data_path outputs/feedback_gpt_3.5_turbo_merged_whole.json \
    --bf16 True \
    --output_dir ckpt/selfee-7b \
    --num_train_epochs 3 \
    --per_device_train_batch_size 16 \
    --per_device_eval_batch_size 16 \
    --gradient_accumulation_steps 2 \
    --evaluation_strategy "no" \
    --save_strategy "steps" \
    --save_steps 5000 \
    --save_total_limit 1 \
    --learning_rate 2e-5 \
    --weight_decay 0. \
    --warmup_ratio 0.03 \
    --lr_scheduler_type "cosine" \
    --logging_steps 1 \
    --fsdp "shard_grad_op auto_wrap" \
    --fsdp_transformer_layer_cls_to_wrap 'LlamaDecoderLayer' \
    --tf32 True \
    --model_max_length 2048 \
    --gradient_checkpointing True \
    --lazy_preprocess True \
    --training_objective full \
"""


def parsed(line: str) -> SftOptions:
    return parse(words(line), SftOptions)


def words(line: str) -> list[str]:
    return shlex.split(line.replace("\\\n", " "))


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def on_gpus(own: RunOptions, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    given: dict[str, Any] = {}

    class Made:
        device, n_gpu = "cpu", 1

        def __init__(self, **arguments: Any) -> None:
            given.update(arguments)
            self.device = trained.torch.device("cuda")

    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(trained.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trained, "TrainingArguments", Made)
    training_arguments(own, lora=False, say=print)
    return given


@pytest.mark.parametrize(
    ("command", "rows", "shards", "checkpointed"),
    [(SELFEE, (16, 2), False, True), (VICUNA, (2, 16), True, True), (ALPACA, (4, 8), True, False)],
    ids=["selfee", "vicuna", "alpaca"],
)
def test_the_commands_of_2023_word_for_word(
    command: str, rows: tuple[int, int], shards: bool, checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = parsed(command)
    theirs = on_gpus(own, monkeypatch)
    assert (theirs["per_device_train_batch_size"], theirs["gradient_accumulation_steps"]) == rows
    assert theirs["per_device_eval_batch_size"] == rows[0]
    assert theirs["bf16"] is theirs["tf32"] is theirs["fsdp"] is True
    assert (theirs["num_train_epochs"], theirs["learning_rate"], theirs["weight_decay"]) == (3.0, 2e-5, 0.0)
    assert (theirs["eval_strategy"], theirs["save_strategy"]) == ("no", "steps")
    assert (theirs["warmup_steps"], theirs["lr_scheduler_type"]) == (0.03, "cosine")
    assert theirs["activation_checkpointing"] is checkpointed
    wrapped = {"reshard_after_forward": shards, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}
    assert theirs["fsdp_config"] == wrapped
    assert own.packing is ("--lazy_preprocess" not in command)
    assert own.training_objective == ("full" if command is SELFEE else "accepted")
    assert theirs.keys() <= {each.name for each in fields(TrainingArguments)}


def test_the_command_of_the_readme_is_that_one(shared_data: Path) -> None:
    readme = (shared_data.parent / "seeds" / "001_a1b83880b4160b0c.txt").read_text()
    start = readme.index("    --model_name_or_path llama-7b")
    assert words(readme[start : readme.index("```", start)]) == words(SELFEE)


def test_flags_may_be_switches_have_dashes_and_take_several_words() -> None:
    own = parsed("--data_path a.json b.jsonl --no-packing --per-device-train-batch-size=2 --dry_run")
    assert own.data_path == ("a.json", "b.jsonl")
    assert (own.packing, own.dry_run, own.per_device_train_batch_size) == (False, True, 2)
    assert parsed("--lazy_preprocess False").packing is True


def test_a_flag_that_comes_again_adds_a_value_or_replaces_it() -> None:
    own = parsed("--data_path a --data_path b c --seed 1 --no-packing --seed=2 --packing -q")
    assert (own.data_path, own.seed, own.packing, own.quiet) == (("a", "b", "c"), 2, True, True)


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("--learning_rat 1", "there is no setting --learning_rat.", "Did you mean '--learning_rate'?"),
        ("--trainig-objective full", "there is no setting --trainig_objective.", "'--training_objective'?"),
        ("--neftune_noise_alpha 5", "there is no setting --neftune_noise_alpha.", "Leave it out"),
        ("--num_rollouts 5", "there is no setting --num_rollouts.", "redraft train ppo has that setting"),
        ("--learning_rate fast", "--learning_rate is 'fast'.", "a number, at least 0"),
        ("--learning_rate nan", "--learning_rate is 'nan'.", "a number"),
        ("--lora_alpha 1e400", "--lora_alpha is '1e400'.", "a number, above 0"),
        ("--max_steps 0", "--max_steps is '0'.", "a whole number, at least 1"),
        ("--price_per_hour -1", "--price_per_hour is '-1'.", "a number, at least 0"),
        ("--answer first", "--answer has no effect", "--training_objective answer --answer first"),
        ("--lora_r 1.5", "--lora_r is '1.5'.", "a whole number"),
        ("--max_steps", "--max_steps has no value", "--max_steps VALUE"),
        ("--data_path --dry_run", "--data_path has no value", None),
        ("a/hours.jsonl", "looks like a data file, not a recipe.", "--data_path a/hours.jsonl"),
        ("--packing perhaps", "--packing is 'perhaps'.", "true or false"),
        ("--format json", "--format is 'json'.", "selfee, alpaca, vicuna"),
        ("--learning_rate 1 2", "--learning_rate accepts one value, not 2: 1 2.", None),
        ("--max_steps 2 selfee", "not 2: 2 selfee", "The recipe comes first: redraft train sft selfee"),
        ("--seed 4294967296", "--seed is '4294967296'.", "at most 4,294,967,295"),
        ("--warmup_ratio 3", "--warmup_ratio is '3'.", "at least 0 and below 1"),
        ("--evaluation_strategy no --eval_strategy no", "the same setting", "Give only --eval_strategy."),
        ("--fsdp zero3", "--fsdp does not know 'zero3'.", "full_shard"),
        ("selfee stray", "'stray' has no flag before it", None),
        ("recipe-that-is-not", "there is no recipe 'recipe-that-is-not'.", "one of: alpaca, "),
        ("stablevicuna", "there is no setting 'num_rollouts'.", "redraft train ppo has that setting"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(line: str, said: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as error:
        parsed(line)
    assert said in error.value.message
    assert hint is None or (error.value.hint and hint in error.value.hint)


def test_an_answer_is_drawn_from_all_tokens() -> None:
    for line in ("--top_k 5", "--top_p 0.9", "--do_sample False"):
        with pytest.raises(UsageError, match=line.split()[0]) as error:
            parse(line.split(), PpoOptions)
        assert "drawn from all tokens" in str(error.value.hint)


@pytest.mark.parametrize(
    ("line", "shards"),
    [
        ("--fsdp True", {}), ("--fsdp", {}), ('--fsdp ""', None), ("--fsdp False", None),
        ('--fsdp "full_shard offload"', {"reshard_after_forward": True, "cpu_offload": True}),
    ],
)  # fmt: skip
def test_fsdp_is_on_off_or_words(line: str, shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_gpus(parsed(line), monkeypatch).get("fsdp_config") == shards


def test_flags_override_a_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, "learning_rate: 1e-4\nseed: 7\nsave_strategy: no\nlora: null\nfsdp: true")
    own = parse([path, "--seed", "8"], SftOptions)
    assert own.learning_rate == 1e-4  # which YAML reads as a text
    assert (own.seed, own.save_strategy, own.lora, own.fsdp) == (8, "no", None, "True")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat: 1", "there is no setting 'learning_rat'.\n  Did you mean 'learning_rate'?"),
        ("5: 1", "there is no setting 5."),
        ("seed: 1\nbf16: no\nseed: 2", "'seed' appears twice, in lines 1 and 3."),
        ("learning_rate: [1]", "--learning_rate is a list."),
        ("data_path: [1]", "--data_path is a list."),
        ("num_train_epochs: .inf", "--num_train_epochs is inf."),
    ],
)
def test_a_recipe_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse([recipe(tmp_path, text)], SftOptions)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["selfee", "alpaca", "vicuna", "stablevicuna_sft"])
def test_shipped_recipes(name: str) -> None:
    own = parse([name, "--data_path", "x"], SftOptions)
    assert name in shipped_recipes("train")
    rows = own.per_device_train_batch_size * own.gradient_accumulation_steps * 4
    assert (rows, own.learning_rate, own.num_train_epochs, own.weight_decay) == (128, 2e-5, 3.0, 0.0)
    assert (own.warmup_ratio, own.lr_scheduler_type) == (0.03, "cosine")
    assert own.model_max_length == (512 if name == "alpaca" else 2048)
    assert (own.lora, own.packing) == (False, False)


def test_the_selfee_recipe_is_the_selfee_command() -> None:
    ours, theirs = parse(["selfee"], SftOptions), parsed(SELFEE)
    elsewhere = {"model_name_or_path", "data_path", "output_dir", "per_device_eval_batch_size", "save_steps"}
    elsewhere |= {"fsdp", "fsdp_transformer_layer_cls_to_wrap", "pad_token", "lora"}
    for name in options_of(SftOptions).keys() - elsewhere:
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_recipes_paths_may_be_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    own = parse([recipe(tmp_path, "data_path: [~/a.jsonl, b.jsonl]\noutput_dir: ~/out")], SftOptions)
    assert (own.data_path, own.output_dir) == (("/people/me/a.jsonl", "b.jsonl"), "/people/me/out")
