"""Measure tool calls with injected faults: the share corrected, the cost, and the delay of right calls.

python benchmarks/agents.py           some minutes; writes results/agents.json
python benchmarks/agents.py --quick   twenty calls, nothing written
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx

import redraft
from material import default_model
from measure import Figure, Goal, Row
from redraft.engines.base import Engine
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.remote.engine import RemoteEngine
from redraft.options import MachineOptions
from redraft.revision.calls import judged
from report import main

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the HTTP helpers are in tests/
from tests.engines.fake_server import FakeServer, Reply, Request, json_reply
from tests.gguf_files import with_text

RATE = 100.0  # tokens a second of the scripted model
TEMPLATE = Path(__file__).parent.parent / "tests" / "engines" / "servers" / "tools.jinja"
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


@dataclass(frozen=True)
class Case:
    prompt: str
    offered: list[dict[str, Any]]
    name: str
    right: dict[str, Any]
    first: dict[str, Any]

    @classmethod
    def drawn(cls, draw: random.Random, number: int, fault: str, most: Sequence[int]) -> Case:
        offered, right = tools(draw.choice(most)), arguments(draw)
        name, who = draw.choice(offered)["function"]["name"], right["who"]
        words = ", ".join(f"{key} {right[key]}" for key in ("amount", "unit", "day"))
        prompt = f"Case {number}. Call {name}: {words}, who is Ada with the id {who['id']}, tags a and b."
        first = call("tol_x" if fault == "name" else name, spoilt(right, fault))
        return cls(prompt, offered, name, right, first)

    def met(self, calls: Sequence[dict[str, Any]]) -> bool:
        try:
            [made] = (each["function"] for each in calls)
            return made["name"] == self.name and json.loads(made["arguments"]) == self.right
        except ValueError:
            return False


def answer(cases: Sequence[Case], request: Request) -> Reply:
    messages = request.json["messages"]
    case = cases[int(re.search(r"Case (\d+)", str(messages))[1])]  # type: ignore[index]
    found = {}
    for pointer in re.findall(r'"(/[^"]+)"', str(messages[-1]["content"])):
        value: Any = case.right
        for key in pointer[1:].split("/"):
            value = value[key]
        found[pointer] = value
    calls = [call(case.name, json.dumps(case.right)) if messages[1:] else case.first]
    said = {"content": json.dumps(found)} if found else {"content": None, "tool_calls": calls}
    tokens = len(said["content"] or calls[0]["function"]["arguments"]) // 4
    usage = {"prompt_tokens": 1, "completion_tokens": tokens}
    made = json_reply({"choices": [{"message": said, "finish_reason": "stop"}], "usage": usage})
    return replace(made, pieces=[tokens / RATE, *made.pieces])


async def revised(
    engine: Engine, cases: Sequence[Case], most: int, *, begun: bool = False
) -> list[tuple[bool, int, float, bool]]:
    """Return, for each case, whether the call is right, its tokens and seconds, and whether no check failed.

    With `begun`, redraft gets the first call of the case in place of one from the engine.
    """
    found, resume = [], None
    for case in cases:
        if begun:
            first = redraft.Step(answer="", tool_calls=(case.first,))
            prompt = redraft.Prompt(instruction=case.prompt)
            resume = redraft.Chain(prompt=prompt, steps=(first,), stop="cancelled")
        options: Any = {"tools": case.offered, "checks": [f"tool:{case.name}.amount<=999"], "resume": resume}
        began = time.perf_counter()
        chain = await redraft.arevise(
            case.prompt, model=engine, max_revisions=most, temperature=0.0, **options
        )
        seconds, tokens = time.perf_counter() - began, chain.usage.completion_tokens
        calls = chain.steps[chain.best or 0].tool_calls
        found.append((case.met(calls), tokens, seconds, chain.passed is not False))
    await engine.aclose()
    return found


def plain(client: httpx.Client, case: Case) -> tuple[bool, int, float]:
    body = {"model": "able", "messages": [{"role": "user", "content": case.prompt}], "tools": case.offered}
    began = time.perf_counter()
    reply = client.post("/chat/completions", json=body).json()
    seconds = time.perf_counter() - began
    calls = reply["choices"][0]["message"]["tool_calls"]
    return case.met(calls), reply["usage"]["completion_tokens"], seconds


def figures_of(what: str, found: Sequence[Any], goal: Goal | None = None) -> list[Figure]:
    good, tokens, seconds, *_ = zip(*found, strict=True)
    return [
        Figure(f"{what}: leave right", (100 * fmean(good),), "%", goal),
        Figure(f"{what}: tokens a call", (fmean(tokens),), "tokens"),
        Figure(f"{what}: seconds a call", (fmean(seconds),), "s"),
    ]


def faulty(*, quick: bool) -> Row:
    draw, count = random.Random(1), 20 if quick else 200
    kinds = [*(FAULTS[number % len(FAULTS)] for number in range(count)), *["none"] * (count // 4)]
    cases = [Case.drawn(draw, number, fault, (1, 5, 20, 60)) for number, fault in enumerate(kinds)]
    with FakeServer() as upstream, httpx.Client(base_url=upstream.url, timeout=60) as client:
        upstream.on("POST /v1/chat/completions", partial(answer, cases))
        figures = figures_of("the plain upstream", [plain(client, case) for case in cases[:count]])
        off, on = (asyncio.run(revised(RemoteEngine(upstream.url, "able"), cases, most)) for most in (0, 2))
    figures += figures_of("redraft off", off[:count])
    figures += figures_of("redraft on", on[:count], Goal("≥", 95))
    waits = []
    for number in range(1000):
        right = [call(f"tool_{number % 60}", json.dumps(arguments(draw)))]
        began = time.process_time()
        [result] = judged(right, tools(60))
        waits.append(1000 * (time.process_time() - began))
        assert result.passed
    changed, longest = sum(not good for good, *_ in on[count:]), sorted(waits)[989]
    figures += [
        Figure("right calls that are changed", (changed,), "calls", Goal("≤", 0)),
        Figure("99th percentile of the CPU time of a right call", (longest,), "ms", Goal("≤", 15)),
    ]
    how = (
        f"{count} calls with nested arguments and a choice of 1, 5, 20 or 60 tools, each with one fault of "
        f"{len(FAULTS)} kinds: {', '.join(FAULTS)}; and {count // 4} right calls. A scripted model behind "
        f"HTTP answers one request at a time, {RATE:g} tokens a second, and gives right values when asked. "
        "At most two revisions. A right call is judged with 60 tools, 1,000 times."
    )
    return Row("calls of tools that are wrong", how, tuple(figures))


def default(*, quick: bool) -> Row:
    async def measured(path: Path) -> list[Any]:
        engine = await LlamaCppEngine.start(path, machine=MachineOptions(ctx=4096))
        return await revised(engine, cases, 2, begun=True)

    draw, count = random.Random(2), 10 if quick else 40
    cases = [Case.drawn(draw, n, FAULTS[n % len(FAULTS)], (1, 5)) for n in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        place, template = Path(folder) / "tools.gguf", TEMPLATE.read_text()
        found = asyncio.run(measured(with_text(default_model(), "tokenizer.chat_template", template, place)))
    figures = [
        Figure("fit their tool and check", (100 * fmean(fit for *_, fit in found),), "%"),
        *figures_of("mended", found, Goal("≥", 80)),
    ]
    how = (
        f"{count} such calls with a choice of 1 or 5 tools. The default model corrects them with steering "
        "and a chat template for tools, in at most two revisions. The prompt contains all values in words."
    )
    return Row("wrong calls, mended by the default model", how, tuple(figures))


ROWS = {"faulty": faulty, "default": default}

if __name__ == "__main__":
    sys.exit(main("benchmarks/agents.py", __doc__, ROWS))
