"""Rewards on chains: trains the model of tiny_selfee further, with the check as reward, and measures it.

    python benchmarks/ppo_chains.py --work DIR          everything; writes its part of RESULTS.md
    python benchmarks/ppo_chains.py --work DIR --quick  a few steps, to see that it works; no results

First the default model learns chains for adding and counting, as tiny_selfee does for five tasks: two fifths
of its steps. Then it writes chains on other exercises, and the reward is whether the final answer is right,
with a bonus for what revising changed. Whatever stops it, the same command resumes. Needs
redraft[train,local]. There is no goal: whatever comes out is reported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tiny_selfee
from ppo_words import Minutes, curve, minutes_of, told
from redraft.chain import Chain, read_jsonl, write_jsonl
from redraft.evaluation.diagnosis.figures import Changes
from redraft.stats import balanced
from report import circumstances, number, put
from revise import RESULTS
from tiny_selfee_data import asked, exercise_of, held_out, training
from tiny_selfee_eval import Outcome, by_task, outcome
from tiny_selfee_report import percent, share, shown
from tiny_selfee_tasks import TASKS

SCRIPT = "benchmarks/ppo_chains.py"
TAUGHT = ("add", "count")
FULL = tiny_selfee.Scale(answers=1600, chains=700, held_out=200, steps=(90, 120))
PROMPTS = {"add": 1200, "count": 400}
"""Exercises for PPO: more sums, because a taught model counts right nearly always, which teaches nothing."""
SETTINGS: tuple[object, ...] = (
    *("--format", "selfee", "--chains", True, "--reward", "python:ppo_chains.right"),
    *("--algorithm", "rloo", "--num_generations", 4, "--num_rollouts", 32, "--chunk_size", 32),
    *("--per_device_train_batch_size", 8, "--ppo_epochs", 1, "--max_new_tokens", 320),
    *("--model_max_length", 512, "--learning_rate", 3e-4, "--init_kl_coef", 0.01),
    *("--revision_bonus", 1.0, "--save_steps", 4, "--save_total_limit", 1, "--seed", 1),
)


def right(chain: Chain) -> bool:
    """Return whether the final answer of a chain is right. `redraft train ppo` calls this."""
    return exercise_of(chain).passes(chain.answer)


@dataclass(frozen=True)
class Run:
    """A run: that of tiny_selfee on two tasks, and the steps of PPO."""

    taught: tiny_selfee.Run
    steps: int

    @property
    def work(self) -> Path:
        """The folder of the run."""
        return self.taught.work

    def prepare(self) -> None:
        """Teach chains, and let the model answer and revise held-out prompts."""
        tiny_selfee.go(self.taught, "chains")
        tiny_selfee.revise_held_out(self.taught)
        if not (self.work / "policy").exists():
            parts = (self.work / "merged", self.work / "chains", "-o", self.work / "policy")
            tiny_selfee.redraft("weights", "merge-lora", *parts)

    def train(self) -> Minutes:
        """Train, and let the result answer and revise the same prompts. Return the minutes of training."""
        write_jsonl(self.work / "ppo.jsonl", self._prompts())
        where = ("--data_path", self.work / "ppo.jsonl", "--output_dir", self.work / "ppo")
        model = ("--model_name_or_path", self.work / "policy", "--max_steps", self.steps)
        minutes = minutes_of(
            self.work / "ppo.minutes", lambda: tiny_selfee.redraft("train", "ppo", *model, *where, *SETTINGS)
        )
        adapter = ("-o", self.work / "ppo.gguf", "--base", self.work / "policy", "--force")
        tiny_selfee.redraft("weights", "lora-gguf", self.work / "ppo", *adapter)
        tiny_selfee.revise_held_out(self.taught, "rewarded", ("answers", "chains", "ppo"))
        return minutes

    def _prompts(self) -> list[Chain]:
        """Return exercises that are in no other part of the run's data."""
        return [
            asked(exercise, f"{task}/ppo/{number:04}")
            for task in TASKS
            for number, exercise in enumerate(
                training(task, "ppo", PROMPTS[task], held_out(task, self.taught.scale.held_out))
            )
        ]

    def outcomes(self, name: str) -> dict[str, Outcome]:
        """Return what the chains of each task came to."""
        return {task: outcome(chains) for task, chains in by_task(self._chains(name)).items()}

    def _chains(self, name: str) -> list[Chain]:
        return list(read_jsonl(self.work / f"{name}.jsonl"))


