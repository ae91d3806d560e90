"""Measure with which wording a model that fails its checks is best asked to revise.

    python benchmarks/wording.py           about 15 minutes; writes its part of RESULTS.md
    python benchmarks/wording.py --quick   four prompts, one seed, nothing written

The prompts are IFEval's, from the shared data beside the checkout, with those of their constraints that are
checks of redraft. None of them was used to write the wordings. A draft is made once for each prompt and seed,
and each wording revises the same drafts, so only the requests to revise differ. The default of
`redraft.revision.prompts` is the wording with the largest share here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import redraft
from measure import Figure, Row
from redraft.engines.base import Engine
from redraft.revision.prompts import SHIPPED, Wording
from redraft.stats import proportion
from report import page, put, section

SCRIPT = "benchmarks/wording.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
SHARED = Path(os.environ.get("REDRAFT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
BEFORE = Wording(
    "before", SHIPPED["brief"].criticise, "Not quite right yet:\n{found}\n\nWrite it again, mended."
)
"""The wording that redraft had first."""
WORDINGS = (BEFORE, *(wording for wording in SHIPPED.values() if not wording.scores))
SEEDS = (1, 2, 3)
PROMPTS = 30
REVISIONS = 1
TOKENS = 128
"""Most new tokens of a text."""
MOST_WORDS = 80
"""Prompts that want longer answers are left out: they would be cut."""
PARALLEL = 8
HOW = (
    "{prompts} IFEval prompts, those with the fewest characters of which every constraint is a check of "
    "redraft (of number of words or sentences, of words to use and to avoid, of commas, quotation marks, the "
    "beginning and the end, JSON), with {seeds} seeds; the default model, temperature 0.7, at most {tokens} "
    "new tokens a text and {revisions} revisions, mode verified. Each wording revises the same drafts that "
    "fail. `Passes` is the share of those after revising; an echo never passes. `before` is the wording that "
    "redraft had before. One value a seed; intervals are Wilson's, at 95 %, over all seeds together, as if "
    "the chains were independent."
)

Chains = list[redraft.Chain]


def checks_of(name: str, values: Mapping[str, Any]) -> list[str] | None:
    """Return a constraint as checks; None if redraft has none for it, or the answer would be long."""
    match name:
        case "punctuation:no_comma":
            return ["lacks:,"]
        case "length_constraints:number_words" | "length_constraints:number_sentences":
            what, count = (
                name.removeprefix("length_constraints:number_"),
                values[f"num_{name.split('_')[-1]}"],
            )
            words = count if what == "words" else 12 * count
            at_least = values["relation"] == "at least"
            return (
                [f"{what}{'>=' if at_least else '<'}{count}"] if words <= MOST_WORDS or not at_least else None
            )
        case "keywords:forbidden_words":
            return [f"lacks:{word}" for word in values["forbidden_words"]]
        case "keywords:existence":
            return [f"contains:{word}" for word in values["keywords"]]
        case "startend:quotation":
            return ['starts:"', 'ends:"']
        case "startend:end_checker":
            return [f"ends:{values['end_phrase']}"]
        case "detectable_content:postscript":
            return [f"contains:{values['postscript_marker']}"]
        case "detectable_format:json_format":
            return ["json"]
    return None


def prompts(most: int) -> list[tuple[str, list[str]]]:
    """Return the shortest prompts whose constraints are all checks, each with its checks."""
    found = []
    for record in _records(SHARED / "data" / "constraints" / "ifeval_541.jsonl"):
        checks = [
            checks_of(name, values)
            for name, values in zip(record["instruction_id_list"], record["kwargs"], strict=True)
        ]
        if all(checks):
            found.append((record["prompt"], [check for some in checks if some for check in some]))
    return sorted(found, key=lambda each: len(each[0]))[:most]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


@dataclass(frozen=True)
class Made:
    """The chains of one seed: drafts that fail, and what each wording made of them."""

    drafts: int
    failed: Chains
    revised: dict[str, Chains]


async def measure_seed(engine: Engine, seed: int, most: int) -> Made:
    """Make the drafts of a seed, and revise those that fail with each wording."""
    room = asyncio.Semaphore(PARALLEL)

    async def make(prompt: str | redraft.Prompt, checks: Sequence[str], **options: Any) -> redraft.Chain:
        async with room:
            return await redraft.arevise(
                prompt,
                model=engine,
                mode="verified",
                checks=checks,
                steer=False,
                max_tokens=TOKENS,
                **options,
            )

    async def all_of(jobs: Iterable[Any]) -> Chains:
        return list(await asyncio.gather(*jobs))

    asked = prompts(most)
    seeds = [random.Random(f"{seed}/{i}").randrange(2**31) for i in range(len(asked))]
    drafts = await all_of(
        make(prompt, checks, max_revisions=0, seed=own)
        for (prompt, checks), own in zip(asked, seeds, strict=True)
    )
    failed = [
        (draft.model_copy(update={"stop": None}), checks, own)
        for draft, (_, checks), own in zip(drafts, asked, seeds, strict=True)
        if not draft.passed
    ]
    revised = {}
    for wording in WORDINGS:
        revised[wording.name] = await all_of(
            make(
                draft.prompt,
                checks,
                max_revisions=REVISIONS,
                seed=own,
                prompts=wording.templates,
                resume=draft,
            )
            for draft, checks, own in failed
        )
        print(seed, wording.name, sum(bool(c.passed) for c in revised[wording.name]), len(failed), flush=True)
    return Made(len(asked), [draft for draft, *_ in failed], revised)


async def measure(seeds: Sequence[int], most: int) -> Row:
    """Measure all wordings."""
    async with aclosing(await redraft.load_engine("default", parallel=PARALLEL)) as engine:
        made = [await measure_seed(engine, seed, most) for seed in seeds]
    figures = [figure for wording in WORDINGS for figure in figures_of(wording.name, made)]
    how = HOW.format(prompts=made[0].drafts, seeds=len(seeds), tokens=TOKENS, revisions=REVISIONS)
    failed = ", ".join(str(len(one.failed)) for one in made)
    return Row("the wording of a request to revise", how, tuple(figures), (f"Drafts that fail: {failed}.",))


def figures_of(name: str, made: Sequence[Made]) -> Iterator[Figure]:
    """Yield what a wording reached: one value a seed."""
    passed = [[bool(chain.passed) for chain in one.revised[name]] for one in made]
    total, of = sum(map(sum, passed)), sum(map(len, passed))
    rate = proportion(total, of).times(100)
    sides = f"{total} of {of}, interval {rate.low:.1f} to {rate.high:.1f} %"
    yield Figure(f"{name}, passes", tuple(100 * mean(each) for each in passed), "%", None, sides)
    echoes, tokens = [], []
    for one in made:
        later = [step for chain in one.revised[name] for step in chain.steps[1:]]
        echoes.append(100 * mean(step.echo for step in later))
        tokens.append(sum(step.usage.completion_tokens for step in later) / len(one.failed))
    yield Figure(f"{name}, revisions that are echoes", tuple(echoes), "%")
    yield Figure(f"{name}, new tokens a chain after the draft", tuple(tokens), "tokens")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the part of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few prompts, and nothing written")
    quick, start = parser.parse_args(arguments).quick, time.perf_counter()
    row = asyncio.run(measure(SEEDS[:1] if quick else SEEDS, 4 if quick else PROMPTS))
    print(section(row))
    if not quick:
        put(RESULTS, SCRIPT, page([row], SCRIPT, (time.perf_counter() - start) / 60))
    return 0


if __name__ == "__main__":
    sys.exit(main())
