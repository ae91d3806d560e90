"""Measure the memory of PPO, divided by that of supervised fine-tuning of the same policy."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from measure import Figure, Goal, Row, in_turns, over
from redraft.engines.hf.folders import folder_for
from weights_run import MB, run_command

MEASURE = "memory of PPO over that of SFT of the same policy, an adapter"
HOW = (
    "`redraft train sft` and `redraft train ppo` run as a user types them, as processes, with the default "
    "model and the defaults on this machine: {batch} sequences a batch, each with a prompt of {half} tokens "
    "and an answer of {half} with loss. Both make two steps. PPO first writes two chunks of {batch} "
    "answers, which may not end sooner, judges them with a check, and computes values and log-probabilities "
    "of policy and reference. The figures compare the peak anonymous memory of all processes of a side "
    "(`RssAnon` and `RssShmem`, read every 10 ms). The first figure compares whole runs, with Python, its "
    "libraries and the weights, which both sides have. The second compares the memory above that of a run "
    "that loads all of this and ends (`--dry_run`): gradients, optimizer and activations, and for PPO also "
    "the cache of the answers."
)
GOAL = Goal("≤", 1.5)
BATCH, HALF = 16, 128


def run(*, quick: bool) -> Row:
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as work:
        return compared(Path(work), folder_for("default"), *((1, 2, 64) if quick else (5, BATCH, HALF)))


def compared(work: Path, model: str, rounds: int, batch: int, half: int) -> Row:
    data = write_records(work / "data.jsonl", model, 2 * batch, half)
    run = partial(peak, work=work, model=model, data=data, batch=batch, half=half)
    rollouts = partial(
        run, "ppo", reward="words<=5", num_rollouts=2 * batch, chunk_size=batch, ppo_epochs=1,
        max_new_tokens=half, min_new_tokens=half,
    )  # fmt: skip
    loaded = run("sft", dry_run=True)
    ppo, sft = in_turns(rounds, rollouts, lambda: run("sft"))
    sides = f"PPO {median(ppo) / MB:,.0f} MB; SFT {median(sft) / MB:,.0f} MB; loaded {loaded / MB:,.0f} MB"
    above = over([each - loaded for each in ppo], [each - loaded for each in sft])
    figures = (
        Figure("whole runs", over(ppo, sft), "×", GOAL, sides),
        Figure("above the loaded model", above, "×"),
    )
    return Row(MEASURE, HOW.format(batch=batch, half=half), figures)


def write_records(path: Path, model: str, count: int, half: int) -> Path:
    tokenizer: Any = AutoTokenizer.from_pretrained(model)

    def asked(words: int) -> int:
        said = [{"role": "user", "content": "sea" + " sea" * words}]
        return len(tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False))

    words = next(number for number in range(half) if asked(number) == half)
    record = {"instruction": "sea" + " sea" * words, "output": "sea" + " sea" * (half - 2)}
    path.write_text("".join(json.dumps({"id": f"r{n}", **record}) + "\n" for n in range(count)), "utf-8")
    return path


def command(verb: str, **settings: object) -> list[str]:
    words = (word for name, value in settings.items() for word in (f"--{name}", str(value)))
    return [sys.executable, "-m", "redraft", "train", verb, *words, "--quiet"]


def peak(verb: str, work: Path, model: str, data: Path, batch: int, half: int, **more: object) -> int:
    words = command(
        verb,
        model_name_or_path=model,
        data_path=data,
        output_dir=work / f"{verb}{len(more)}",
        overwrite_output_dir=True,
        cache_dir=work / "cache",
        format="chat",
        model_max_length=2 * half,
        per_device_train_batch_size=batch,
        max_steps=2,
        lora=True,
        save_strategy="no",
        report_to="none",
        **{"training_objective": "answer", "packing": False} if verb == "sft" else {},
        **more,
    )
    return run_command(words).anonymous