HOW = (
    "The default model learns chains for adding and counting (as in tiny_selfee, with two fifths of its "
    "steps). Then RLOO with four chains to a prompt, on three sums to a count: the reward is 1 if the final "
    "answer is right, and the text after answer 0 gets 1 more from wrong to right "
    "and 1 less from right to wrong. Held-out prompts "
    "are in no part of training. Chains are greedy, by `redraft answer` in native mode with at most three "
    "revisions. Verdicts are given as balanced accuracy: accepting everything is 50 %. Intervals are 95 %. "
    "Other work ran beside it."
)
HEAD = (
    "| task | | answer 0 | final answer | wrong → right | right → wrong (harm) | verdicts on answer 0 "
    "| on all answers | well-formed | tokens |\n|---|---|---|---|---|---|---|---|---|---|"
)
NAMES = {
    "reward": "final answer right",
    "first_reward": "answer 0 right",
    "improved": "wrong → right",
    "harmed": "right → wrong",
    "kl": "KL",
    "rollout_entropy": "entropy of a token",
    "response_tokens": "tokens",
    "ended": "ended",
}


def part(run: Run, minutes: Minutes) -> str:
    """Return this script's part of RESULTS.md."""
    before, after = run.outcomes("revised"), run.outcomes("rewarded")
    rows = [
        _row(task, when, found[task])
        for task in before
        for when, found in (("before", before), ("after", after))
    ]
    lines = [f"- {each}" for each in circumstances(f"python {SCRIPT} --work DIR", minutes.wall)]
    log = run.work / "ppo" / "log.jsonl"
    count = len(log.read_text("utf-8").splitlines())
    blocks = [
        f"## {SCRIPT}",
        "\n".join(lines),
        HOW,
        (
            f"{run.steps} steps of PPO, {count} rollout batches of 32 chains. "
            f"Minutes of the wall clock, and of one core: {told(minutes)}."
        ),
        "\n".join([HEAD, *rows]),
        f"Rollout batches (chains that are sampled, at temperature 1):\n\n{curve(log, NAMES)}",
    ]
    return "\n\n".join(blocks) + "\n"


def _row(task: str, when: str, found: Outcome) -> str:
    pairs = zip(found.first, found.final, strict=True)
    changes = Changes(tuple((*pair, prompt) for prompt, pair in enumerate(pairs)))
    cells = (
        *(task, when, percent(share(found.first)), percent(share(found.final))),
        *(f"{changes.fixed} of {changes.wrong}", f"{changes.broken} of {changes.right}"),
        *(shown(balanced(each).times(100), "%") for each in (found.judged, found.judged_all)),
        *(percent(share(found.well_formed)), number(sum(found.tokens) / len(found.tokens))),
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is left of a run, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="a folder of the run's own, with 2 GB of room"
    )
    parser.add_argument("--steps", type=int, default=60, help="steps of PPO, four to a rollout batch  [60]")
    parser.add_argument("--quick", action="store_true", help="a few steps, and no results written")
    given = parser.parse_args(arguments)
    for task in [name for name in TASKS if name not in TAUGHT]:
        del TASKS[task]
    scale = tiny_selfee.QUICK if given.quick else FULL
    run = Run(tiny_selfee.Run(given.work.resolve(), scale), 4 if given.quick else given.steps)
    run.work.mkdir(parents=True, exist_ok=True)
    run.prepare()
    text = part(run, run.train())
    print(text)
    if not given.quick:
        put(RESULTS, SCRIPT, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
