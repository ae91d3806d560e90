"""Drafts with faults put in by rule: texts, sums and objects.

`patch_drafts.jsonl` has 200 texts of at least 150 tokens: 25 answers of the default model to IFEval's
prompts and 115 of OASST1 (Apache-2.0), and 60 solutions of GSM8K (MIT). A fault is a word that comes once, in
a sentence after the first quarter, or a sum with another first digit. `patch_shapes.json` has schemas written
for this, after 20 public formats.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import redraft
from redraft.checks.base import Outcome
from redraft.checks.json_reading import json_so_far
from redraft.checks.maths import same
from redraft.engines.steering.draft import ends_of

TEXTS, SHAPES = (Path(__file__).with_name(f"patch_{name}") for name in ("drafts.jsonl", "shapes.json"))
SIZES = (1300, 2500, 6000)  # characters of the objects, which have 300 to 2,000 tokens
WRONG = {"integer": "many", "number": "a good price", "boolean": "perhaps", "string": 7}  # by type
_SUM = re.compile(r"(?<![\d.,/*+-])(\d[\d.,]*(?: ?[-+*/x] ?[\d.,]*\d)+) ?= ?\$?(\d(?:[\d.,]*\d)?)(?!\d)")
Values = dict[str, Any]  # by their JSON pointers


@dataclass(frozen=True)
class Draft:
    """A draft with faults, and the parts that are right in it, and that would be right in their place."""

    prompt: str
    answer: str
    checks: list[str]
    others: Any
    right: Any = ()
    whole: Any = None  # the right object

    def lost(self, parts: Any, answer: str) -> int:
        """Count the parts that an answer lacks: sentences, or values by their pointers."""
        if isinstance(parts, dict):
            found = flat(json_so_far(answer))
            return sum(found.get(each) != value for each, value in parts.items())
        return sum(part not in answer for part in parts)


def texts() -> Iterator[Draft]:
    """Yield texts with sums that are wrong, or words that are forbidden, in one to three sentences."""
    for line in TEXTS.read_text("utf-8").splitlines():
        text = json.loads(line)
        wrong, right, answer = text["wrong"], text["right"], text["answer"]
        checks = ["python:patch_material.sums"] if right else [f"lacks:{word}" for word in wrong]
        said = [answer[begin:end].strip() for begin, end in pairwise([0, *ends_of(answer)])]
        others = [each for each in said if not any(fault in each for fault in wrong)]
        yield Draft(text["prompt"], answer, checks, others, right)


def sums(answer: str) -> Outcome | bool:
    """Check that the sums of an answer are right."""
    wrong = [found for found in _SUM.finditer(answer) if not same(*found.groups())]
    message = " ".join(f"{found[0]} is wrong." for found in wrong)
    return redraft.failed(message, places=[each.span(2) for each in wrong]) if wrong else True


def objects(folder: Path) -> Iterator[Draft]:
    """Yield objects with one to three values that are wrong or missing, and which the prompt says."""
    shapes = json.loads(SHAPES.read_text("utf-8"))
    for number, (name, shape) in enumerate(cycle(shapes.items())):
        draw, records, wrong = random.Random(number), list[Any](), dict[str, Any]()
        while len(json.dumps({name: records}, indent=2)) < SIZES[number % len(SIZES)]:
            records.append(_made(shape, draw, f"/{name}/{len(records)}", wrong))
        file, text = folder / f"{number}.json", json.dumps({name: records}, indent=2)
        schema: Values = {"type": "object", "properties": {name: {"type": "array", "items": shape}}}
        schema |= {"required": [name], "additionalProperties": False}
        file.write_text(json.dumps(schema), "utf-8")
        chosen = draw.sample([*wrong], 1 + number // len(SIZES) % 3)
        right, faulty = flat(json.loads(text)), json.loads(text)
        for place, each in enumerate(chosen):
            *path, last = (int(key) if key.isdigit() else key for key in each.split("/")[1:])
            held = reduce(lambda held, key: held[key], path, faulty)
            held[last] = wrong[each]
            if not place and number % 4 == 3 and isinstance(held, dict):
                del held[last]
        told = {each: right.pop(each) for each in chosen}
        said = " and ".join(f"{each} is {json.dumps(value)}" for each, value in told.items())
        prompt, check = f"Write the {name} in JSON. In it, {said}.", f"json-schema:{file}"
        yield Draft(prompt, json.dumps(faulty, indent=2), [check], right, told, json.loads(text))


def _made(schema: Values, draw: random.Random, at: str, wrong: Values) -> Any:
    """Return a value of a schema, and put wrong ones for its parts into `wrong`."""
    if kinds := schema.get("properties"):
        return {name: _made(kind, draw, f"{at}/{name}", wrong) for name, kind in kinds.items()}
    if kind := schema.get("items"):
        return [_made(kind, draw, f"{at}/{place}", wrong) for place in range(schema["minItems"])]
    wrong[at] = WRONG.get(schema.get("type", ""), "someday")
    if "minimum" in schema:
        value = draw.uniform(schema["minimum"], schema["maximum"])
        return round(value) if schema["type"] == "integer" else round(value, 2)
    return draw.choice(schema.get("enum") or schema.get("examples") or [True, False])


def flat(value: Any, at: str = "") -> Values:
    """Return the values within a value that hold no others, by their pointers."""
    if not isinstance(value, dict | list):
        return {at: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for name, each in pairs for path, leaf in flat(each, f"{at}/{name}").items()}
