"""Measure a revision that writes only what failed, beside one that writes the whole answer again.

python benchmarks/patch.py           about 30 minutes; writes results/patch.json
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
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import redraft
from measure import Figure, Goal, Row, Unit
from redraft.chain import Chain
from redraft.checks.json_reading import NotJson, read_json
from redraft.checks.text import COUNTERS
from redraft.engines.base import Engine
from redraft.engines.load import load_engine
from redraft.engines.steering.draft import ends_of
from report import main

HERE = Path(__file__).parent
WAYS: dict[str, dict[str, Any]] = {"patch": {}, "full revision": {"mode": "verified"}}
LEAST = 80  # words of a text
SIZES = (20, 60, 130)  # values of the objects; the longest have some 2,000 tokens
HOW = (
    "{count} drafts. The default model behind llama.cpp, temperature 0.7, one stream, the same seeds and checks "
    "for both ways, which begin with the same draft and revise once. patch: mode `auto`. full revision: mode "
    "`verified`, steered alike, with speculation as by default. New tokens and seconds are medians over whole "
    "chains. Changed outside: the share of answers in which another {part} of the draft is missing."
)
Made = dict[str, list[tuple[Chain, "Draft"]]]  # the chains of each way


@dataclass(frozen=True)
class Draft:
    """A draft with one fault, its checks, and how to see what became of the rest."""

    prompt: str
    answer: str
    check: str
    kept: Callable[[str], bool]  # whether all that was right is in an answer
    right: Callable[[str], bool]  # whether the fault has become what it should be


async def texts(engine: Engine, count: int) -> list[Draft]:
    """Return answers of the model, each with a word of a middle sentence that is then forbidden."""
    found: list[Draft] = []
    for number, question in enumerate((HERE / "questions.txt").read_text("utf-8").splitlines()):
        chain = await redraft.arevise(question, model=engine, max_tokens=260, seed=number)
        text = chain.answer
        said = [text[begin:end] for begin, end in pairwise([0, *ends_of(text)])]
        once = [
            (place, word)
            for place in range(len(said) // 3, len(said) - 1)
            for word in re.findall(r"\b[a-z]{5,}\b", said[place])
            if len(re.findall(rf"(?i){word}", text + question)) == 1
        ]
        if COUNTERS["words"](text) < LEAST or chain.steps[0].finish != "stop" or not once:
            continue
        place, word = random.Random(number).choice(once)
        others = tuple(each.strip() for each in said[:place] + said[place + 1 :])
        check = f"lacks:{word}"
        passes = partial(_passes, redraft.parse_check(check))
        found.append(Draft(question, text, check, partial(_has_all, others), passes))
        if len(found) == count:
            break
    return found


def _has_all(parts: Sequence[str], answer: str) -> bool:
    return all(part in answer for part in parts)


def _passes(check: Any, answer: str) -> bool:
    return bool(check.check(answer, redraft.Prompt()).passed)


KINDS: dict[str, tuple[dict[str, Any], Callable[[random.Random], Any], Any]] = {
    "count": ({"type": "integer"}, lambda draw: draw.randrange(2, 900), "many"),
    "price": ({"type": "number"}, lambda draw: draw.randrange(100, 9000) / 100, "a good price"),
    "open": ({"type": "boolean"}, lambda draw: draw.random() < 0.5, "perhaps"),
    "day": ({"enum": ["Monday", "Friday"]}, lambda draw: draw.choice(["Monday", "Friday"]), "someday"),
    "city": ({"type": "string"}, lambda draw: draw.choice(["Lyon", "Porto", "Graz", "Bergen"]), 7),
}
"""Name of a value -> its schema, its right value, and a wrong one."""


def objects(folder: Path, count: int) -> Iterator[Draft]:
    """Yield objects with one value in the middle that is wrong or missing, and which the prompt says."""
    for number in range(count):
        draw, size = random.Random(number), SIZES[number % len(SIZES)]
        names = [f"{draw.choice([*KINDS])}_{place}" for place in range(size)]
        kinds = {name: KINDS[name.partition("_")[0]] for name in names}
        values = {name: kind[1](draw) for name, kind in kinds.items()}
        schema = {"type": "object", "properties": {name: kind[0] for name, kind in kinds.items()}}
        file, name = folder / f"{number}.json", names[size // 2 + number % 5]
        file.write_text(json.dumps({**schema, "required": names, "additionalProperties": False}), "utf-8")
        faulty = {**values, name: kinds[name][2]}
        if number % 4 == 3:
            del faulty[name]
        others = {each: value for each, value in values.items() if each != name}
        yield Draft(
            f"Write the record in JSON. In it, {name} is {json.dumps(values[name])}.",
            json.dumps(faulty, indent=2),
            f"json-schema:{file}",
            partial(_says, others),
            partial(_says, {name: values[name]}),
        )


def _says(values: dict[str, Any], answer: str) -> bool:
    try:
        found = read_json(answer)[0]
    except NotJson:
        return False
    return isinstance(found, dict) and all(found.get(name, ...) == value for name, value in values.items())


async def chains(engine: Engine, drafts: Sequence[Draft]) -> Made:
    """Make the chain of each draft in both ways, in turn."""
    made: Made = {way: [] for way in WAYS}
    for number, draft in enumerate(drafts):
        for way in [*WAYS][:: 1 if number % 2 else -1]:
            given = {
                "given": draft.answer,
                "checks": [draft.check],
                "max_revisions": 1,
                "seed": 1000 * number,
            }
            chain = await redraft.arevise(draft.prompt, model=engine, **given, **WAYS[way])
            made[way].append((chain, draft))
    return made


def row(name: str, made: Made, part: str, tokens: float) -> Row:
    """Return the row of both ways."""
    figures: list[Figure] = []

    def add(what: str, unit: Unit, of: Callable[[Chain, Draft], float], *goal: Goal) -> None:
        for way, pairs in made.items():
            values = tuple(float(of(chain, draft)) for chain, draft in pairs)
            shares = (100 * fmean(values),) if unit == "%" else values
            figures.append(Figure(f"{what}, {way}", shares, unit, *(goal if way == "patch" else ())))

    add("pass", "%", lambda chain, _: bool(chain.passed))
    add("are right where they failed", "%", lambda chain, draft: draft.right(chain.answer))
    add("changed outside", "%", lambda chain, draft: not draft.kept(chain.answer), Goal("≤", 0.0))
    add("new tokens", "tokens", lambda chain, _: chain.usage.completion_tokens, Goal("≤", tokens))
    add("seconds", "s", lambda chain, _: chain.usage.seconds)
    return Row(f"patch: {name}", HOW.format(count=len(made["patch"]), part=part), tuple(figures))


def measured(name: str, part: str, *, quick: bool) -> Row:
    """Measure texts or objects."""

    async def run() -> Made:
        engine = await load_engine("default", ctx=8192)
        try:
            with tempfile.TemporaryDirectory() as folder:
                count = 3 if quick else 20 if name == "texts" else 12
                found = await texts(engine, count) if name == "texts" else [*objects(Path(folder), count)]
                return await chains(engine, found)
        finally:
            await engine.aclose()

    return row(name, asyncio.run(run()), part, 40 if name == "texts" else 60)


ROWS = {"texts": partial(measured, "texts", "sentence"), "objects": partial(measured, "objects", "value")}

if __name__ == "__main__":
    sys.exit(main("benchmarks/patch.py", __doc__, ROWS))
