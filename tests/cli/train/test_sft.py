from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import DefaultFlowCallback
from typer.testing import Result

from redraft.jobs.counting import size_in_words
from redraft.jobs.signals import AGAIN
from redraft.train.options import SftOptions
from redraft.train.sft import VERB
from tests.cli.verbs import lines, redraft
from tests.train.tiny import chains

USUAL = (
    "--model_name_or_path model --data_path chains.jsonl --output_dir out --model_max_length 128 "
    "--max_steps 4 --save_steps 2 --cache_dir cache --bf16 False"
)


def train(*words: str) -> Result:
    return redraft("train", "sft", *words)


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    chains(Path("chains.jsonl"))
    return folder


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    def send(_: Any, __: Any, state: Any, ___: Any, **____: Any) -> None:
        if state.global_step + 1 == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(DefaultFlowCallback, "on_step_begin", send)


def steps() -> list[int]:
    return [line["step"] for line in lines("out/log.jsonl")]


def test_from_records_to_an_adapter(here: Path) -> None:
    done = train(*USUAL.split(), "--gguf", "adapter.gguf")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    loading, *said = done.stderr.splitlines()
    assert loading == "redraft: loading PyTorch and the model."
    assert said[:2] == [
        "redraft: training an adapter, because no GPU is used (--lora False trains all weights).",
        "redraft: the tokenizer has no padding token: '<unk>' is used",
    ]
    assert said[2].startswith("redraft: 24 records read, 24 to train on: ")
    assert "redraft: 4 steps of 4 rows (24 records packed into " in said[3]
    assert said[4] == "redraft: step 1 begins."
    assert re.match(r"redraft: step 1 of 4 · \d:\d\d elapsed · loss 6\.", said[5])
    assert said[-1].startswith("redraft: out contains an adapter of rank 16 on weights in ")
    assert said[-1].endswith(
        "Try it: redraft ask … --model model+out (llama.cpp: redraft weights gguf model -o BASE.gguf, then "
        "--model BASE.gguf+adapter.gguf)"
    )
    assert Path("adapter.gguf").read_bytes()[:4] == b"GGUF"
    record = json.loads(Path("out.run.json").read_text())
    assert (record["command"], record["config"]["training_objective"]) == ("train sft", "accepted")
    assert (record["sessions"][0]["steps"], record["sessions"][0]["redraft"]) == (4, "0.1.0")
    assert record["sessions"][0]["data_path"] == ["chains.jsonl"]
    took = record["sessions"][0]["memory_bytes"]
    assert took > 10**8
    assert f"redraft: memory: {size_in_words(took)} at most" in said
    assert {"seed", "learning_rate", "tokens_sha256"} <= record["config"].keys()


@pytest.mark.slow
def test_selfees_command_runs_on_a_cpu_and_says_what_differs(here: Path) -> None:
    command = (
        "--model_name_or_path model --data_path chains.jsonl --bf16 True --output_dir out "
        "--num_train_epochs 3 "
        "--per_device_train_batch_size 16 --per_device_eval_batch_size 16 --gradient_accumulation_steps 2 "
        "--evaluation_strategy no --save_strategy steps --save_steps 5000 --save_total_limit 1 "
        "--learning_rate 2e-5 --weight_decay 0. --warmup_ratio 0.03 --lr_scheduler_type cosine "
        "--logging_steps 1 --fsdp_transformer_layer_cls_to_wrap LlamaDecoderLayer --tf32 True "
        "--model_max_length 2048 --gradient_checkpointing True --lazy_preprocess True "
        "--training_objective full --lora False"
    )
    chains(Path("chains.jsonl"), 32)
    done = train(*command.split(), "--fsdp", "shard_grad_op auto_wrap")
    assert done.exit_code == 0, done.output
    assert "--tf32 is ignored: it needs a GPU, and none is used." in done.stderr
    assert "--fsdp is ignored, so one process loads the whole model. The loss is the same." in done.stderr
    assert "3 steps of 32 rows (of 32 rows), learning rate 2e-05, all weights in float32" in done.stderr
    assert steps() == [1, 2, 3]


