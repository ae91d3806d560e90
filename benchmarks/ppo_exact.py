"""Whether a run of PPO that is killed and resumed has the curve of one that is not."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Figure, Goal, Row
from ppo_material import command, write_prompts

MEASURE = "killed and resumed, against an unbroken run of PPO: curves"
HOW = (
    "`redraft train ppo` with the default model: an adapter in 32 bits, {batches} rollout batches of "
    "{rollouts} answers, {steps} steps, a checkpoint every {save}. One run is left alone. The other is "
    "killed with SIGKILL twice, and the same command typed again: in the middle of the second rollout "
    "batch, when its first chunk is written, and when a step of it is done after the last checkpoint. "
    "Compared are all numbers of the log but speed and memory, to the last digit, the samples, and the "
    "bytes of the adapters."
)
SAME = Goal("≤", 0.0)
CHUNK, CHUNKS, BATCHES, EPOCHS, SAVE, LOG = 4, 3, 3, 2, 4, 2
ROLLOUTS = CHUNK * CHUNKS
STEPS = BATCHES * EPOCHS * CHUNKS
MEASURED = ("tokens_per_second", "memory_gb")
"""What differs between any two runs."""


def run(*, quick: bool) -> Row:
    """Measures the row."""
    with tempfile.TemporaryDirectory(prefix="redraft-bench-") as work:
        return compared(Path(work), "default", tokens=8 if quick else 32)


def compared(work: Path, model: str, *, tokens: int) -> Row:
    """Measures a model, with answers of at most so many tokens."""
    data = write_prompts(work / "prompts.jsonl", 2 * ROLLOUTS)
    whole, killed = work / "whole", work / "killed"
    for output, kills in ((whole, ()), (killed, (begun, past_checkpoint))):
        words = _words(model, data, output, tokens)
        for reached in kills:
            kill(words, output, reached)
        subprocess.run(words, check=True)
    curves = [curve(each) for each in (whole, killed)]
    names = ("samples.jsonl", "adapter_model.safetensors")
    other = [float((whole / name).read_bytes() != (killed / name).read_bytes()) for name in names]
    figures = (
        Figure("numbers of the log", (differing(*curves),), "differ", SAME, f"{len(curves[0])} lines"),
        Figure("samples", (other[0],), "differ", SAME),
        Figure("adapters", (other[1],), "differ", SAME),
    )
    rewards = ", ".join(str(line["reward"]) for line in curves[1] if "reward" in line)
    how = HOW.format(batches=BATCHES, rollouts=ROLLOUTS, steps=STEPS, save=SAVE)
    return Row(MEASURE, how, figures, (f"Mean rewards of the run that was killed: {rewards}.",))


def _words(model: str, data: Path, output: Path, tokens: int) -> list[str]:
    return command(
        "ppo",
        model_name_or_path=model,
        data_path=data,
        output_dir=output,
        cache_dir=output.with_name("cache"),
        reward="words<=5",
        num_rollouts=ROLLOUTS,
        chunk_size=CHUNK,
        ppo_epochs=EPOCHS,
        per_device_train_batch_size=CHUNK,
        max_new_tokens=tokens,
        max_steps=STEPS,
        save_steps=SAVE,
        logging_steps=LOG,
        target=1.0,
        scale_reward="running",
        learning_rate=1e-3,
        dtype="float32",
        bf16=False,
        report_to="none",
        use_cpu=True,
    )


def kill(words: list[str], output: Path, reached: Callable[[Path], bool]) -> None:
    """Kills a run once it has reached a point.

    Raises:
        RuntimeError: It ended before.
    """
    with subprocess.Popen(words) as process:
        while not reached(output):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(words)} ended with {process.returncode} before it was killed")
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)


def begun(output: Path) -> bool:
    """Whether the first chunk of the second rollout batch is written."""
    return len(lines(output / "samples.jsonl")) > ROLLOUTS


def past_checkpoint(output: Path) -> bool:
    """Whether a line of the log tells of steps after the last checkpoint, in the second rollout batch."""
    done = max((line["step"] for line in lines(output / "log.jsonl")), default=0)
    saved = max((int(each.name.partition("-")[2]) for each in output.glob("checkpoint-*")), default=0)
    return EPOCHS * CHUNKS < saved < done


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole."""
    written = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in written if line.endswith(b"\n")]


def curve(output: Path) -> list[dict[str, Any]]:
    """Return the log without what is measured."""
    return [
        {name: value for name, value in line.items() if name not in MEASURED}
        for line in lines(output / "log.jsonl")
    ]


def differing(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    """Return how many numbers differ. One that only one run has differs."""
    pairs = [
        {(number, *item) for number, line in enumerate(each) for item in line.items()}
        for each in (one, other)
    ]
    return float(len({place[:2] for place in pairs[0] ^ pairs[1]}))
