"""Trains the default model to check and revise its own answers, here, and measures whether it pays.

    python benchmarks/tiny_selfee.py --work DIR                 everything; writes its part of RESULTS.md
    python benchmarks/tiny_selfee.py --work DIR --until chains  stages up to one, and no results written
    python benchmarks/tiny_selfee.py --work DIR --quick         a few steps, to see that it works; no results

Whatever stops it, the same command goes on where it was: training from its last checkpoint, answering from
its last answer. What is learnt is in `tiny_selfee_tasks.py`, the settings of training are the recipe
`tiny_selfee` (redraft train sft tiny_selfee …). Needs redraft[train,local]. Exit status 1 if what was
promised was not reached. Afterwards the model is there to be asked:

    redraft ask "What is 4171 + 3946?" --model default+DIR/answers.gguf+DIR/chains.gguf
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redraft.chain import Chain, read_jsonl, write_jsonl
from report import put
from revise import RESULTS
from tiny_selfee_data import answered, asked, chains_on, held_out, training
from tiny_selfee_eval import Outcome, Votes, by_task, outcome, samples_for, votes
from tiny_selfee_report import Task, part, reached
from tiny_selfee_tasks import TASKS, Exercise

SCRIPT = "benchmarks/tiny_selfee.py"
PARALLEL = 8
LONGEST_ANSWER = 64
"""Tokens. The longest right answer has about 40."""
LONGEST_CHAIN = 768
"""Tokens of a chain with three revisions; the longest feedback has about 110."""
VOTING = 0.7
"""Temperature of the control's votes: answers have to differ. The same as SelFee's released default."""
DRAFTING = 1.0
"""Temperature of the drafts to criticise: the model's own faults, and more of them than when greedy."""


@dataclass(frozen=True)
class Scale:
    """How much is learnt and tested.

    Attributes:
        answers: Exercises a task to learn answers from.
        chains: Exercises a task to draft, criticise and revise.
        held_out: Exercises a task to test on.
        steps: Optimizer steps on answers, and then on chains (the control: on answers again).
    """

    answers: int
    chains: int
    held_out: int
    steps: tuple[int, int]


FULL = Scale(answers=1600, chains=700, held_out=200, steps=(225, 300))
QUICK = Scale(answers=12, chains=8, held_out=4, steps=(2, 2))


@dataclass(frozen=True)
class Run:
    """A run: where it works, and at which scale."""

    work: Path
    scale: Scale

    def path(self, name: str) -> Path:
        """A file or folder of the run."""
        return self.work / name

    def model(self, *adapters: str) -> str:
        """The reference of the default model with adapters of the run."""
        return "+".join(["default", *(str(self.path(f"{name}.gguf")) for name in adapters)])


def make_exercises(run: Run) -> None:
    """Writes what is learnt first, what is drafted then, and what is tested on."""
    parts: dict[str, list[Chain]] = {"answers": [], "drafts": [], "held-out": []}
    for task in TASKS:
        apart = held_out(task, run.scale.held_out)
        first = training(task, "answers", run.scale.answers, apart)
        second = training(task, "drafts", run.scale.chains, apart)
        parts["answers"] += [answered(chain) for chain in _named(f"{task}/answers", first)]
        parts["drafts"] += _named(f"{task}/drafts", second)
        parts["held-out"] += _named(f"{task}/held-out", apart)
    for name, chains in parts.items():
        write_jsonl(run.path(f"{name}.jsonl"), chains)


def _named(prefix: str, exercises: Iterable[Exercise]) -> Iterator[Chain]:
    return (asked(exercise, f"{prefix}/{number:05}") for number, exercise in enumerate(exercises))


def learn_answers(run: Run) -> None:
    """Trains on right answers."""
    _train(run, "answers", base="default", steps=run.scale.steps[0])
    redraft("weights", "from-gguf", _default(), "-o", run.path("base"), "--dtype", "fp32", "--force")
    redraft(
        "weights", "merge-lora", run.path("base"), run.path("answers"), "-o", run.path("merged"), "--force"
    )


def draft(run: Run) -> None:
    """Lets that model answer other exercises, for its own faults."""
    settings = ("--temperature", DRAFTING, "--max-revisions", 0, "--max-tokens", LONGEST_ANSWER)
    _answer(run, "drafts", "drafted", run.model("answers"), *settings)


def criticise(run: Run) -> None:
    """Writes chains on those drafts; and for the control right answers to the same prompts."""
    drafted = by_task(read_jsonl(run.path("drafted.jsonl")))
    chains = [chain for of_task in drafted.values() for chain in chains_on(of_task)]
    write_jsonl(run.path("chains.jsonl"), chains)
    write_jsonl(run.path("control.jsonl"), map(answered, read_jsonl(run.path("drafts.jsonl"))))


def learn_chains(run: Run) -> None:
    """Trains on chains."""
    _train(run, "chains", base=run.path("merged"), steps=run.scale.steps[1])


def learn_control(run: Run) -> None:
    """Trains as many steps on answers."""
    _train(run, "control", base=run.path("merged"), steps=run.scale.steps[1])


def revise_held_out(run: Run, to: str = "revised", adapters: Sequence[str] = ("answers", "chains")) -> None:
    """Lets the model answer and revise held-out prompts."""
    settings = ("--temperature", 0, "--max-revisions", 3, "--max-tokens", LONGEST_CHAIN)
    _answer(run, "held-out", to, run.model(*adapters), *settings)


