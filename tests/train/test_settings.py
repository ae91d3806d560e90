from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from redraft.errors import UsageError
from redraft.formats.documents import shipped_recipes
from redraft.options import options_of
from redraft.train import machine, renamed
from redraft.train.options import DEFAULTS, TrainOptions
from redraft.train.settings import TrainSettings, convert, kinds, parse

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


def parsed(line: str) -> TrainSettings:
    return parse(words(line))


def words(line: str) -> list[str]:
    """Split a command as a shell does."""
    return shlex.split(line.replace("\\\n", " "))


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_the_selfee_command_word_for_word() -> None:
    settings = parsed(SELFEE)
    own, theirs = settings.own, settings.theirs
    assert own.model_name_or_path == "llama-7b"
    assert own.data_path == ("outputs/feedback_gpt_3.5_turbo_merged_whole.json",)
    assert (own.format, own.training_objective, own.model_max_length) == ("selfee", "full", 2048)
    assert own.packing is False
    assert theirs["bf16"] is theirs["tf32"] is True
    assert theirs["output_dir"] == "ckpt/selfee-7b"
    assert theirs["per_device_train_batch_size"] * theirs["gradient_accumulation_steps"] == 32
    assert (theirs["num_train_epochs"], theirs["learning_rate"], theirs["weight_decay"]) == (3.0, 2e-5, 0.0)
    assert (theirs["eval_strategy"], theirs["save_strategy"], theirs["save_steps"]) == ("no", "steps", 5000.0)
    assert (theirs["warmup_steps"], theirs["lr_scheduler_type"]) == (0.03, "cosine")
    assert theirs["activation_checkpointing"] is True
    assert theirs["fsdp"] is True
    assert theirs["fsdp_config"] == {
        "reshard_after_forward": False,
        "transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
    }
    assert theirs.keys() - DEFAULTS.keys() <= {each.name for each in fields(TrainingArguments)}


def test_what_was_translated_is_said() -> None:
    assert parsed(SELFEE).remarks == (
        "--evaluation_strategy is now --eval_strategy.",
        "--warmup_ratio is now --warmup_steps, which also takes a share of the steps.",
        (
            "--fsdp 'shard_grad_op auto_wrap' is now --fsdp True with {'reshard_after_forward': False} in "
            "--fsdp_config."
        ),
        '--fsdp_transformer_layer_cls_to_wrap is now "transformer_layer_cls_to_wrap" in --fsdp_config.',
        "--gradient_checkpointing is now --activation_checkpointing.",
        (
            "--lazy_preprocess is ignored: records are tokenised once and cached. As in FastChat, "
            "a batch counts records (--packing False)."
        ),
    )


@pytest.mark.parametrize(("command", "size", "times"), [(VICUNA, 2, 16), (ALPACA, 4, 8)])
def test_the_commands_of_vicuna_and_alpaca(command: str, size: int, times: int) -> None:
    theirs = parsed(command).theirs
    assert (theirs["per_device_train_batch_size"], theirs["per_device_eval_batch_size"]) == (size, size)
    assert theirs["gradient_accumulation_steps"] == times
    assert theirs["fsdp_config"] == {
        "reshard_after_forward": True,
        "transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
    }


def test_the_command_of_the_readme_is_that_one(shared_data: Path) -> None:
    readme = (shared_data.parent / "seeds" / "001_a1b83880b4160b0c.txt").read_text()
    start = readme.index("    --model_name_or_path llama-7b")
    assert words(readme[start : readme.index("```", start)]) == words(SELFEE)


def test_a_price_without_an_estimate_is_said() -> None:
    said = ("--price_per_hour has no effect without --estimate.",)
    assert parsed("--price_per_hour 2").remarks == said
    assert parsed("--price_per_hour 2 --estimate").remarks == ()


