"""How many tokens of drafts that fail are saved, if a draft that can no longer pass is ended at once.

The drafts are those of `ifeval_runs.tar.xz`, which were written to their end. Each is read again piece by
piece, as a chain reads what a model writes.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import Figure, Goal, Row
from redraft.chain import Prompt
from redraft.revision.watch import Watch
from redraft.verify.parse import parse_checks

RUNS = Path(__file__).with_name("ifeval_runs.tar.xz")
PIECE = 5  # characters, about a token
HOW = (
    "{drafts} drafts that fail, of 300 IFEval prompts, three seeds and at most four drafts, which the "
    "default model wrote to their end (`ifeval_runs.tar.xz`). A draft's tokens are saved from where a chain "
    "would end it. The last draft of a chain counts, though there none is ended."
)


def drafts(most: int | None) -> Iterator[dict[str, Any]]:
    """Yields the drafts with their checks, at most so many chains a seed."""
    with tarfile.open(RUNS) as archive:
        for member in archive:
            if member.name.endswith("best-of-4.jsonl") and (file := archive.extractfile(member)):
                for line in file.readlines()[:most]:
                    chain = json.loads(line)
                    yield from (
                        step for step in (*chain.get("drafts", ()), *chain["steps"]) if step["feedback"]
                    )


async def read_share(answer: str, names: Sequence[str]) -> float:
    """Returns the share of an answer that is written before it is ended."""
    watch = Watch(parse_checks(names), Prompt(instruction="?"))
    for start in range(0, len(answer), PIECE):
        watch.add(answer[start : start + PIECE])
        if await watch.lost():
            return (start + PIECE) / len(answer)
    return 1.0


async def read_all(most: int | None) -> tuple[int, int, float, int]:
    """Returns the drafts that fail, their tokens, those saved, and how many that pass would be ended."""
    failing, tokens, saved, wrong = 0, 0, 0.0, 0
    for step in drafts(most):
        checks = step["feedback"]["checks"]
        share = await read_share(step["answer"], [check["name"] for check in checks])
        if all(check["passed"] for check in checks):
            wrong += share < 1
            continue
        spent = step["usage"]["completion_tokens"]
        failing, tokens, saved = failing + 1, tokens + spent, saved + spent * (1 - min(share, 1.0))
    return failing, tokens, saved, wrong


def measure(*, quick: bool) -> Row:
    """Reads the archived drafts."""
    failing, tokens, saved, wrong = asyncio.run(read_all(5 if quick else None))
    sides = f"{saved:,.0f} of {tokens:,} tokens"
    figures = (
        Figure("of failing drafts", (100 * saved / tokens,), "%", Goal("≥", 25), sides),
        Figure("drafts that pass and would be ended", (wrong,), "texts", Goal("≤", 0)),
    )
    return Row("tokens saved by ending lost drafts", HOW.format(drafts=failing), figures)