@pytest.mark.parametrize(
    ("named", "gguf", "said"),
    [
        ("default", "a.gguf", "Try it: redraft ask … --model default-base+a.gguf"),
        ("default+town", "a.gguf", "Try it: redraft ask … --model default-base+town.gguf+a.gguf"),
        ("default+t", None, "For llama.cpp: redraft weights lora-gguf out --base default -o out.gguf"),
        ("m.gguf", None, "For llama.cpp: redraft weights lora-gguf out --base m.gguf -o out.gguf"),
        ("model", None, "Try it: redraft ask … --model model+out"),
        ("org/name", "a.gguf", "Merge it into its base: redraft weights merge-lora org/name out -o FOLDER"),
    ],
)
def test_what_to_type_next_works_with_that_base(here: Path, named: str, gguf: str | None, said: str) -> None:
    own = SftOptions(model_name_or_path=named, gguf=gguf, lora=True, output_dir="out")
    assert VERB.following(own, named) == said


def test_training_goes_on_from_a_model_with_an_adapter(here: Path) -> None:
    assert train(*USUAL.split(), "--quiet", "--learning_rate", "1e-2").exit_code == 0
    usual = USUAL.replace("out ", "two ").replace("path model", "path model+out")
    done = train(*usual.split())
    assert done.exit_code == 0, done.output
    assert json.loads(Path("two/adapter_config.json").read_text())["base_model_name_or_path"] == "model+out"
    merged, _, last = done.stderr.split("--model ")[-1].strip().partition("+")
    assert last == "two"
    plain, learnt = (load_file(Path(folder, "model.safetensors")) for folder in ("model", merged))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(plain[name], learnt[name])
    assert lines("two/log.jsonl")[0]["loss"] < lines("out/log.jsonl")[0]["loss"]
    made = Path(merged, "config.json").stat().st_mtime
    assert train(*usual.split(), "--overwrite_output_dir", "--dry_run").exit_code == 0
    assert Path(merged, "config.json").stat().st_mtime == made, "it was merged again"


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("model+x.gguf", "x.gguf is for llama.cpp.\n  Name the folder that holds the trained adapter"),
        ("model+nowhere", "nowhere is not an adapter folder."),
        ("model+", "the part after + is not an adapter folder."),
        ("org/name+adapter", "redraft weights merge-lora org/name adapter -o FOLDER"),
    ],
)
def test_what_is_added_must_be_an_adapter(here: Path, ref: str, said: str) -> None:
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text("{}")
    done = train(*USUAL.replace("path model", f"path {ref}").split())
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_whole_model_becomes_a_gguf(here: Path) -> None:
    done = train(*USUAL.split(), "--lora", "False", "--gguf", "model.gguf", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert Path("model.gguf").read_bytes()[:4] == b"GGUF"
    assert b"redraft.format" in Path("model.gguf").read_bytes()


@pytest.mark.parametrize("words", [[], ["--overwrite_output_dir"]])
def test_sigterm_saves_and_asks_to_be_started_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 3, signal.SIGTERM)
        stopped = train(*USUAL.split(), *words)
    assert stopped.exit_code == AGAIN
    again = "the command again without --overwrite_output_dir" if words else "the same command again"
    assert stopped.stderr.endswith(f"training stopped after step 3 of 4. To resume, type {again}.\n")
    assert not Path("out/adapter_config.json").exists()
    done = train(*USUAL.split())
    assert done.exit_code == 0
    assert "redraft: the run resumes from out/checkpoint-3\n" in done.stderr
    assert steps() == [1, 2, 3, 4]
    sessions = json.loads(Path("out.run.json").read_text())["sessions"]
    assert [session["steps"] for session in sessions] == [3, 4]


def test_an_estimate_may_be_interrupted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 1, signal.SIGINT)
    done = train(*USUAL.split(), "--estimate")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "Traceback" not in done.output


def test_a_look_and_an_estimate_at_once(here: Path) -> None:
    done = train(*USUAL.split(), "--preview", "1", "--estimate")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("redraft: loading PyTorch and the tokenizer.\n")
    said = done.stdout.splitlines()
    assert said[0] == "⟦with loss⟧, without loss, ⟨control token⟩, ↵ line end"
    assert "\n── sum/" in done.stdout
    estimated = ["parameters", "memory", "speed", "time"]
    assert [name for name in [line.split(" ")[0] for line in said] if name in estimated] == estimated
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_run_goes_on_as_it_was_begun_or_not_at_all(here: Path) -> None:
    assert train(*USUAL.split()).exit_code == 0
    other = train(*USUAL.split(), "--seed", "1")
    assert other.exit_code == 2
    assert "out was made differently: seed was 42 and is 1" in other.stderr
    assert "resumes from" not in other.stderr
    assert "to another folder with --output_dir" in other.stderr
    assert "  Repeat the earlier command to resume" in other.stderr
    assert "-o," not in other.stderr
    fresh = train(*USUAL.split(), "--seed", "1", "--overwrite_output_dir")
    assert fresh.exit_code == 0
    assert "resumes" not in fresh.stderr


