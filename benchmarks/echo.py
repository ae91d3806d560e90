"""Measure how many honest short answers redraft refuses as no answer, and how much talk it lets pass.

    python benchmarks/echo.py         seconds; writes its part of RESULTS.md
    python benchmarks/echo.py --tell  prints each honest answer that is refused, and writes nothing

The honest answers are others': references of Self-Instruct, answers of OASST1, and the finals of GSM8K, AQuA
and MATH, from the shared data beside the checkout. The talk is labelled in tests/data (see the README there).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

from material import SHARED
from measure import Figure, Goal, Row
from redraft.chain import Prompt
from redraft.formats.read.records import raw_records, read_records
from redraft.formats.texts import gold_answers
from redraft.stats import proportion
from redraft.verify.base import demand_of
from redraft.verify.echo import is_echo
from redraft.verify.parse import parse_check
from report import RESULTS, page, put, section

SCRIPT = "benchmarks/echo.py"
LABELLED = Path(__file__).parent.parent / "tests" / "data"
SHORT, MOST = 200, 0.1  # characters of a short answer, and the most of them in 100 that may be refused
FILES = (
    *(f"self_instruct/{name}.jsonl" for name in ("seed_tasks", "user_oriented_252")),
    *(f"{name}.jsonl" for name in ("gsm8k/test", "math/aqua_dev", "math/aqua_test", "math/math_500_test")),
)
HOW = (
    f"Answers of at most {SHORT} characters that others wrote: references of Self-Instruct's seed and "
    "user-oriented tasks, the assistant's turns of 100 trees of OASST1, finals of GSM8K, MATH-500 and AQuA. "
    'HH-RLHF\'s replies have talk among them: three of the refused are copies, two are "Ok.", and one, '
    '"OK, I will!", is honest. The talk was labelled for earlier rules, which found more of it and refused '
    "more answers: first answers that say nothing, and revisions that discuss the answer. Intervals are "
    "Wilson's, at 95 %."
)

Case = tuple[str, Prompt, Sequence[str], str]  # an answer, its prompt, what was heard before, and a demand


def honest() -> Iterator[Case]:
    """Yield the short answers that others wrote."""
    for file in FILES:
        for record in read_records(SHARED / "data" / file):
            yield from ((gold, record.prompt, (), "") for gold in gold_answers(record)[:1])
    for raw in raw_records(SHARED / "data" / "conversations" / "oasst_en_100_trees.jsonl"):
        waiting: list[tuple[Any, list[dict[str, Any]]]] = [(json.loads(raw.data)["prompt"], [])]
        while waiting:
            said, before = waiting.pop()
            role = "user" if said["role"] == "prompter" else "assistant"
            if role == "assistant":
                yield said["text"], Prompt(messages=tuple(before)), (), ""
            path = [*before, {"role": role, "content": said["text"]}]
            waiting += [(reply, path) for reply in said["replies"]]


def replies() -> Iterator[Case]:
    """Yield the replies of HH-RLHF's dialogues, chosen and rejected, with copies and talk among them."""
    for raw in raw_records(SHARED / "data" / "preference" / "hh_harmless_test.jsonl.gz"):
        yield from ((step.answer, pair.prompt, (), "") for pair in raw.pairs() for step in pair.steps)


def labelled(name: str, label: str) -> Iterator[Case]:
    """Yield the texts of a labelled file with this label."""
    for record in map(json.loads, (LABELLED / name).read_text("utf-8").splitlines()):
        if record["label"] == label:
            demands = map(demand_of, map(parse_check, record["checks"]))
            heard = [line for text in record.get("feedback", ()) for line in (text, *text.splitlines())]
            text = record.get("answer") or record["revision"]
            demand = "\n".join(f"- {each}" for each in demands if each)
            yield text, Prompt(instruction=record["prompt"]), heard, demand


def refused(cases: Iterator[Case], most: float, *, tell: bool) -> tuple[int, int]:
    """Return how many texts of at most so many characters are called no answer, and how many there are."""
    some = [case for case in cases if case[0].strip() and len(case[0]) <= most]
    found = [case for case in some if is_echo(*case)]
    for text, prompt, *_ in found if tell else ():
        print(f"{prompt.text[-200:]!r}\n    {text!r}")
    return len(found), len(some)


def measure(*, tell: bool = False) -> Row:
    """Measure both errors."""
    sets: dict[str, tuple[Iterator[Case], Goal | None]] = {
        "honest answers refused": (honest(), Goal("≤", MOST)),
        "replies of HH-RLHF refused": (replies(), None),
        "honest answers refused, labelled": (labelled("first_answers.jsonl", "answer"), None),
        "honest revisions refused, labelled": (labelled("echoes.jsonl", "answer"), None),
        "talk found, first answers": (labelled("first_answers.jsonl", "echo"), None),
        "talk found, revisions": (labelled("echoes.jsonl", "echo"), None),
    }
    figures = []
    for name, (cases, goal) in sets.items():
        got, of = refused(cases, inf if "revisions" in name else SHORT, tell=tell and "refused" in name)
        rate = proportion(got, of).times(100)
        sides = f"{got} of {of:,}, interval {rate.low:.2f} to {rate.high:.2f} %"
        figures.append(Figure(name, (100 * got / of,), "%", goal, sides))
    return Row("no answer", HOW, tuple(figures))


def main() -> int:
    """Measure, and write the part of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tell", action="store_true", help="print what is refused, and write nothing")
    tell, start = parser.parse_args().tell, time.perf_counter()
    row = measure(tell=tell)
    print(section(row))
    if not tell:
        put(RESULTS, SCRIPT, page([row], SCRIPT, (time.perf_counter() - start) / 60))
    return 0


if __name__ == "__main__":
    sys.exit(main())
