"""Read drafts with injected faults from files: texts, sums and objects.

Of 200 texts of at least 150 tokens, 25 are the default model's answers to IFEval's prompts, 115 are OASST1's
(Apache-2.0), and 60 are solutions of GSM8K (MIT, © 2021 OpenAI). A fault is a forbidden word that occurs
once, after the first quarter, or a sum with another first digit. 100 objects of 300 to 2,000 tokens have
random values, in schemas written after 20 public formats. Their faults are values of another type, or missing
ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import redraft
from redraft.checks.base import Outcome
from redraft.checks.json_reading import json_so_far
from redraft.checks.maths import same
from redraft.engines.steering.draft import ends_of

HERE = Path(__file__).parent
_SUM = re.compile(r"(?<![\d.,/*+-])(\d[\d.,]*(?: ?[-+*/x] ?[\d.,]*\d)+) ?= ?\$?(\d(?:[\d.,]*\d)?)(?!\d)")
Values = dict[str, Any]  # by their JSON pointers


@dataclass(frozen=True)
class Draft:
    """A draft with faults, its right parts (`others`), and the right values for its wrong parts (`right`)."""

    prompt: str
    answer: str
    checks: list[str]
    others: Any
    right: Any = ()
    whole: Any = None  # the right object

    def lost(self, parts: Any, answer: str) -> int:
        if isinstance(parts, dict):
            found = flat(json_so_far(answer))
            return sum(found.get(each) != value for each, value in parts.items())
        return sum(part not in answer for part in parts)


def texts() -> Iterator[Draft]:
    for line in (HERE / "patch_drafts.jsonl").read_text("utf-8").splitlines():
        text = json.loads(line)
        wrong, right, answer = text["wrong"], text["right"], text["answer"]
        checks = ["python:patch_material.sums"] if right else [f"lacks:{word}" for word in wrong]
        said = [answer[begin:end].strip() for begin, end in pairwise([0, *ends_of(answer)])]
        others = [each for each in said if not any(fault in each for fault in wrong)]
        yield Draft(text["prompt"], answer, checks, others, right)


def sums(answer: str) -> Outcome | bool:
    wrong = [found for found in _SUM.finditer(answer) if not same(*found.groups())]
    message = " ".join(f"{found[0]} is wrong." for found in wrong)
    return redraft.failed(message, places=[each.span(2) for each in wrong]) if wrong else True


def objects() -> Iterator[Draft]:
    for line in (HERE / "patch_objects.jsonl").read_text("utf-8").splitlines():
        record, faulty, right = json.loads(line), json.loads(line)["value"], Values()
        others = flat(faulty)
        for path, value in record["wrong"].items():
            right[path] = others.pop(path)
            *keys, last = (int(key) if key.isdigit() else key for key in path.split("/")[1:])
            held = reduce(lambda held, key: held[key], keys, faulty)
            held[last] = value
            if value is None:
                del held[last]
        check = f"json-schema:{HERE}/patch_shapes/{next(iter(faulty))}.json"
        yield Draft(record["prompt"], json.dumps(faulty, indent=2), [check], others, right, record["value"])


def flat(value: Any, at: str = "") -> Values:
    if not isinstance(value, dict | list):
        return {at: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for name, each in pairs for path, leaf in flat(each, f"{at}/{name}").items()}
