"""Makes a model that revises by itself, tests it, and writes what came out into RESULTS.md.

    python benchmarks/self.py --work DIR --model default  what ships; writes results/self.json
    python benchmarks/self.py --work DIR                  makes the model by `redraft train self` first
    python benchmarks/self.py --work DIR --quick          a few exercises and steps; nothing written

Some hours; --count and --prompts make it shorter. Whatever stops this, the same command goes on. Needs
redraft[train,local,cpu] and the prompts of IFEval.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import exp
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from data_material import paths
from material import MISSING, default_model, records, shared
from measure import Figure, Row
from redraft.chain import Chain, Prompt, read_jsonl
from redraft.checks.base import run_checks
from redraft.engines.llamacpp.default_model import ADAPTERS
from redraft.engines.load import load_engine
from redraft.engines.local import read_headers
from redraft.engines.openvino.models import prepare
from redraft.evaluation import stats
from redraft.jobs.machine import use_large_pages
from redraft.train.self import measure
from redraft.train.self.measure import Asking, Outcome, Trial, Votes
from redraft.train.self.road import Road, Scale
from redraft.train.self.tasks import TASKS
from redraft.weights.gguf.to_folder import import_gguf
from report import cells, told, write
from steer import checks_in

QUICK = Scale(answers=60, drafts=60, held_out=4, answer_steps=2, chain_steps=2)
SEEDS = (1, 2, 3)
BARE = "default-base"
SHIPPED = f"{BARE}+{ADAPTERS['answer'][0]}@answer+{ADAPTERS['revise'][0]}@revise"
FRESH = 3
"""The seed of the exercises for a model that is given. Those of seeds 1 and 2 tested earlier ones."""
STREAMS = 32
LONGEST = 320
"""Tokens of an answer to a prompt of IFEval, with the criticism."""
STAGES = {
    "answers to everyday prompts": "everyday.jsonl",
    "answers are learnt": "answers.gguf",
    "drafts": "drafted.jsonl",
    "chains are learnt": "critic.gguf",
    "held-out test": "revised.jsonl",
    "vote": "voted.jsonl",
}


@dataclass(frozen=True)
class Run:
    """A run: the road that makes the model, and its tests beside it."""

    work: Path
    scale: Scale
    prompts: int
    model: str | None = None

    @property
    def road(self) -> Road:
        """How the model is made, unless it is given."""
        return Road(self.work / "road", list(TASKS.values()), scale=self.scale, parallel=STREAMS)

    @property
    def tested(self) -> Trial:
        """The greedy test."""
        if self.model is None:
            return self.road.trial
        answering = self.model.partition("@answer")[0]
        files, count = Asking(self.work / "greedy", 1, STREAMS), self.scale.held_out
        files.folder.mkdir(exist_ok=True)
        return Trial(files, list(TASKS.values()), answering, self.model, count, drawn=FRESH)

    def trial(self, name: str, seed: int, **other: Any) -> Trial:
        """Return another test of the model in a folder of its own."""
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        return replace(self.tested, files=Asking(folder, seed, STREAMS), **other)

    def seeded(self) -> Iterator[Trial]:
        """Do and yield a test for each seed, all of them together on every exercise once."""
        for place, seed in enumerate(SEEDS):
            found = self.trial(f"seed-{seed}", seed)
            found.files.write("held-out.jsonl", found.held_out()[place :: len(SEEDS)])
            found.run()
            yield found

    def ifeval(self, name: str, model: str, seed: int, **options: Any) -> list[bool]:
        """Return whether the answer to each prompt of IFEval passes its checks, which nobody told."""
        files, asked = Asking(self.work, seed, STREAMS), records(self.prompts)
        prompts = (
            Chain(id=f"{n:03}", prompt=Prompt(instruction=each["prompt"])) for n, each in enumerate(asked)
        )
        files.write("ifeval.jsonl", prompts)
        files.answer("ifeval.jsonl", f"{name}-{seed}.jsonl", model, most=LONGEST, **options)
        answers = {each.id: each for each in read_jsonl(files.path(f"{name}-{seed}.jsonl"))}
        return asyncio.run(_passing([(answers.get(f"{n:03}"), each) for n, each in enumerate(asked)]))


def perplexity(folder: Path, adapters: Sequence[Path] = ()) -> float:
    """Return the perplexity of a reply of each OASST1 tree, to the default model with adapters."""
    texts: dict[str, str] = {}
    for asked, *others in paths(folder):
        found = (each["text"] for each in others[::2] if 200 < len(each["text"]) < 2_000)
        texts.setdefault(asked["message_id"], next(found, ""))
    model = default_model()
    file = prepare(model, read_headers(model, adapters), adapters).file
    return exp(asyncio.run(surprise(file, [*filter(None, texts.values())])))


async def surprise(file: Path, texts: Sequence[str]) -> float:
    """Return the mean of −log p of a token of texts, with these weights in 32 bits."""
    with TemporaryDirectory() as folder:
        import_gguf(file, Path(folder) / "model", dtype="F32")
        async with aclosing(await load_engine(str(Path(folder) / "model"), engine="hf", threads=1)) as engine:
            scores = await engine.score(texts)
    return -fmean(chance for text in scores for chance in text)


async def _passing(pairs: Sequence[tuple[Chain | None, Any]]) -> list[bool]:
    async def one(answered: Chain | None, record: Any) -> bool:
        if answered is None or not answered.steps:
            return False
        checks = await run_checks(checks_in(record), answered.answer, answered.prompt)
        return all(each.passed for each in checks)

    return [await one(*pair) for pair in pairs]


def several(trials: Sequence[Trial]) -> list[tuple[str, Outcome, Votes]]:
    """Return what tests of the same tasks came to together."""
    outcomes = zip(*(trial.outcomes() for trial in trials), strict=True)
    votes = zip(*(trial.votes() for trial in trials), strict=True)
    return [
        (of_task[0][0], _all_outcomes([each for _, each in of_task]), _all_votes(of_votes))
        for of_task, of_votes in zip(outcomes, votes, strict=True)
    ]


def _all_outcomes(found: Sequence[Outcome]) -> Outcome:
    return Outcome(
        tuple(chain.from_iterable(each.first for each in found)),
        tuple(chain.from_iterable(each.final for each in found)),
        tuple(chain.from_iterable(each.judged for each in found)),
        sum(each.unknown for each in found),
        tuple(chain.from_iterable(each.tokens for each in found)),
    )


def _all_votes(found: Sequence[Votes]) -> Votes:
    samples = found[0].samples
    by_size = {
        size: tuple(chain.from_iterable(each.by_size.get(size, each.right) for each in found))
        for size in found[0].by_size
    }
    return Votes(samples, by_size, tuple(chain.from_iterable(each.tokens for each in found)))


def reached(found: Sequence[tuple[str, Outcome, Votes]]) -> str:
    """Return the goal's sentence with what was reached."""
    gains = [outcome.gain.value >= 10 for _, outcome, _ in found]
    harmed = [name for name, outcome, _ in found if outcome.changes.broken > 0.01 * len(outcome.first)]
    broken = sum(outcome.changes.broken for _, outcome, _ in found)
    share = 100 * broken / sum(len(outcome.first) for _, outcome, _ in found)
    against = {
        name: stats.difference(votes.right, outcome.final).times(100) for name, outcome, votes in found
    }
    better = [name for name, each in against.items() if each.low > 0]
    worse = [name for name, each in against.items() if each.high < 0]
    return (
        f"Revising gains at least 10 points on {sum(gains)} of {len(gains)} tasks (goal: 5). It breaks "
        f"{share:.1f} % of all answers (goal: 1), and more of {', '.join(harmed) or 'no task'}. "
        f"It is better than the vote at {len(better)} tasks (goal: 4) and worse at "
        f"{', '.join(worse) or 'none'} (goal: none)."
    )


