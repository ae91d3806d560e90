"""Measure a revision that writes only what failed, beside one that writes the whole answer again.

python benchmarks/patch.py           about 20 minutes; writes results/patch.json
python benchmarks/patch.py --quick   a few texts and objects, nothing written
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import redraft
from measure import Figure, Goal, Row, Unit
from redraft.chain import Chain
from redraft.checks.text import COUNTERS
from redraft.engines.base import Engine
from redraft.engines.load import load_engine
from redraft.engines.steering.draft import ends_of
from redraft.options import MachineOptions
from report import main

HERE = Path(__file__).parent
WAYS: dict[str, dict[str, Any]] = {"patch": {}, "full revision": {"mode": "verified"}}
LEAST = 100  # words of a text
SIZES = (20, 60, 130)  # values of the objects; the longest have some 2,000 tokens
HOW = (
    "The default model behind llama.cpp, temperature 0.7, one stream, the same seeds and checks for both ways, "
    "which begin with the same draft. patch: mode `auto`. full revision: mode `verified`, with speculation as "
    "by default, and with the same steering. Both revise once. New tokens, seconds and bytes are medians over "
    "drafts, of whole chains. Outside: the bytes of the draft's other {parts} that are not in the answer."
)


@dataclass(frozen=True)
class Draft:
    """A draft with a fault that was put in or found by rule, its checks, and the parts that are right."""

    prompt: str
    answer: str
    checks: tuple[str, ...]
    parts: tuple[str, ...]
    right: Callable[[str], bool] = lambda _: True  # whether an answer has the right value


async def texts(engine: Engine, count: int) -> list[Draft]:
    """Return answers of the model, each with a word of a middle sentence that is then forbidden."""
    found: list[Draft] = []
    for number, question in enumerate((HERE / "questions.txt").read_text("utf-8").splitlines()):
        chain = await redraft.arevise(question, model=engine, max_tokens=260, seed=number)
        text = chain.answer
        ends = [0, *ends_of(text)]
        said = [text[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]
        words = [re.findall(r"\b[a-z]{5,}\b", each) for each in said]
        once = [
            (place, word)
            for place in range(len(said) // 3, len(said) - 1)
            for word in words[place]
            if len(re.findall(rf"(?i){word}", text + question)) == 1
        ]
        if COUNTERS["words"](text) >= LEAST and chain.steps[0].finish == "stop" and once:
            place, word = random.Random(number).choice(once)
            others = tuple(each.strip() for each in said[:place] + said[place + 1 :])
            found.append(Draft(question, text, (f"lacks:{word}",), others))
        if len(found) == count:
            break
    return found


KINDS: dict[str, tuple[dict[str, Any], Callable[[random.Random], Any], Any]] = {
    "count": ({"type": "integer", "minimum": 0}, lambda draw: draw.randrange(2, 900), "many"),
    "price": ({"type": "number"}, lambda draw: draw.randrange(100, 9000) / 100, "a good price"),
    "open": ({"type": "boolean"}, lambda draw: draw.random() < 0.5, "perhaps"),
    "day": (
        {"enum": ["Monday", "Tuesday", "Friday"]},
        lambda draw: draw.choice(["Monday", "Friday"]),
        "someday",
    ),
    "city": ({"type": "string"}, lambda draw: draw.choice(["Lyon", "Porto", "Graz", "Turku", "Bergen"]), 7),
}
"""Name of a value -> its schema, its right value, and a wrong one."""


def objects(folder: Path, count: int) -> Iterator[Draft]:
    """Yield objects whose prompt says every value, with one value in the middle that is wrong or missing."""
    for number in range(count):
        draw, size = random.Random(number), SIZES[number % len(SIZES)]
        names = [f"{draw.choice([*KINDS])}_{place}" for place in range(size)]
        kinds = {name: KINDS[name.partition("_")[0]] for name in names}
        values = {name: kind[1](draw) for name, kind in kinds.items()}
        schema = {"type": "object", "properties": {name: kind[0] for name, kind in kinds.items()}}
        file = folder / f"{number}.json"
        file.write_text(json.dumps({**schema, "required": names, "additionalProperties": False}), "utf-8")
        name = names[size // 2 + number % 5]
        faulty = {**values, name: kinds[name][2]}
        if number % 4 == 3:
            del faulty[name]
        said = ", ".join(f"{each} is {json.dumps(value)}" for each, value in values.items())
        parts = tuple(
            f"{json.dumps(each)}: {json.dumps(value)}" for each, value in values.items() if each != name
        )
        yield Draft(
            f"Write this as JSON: {said}."
            if size <= 60
            else f"Write a record in JSON, in which {name} is {json.dumps(values[name])}.",
            json.dumps(faulty, indent=2),
            (f"json-schema:{file}",),
            parts,
            partial(_is, name, values[name]),
        )


def _is(name: str, value: Any, answer: str) -> bool:
    return f"{json.dumps(name)}: {json.dumps(value)}" in answer


async def measured(
    engine: Engine, drafts: Sequence[Draft], say: bool
) -> dict[str, list[tuple[Chain, Draft]]]:
    """Make the chain of each draft in both ways, in turn."""
    made: dict[str, list[tuple[Chain, Draft]]] = {way: [] for way in WAYS}
    for number, draft in enumerate(drafts):
        for way in [*WAYS][:: 1 if number % 2 else -1]:
            given = {
                "given": draft.answer,
                "checks": draft.checks,
                "seed": 1000 * number,
                "max_revisions": 1,
                **WAYS[way],
            }
            chain = await redraft.arevise(draft.prompt, model=engine, **given)
            made[way].append((chain, draft))
            print(way, *draft.checks, chain.passed, chain.usage.completion_tokens, *chain.steps[-1].patch)
    return made


def row(name: str, made: dict[str, list[tuple[Chain, Draft]]], parts: str, tokens: float) -> Row:
    """Return the row of both ways."""
    figures: list[Figure] = []

    def add(what: str, unit: Unit, of: Callable[[Chain, Draft], float], *goal: Goal) -> None:
        for way, pairs in made.items():
            values = tuple(float(of(chain, draft)) for chain, draft in pairs)
            values = (100 * fmean(values),) if unit == "%" else values
            figures.append(Figure(f"{what}, {way}", values, unit, *(goal if way == "patch" else ())))

    add("pass", "%", lambda chain, _: bool(chain.passed))
    add("have the right value", "%", lambda chain, draft: draft.right(chain.answer))
    add("new tokens", "tokens", lambda chain, _: chain.usage.completion_tokens, Goal("≤", tokens))
    add("seconds", "s", lambda chain, _: chain.usage.seconds)
    add("outside", "", lambda chain, draft: _lost(chain, draft), Goal("≤", 0.0))
    return Row(f"patch: {name}", f"{len(made['patch'])} drafts. {HOW.format(parts=parts)}", tuple(figures))


def _lost(chain: Chain, draft: Draft) -> int:
    """Return the bytes of the draft's other parts that are not in the answer."""
    return sum(len(part.encode()) for part in draft.parts if part not in chain.answer)


def _run(name: str, *, quick: bool) -> Row:
    async def run() -> Row:
        engine = await load_engine("default", machine=MachineOptions(ctx=8192))
        try:
            with tempfile.TemporaryDirectory() as folder:
                count = 3 if quick else 20 if name == "texts" else 12
                found = await texts(engine, count) if name == "texts" else [*objects(Path(folder), count)]
                made = await measured(engine, found)
        finally:
            await engine.aclose()
        return row(name, made, "sentences" if name == "texts" else "values", 40 if name == "texts" else 60)

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(
        main("benchmarks/patch.py", __doc__, {name: partial(_run, name) for name in ("texts", "objects")})
    )
