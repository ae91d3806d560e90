"""Measure a revision that writes only what failed, beside one that writes the whole answer again.

python benchmarks/patch.py           about 60 minutes; writes results/patch.json
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
from typing import Any, NamedTuple

import patch_peers
import redraft
from material import QUESTIONS
from measure import Figure, Goal, Row, Unit
from redraft.chain import Prompt
from redraft.checks.base import run_checks
from redraft.checks.json_reading import json_so_far
from redraft.checks.parse import parse_check
from redraft.engines.base import Engine, Message, Sampling
from redraft.engines.load import load_engine
from redraft.engines.steering.draft import ends_of
from report import main

WAYS: dict[str, dict[str, Any]] = {"patch": {}, "full revision": {"mode": "verified"}}
SIZES = (40, 80, 130)  # values of the objects; the longest have some 2,000 tokens
HOW = (
    "{count} drafts. {model}, temperature 0.7, {streams} at once, the same seeds "
    "and checks in all ways, which begin with the same draft and revise once. {read}patch: mode `auto`. "
    "full: mode `verified`, steered alike, with speculation as by default. New tokens and seconds are "
    "medians over chains; several at once share their seconds. Changed outside: the share of answers in "
    "which another {part} of the draft is missing.{peers}"
)
LONGEST = 10_000  # characters, which a scripted model counts
READ = "The engine has just read the draft, as behind one that it wrote. "
PEERS = (
    " The peers get the draft as the model's first reply. instructor asks for the whole object again, with "
    "the error, and trustcall for a JSON Patch, by a tool."
)
MODELS = {
    "default": "The default model behind llama.cpp",
    "able": "A scripted model, which gives what it is asked for without a fault, and tokens counted as the "
    "default model's",
}
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
    check: str
    others: Any
    right: Any = ""

    def has(self, parts: Any, answer: str) -> bool:
        """Whether an answer has all of some parts: sentences, or values by name."""
        if isinstance(parts, dict):
            found = json_so_far(answer)
            return isinstance(found, dict) and parts.items() <= found.items()
        return all(part in answer for part in parts)


async def texts(engine: Engine, count: int) -> list[Draft]:
    """Return answers of the model, each with a word of a middle sentence that is then forbidden."""
    found: list[Draft] = []
    for number, question in enumerate(QUESTIONS):
        draft = (await redraft.arevise(question, model=engine, max_tokens=260, seed=number)).steps[0]
        said = [draft.answer[begin:end] for begin, end in pairwise([0, *ends_of(draft.answer)])]
        once = [
            (place, word)
            for place in range(len(said) // 3, len(said) - 1)
            for word in re.findall(r"\b[a-z]{5,}\b", said[place])
            if len(re.findall(rf"(?i){word}", draft.answer + question)) == 1
        ]
        if len(draft.answer.split()) >= 80 and draft.complete and once and len(found) < count:
            place, word = random.Random(number).choice(once)
            others = tuple(each.strip() for each in said[:place] + said[place + 1 :])
            found.append(Draft(question, draft.answer, f"lacks:{word}", others))
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
        yield Draft(prompt, json.dumps(faulty, indent=2), f"json-schema:{file}", values, right)


class Mended(NamedTuple):
    """What became of a draft."""

    answer: str
    passed: bool
    tokens: int


async def read(engine: Engine, draft: Draft) -> None:
    """Have an engine read a draft."""
    asked: Message = {"role": "user", "content": f"{draft.prompt}\n\n{parse_check(draft.check).demand}"}
    async with aclosing(engine.chat([asked], Sampling(max_tokens=1, begun=draft.answer))) as deltas:
        async for _ in deltas:
            pass


async def mended(engine: Engine, draft: Draft, way: str, seed: int) -> Mended:
    """Mend a draft with a model."""
    given: dict[str, Any] = {"given": draft.answer, "checks": [draft.check], "max_revisions": 1}
    chain = await redraft.arevise(draft.prompt, model=engine, seed=seed, **given, **WAYS[way])
    return Mended(chain.answer, bool(chain.passed), chain.usage.completion_tokens)


async def ably(engine: Engine, draft: Draft, way: str, seed: int) -> Mended:
    """Mend an object with a scripted model, by redraft or a peer. The engine counts its tokens."""
    told = patch_peers.Told(draft.right, draft.others)
    if way in WAYS:
        model = redraft.ScriptedEngine(lambda messages: told.redraft(str(messages[-1]["content"])))
        given: dict[str, Any] = {"given": draft.answer, "checks": [draft.check], "max_tokens": LONGEST}
        answer = (await redraft.arevise(draft.prompt, model=model, seed=seed, **given, **WAYS[way])).answer
    else:
        names = [*draft.others, *draft.right]
        answer = await asyncio.to_thread(patch_peers.PEERS[way], draft.prompt, names, draft.answer, told)
    (result,) = await run_checks([parse_check(draft.check)], answer, Prompt())
    return Mended(answer, result.passed, sum([len(await engine.encode(text)) for text in told.said]))


async def measured(
    name: str, part: str, kind: str, streams: int, goal: float, count: int, *, quick: bool
) -> Row:
    """Mend each draft in all ways, in turn."""
    ways, mend = [*WAYS, *(patch_peers.PEERS if kind == "able" else ())], ably if kind == "able" else mended
    made: dict[str, list[tuple[Mended, Draft]]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    engine, count = await load_engine("default", ctx=8192, parallel=streams), 3 if quick else count
    with tempfile.TemporaryDirectory() as folder:
        found = await texts(engine, count) if part == "sentence" else [*objects(Path(folder), count)]
        for first in range(0, len(found), streams):
            group = found[first : first + streams]
            for way in ways[:: 1 if first // streams % 2 else -1]:
                if kind != "able":
                    await asyncio.gather(*(read(engine, draft) for draft in group))
                began = time.perf_counter()
                tasks = (mend(engine, draft, way, 1000 * (first + at)) for at, draft in enumerate(group))
                made[way] += zip(await asyncio.gather(*tasks), group, strict=True)
                seconds[way] += [(time.perf_counter() - began) / len(group)] * len(group)
    await engine.aclose()
    figures: list[Figure] = []

    def add(what: str, unit: Unit, of: Callable[[Mended, Draft], float], *goal: Goal) -> None:
        for way, pairs in made.items():
            values = tuple(float(of(*pair)) for pair in pairs)
            shares = (100 * fmean(values),) if unit == "%" else values
            figures.append(Figure(f"{what}, {way}", shares, unit, *(goal if way == "patch" else ())))

    add("pass", "%", lambda made, _: made.passed)
    add("are right where they failed", "%", lambda made, draft: draft.has(draft.right, made.answer))
    add("changed outside", "%", lambda made, draft: not draft.has(draft.others, made.answer), Goal("≤", 0.0))
    add("new tokens", "tokens", lambda made, _: made.tokens, Goal("≤", goal))
    if kind != "able":
        figures += [Figure(f"seconds, {way}", tuple(each), "s") for way, each in seconds.items()]
        pairs = zip(*(seconds[way] for way in WAYS), strict=True)
        ratios = tuple(full / own for own, full in pairs)
        figures.append(Figure("a full revision's seconds over a patch's", ratios, "×", Goal("≥", 5.0)))
    about = {"count": len(found), "part": part, "streams": streams, "model": MODELS[kind]}
    how = HOW.format(**about, read=READ * (kind != "able"), peers=PEERS * (kind == "able"))
    return Row(f"patch: {name}", how, tuple(figures))


def run(*about: Any, quick: bool) -> Row:
    """Measure a row."""
    return asyncio.run(measured(*about, quick=quick))


ROWS = {
    "texts": partial(run, "texts", "sentence", "default", 1, 40, 20),
    "eight": partial(run, "texts, eight at once", "sentence", "default", 8, 40, 20),
    "objects": partial(run, "objects", "value", "default", 1, 60, 12),
    "able": partial(run, "objects, an able model", "value", "able", 1, 60, 100),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/patch.py", __doc__, ROWS))
