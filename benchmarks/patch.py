"""Measure a revision that writes only what failed, beside one that writes the whole answer again.

python benchmarks/patch.py           about an hour; writes results/patch.json
python benchmarks/patch.py --quick   a few texts and objects, nothing written

`pip install instructor trustcall langchain-openai` first.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import patch_peers
import redraft
from material import QUESTIONS
from measure import Figure, Goal, Row, Unit
from redraft.chain import Chain
from redraft.checks.base import demand_of
from redraft.checks.json_reading import json_so_far
from redraft.checks.parse import parse_check
from redraft.engines.base import Engine, Message, Sampling
from redraft.engines.load import load_engine
from redraft.engines.steering.draft import ends_of
from report import main

WAYS: dict[str, dict[str, Any]] = {"patch": {}, "full revision": {"mode": "verified"}}
SIZES = (40, 80, 130)  # values of the objects; the longest have some 2,000 tokens
LEAST = 150  # tokens of a text
TEXTS: list[Draft] = []  # of all rows
HOW = (
    "{count} drafts with one to three faults. The default model behind llama.cpp, temperature 0.7, {streams} "
    "at once, the same seeds and checks in both ways, which begin with the same draft and revise once. The "
    "engine has just read the draft, as behind one that it wrote. patch: mode `auto`. full, of {full} of "
    "them: mode `verified`, steered alike, with speculation as usual. New tokens and seconds are medians "
    "over chains; several at once share their seconds. Changed outside: the share of answers in which "
    "another {part} of the draft is missing."
)
KINDS: dict[str, tuple[Any, Callable[[random.Random], Any], Any]] = {
    "count": ({"type": "integer"}, lambda draw: draw.randrange(2, 900), "many"),
    "price": ({"type": "number"}, lambda draw: draw.randrange(100, 9000) / 100, "a good price"),
    "open": ({"type": "boolean"}, lambda draw: draw.random() < 0.5, "perhaps"),
    "day": ({"enum": ["Monday", "Friday"]}, lambda draw: draw.choice(["Monday", "Friday"]), "someday"),
    "city": ({"type": "string"}, lambda draw: draw.choice(["Lyon", "Porto", "Graz", "Bergen"]), 7),
}
"""Name of a value -> its schema, its right value, and a wrong one."""


@dataclass(frozen=True)
class Draft:
    """A draft with faults, and how to find the other parts, and the right value, in what became of it."""

    prompt: str
    answer: str
    checks: list[str]
    others: Any
    right: Any = ""

    def has(self, parts: Any, answer: str) -> bool:
        """Whether an answer has all of some parts: sentences, or values by name."""
        if isinstance(parts, dict):
            found = json_so_far(answer)
            return isinstance(found, dict) and parts.items() <= found.items()
        return all(part in answer for part in parts)


async def texts(engine: Engine, questions: int) -> list[Draft]:
    """Return answers of the model, each with a word in one to three sentences that is then forbidden."""
    found: list[Draft] = []
    for number, question in enumerate(QUESTIONS[:questions]):
        draft = (await redraft.arevise(question, model=engine, max_tokens=400, seed=number)).steps[0]
        said = [draft.answer[begin:end] for begin, end in pairwise([0, *ends_of(draft.answer)])]
        text, words = (draft.answer + question).lower(), re.findall(r"\b[a-z]{5,}\b", draft.answer)
        rare = [word for word in words if text.count(word) == 1]
        middle = range(len(said) // 3, len(said) - 1)
        once = {place: [word for word in rare if word in said[place]] for place in middle}
        places = [place for place, words in once.items() if words]
        long = draft.complete and len(await engine.encode(draft.answer)) >= LEAST
        for faults in range(1, 4 if long and len(places) >= 3 else 1):
            draw = random.Random(number)
            wrong = draw.sample(places, faults)
            checks = [f"lacks:{draw.choice(once[place])}" for place in wrong]
            others = tuple(each.strip() for place, each in enumerate(said) if place not in wrong)
            found.append(Draft(question, draft.answer, checks, others))
    return found


def objects(folder: Path, count: int) -> Iterator[Draft]:
    """Yield objects with one to three values that are wrong or missing, and which the prompt says."""
    for number in range(count):
        draw, size = random.Random(number), SIZES[number % len(SIZES)]
        names = [f"{draw.choice([*KINDS])}_{place}" for place in range(size)]
        kinds = {name: KINDS[name.partition("_")[0]] for name in names}
        values = {name: kind[1](draw) for name, kind in kinds.items()}
        schema = {"type": "object", "properties": {name: kind[0] for name, kind in kinds.items()}}
        file, wrong = folder / f"{number}.json", draw.sample(names, 1 + number // len(SIZES) % 3)
        file.write_text(json.dumps({**schema, "required": names, "additionalProperties": False}), "utf-8")
        faulty = {**values, **{name: kinds[name][2] for name in wrong}}
        right = {name: values.pop(name) for name in wrong}
        if number % 4 == 3:
            del faulty[wrong[0]]
        said = " and ".join(f"{name} is {json.dumps(value)}" for name, value in right.items())
        prompt = f"Write the record in JSON. In it, {said}."
        yield Draft(prompt, json.dumps(faulty, indent=2), [f"json-schema:{file}"], values, right)


async def measured(name: str, part: str, streams: int, every: int, goal: float, *, quick: bool) -> Row:
    """Patch each draft, and revise `every` which group of them, in turn."""
    made: dict[str, list[tuple[Chain, Draft]]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    ratios: list[float] = []
    engine = await load_engine("default", ctx=8192, parallel=streams)

    async def read(draft: Draft) -> None:
        told = [demand_of(parse_check(check)) for check in draft.checks]
        demand = told[0] if len(told) == 1 else "\n".join(f"- {each}" for each in told)
        asked: Message = {"role": "user", "content": f"{draft.prompt}\n\n{demand}"}
        async with aclosing(engine.chat([asked], Sampling(max_tokens=1, begun=draft.answer))) as deltas:
            async for _ in deltas:
                pass

    async def mended(draft: Draft, way: str, seed: int) -> tuple[Chain, Draft]:
        given: dict[str, Any] = {"given": draft.answer, "checks": draft.checks, "max_revisions": 1}
        return await redraft.arevise(draft.prompt, model=engine, seed=seed, **given, **WAYS[way]), draft

    with tempfile.TemporaryDirectory() as folder:
        if part == "sentence":
            TEXTS[:] = found = TEXTS or await texts(engine, 8 if quick else len(QUESTIONS))
        else:
            found = [*objects(Path(folder), 3 if quick else 100)]
        for first in range(0, len(found), streams):
            group, taken = found[first : first + streams], dict[str, float]()
            ways = [*WAYS] if first // streams % every == 0 else ["patch"]
            for way in ways[:: 1 if first // streams // every % 2 else -1]:
                await asyncio.gather(*map(read, group))
                began = time.perf_counter()
                tasks = (mended(draft, way, 1000 * (first + place)) for place, draft in enumerate(group))
                made[way] += await asyncio.gather(*tasks)
                taken[way] = (time.perf_counter() - began) / len(group)
                seconds[way] += [taken[way]] * len(group)
            ratios += [taken[way] / taken["patch"] for way in ways[1:]]
    await engine.aclose()
    figures: list[Figure] = []

    def add(what: str, unit: Unit, of: Callable[[Chain, Draft], float], *goal: Goal) -> None:
        for way, pairs in made.items():
            values = tuple(float(of(chain, draft)) for chain, draft in pairs)
            shares = (100 * fmean(values),) if unit == "%" else values
            figures.append(Figure(f"{what}, {way}", shares, unit, *(goal if way == "patch" else ())))

    add("pass", "%", lambda chain, _: bool(chain.passed))
    add("are right where they failed", "%", lambda chain, draft: draft.has(draft.right, chain.answer))
    add(
        "changed outside", "%", lambda chain, draft: not draft.has(draft.others, chain.answer), Goal("≤", 0.0)
    )
    add("new tokens", "tokens", lambda chain, _: chain.usage.completion_tokens, Goal("≤", goal))
    figures += [Figure(f"seconds, {way}", tuple(each), "s") for way, each in seconds.items()]
    figures.append(Figure("a full revision's seconds over a patch's", tuple(ratios), "×", Goal("≥", 5.0)))
    how = HOW.format(count=len(found), full=len(made["full revision"]), part=part, streams=streams)
    return Row(f"patch: {name}", how, tuple(figures))


def run(*about: Any, quick: bool) -> Row:
    return asyncio.run(measured(*about, quick=quick))


def able(*, quick: bool) -> Row:
    """Measure with a model without faults, and the peers."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(patch_peers.row([*objects(Path(folder), 3 if quick else 100)]))


ROWS = {
    "texts": partial(run, "texts", "sentence", 1, 4, 40),
    "eight": partial(run, "texts, eight at once", "sentence", 8, 2, 40),
    "objects": partial(run, "objects", "value", 1, 11, 60),
    "able": able,
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/patch.py", __doc__, ROWS))
