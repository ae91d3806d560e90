"""Measure calls of tools with a fault put in: how many leave right, at what cost, and what a right one waits.

python benchmarks/agents.py           a few seconds; writes results/agents.json
python benchmarks/agents.py --quick   twenty calls, nothing written
"""

from __future__ import annotations

import copy
import json
import random
import re
import sys
import time
from typing import Any

import redraft
from measure import Figure, Goal, Row
from redraft.chain import Chain
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.revision.calls import judged
from report import main

FAULTS = ("missing", "missing inside", "extra", "type", "enum", "date", "made-up id", "bound", "cut", "name")
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number"},
        "unit": {"enum": ["EUR", "USD", "GBP"]},
        "day": {"type": "string", "format": "date"},
        "who": {
            "type": "object",
            "properties": {"id": {"type": "string", "pattern": "^A[0-9]{4}$"}, "name": {"type": "string"}},
            "required": ["id"],
        },
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["amount", "unit", "day", "who"],
}
WRONG: dict[str, tuple[str, Any]] = {
    "type": ("/amount", "12 euros"),
    "enum": ("/unit", "euro"),
    "date": ("/day", "2026-02-30"),
    "bound": ("/amount", 100_000),
}


def tools(count: int) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": f"tool_{number}", "parameters": PARAMETERS}}
        for number in range(count)
    ]


def arguments(draw: random.Random) -> dict[str, Any]:
    day = f"2026-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}"
    who = {"id": f"A{draw.randint(1000, 9999)}", "name": "Ada"}
    unit = draw.choice(["EUR", "USD", "GBP"])
    return {"amount": draw.randint(1, 999), "unit": unit, "day": day, "who": who, "tags": ["a", "b"]}


def spoilt(right: dict[str, Any], fault: str) -> str:
    value = copy.deepcopy(right)
    if fault in WRONG:
        place, wrong = WRONG[fault]
        value[place[1:]] = wrong
    elif fault == "made-up id":
        value["who"]["id"] = "ada-1"
    elif fault == "missing":
        del value["unit"]
    elif fault == "missing inside":
        del value["who"]["id"]
    elif fault == "extra":
        value["note"] = "please"
    text = json.dumps(value)
    return text[:-20] if fault == "cut" else text


def call(name: str, text: str) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": text}}


def mended(draw: random.Random, fault: str, revisions: int) -> tuple[bool, Chain]:
    """Returns whether a call with a fault leaves right, and its chain. The model does as asked."""
    offered = tools(draw.choice([1, 5, 20, 60]))
    name, right = draw.choice(offered)["function"]["name"], arguments(draw)
    first = call("tol_x" if fault == "name" else name, spoilt(right, fault))
    replies = [ScriptedReply(tool_calls=[first])]

    def say(messages: Any) -> Any:
        if replies:
            return replies.pop()
        found = {}
        for pointer in re.findall(r'"(/[^"]+)"', messages[-1]["content"]):
            value: Any = right
            for key in pointer[1:].split("/"):
                value = value[key]
            found[pointer] = value
        return json.dumps(found) if found else ScriptedReply(tool_calls=[call(name, json.dumps(right))])

    given: Any = {"tools": offered, "checks": [f"tool:{name}.amount<=999"], "max_revisions": revisions}
    chain = redraft.revise("Do it.", model=ScriptedEngine(say), **given)
    made = chain.steps[chain.best or 0].tool_calls[0]["function"]
    try:
        return made["name"] == name and json.loads(made["arguments"]) == right, chain
    except ValueError:
        return False, chain


def faulty(*, quick: bool) -> Row:
    draw, count = random.Random(1), 20 if quick else 200
    found = [mended(draw, FAULTS[number % len(FAULTS)], 2) for number in range(count)]
    plain = [mended(draw, FAULTS[number % len(FAULTS)], 0)[0] for number in range(count)]
    alone = [chain for _, chain in found if len(chain.steps) > 1 and chain.steps[-1].patch]
    spent = sum(chain.usage.completion_tokens for chain in alone) / max(len(alone), 1)
    waits = []
    for number in range(1000):
        right = [call(f"tool_{number % 60}", json.dumps(arguments(draw)))]
        began = time.perf_counter()
        [result] = judged(right, tools(60))
        waits.append(1000 * (time.perf_counter() - began))
        assert result.passed
    figures = (
        Figure("leave right", (100 * sum(good for good, _ in found) / count,), "%", Goal("≥", 95)),
        Figure("leave right with max_revisions=0", (100 * sum(plain) / count,), "%"),
        Figure("mended by their wrong arguments alone", (100 * len(alone) / count,), "%"),
        Figure("characters that these wrote", (spent,), ""),
        Figure("99th percentile of what a right call waits", (sorted(waits)[989],), "ms", Goal("≤", 15)),
    )
    how = (
        f"{count} calls of one of 1, 5, 20 or 60 tools with nested arguments, each with one fault of "
        f"{len(FAULTS)} kinds: {', '.join(FAULTS)}. A scripted model that gives the right values when it is "
        "asked for them; two revisions. A right call is judged beside 60 tools, 1,000 times."
    )
    return Row("calls of tools that are wrong", how, figures)


ROWS = {"faulty": faulty}

if __name__ == "__main__":
    sys.exit(main("benchmarks/agents.py", __doc__, ROWS))