def minutes(road: Road) -> Iterator[str]:
    """Yield the minutes of each stage, if nothing stopped it."""
    times = [road.path(name).stat().st_mtime for name in ("outside.jsonl", *STAGES.values())]
    for stage, (start, end) in zip(STAGES, pairwise(times), strict=True):
        yield f"{stage} {(end - start) / 60:.0f}"


def rows(run: Run) -> Iterator[Row]:
    """Yield the tests of a run."""
    tested = run.tested
    bare = [run.ifeval("bare", BARE, seed, mode="prompted") for seed in SEEDS]
    own = [run.ifeval("own", tested.revising, seed, max_revisions=1) for seed in SEEDS]
    tests = several(list(run.seeded()))
    known = run.trial("trained", 1, trained_wordings=True, count=run.scale.held_out // len(SEEDS))
    known.revise()
    made = () if run.model else (f"Minutes: {', '.join(minutes(run.road))}.",)
    how = HOW.format(count=run.scale.held_out)
    table = cells(measure.changes(each[:2] for each in tests))
    yield Row("three seeds, greedy", how, (), (reached(tests), *made), table)
    yield Row("revising beside a vote, greedy", how, (), (), cells(measure.votes(tests)))
    yield Row("right answers at so many new tokens a prompt", how, (), (), cells(measure.curve(tests)))
    yield Row("in the words of training", how, (), (), cells(measure.changes(known.outcomes())))
    means = [[100 * fmean(each) for each in zip(*found, strict=True)] for found in (bare, own)]
    passing = [Figure(name, (fmean(each),), "%") for name, each in zip(("bare", "own"), means, strict=True)]
    more = measure.shown(stats.difference(*means))
    about = f"{run.prompts} prompts of IFEval, three seeds, no checks told. Own has {more} points more."
    yield Row("passing answers to IFEval", about, tuple(passing))
    yield Row("perplexity", _perplexities(tested), ())


def _perplexities(tested: Trial) -> str:
    """Return the perplexity before and after, in words."""
    if (folder := shared()) is None:
        return MISSING
    bare, own = perplexity(folder), perplexity(folder, [Path(tested.answering.rpartition("+")[2])])
    return f"Of replies in OASST1's trees: the bare model {bare:.2f}, the adapter that answers {own:.2f}."


HOW = (
    "The model is that of `redraft train self` (docs/self.md). Each task has {count} "
    "held-out exercises, with other values than those of training, in five wordings that nothing was trained "
    "on. Chains are greedy, as redraft's default. Votes have three seeds, each for a third. Verdicts are "
    "on answer 0, as balanced accuracy: accepting everything is 50 %. The control is the adapter that "
    "answers, so answer 0 is its own; it answers as often as takes at least the tokens of the chains, and "
    "its most frequent answer is the vote. Intervals are 95 %, paired by prompt."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is left of a run, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder of the run's own")
    parser.add_argument("--model", help="default, or MODEL+ANSWERS@answer+CRITIC@revise; else one is made")
    parser.add_argument("--count", type=int, default=Scale.held_out, help="exercises a task")
    parser.add_argument("--prompts", type=int, default=300, help="prompts of IFEval")
    parser.add_argument("--quick", action="store_true", help="a few steps, and no results written")
    given = parser.parse_args(arguments)
    use_large_pages()
    scale = QUICK if given.quick else Scale(held_out=given.count)
    model = SHIPPED if given.model == "default" else given.model
    run = Run(given.work.resolve(), scale, 4 if given.quick else given.prompts, model)
    run.work.mkdir(parents=True, exist_ok=True)
    if model is None:
        run.road.walk()
    found = [*rows(run)]
    print(*map(told, found), sep="\n\n")
    if not given.quick:
        write("benchmarks/self.py", *found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
