"""Measure the default model on prompts as people write them: whether adapters or base answer, and how well.

    python benchmarks/self.py                  all rows, into results/self.json; an hour on two busy cores
    python benchmarks/self.py --only who       one row: who, exercises or byte
    python benchmarks/self.py --quick          a few prompts; nothing written

Wordings and near misses were written for this benchmark (self_prompts.json). The gate
(`redraft.engines.learnt`) was tuned on those under `tuned`. Those under `held_out` were chosen at random
before. Everyday prompts are those of the shared data that are not used for training. A hash assigns half of
them to tuning, and half to the test.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from material import shared
from measure import Figure, Goal, Row
from redraft.chain import Chain, Prompt, read_jsonl, write_jsonl
from redraft.engines.base import Engine
from redraft.engines.learnt import Exercise, read
from redraft.engines.load import load_engine
from redraft.evaluation import stats
from redraft.revision.api import stream
from redraft.revision.ops import Text
from redraft.revision.runs.answers import answer_file
from redraft.train.self.measure import shown
from redraft.train.self.road import EVERYDAY
from redraft.train.self.tasks import TASKS
from report import main

PROMPTS: Mapping[str, Any] = json.loads(Path(__file__).with_name("self_prompts.json").read_text("utf-8"))
NAMES = {
    "add": "sums", "subtract": "differences", "multiply": "products", "total": "totals", "years": "years",
    "dates": "dates", "later": "times",
}  # fmt: skip
SEEDS = tuple(range(7, 22))
"""The seeds of the exercises. Exercises of seeds 1 to 6 were inspected while `learnt.holds` was written."""
LONGEST = 64  # tokens of an answer to an exercise


def everyday(folder: Path) -> tuple[list[str], list[str]]:
    trained = {_plain(chain.prompt.instruction) for chain in read_jsonl(EVERYDAY)}
    found = {_plain(text): text for text in _everyday(folder)}
    parts: tuple[list[str], list[str]] = ([], [])
    for name in sorted(found.keys() - trained - {""}):
        parts[hashlib.sha256(name.encode()).digest()[0] >= 128].append(found[name])
    return parts


def _plain(text: str) -> str:
    return " ".join(text.split())


def _everyday(folder: Path) -> Iterator[str]:
    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]

    for name, field in (
        ("constraints/ifeval_541.jsonl", "prompt"),
        ("questions/vicuna_80.jsonl", "text"),
        ("gsm8k/test.jsonl", "question"),
        ("math/aqua_dev.jsonl", "question"),
        ("math/aqua_test.jsonl", "question"),
        ("math/math_500_test.jsonl", "problem"),
    ):
        yield from (record[field] for record in lines(name))
    yield from (turn for record in lines("questions/mt_bench_80.jsonl") for turn in record["turns"])
    for record in json.loads((folder / "code/code_alpaca_2k.json").read_text("utf-8")):
        yield "\n\n".join(filter(None, (record["instruction"], record["input"])))
    with gzip.open(folder / "preference/hh_harmless_test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            said = re.findall(r"Human: (.*?)(?=\n\nAssistant:|\Z)", json.loads(line)["chosen"], re.DOTALL)
            yield from map(str.strip, said)
    for talk in json.loads((folder / "conversations/dummy_conversation.json").read_text("utf-8")):
        yield from (turn["value"] for turn in talk["conversations"] if turn["from"] == "human")
    for tree in lines("conversations/oasst_en_100_trees.jsonl"):
        yield from _prompters(tree["prompt"])


def _prompters(message: dict[str, Any]) -> Iterator[str]:
    if message["role"] == "prompter":
        yield message["text"]
    for reply in message["replies"]:
        yield from _prompters(reply)


def asked(task: str, part: str, seed: int) -> Iterator[tuple[str, str]]:
    rng = Random(f"{seed}/{task}/{part}")
    for wording in PROMPTS["wordings"][task][part]:
        values = DRAWN[task](wording, rng)
        said = wording.format(**values)
        yield re.sub(r"\b(\d?[123])th\b", lambda day: _nth(int(day[1])), said), values["right"]


def _of_task(task: str, rng: Random) -> dict[str, Any]:
    values = {**TASKS[task].draw(rng)}
    return {**values, "right": TASKS[task].right(values)}


def _pair(task: str, _: str, rng: Random) -> dict[str, Any]:
    values = _of_task(task, rng)
    return values | {name: f"{values[name]:,}" for name in ("a", "b") if rng.random() < 0.1}


def _years(_: str, wording: str, rng: Random) -> dict[str, Any]:
    a, b, y = rng.randint(1900, 2099), rng.randint(1600, 1899), rng.randint(2, 120)
    right = a - b if "{y}" not in wording else a - y if "{a}" in wording else b + y
    return {"a": a, "b": b, "y": y, "right": str(right)}


def _dates(task: str, wording: str, rng: Random) -> dict[str, Any]:
    values = _of_task(task, rng)
    while "{weeks}" in wording and values["days"] % 7:
        values = _of_task(task, rng)
    day, month = values["day"], values["month"]
    forms = (f"{day} {month}", f"{month} {day}", f"{_nth(day)} of {month}", f"the {_nth(day)} of {month}")
    return values | {"date": rng.choice((*forms, f"{day} {month[:3]}")), "weeks": values["days"] // 7}


def _nth(day: int) -> str:
    return f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def _later(task: str, wording: str, rng: Random) -> dict[str, Any]:
    values = _of_task(task, rng)
    while "{hours}" in wording and (
        values["minutes"] < 60 or bool(values["minutes"] % 60) == ("{minutes}" not in wording)
    ):
        values = _of_task(task, rng)
    time_of_day = values["time"].zfill(5)
    hours, minutes = divmod(values["minutes"], 60) if "{hours}" in wording else (0, values["minutes"])
    return values | {"time": time_of_day, "hours": hours, "minutes": minutes}


GOODS = (
    "bread", "milk", "cheese", "apples", "coffee", "olive oil", "pasta", "rice", "soap", "green tea", "eggs",
)  # fmt: skip


def _total(task: str, _: str, rng: Random) -> dict[str, Any]:
    values = _of_task(task, rng)
    prices = values["sum"].split(" + ")
    items = [f"{name} {price}" for name, price in zip(rng.sample(GOODS, len(prices)), prices, strict=True)]
    return values | {"items": ", ".join(items), "items_lines": "\n".join(items)}


DRAWN: Mapping[str, Callable[[str, Random], dict[str, Any]]] = {
    name: partial(draw, name)
    for name, draw in (
        *(("add", _pair), ("subtract", _pair), ("years", _years), ("multiply", _pair)),
        *(("dates", _dates), ("later", _later), ("total", _total)),
    )
}
"""Functions that draw the values for a wording of each task, in the notation of people."""


def found(prompt: str, right: str) -> Exercise | None:
    exercise = read(prompt)
    return exercise if exercise and TASKS[exercise.task].right(exercise.values) == right else None


def who(*, quick: bool) -> Row:
    figures = []
    for task, name in NAMES.items():
        said = [each for seed in SEEDS for each in asked(task, "held_out", seed)]
        hits = sum(found(*each) is not None for each in said)
        sides = f"{hits} of {len(said)}, {shown(stats.proportion(hits, len(said)).times(100))} %"
        figures.append(Figure(f"found, {name}", (100 * hits / len(said),), "%", None, sides))
    parts = {
        "near misses, for tuning": PROMPTS["near"],
        "near misses, held out": PROMPTS["near_held_out"],
        "near misses of another author, held out": PROMPTS["near_others"],
    }
    parts |= zip(("everyday, for tuning", "everyday, the test"), everyday(shared()), strict=True)
    for name, prompts in parts.items():
        left = sum(read(prompt) is None for prompt in prompts[: 50 if quick else None])
        of = len(prompts[: 50 if quick else None])
        sides = f"{left:,} of {of:,}, {shown(stats.proportion(left, of).times(100))} %"
        figures.append(Figure(f"left to the base: {name}", (100 * left / of,), "%", Goal("≥", 99.5), sides))
    return Row("who answers", HOW_WHO, tuple(figures))


HOW_WHO = (
    "Exercises in 20 held-out wordings a task, 15 seeds; near misses, which are the tasks' own words with "
    "other values or another question; and everyday prompts that are not used for training."
)


def says(answer: str, right: str) -> bool:
    day, _, month = right.partition(" ")
    nth = r"(?:st|nd|rd|th)?"
    forms = rf"{day}{nth} (?:of )?{month}|{month} (?:the )?{day}{nth}" if month else day
    return bool(re.search(rf"(?<![\d.,-])(?:{forms})(?!\d|[.,]\d)", re.sub(r"(?<=\d),(?=\d{3})", "", answer)))


def exercises(*, quick: bool) -> Row:
    table: list[Sequence[str]] = [HEAD]
    for task, name in NAMES.items():
        rights = dict(each for seed in SEEDS for each in asked(task, "held_out", seed))
        prompts = list(rights)[:: 20 if quick else 1]
        chains = [Chain(id=f"{n:03}", prompt=Prompt(instruction=said)) for n, said in enumerate(prompts)]
        table.append((name, *_cells(answered(chains, "default"), answered(chains, "default-base"), rights)))
    return Row("exercises in people's words", HOW, (), (), table)


HEAD = (
    *("task", "base alone", "first draft", "in the end", "its own revision", "right, of these"),
    *("base right, and it wrong", "draft right, and it wrong"),
)
HOW = (
    "Held-out wordings, 15 seeds, new values, at default settings. A text of the base is right if it "
    "contains the right answer anywhere. Intervals are 95 %."
)


def answered(chains: Sequence[Chain], model: str) -> list[Chain]:
    with TemporaryDirectory() as folder:
        write_jsonl(asking := Path(folder) / "asked.jsonl", chains)
        out = Path(folder) / "answered.jsonl"
        answer_file(asking, out, model=model, seed=1, parallel=32, max_tokens=LONGEST)
        return sorted(read_jsonl(out), key=lambda chain: chain.id)


def _cells(made: Sequence[Chain], bare: Sequence[Chain], rights: Mapping[str, str]) -> Iterator[str]:
    right = [rights[chain.prompt.instruction] for chain in made]
    base = [says(chain.answer, each) for chain, each in zip(bare, right, strict=True)]
    first = [chain.steps[0].answer.strip() == each for chain, each in zip(made, right, strict=True)]
    own = [chain.meta["answered_by"] == "its own revision" for chain in made]
    end = [
        chain.answer.strip() == each if mine else says(chain.answer, each)
        for chain, each, mine in zip(made, right, own, strict=True)
    ]
    for hits in (base, first, end):
        yield shown(stats.proportion(sum(hits), len(hits)).times(100), " %")
    yield f"{sum(own)} of {len(own)}"
    yield str(sum(a and b for a, b in zip(own, end, strict=True)))
    for before in (base, first):
        yield str(sum(a and not b for a, b in zip(before, end, strict=True)))


async def _first(engine: Engine, prompt: str) -> tuple[str, float]:
    start, first, text = time.perf_counter(), 0.0, ""
    async with aclosing(stream(prompt, model=engine, seed=1, max_tokens=40)) as events:
        async for event in events:
            if isinstance(event, Text):
                first, text = first or time.perf_counter() - start, text + event.text
    return text, first


async def _both(prompts: Sequence[str]) -> list[tuple[tuple[str, float], ...]]:
    async with (
        aclosing(await load_engine("default", threads=2)) as own,
        aclosing(await load_engine("default-base", threads=2)) as bare,
    ):
        for engine in (own, bare):
            await _first(engine, "Hello!")
        found = []
        for number, prompt in enumerate(prompts):
            pair = [
                (each, await _first(each, prompt)) for each in ((own, bare) if number % 2 else (bare, own))
            ]
            found.append(tuple(said for each, said in sorted(pair, key=lambda one: one[0] is bare)))
        return found


def byte(*, quick: bool) -> Row:
    test = [prompt for prompt in everyday(shared())[1] if len(prompt) < 400 and read(prompt) is None]
    prompts = Random(1).sample(test, 4 if quick else 60)
    pairs = asyncio.run(_both(prompts))
    same = sum(own[0] == bare[0] for own, bare in pairs)
    ratio = statistics.median(own[1] / bare[1] for own, bare in pairs)
    sides = f"{same} of {len(prompts)}, {shown(stats.proportion(same, len(prompts)).times(100))} %"
    figures = (
        Figure("the base's answer", (100 * same / len(prompts),), "%", Goal("≥", 99.5), sides),
        Figure("time to the first piece, beside the base's", (ratio,), "×", Goal("≤", 1.05)),
    )
    how = "Prompts of the everyday test, at default settings, seed 1, 40 tokens, in turn; by llama.cpp."
    return Row("everyday prompts, to the byte", how, figures)


ROWS = {"who": who, "exercises": exercises, "byte": byte}

if __name__ == "__main__":
    sys.exit(main("benchmarks/self.py", __doc__, ROWS))