def test_what_nobody_knows_is_not_replaced(here: Path) -> None:
    path = Path("out/checkpoint-1/model.safetensors")
    path.parent.mkdir(parents=True)
    path.write_text("somebody's")
    for words in (["--dry_run"], []):
        done = train(*USUAL.split(), *words)
        assert done.exit_code == 2, done.output
        assert "out is not empty, but its record out.run.json is missing." in done.stderr
        assert "or start over with --overwrite_output_dir" in done.stderr
    assert path.read_text() == "somebody's"


def test_a_run_without_checkpoints_is_replaced_by_the_same_alone(here: Path) -> None:
    words = [*USUAL.replace("steps 4", "steps 1").split(), "--save_strategy", "no"]
    assert train(*words).exit_code == 0
    before = Path("out/adapter_model.safetensors").stat().st_mtime_ns
    other = train(*words, "--learning_rate", "1")
    assert other.exit_code == 2
    assert "out was made differently: learning_rate was 0.0002 and is 1.0" in other.stderr
    assert Path("out/adapter_model.safetensors").stat().st_mtime_ns == before
    Path("out/adapter_config.json").unlink()  # as where it was killed while it saved
    again = train(*words)
    assert "redraft: out has no checkpoint, so steps 1 to 1 are repeated." in again.stderr
    assert Path("out/adapter_config.json").is_file()
    assert len(json.loads(Path("out.run.json").read_bytes())["sessions"]) == 2


def test_dry_run_does_all_but_the_steps(here: Path) -> None:
    done = train(*USUAL.split(), "--dry_run")
    assert done.exit_code == 0
    assert "4 steps of 4 rows" in done.stderr
    assert done.stderr.endswith("redraft: this was a dry run: nothing was trained.\n")
    assert "one step needs 64" in train(*USUAL.split(), "--per_device_train_batch_size", "64").stderr
    assert not Path("out").exists()
    assert not Path("out.run.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--data_path chains.jsonl", "there is no folder for the result.\n  --output_dir FOLDER"),
        ("--output_dir out", "there is no data to train on.\n  --data_path FILE"),
        (f"{USUAL} --report_to wand", "--report_to does not know 'wand'.\n  Known: none, all, azure_ml, "),
        (f"{USUAL} --report_to neptune", "--report_to neptune needs its library.\n  pip install neptune"),
        (f"{USUAL} --lr_scheduler_type cosin", "It should be cosine, linear, constant"),
    ],
)
def test_what_is_wrong_is_a_message(here: Path, words: str, said: str) -> None:
    done = train(*words.split())
    assert done.exit_code in (2, 3)
    assert said in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sft selfee --data_path none.jsonl", "none.jsonl cannot be read: No such file or directory."),
        ("sft --data_path -", "standard input cannot be trained on: the data is read more than once."),
        ("reward --data_path empty.jsonl", "empty.jsonl: there are no records.\n  --data_path FILE"),
        ("sft --data_path chains.jsonl --model_name_or_path nowhere", "there is no model 'nowhere'"),
        ("sft --data_path chains.jsonl --preview 1 --model_name_or_path none.gguf", "none.gguf cannot be re"),
        ("reward --data_path chains.jsonl --packing True", "there is no setting --packing"),
        ("ppo --data_path chains.jsonl --reward wrods<=3", "no check is called 'wrods'."),
        ("ppo --data_path chains.jsonl --num_rollouts 6", "--num_rollouts 6 must be a mul"),
        ("ppo --data_path chains.jsonl --min_new_tokens 999", "--min_new_tokens 999 is above"),
        ("self out --model nowhere", "--model must be default or a GGUF file, not nowhere."),
    ],
)
def test_a_mistake_is_said_before_torch_is_loaded(here: Path, words: str, said: str) -> None:
    Path("empty.jsonl").touch()
    program = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules));"
        "from redraft.cli import main; main()"
    )
    output = [] if words.startswith("self") else ["--output-dir", "out"]
    line = [sys.executable, "-c", program, "train", *words.split(), *output]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert said in done.stderr
    assert done.stdout.strip() == "False"
