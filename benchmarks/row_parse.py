"""Parsing and rendering the released SelFee chains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from material import shared
from measure import Figure, Goal, Row, Size
from redraft.chain import Chain
from redraft.chain.read.records import read_records
from redraft.chain.selfee import parse, render

MEASURE = "parse and re-render selfee/chains"
HOW = (
    "Each record of the released training chains: line of the file → chain → SelFee's text → parsed again "
    "→ line of JSON. Everything is counted, reading the files too; the data is not part of the "
    "repository."
)


def run(size: Size) -> Row:
    files = sorted((shared() / "selfee" / "chains").glob("*.jsonl"))
    chains = [chain for path in files for chain in read_records(path)]
    same = sum(again(chain) == said(chain) for chain in chains)
    times = tuple(seconds(files) for _ in range(size.rounds))
    side = f"{len(chains):,} records, {len(chains) / min(times):,.0f}/s at best"
    note = f"{same:,} of {len(chains):,} chains have the same answers and feedbacks after the round trip."
    return Row(MEASURE, HOW, (Figure("all records", times, "s", Goal("≤", 2.0), side),), (note,))


def seconds(files: Sequence[Path]) -> float:
    """How long it takes for all records of some files."""
    start = time.perf_counter()
    for path in files:
        for chain in read_records(path):
            parse(render(chain), chain.prompt).to_json()
    return time.perf_counter() - start


def said(chain: Chain) -> list[tuple[str, str]]:
    """Answers and feedbacks, without the white space around them."""
    return [
        (step.answer.strip(), step.feedback.text.strip() if step.feedback else "") for step in chain.steps
    ]


def again(chain: Chain) -> list[tuple[str, str]]:
    """The same, after it was rendered and parsed."""
    return said(parse(render(chain), chain.prompt))