def answer_held_out(run: Run) -> None:
    """Lets the control answer them once, and then as often as the chains' tokens allow."""
    settings = ("--max-revisions", 0, "--max-tokens", LONGEST_ANSWER)
    model = run.model("answers", "control")
    _answer(run, "held-out", "once", model, "--temperature", 0, *settings)
    write_jsonl(run.path("ballots.jsonl"), _ballots(run))
    _answer(run, "ballots", "voted", model, "--temperature", VOTING, *settings)


def _ballots(run: Run) -> Iterator[Chain]:
    """Each held-out prompt as many times as the control may answer it."""
    asked_of = by_task(read_jsonl(run.path("held-out.jsonl")))
    for task, (chains, once) in _both(run).items():
        samples = samples_for(chains, once.tokens)
        for chain in asked_of[task]:
            for number in range(samples):
                yield chain.model_copy(update={"id": f"{chain.id}#{number}"})


def _both(run: Run) -> Mapping[str, tuple[Outcome, Votes]]:
    """Chains and single answers of the control, by task."""
    chains = by_task(read_jsonl(run.path("revised.jsonl")))
    once = by_task(
        chain.model_copy(update={"id": f"{chain.id}#0"}) for chain in read_jsonl(run.path("once.jsonl"))
    )
    return {task: (outcome(chains[task]), votes(once[task], 1)) for task in chains}


def results(run: Run) -> list[Task]:
    """All that was found, task by task."""
    voted = by_task(read_jsonl(run.path("voted.jsonl")))
    return [
        Task(task, chains, once, votes(voted[task], len(voted[task]) // len(chains.first)))
        for task, (chains, once) in _both(run).items()
    ]


STAGES: Mapping[str, Callable[[Run], None]] = {
    "exercises": make_exercises,
    "answers": learn_answers,
    "drafts": draft,
    "feedback": criticise,
    "chains": learn_chains,
    "control": learn_control,
    "test": revise_held_out,
    "test-control": answer_held_out,
}


def _train(run: Run, name: str, *, base: object, steps: int) -> None:
    """`redraft train sft` with the recipe on NAME.jsonl, to the folder NAME and NAME.gguf."""
    redraft(
        *("train", "sft", "tiny_selfee", "--model_name_or_path", base, "--max_steps", steps),
        *("--data_path", run.path(f"{name}.jsonl"), "--output_dir", run.path(name)),
        *("--gguf", run.path(f"{name}.gguf")),
    )


def _answer(run: Run, asked: str, to: str, model: str, *settings: object) -> None:
    """`redraft answer` in native mode."""
    redraft(
        *("answer", run.path(f"{asked}.jsonl"), "-o", run.path(f"{to}.jsonl"), "--model", model),
        *("--mode", "native", "--seed", 1, "--parallel", PARALLEL, "--ctx", 1024, *settings),
    )


def redraft(*arguments: object) -> None:
    """A command of redraft's, in the folder of benchmarks, from where it imports a reward.

    At Ctrl-C it saves what it has and ends by itself, so it is waited for.

    Raises:
        CalledProcessError: It did not end with 0.
    """
    command = [sys.executable, "-m", "redraft", *map(str, arguments)]
    with subprocess.Popen(command, cwd=Path(__file__).parent) as process:
        while process.returncode is None:
            with suppress(KeyboardInterrupt):
                process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _default() -> Path:
    from material import default_model

    return default_model()


def go(run: Run, until: str | None) -> dict[str, float]:
    """Does the stages that are not done, and returns the minutes of each, over all sessions."""
    book = run.path("run.json")
    scale = list(asdict(run.scale).values())
    kept: dict[str, Any] = json.loads(book.read_bytes()) if book.exists() else {"scale": scale, "minutes": {}}
    if json.dumps(kept["scale"]) != json.dumps(scale):
        sys.exit(f"{run.work} holds a run at another scale. Name another folder, or start over.")
    for stage, work in STAGES.items():
        if not run.path(f"{stage}.done").exists():
            print(f"— {stage}", flush=True)
            start = time.perf_counter()
            try:
                work(run)
                run.path(f"{stage}.done").touch()
            finally:
                minutes = kept["minutes"].get(stage, 0.0) + (time.perf_counter() - start) / 60
                kept["minutes"][stage] = minutes
                book.write_text(json.dumps(kept, indent=1), "utf-8")
        if stage == until:
            break
    minutes_of: dict[str, float] = kept["minutes"]
    return minutes_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what is left of a run, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="a folder of the run's own, with 2 GB of room"
    )
    parser.add_argument("--until", choices=STAGES, help="the last stage to do")
    parser.add_argument("--quick", action="store_true", help="a few steps, and no results written")
    asked = parser.parse_args(arguments)
    run = Run(asked.work.resolve(), QUICK if asked.quick else FULL)
    run.work.mkdir(parents=True, exist_ok=True)
    try:
        minutes = go(run, asked.until)
    except subprocess.CalledProcessError as error:
        print(f"stopped with status {error.returncode}; the same command goes on", file=sys.stderr)
        return error.returncode if error.returncode > 0 else 1
    if asked.until:
        return 0
    found = results(run)
    text = part(found, SCRIPT, minutes)
    print(text)
    if not asked.quick:
        put(RESULTS, SCRIPT, text)
    return 0 if reached(found, minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