def test_flags_may_be_switches_have_dashes_and_take_several_words() -> None:
    settings = parsed("--data_path a.json b.jsonl --no-packing --per-device-train-batch-size=2 --dry_run")
    assert settings.own.data_path == ("a.json", "b.jsonl")
    assert (settings.own.packing, settings.own.dry_run) == (False, True)
    assert settings.theirs["per_device_train_batch_size"] == 2


def test_a_step_has_as_many_rows_with_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "selfee --per_device_train_batch_size 2 --rows_a_step 32"
    alone = parsed(line)
    assert alone.theirs["gradient_accumulation_steps"] == 16
    assert "--gradient_accumulation_steps is 16, as --rows_a_step 32 wants it." in alone.remarks
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert parsed(line).theirs["gradient_accumulation_steps"] == 4


def test_a_flag_that_comes_again_adds_a_value_or_replaces_it() -> None:
    settings = parsed("--data_path a --data_path b c --seed 1 --no-packing --seed=2 --packing")
    assert settings.own.data_path == ("a", "b", "c")
    assert settings.theirs["seed"] == 2
    assert settings.own.packing is True


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("--learning_rat 1", "there is no setting --learning_rat.", "Did you mean '--learning_rate'?"),
        ("--trainig-objective full", "there is no setting --trainig_objective.", "'--training_objective'?"),
        ("--xyzzy 1", "there is no setting --xyzzy.", "--help"),
        ("--learning_rate fast", "--learning_rate is 'fast', and should be a finite number.", None),
        ("--learning_rate nan", "--learning_rate is 'nan'", None),
        ("--num_train_epochs inf", "--num_train_epochs is 'inf', and should be a finite number.", None),
        ("--max_grad_norm inf", "should be a finite number.", "--max_grad_norm 0 clips nothing."),
        ("--lora_alpha 1e400", "--lora_alpha is '1e400'", None),
        ("--max_steps 0", "--max_steps is 0.", "at least 1; without it, --num_train_epochs decides"),
        ("--max_steps -2", "--max_steps is -2", "at least 1"),
        ("--price_per_hour inf", "--price_per_hour is 'inf'", None),
        ("--price_per_hour -1", "--price_per_hour is -1.0.", "a number, at least 0"),
        (
            "--answer first --training_objective full",
            "--answer first has no effect without",
            "--training_objective answer --answer first",
        ),
        ("--qlora True --lora False", "--qlora and --lora False contradict each other.", "--lora True"),
        ("--lora_r 1.5", "--lora_r is '1.5', and should be a whole number.", None),
        ("--max_steps", "--max_steps has no value, and should be a whole number.", None),
        ("--data_path --dry_run", "--data_path has no value, and should be one or more texts.", None),
        ("--max_seq_length", "--max_seq_length has no value, and should be a whole number.", None),
        (
            "a/hours.jsonl",
            "a/hours.jsonl is a data file by its name, not a recipe.",
            "--data_path a/hours.jsonl",
        ),
        ("--logging_steps 0", "--logging_steps is 0.0.", "a number, above 0"),
        ("--eval_steps -1", "--eval_steps is -1.0.", "a number, at least 0"),
        ("--packing perhaps", "--packing is 'perhaps', and should be True or False.", None),
        ("--format json", "one of selfee, alpaca, vicuna, stablevicuna, chat, self-instruct", None),
        ("--learning_rate 1 2", "--learning_rate takes one value, and has 2: 1 2.", None),
        ("--max_steps 2 mine.yaml", "has 2: 2 mine.yaml", "train sft mine.yaml --max_steps 2"),
        ("--max_steps 2 selfee", "has 2: 2 selfee", "The recipe comes first: redraft train sft selfee"),
        ("--learning_rate -1", "--learning_rate is -1.0.", "a number, at least 0"),
        ("--seed 5e9", "--seed is 5000000000.", "at least 0 and at most 4,294,967,295"),
        ("--fsdp_config {bad", "--fsdp_config is '{bad', and should be JSON in braces.", None),
        ("--fsdp full_shard --fsdp_config {bad", "--fsdp_config is not JSON: ", "--fsdp_config '{"),
        ("--lr_scheduler_kwargs bad", "should be JSON in braces.", None),
        ("--activation_checkpointing_kwargs {bad", "should be JSON in braces.", None),
        ("--warmup_ratio 3", "--warmup_ratio is '3', and should be from 0 to below 1.", "0.03"),
        ("--warmup_ratio x", "--warmup_ratio is 'x'", None),
        ("--warmup_ratio 0.1 --warmup_steps 5", "two names of one setting", "--warmup_steps alone"),
        ("--evaluation_strategy no --eval_strategy no", "two names", "Give --eval_strategy alone."),
        ("--fsdp zero3", "--fsdp has no 'zero3'.", "full_shard"),
        ("--fsdp_min_num_params 9 --fsdp_config a.json", "cannot be added to a.json", "Write it into"),
        ("--push_to_hub True", "--push_to_hub True is not supported.", "hf upload"),
        ("--label_smoothing_factor 0.1", "is not supported", "loss"),
        ("--neftune_noise_alpha 5", "is not supported", "packed row"),
        ("recipe-that-is-not", "there is no recipe 'recipe-that-is-not'.", "one of: alpaca, "),
        ("stablevicunna", "there is no recipe 'stablevicunna'.", "Did you mean 'stablevicuna'?"),
        ("stablevicuna", "there is no setting 'num_rollouts'.", "redraft train ppo stablevicuna"),
        ("--lora_r 8 stray", "--lora_r takes one value", None),
        (
            "--gradient_accumulation_steps 0",
            "_accumulation_steps is 0.",
            "a whole number, at least 1",
        ),
        ("--rows_a_step 6", "6 is no multiple of the rows that all processes have", "--rows_a_step 8"),
        ("--num_train_epochs -1", "--num_train_epochs is -1.0.", "a number, above 0"),
        ("--lora_r 0", "--lora_r is 0.", "a whole number, at least 1"),
        ("--lora_alpha 0", "--lora_alpha is 0.0.", "a number, above 0"),
        ("--lora_dropout 1", "--lora_dropout is 1.0.", "a number, at least 0 and below 1"),
        ("--preview 0", "--preview is 0.", "a whole number, at least 1"),
        ("--average_tokens_across_devices False", "is not supported", "counts the same"),
        ("--dataloader_drop_last True", "is not supported", "takes the remaining rows"),
        ("--metric_for_best_model accuracy", "is not supported", "only the loss is"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(line: str, said: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as error:
        parsed(line)
    assert said in error.value.message
    assert hint is None or (error.value.hint and hint in error.value.hint)


def test_a_word_of_no_flag_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'stray' belongs to no flag"):
        parse([recipe(tmp_path, "seed: 1"), "stray"])


def test_every_argument_of_trainer_is_a_name() -> None:
    theirs = {each.name for each in fields(TrainingArguments) if each.init} - {"parallelism_config"}
    assert theirs <= kinds().keys()
    assert {*renamed.RENAMED, *renamed.SPECIAL}.isdisjoint(theirs - set(RENAMED_FIELDS))
    assert renamed.DROPPED.keys().isdisjoint(
        {
            *renamed.RENAMED,
            *renamed.SPECIAL,
            *renamed.UNSUPPORTED,
            *options_of(TrainOptions),
        }
    )


RENAMED_FIELDS = (
    # Fields that are there under both names, or with other values.
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "fsdp", "fsdp_config"),
)


@pytest.mark.parametrize("start", ["dataloader_", "hub_", "label_", "include_for", "batch_eval", "eval_acc"])
def test_what_our_trainer_does_not_read_is_said(start: str) -> None:
    ours = "\n".join(path.read_text() for path in Path(machine.__file__).parent.rglob("*.py"))
    for name in (each for each in kinds() if each.startswith(start)):
        taken = f"args.{name}" in ours
        assert taken != (name in renamed.DROPPED.keys() | renamed.UNSUPPORTED.keys()), name


def test_new_names_are_names() -> None:
    assert set(renamed.RENAMED.values()) <= kinds().keys()
    assert renamed.UNSUPPORTED.keys() <= kinds().keys()
    assert DEFAULTS.keys() <= kinds().keys()


def test_defaults_of_trainer_are_taken() -> None:
    for name, (neutral, _) in renamed.UNSUPPORTED.items():
        default = next(each.default for each in fields(TrainingArguments) if each.name == name)
        assert default in neutral


@pytest.mark.parametrize("name", sorted(renamed.DROPPED))
def test_dropped_names_are_passed_over(name: str) -> None:
    settings = parsed(f"--{name} True")
    assert (settings.own, settings.theirs) == (TrainOptions(), DEFAULTS)
    assert settings.remarks[0].startswith(f"--{name} is ignored: ")


def test_switches_that_became_values() -> None:
    assert parsed("--adafactor True").theirs["optim"] == "adafactor"
    assert "optim" not in parsed("--adafactor False").theirs
    assert parsed("--group_by_length").theirs["train_sampling_strategy"] == "group_by_length"


def test_packing_stays_where_preprocessing_is_not_lazy() -> None:
    assert parsed("--lazy_preprocess").own.packing is False
    assert parsed("--lazy_preprocess False").own.packing is True


def test_fsdp_is_on_off_or_words() -> None:
    assert parsed("--fsdp True").theirs["fsdp"] is True
    assert parsed("--fsdp").theirs["fsdp"] is True
    assert parsed('--fsdp ""').theirs["fsdp"] is False
    both = parsed("""--fsdp "full_shard offload" --fsdp_config '{"state_dict_type": "FULL_STATE_DICT"}'""")
    assert both.theirs["fsdp_config"] == {
        "state_dict_type": "FULL_STATE_DICT",
        "reshard_after_forward": True,
        "cpu_offload": True,
    }


def test_flags_override_a_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, "learning_rate: 1e-4\nseed: 7\nfsdp_config: {cpu_offload: true, version: 2}")
    settings = parse([path, "--seed", "8", "--fsdp_transformer_layer_cls_to_wrap", "Layer"])
    assert settings.theirs["learning_rate"] == 1e-4  # which YAML reads as a text
    assert settings.theirs["seed"] == 8
    assert settings.theirs["fsdp_config"] == {
        "cpu_offload": True,
        "version": 2,
        "transformer_layer_cls_to_wrap": "Layer",
    }


