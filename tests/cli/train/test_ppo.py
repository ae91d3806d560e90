from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import Result

from tests.cli.verbs import lines, redraft, refused, start, write

GIVEN = ("--model_name_or_path", "model", "--data_path", "prompts.jsonl", "--output_dir", "out")
SMALL = (
    *("--reward", "characters<=20", "--num_rollouts", "4", "--chunk_size", "4", "--max_new_tokens", "6"),
    *("--per_device_train_batch_size", "4", "--ppo_epochs", "2", "--max_steps", "4", "--use_cpu", "True"),
    *("--report_to", "none", "--dtype", "float32", "--bf16", "False"),
)


@pytest.fixture(autouse=True)
def _prompts(folder: Path) -> None:
    write("prompts.jsonl", [{"id": f"p{number}", "instruction": f"Sort {number}."} for number in range(6)])


def ppo(*words: str) -> Result:
    return redraft("train", "ppo", *GIVEN, *SMALL, *words)


def done(*words: str) -> str:
    result = ppo(*words)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_run_writes_an_adapter_a_log_and_samples() -> None:
    assert "Try it: redraft ask … --model model+out" in done()
    weights = load_file("out/adapter_model.safetensors")
    assert weights
    assert not any("value_head" in name for name in weights)
    log = lines("out/log.jsonl")
    assert [line["step"] for line in log] == [2, 4]  # a line a rollout batch
    assert {"reward", "kl", "kl_k3", "entropy", "clip_fraction", "value_loss"} <= log[0].keys()
    samples = lines("out/samples.jsonl")
    assert len(samples) == 8
    assert {each["prompt"] for each in samples} <= {f"Sort {number}." for number in range(6)}


def test_another_reward_is_another_run() -> None:
    done()
    refused(ppo("--reward", "words<=1"), "reward was characters<=20 and is characters<=20, words<=1")


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (
            ("--num_rollouts", "6"),
            "--num_rollouts 6 must be a multiple of 4 (--chunk_size)",
            "--num_rollouts 8",
        ),
        (("--min_new_tokens", "9"), "--min_new_tokens 9 is above --max_new_tokens 6", "--max_new_tokens 9"),
        (("--lora", "False"), "PPO trains only adapters", "merge-lora"),
        (("--reward", "wrods<=3"), "no check is called", "All checks: docs/checks.md"),
        (("--max_new_tokens", "1024"), "leaves no room for a prompt", "--model_max_length 2048"),
        (
            ("--max_length", "9", "--min_new_tokens", "9"),
            "no room for a prompt in --max_length 9",
            "--max_length 18",
        ),
        (
            ("--importance_sampling_clip_max", "0.5"),
            "is below 1, the weight of a token on which sampler and trainer agree",
            "Set it to 1 or more. Or set it to 0",
        ),
        (("--fsdp", "full_shard"), "PPO needs the whole model to write answers", "Leave out --fsdp"),
        (("--ppo_epoch", "2"), "there is no setting --ppo_epoch", "--ppo_epochs"),
    ],
)
def test_a_mistake_is_said_before_the_model_writes(words: tuple[str, ...], said: str, hint: str) -> None:
    refused(ppo(*words), said, hint)
    assert not Path("out/samples.jsonl").exists()


def test_without_a_reward_or_with_held_out_data_nothing_is_trained() -> None:
    refused(redraft("train", "ppo", *GIVEN), "no reward to judge the answers by")
    held_out = ppo("--eval_strategy", "steps", "--eval_data_path", "prompts.jsonl")
    refused(held_out, "there is no setting --eval_strategy")


def test_a_prompt_without_room_for_an_answer_is_left_out_and_counted() -> None:
    write("prompts.jsonl", [*lines("prompts.jsonl"), {"id": "long", "instruction": "Sort the list. " * 100}])
    said = done("--model_max_length", "200")
    assert "7 records read, 6 to train on" in said
    assert "1 skipped, the prompt leaves no room for an answer: prompts/long" in said
    assert "prompts/long" not in {each["id"] for each in lines("out/samples.jsonl")}


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ((), "the prompt leaves no room for an answer", "Raise --model_max_length"),
        (
            ("--model_max_length", "4096"),
            "exceed the 1,024 tokens that the model was trained for",
            "--model_max_length 1024",
        ),
    ],
)
def test_prompts_longer_than_the_model_can_read_are_said_before_it_writes(
    words: tuple[str, ...], said: str, hint: str
) -> None:
    write("prompts.jsonl", [{"id": "long", "instruction": "a b c d e f g h " * 80}])
    refused(ppo(*words), said, hint)


def test_a_preview_shows_prompts_up_to_where_the_model_writes() -> None:
    said = done("--preview", "2")
    assert "6 records read, 6 to train on: 104 tokens; the longest example has 18" in said
    assert "a prompt, up to the start of the answer, ⟨control token⟩, ↵ line end" in said
    assert said.count("assistant↵") == len(re.findall(r"── \S+: \d+ tokens", said)) == 2
    assert not {"⟦", "loss"} & set(said.split())
    assert not Path("out").exists()


def test_an_estimate_counts_the_writing_of_answers() -> None:
    said = done("--estimate", "True")
    assert "for 4 steps with" in said
    assert "of this to write and judge answers" in said
    assert not Path("out").exists()


HANGS = """
import time
from pathlib import Path

def hangs(answer):
    Path("asked").touch()
    time.sleep(3600)
"""


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_function_that_hangs() -> None:
    Path("judge_that_hangs.py").write_text(HANGS)
    words = [word if word != "characters<=20" else "python:judge_that_hangs.hangs" for word in SMALL]
    with start("train", "ppo", *GIVEN, *words, stderr=subprocess.DEVNULL) as run:
        while not Path("asked").exists():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=60) == 130
