"""Train the default model with PPO on a reward that a program computes, and measure the result.

    python benchmarks/ppo_words.py --work DIR            two seeds; writes results/ppo_words.json
    python benchmarks/ppo_words.py --work DIR --quick    a few steps, only to test the script; no results

The task is to write about a subject, and to use a given word. A third of the reward is for the word, a third
for at most 12 words, and a third for a full stop at the end. The prompt names only the word. No word of a
held-out prompt is in a training prompt. If the run is stopped, the same command resumes it. This needs
redraft[train,local]. The exit status is 1 if a goal was not reached.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from measure import Goal, Row
from redraft.chain import Chain, Prompt, read_jsonl, write_jsonl
from redraft.evaluation.stats import Estimate, difference, mean
from report import number, told, write

WORDS = (
    *("river", "lamp", "garden", "window", "bread", "ocean", "pencil", "forest"),
    *("bottle", "music", "winter", "candle", "bridge", "mirror", "basket", "storm"),
    *("engine", "market", "silver", "yellow", "dragon", "pocket", "island", "paper"),
    *("kitchen", "mountain", "rabbit", "shadow", "ticket", "violin", "apple", "castle"),
    *("desert", "feather", "hammer", "insect", "jacket", "ladder", "needle", "orange"),
    *("pepper", "queen", "ribbon", "saddle", "tunnel", "village", "whistle", "blanket"),
    *("coffee", "diamond"),
)
HELD_OUT = tuple(WORDS[::5])
SUBJECTS = (
    *("a holiday", "a cat", "a school day", "a train journey", "an old house", "a football match"),
    *("a birthday", "a small town", "a doctor", "a farmer", "a rainy evening", "a new job", "a lost key"),
    *("a long walk", "a good friend", "a summer morning", "a library", "a wedding", "a teacher", "a boat"),
)
LONGEST = 32  # tokens. A sentence of 12 words has about 16.
TARGET = 6.0  # nats of KL of an answer
RISE = Goal("≥", 0.15)
SAMPLES = 10
NAMES = {
    "reward": "reward", "kl": "KL", "beta": "β",
    "rollout_entropy": "entropy of a token",
    "response_tokens": "tokens", "ended": "ended",
    "explained_variance": "explained variance",
}  # fmt: skip
SETTINGS: Mapping[str, Any] = {
    "--num_rollouts": 64, "--chunk_size": 32, "--per_device_train_batch_size": 16, "--ppo_epochs": 2,
    "--max_new_tokens": LONGEST, "--learning_rate": 3e-4, "--init_kl_coef": 0.05, "--target": TARGET,
    "--horizon": 500, "--vf_coef": 0.5, "--save_steps": 40, "--save_total_limit": 1,
}  # fmt: skip


def reward(answer: str, prompt: Prompt) -> float:
    """Return the share of the three demands that an answer meets. `redraft train ppo` calls this function."""
    word = re.findall(r'"(\w+)"', prompt.instruction)[-1]
    has_word = re.search(rf"\b{word}\b", answer, re.IGNORECASE) is not None
    return (has_word + (0 < len(answer.split()) <= 12) + answer.rstrip().endswith(".")) / 3


def prompts(words: Sequence[str], count: int, name: str) -> list[Chain]:
    chosen = Random(name).sample([(subject, word) for subject in SUBJECTS for word in words], count)
    return [
        Chain(
            id=f"{name}/{n:04}", prompt=Prompt(instruction=f'Write about {subject}. Use the word "{word}".')
        )
        for n, (subject, word) in enumerate(chosen)
    ]


class Minutes(NamedTuple):
    wall: float
    cpu: float | None


def minutes_of(book: Path, work: Callable[[], None]) -> Minutes:
    if not book.exists():
        wall, cpu = time.monotonic(), _processors()
        work()
        book.write_text(json.dumps([(time.monotonic() - wall) / 60, (_processors() - cpu) / 60]), "utf-8")
    return Minutes(*json.loads(book.read_text("utf-8")))


def _processors() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Run:
    work: Path
    steps: int
    held_out: int

    def prepare(self) -> None:
        others = [word for word in WORDS if word not in HELD_OUT]
        write_jsonl(self.work / "train.jsonl", prompts(others, 600, "train"))
        write_jsonl(self.work / "held-out.jsonl", prompts(HELD_OUT, self.held_out, "held-out"))
        self._answer("before", "default")

    def train(self, seed: int) -> Minutes:
        folder = self.work / f"seed-{seed}"
        settings = {**SETTINGS, "--max_steps": self.steps, "--seed": seed, "--output_dir": folder}
        flags = [word for pair in settings.items() for word in pair]
        where = ("--data_path", self.work / "train.jsonl", "--reward", "python:ppo_words.reward")
        minutes = minutes_of(
            self.work / f"seed-{seed}.minutes", lambda: _redraft("train", "ppo", *where, *flags)
        )
        adapter = folder.with_suffix(".gguf")
        _redraft("weights", "lora-gguf", folder, "--base", "default", "-o", adapter, "--force")
        self._answer(f"after-{seed}", f"default+{adapter}")
        return minutes

    def _answer(self, name: str, model: str) -> None:
        _redraft(
            *("answer", self.work / "held-out.jsonl", "-o", self.work / f"{name}.jsonl", "--model", model),
            *("--mode", "prompted", "--max-revisions", 0, "--seed", 1, "--temperature", 1),
            *("--max-tokens", LONGEST, "--quiet"),
        )

    def log(self, seed: int) -> Path:
        return self.work / f"seed-{seed}" / "log.jsonl"

    def answers(self, name: str) -> list[Chain]:
        return sorted(read_jsonl(self.work / f"{name}.jsonl"), key=lambda chain: chain.id)


def _redraft(*words: object) -> None:
    # The reward is imported from the working directory.
    subprocess.run([sys.executable, "-m", "redraft", *map(str, words)], check=True, cwd=Path(__file__).parent)


def scores(chains: Sequence[Chain]) -> list[float]:
    return [reward(chain.answer, chain.prompt) for chain in chains]


def rows(run: Run, minutes: Mapping[int, Minutes]) -> tuple[list[Row], bool]:
    before = run.answers("before")
    lines, reached = [HEAD], True
    for seed in minutes:
        rise = difference(scores(before), scores(run.answers(f"after-{seed}")))
        most = max(line["kl"] for line in numbers(run.log(seed)))
        good = RISE.reached(rise.value) and rise.low > 0 and most < 2 * TARGET
        reached = reached and good
        lines.append(_row(seed, before, run, rise, most, minutes[seed], good=good))
    found = [Row("a given word, by PPO", HOW.format(count=len(before)), (), (), lines)]
    found += [Row(f"rollout batches, seed {seed}", "", (), (), curve(run.log(seed))) for seed in minutes]
    about, first = f"The first {SAMPLES} held-out prompts.", min(minutes)
    found.append(Row(f"answers before and after, seed {first}", about, (), (), _samples(run, first)))
    return found, reached


HEAD = (
    *("seed", "before", "after", "rise", "must reach", "largest KL of a rollout batch", "must be below"),
    *("minutes, of one core", "reached"),
)
HOW = (
    "The default model learns by PPO to write about a subject with a given word: a third of the reward is "
    "for the word, a third for at most 12 words, a third for a full stop at the end. The prompt names "
    "only the word. {count} held-out prompts, with words that training does not have, are answered "
    "before and after, at temperature 1 and with at most 32 tokens. Intervals are 95 %, paired by prompt, "
    "by bootstrap. KL is in nats of an answer. Minutes are of the wall clock, beside other work, and of one"
    " core."
)


def _row(
    seed: int, before: Sequence[Chain], run: Run, rise: Estimate, most: float, minutes: Minutes, *, good: bool
) -> tuple[str, ...]:
    was, now = mean(scores(before)), mean(scores(run.answers(f"after-{seed}")))
    taken = f"{minutes.wall:.0f}, {'not measured' if minutes.cpu is None else f'{minutes.cpu:.0f}'}"
    return (
        *(str(seed), *(f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in (was, now, rise))),
        *(f"≥ {RISE.value:g}", number(most), f"{2 * TARGET:g}", taken, "yes" if good else "**no**"),
    )


def numbers(log: Path) -> list[dict[str, float]]:
    return [line for line in map(json.loads, log.read_text("utf-8").splitlines()) if "reward" in line]


def curve(log: Path) -> list[list[str]]:
    lines = list(enumerate(numbers(log), start=1))
    shown = [(n, line) for n, line in lines if n % 3 == 1 or n == len(lines)]
    return [
        ["rollout batch", *NAMES.values()],
        *([str(n), *(number(line[name]) for name in NAMES)] for n, line in shown),
    ]


def _samples(run: Run, seed: int) -> list[list[str]]:
    pairs = list(zip(run.answers("before"), run.answers(f"after-{seed}"), strict=True))[:SAMPLES]
    lines = [["prompt", "before", "reward", "after", "reward"]]
    for old, new in pairs:
        line = [
            *(old.prompt.instruction, old.answer, number(reward(old.answer, old.prompt))),
            *(new.answer, number(reward(new.answer, new.prompt))),
        ]
        lines.append([" ".join(cell.replace("|", "\\|").split()) for cell in line])
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the folder of this run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="the seeds of the runs  [1 2]")
    parser.add_argument("--steps", type=int, default=104, help="steps of the optimizer  [104]")
    parser.add_argument("--quick", action="store_true", help="a few steps, and no results written")
    asked = parser.parse_args(arguments)
    run = Run(asked.work.resolve(), 8 if asked.quick else asked.steps, 4 if asked.quick else 200)
    run.work.mkdir(parents=True, exist_ok=True)
    run.prepare()
    found, reached = rows(run, {seed: run.train(seed) for seed in asked.seeds})
    print(*map(told, found), sep="\n\n")
    if not asked.quick:
        write("benchmarks/ppo_words.py", *found)
    return int(not (reached or asked.quick))


if __name__ == "__main__":
    sys.exit(main())
