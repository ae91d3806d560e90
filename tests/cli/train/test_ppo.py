"""`redraft train ppo`, from the words to an adapter."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from redraft.errors import UsageError
from redraft.train.options import PpoOptions
from redraft.train.ppo import VERB
from tests.cli.verbs import lines, redraft, refused, write

SMALL = (
    *("--reward", "characters<=20", "--num_rollouts", "4", "--chunk_size", "4", "--max_new_tokens", "6"),
    *("--per_device_train_batch_size", "4", "--ppo_epochs", "2", "--max_steps", "4", "--use_cpu", "True"),
    *("--report_to", "none", "--dtype", "float32", "--bf16", "False"),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Prompts without answers."""
    prompts = [{"id": f"p{number}", "instruction": f"Sort {number}."} for number in range(6)]
    return write(tmp_path / "prompts.jsonl", prompts)


def ppo(model: Path, data: Path, output: Path, *words: str) -> tuple[int, str]:
    """Run the verb. Return its exit status and what it printed."""
    given = ("--model_name_or_path", model, "--data_path", data, "--output_dir", output)
    result = redraft("train", "ppo", *given, *SMALL, *words)
    return result.exit_code, result.output


def test_a_run_writes_an_adapter_a_log_and_samples(model: Path, data: Path, tmp_path: Path) -> None:
    status, printed = ppo(model, data, tmp_path / "out")
    assert status == 0, printed
    assert f"Try it: redraft ask … --model {model}+{tmp_path / 'out'}" in "".join(printed.split("\n"))
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert weights
    assert not any("value_head" in name for name in weights)
    log, samples = lines(tmp_path / "out" / "log.jsonl"), lines(tmp_path / "out" / "samples.jsonl")
    assert [line["step"] for line in log] == [2, 4]  # a line a rollout batch
    assert {"reward", "kl", "kl_k3", "entropy", "clip_fraction", "value_loss"} <= log[0].keys()
    assert len(samples) == 8
    assert {each["prompt"] for each in samples} <= {f"Sort {number}." for number in range(6)}


def test_another_reward_is_another_run(model: Path, data: Path, tmp_path: Path) -> None:
    ppo(model, data, tmp_path / "out")
    status, printed = ppo(model, data, tmp_path / "out", "--reward", "words<=1")
    assert status == 2
    assert "reward was characters<=20 and is characters<=20, words<=1" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("--num_rollouts", "6"), "--num_rollouts 6 is no multiple of --chunk_size, 4", "--num_rollouts 8"),
        (("--min_new_tokens", "9"), "--min_new_tokens 9 is above --max_new_tokens 6", "--max_new_tokens 9"),
        (("--lora", "False"), "PPO trains an adapter", "merge-lora"),
        (("--reward", "wrods<=3"), "no check is called", "checks:"),
        (("--max_new_tokens", "1024"), "leaves no room for a prompt", "--model_max_length 2048"),
        (
            ("--max_length", "9", "--min_new_tokens", "9"),
            "no room for a prompt in --max_length 9",
            "--max_length 18",
        ),
        (
            ("--importance_sampling_clip_max", "0.5"),
            "cut off the weight of a token on which sampler and trainer agree",
            "--importance_sampling_clip_max 2, or 0",
        ),
        (("--ppo_epoch", "2"), "there is no setting --ppo_epoch", "--ppo_epochs"),
    ],
)
def test_a_mistake_is_said_before_the_model_writes(
    model: Path, data: Path, tmp_path: Path, words: tuple[str, ...], said: str, hint: str
) -> None:
    status, printed = ppo(model, data, tmp_path / "out", *words)
    assert status == 2
    flat = " ".join(printed.split())
    assert said in flat
    assert hint in flat
    assert not (tmp_path / "out" / "samples.jsonl").exists()


def test_without_a_reward_or_with_held_out_data_nothing_is_trained(
    model: Path, data: Path, tmp_path: Path
) -> None:
    given = ("--model_name_or_path", model, "--data_path", data, "--output_dir", tmp_path / "o")
    refused(redraft("train", "ppo", *given), "nothing that judges the answers")
    status, printed = ppo(
        model, data, tmp_path / "out", "--eval_strategy", "steps", "--eval_data_path", str(data)
    )
    assert (status, "there is no setting --eval_strategy" in printed) == (2, True), printed


def test_a_prompt_without_room_for_an_answer_is_left_out_and_counted(
    model: Path, data: Path, tmp_path: Path
) -> None:
    write(data, [*lines(data), {"id": "long", "instruction": "Sort the list. " * 100}])
    status, printed = ppo(model, data, tmp_path / "out", "--model_max_length", "200")
    assert status == 0, printed
    flat = " ".join(printed.split())
    assert "7 records read, 6 to train on" in flat
    assert "1 skipped, the prompt leaves no room for an answer: prompts/long" in flat
    assert "prompts/long" not in {each["id"] for each in lines(tmp_path / "out" / "samples.jsonl")}


def test_prompts_longer_than_the_model_can_read_are_said_before_it_writes(
    model: Path, data: Path, tmp_path: Path
) -> None:
    write(data, [{"id": "long", "instruction": "a b c d e f g h " * 80}])
    for words, said, hint in (
        ((), "the prompt leaves no room for an answer", "Raise --model_max_length"),
        (
            ("--model_max_length", "4096"),
            "longer than the 1,024 tokens that the model was trained for",
            "--model_max_length 1024",
        ),
    ):
        status, printed = ppo(model, data, tmp_path / "out", *words)
        flat = " ".join(printed.split())
        assert status == 2, printed
        assert said in flat
        assert hint in flat


def test_weights_that_are_shared_among_processes_are_refused() -> None:
    with pytest.raises(UsageError, match="PPO writes with whole ones"):
        VERB.check(PpoOptions(fsdp="full_shard"), "model")


def test_a_preview_shows_prompts_up_to_where_the_model_writes(
    model: Path, data: Path, tmp_path: Path
) -> None:
    status, printed = ppo(model, data, tmp_path / "out", "--preview", "2")
    assert status == 0, printed
    assert "6 records read, 6 to train on: 104 tokens; the longest has 18" in " ".join(printed.split())
    assert "a prompt, up to where the model writes, ⟨control token⟩, ↵ line end" in printed
    assert printed.count("assistant↵") == printed.count(" tokens\n") == 2
    assert not {"⟦", "loss"} & set(printed.split())
    assert not (tmp_path / "out").exists()


def test_an_estimate_counts_the_writing_of_answers(model: Path, data: Path, tmp_path: Path) -> None:
    status, printed = ppo(model, data, tmp_path / "out", "--estimate", "True")
    assert status == 0, printed
    assert "for 4 steps with" in printed
    assert "of it to write and judge answers" in printed
    assert not (tmp_path / "out").exists()


HANGS = """
import time
from pathlib import Path

def hangs(answer):
    Path("asked").touch()
    time.sleep(3600)
"""


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_function_that_hangs(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "judge_that_hangs.py").write_text(HANGS)
    words = [word if word != "characters<=20" else "python:judge_that_hangs.hangs" for word in SMALL]
    given = ["--model_name_or_path", model, "--data_path", data, "--output_dir", tmp_path / "out"]
    command = [sys.executable, "-m", "redraft", "train", "ppo", *map(str, given), *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as run:
        while not (tmp_path / "asked").exists():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=60) == 130