def test_a_flag_overrides_the_new_name_by_the_old_one(tmp_path: Path) -> None:
    path = recipe(tmp_path, "warmup_steps: 10")
    assert parse([path, "--warmup_ratio", "0.1"]).theirs["warmup_steps"] == 0.1


def test_a_recipe_may_say_no_as_yaml_does(tmp_path: Path) -> None:
    assert parse([recipe(tmp_path, "save_strategy: no\nlora: null")]).theirs["save_strategy"] == "no"


def test_a_recipe_for_which_minus_one_says_no_steps(tmp_path: Path) -> None:
    assert parse([recipe(tmp_path, "max_steps: -1")]).theirs["max_steps"] == -1


@pytest.mark.parametrize(("text", "meant"), [("true", "True"), ("no", "False"), ("out/checkpoint-7",) * 2])
def test_a_recipe_says_whether_to_go_on_or_from_where(tmp_path: Path, text: str, meant: str) -> None:
    settings = parse([recipe(tmp_path, f"resume_from_checkpoint: {text}")])
    assert settings.theirs["resume_from_checkpoint"] == meant


@pytest.mark.parametrize(
    ("line", "meant"), [("--resume_from_checkpoint", "True"), ("--no-resume_from_checkpoint", "False")]
)
def test_going_on_is_a_switch_too(line: str, meant: str) -> None:
    assert parsed(line).theirs["resume_from_checkpoint"] == meant


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_train_epochs: .inf", "--num_train_epochs is inf, and should be a finite number."),
        ("learning_rat: 1", "there is no setting 'learning_rat'.\n  Did you mean 'learning_rate'?"),
        ("5: 1", "there is no setting 5."),
        ("- a", "a recipe is names and values."),
        ("", "is empty."),
        ("a: [", "is not YAML"),
        ("seed: 1\nbf16: no\nseed: 2", "'seed' is there twice, in lines 1 and 3."),
        ("a: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("learning_rate: [1]", "--learning_rate is a list, and should be a finite number."),
        ("model_max_length: 1.5", "should be a whole number"),
        ("seed: true", "--seed is True, and should be a whole number."),
        ("packing: 1", "--packing is 1, and should be True or False."),
        ("fsdp_config: &a {b: *a}", "--fsdp_config is a dict, and should be JSON in braces"),
    ],
)
def test_a_recipe_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse([recipe(tmp_path, text)])
    assert said in str(error.value)


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse([str(tmp_path)])
    (tmp_path / "latin.yaml").write_bytes(b"about: \xff")
    with pytest.raises(UsageError, match="cannot be read"):
        parse([str(tmp_path / "latin.yaml")])
    (tmp_path / "big.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="too large for a recipe"):
        parse([str(tmp_path / "big.yaml")])


@pytest.mark.parametrize("name", ["selfee", "alpaca", "vicuna", "stablevicuna_sft"])
def test_shipped_recipes(name: str) -> None:
    settings = parse([name, "--data_path", "x"])
    assert name in shipped_recipes("train")
    assert settings.remarks == ()
    theirs = settings.theirs
    rows = theirs["per_device_train_batch_size"] * theirs["gradient_accumulation_steps"] * 4
    published = rows, theirs["learning_rate"], theirs["num_train_epochs"], theirs["weight_decay"]
    assert published == (128, 2e-5, 3.0, 0.0)
    assert (theirs["warmup_steps"], theirs["lr_scheduler_type"]) == (0.03, "cosine")
    assert settings.own.model_max_length == (512 if name == "alpaca" else 2048)
    assert (settings.own.lora, settings.own.packing) == (False, False)


def test_the_selfee_recipe_is_the_selfee_command() -> None:
    """Except for paths, evaluation batches, and when to save."""
    ours, theirs = parse(["selfee"]), parsed(SELFEE)
    elsewhere = {"output_dir", "per_device_eval_batch_size", "eval_strategy", "save_steps", "fsdp_config"}
    for name in (ours.theirs.keys() | theirs.theirs.keys()) - elsewhere - {"save_strategy"}:
        assert ours.theirs.get(name) == theirs.theirs.get(name), name
    for name in options_of(TrainOptions).keys() - {"model_name_or_path", "data_path", "pad_token", "lora"}:
        assert getattr(ours.own, name) == getattr(theirs.own, name), name


@given(st.sampled_from(sorted(kinds())), st.recursive(st.none() | st.booleans() | st.text(), st.lists))
def test_any_value_converts_or_is_named(name: str, value: Any) -> None:
    message = ""
    try:
        convert(name, value)
    except UsageError as error:
        message = error.message
    assert not message or message.startswith(f"--{name} is ")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_they_are_written(number: float) -> None:
    assert convert("learning_rate", repr(number)) == number == convert("learning_rate", number)


def test_a_recipes_paths_may_be_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/me")
    text = (
        "data_path: [~/a.jsonl, b.jsonl]\noutput_dir: ~/out\ndeepspeed: ~/zero.json\nfsdp_config: ~/fsdp.json"
    )
    path = recipe(tmp_path, text)
    settings = parse([path])
    assert settings.own.data_path == ("/people/me/a.jsonl", "b.jsonl")
    read = [settings.theirs[name] for name in ("output_dir", "deepspeed", "fsdp_config")]
    assert read == ["/people/me/out", "/people/me/zero.json", "/people/me/fsdp.json"]
