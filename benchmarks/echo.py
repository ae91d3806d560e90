"""Measures how well talk about the answer is told from answers, on revisions that people labelled.

    python benchmarks/echo.py           writes its part of RESULTS.md
    python benchmarks/echo.py --choose  the rates at several thresholds, on the tuning records alone

The revisions are tests/data/echoes.jsonl (see the README there). Beside redraft stand two rules that could do
the same: the one that redraft had before, and rapidfuzz's partial ratio, digits taken out, at the threshold
that suits it best on the tuning records.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rapidfuzz.fuzz import partial_ratio

from measure import Figure, Goal, Row
from redraft.revise.prompts import REQUESTS
from redraft.verify.echo import echoes
from redraft.verify.segment import words
from report import page, put, section

SCRIPT = "benchmarks/echo.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
LABELLED = Path(__file__).parent.parent / "tests" / "data" / "echoes.jsonl"
MOST_WRONG = 0.01
"""The part of honest revisions that may be called echoes."""
HOW = (
    "Real revisions of the default model, labelled by reading them (tests/data/README.md). The words of "
    "talk and the threshold were chosen on the tuning records; the held-out records have other prompts. `As "
    "before` is the rule that 90 % of the words are one run of the feedback. `Partial ratio` is that of "
    "rapidfuzz, without digits, with the feedback and the requests to revise, at the threshold that "
    "finds most of the tuning records' echoes and calls at most 1 % of its honest revisions so."
)

Record = dict[str, Any]
Scorer = Callable[[Record], float]


def records(split: str) -> list[Record]:
    """The labelled revisions of a split: `tune` or `held-out`."""
    with LABELLED.open(encoding="utf-8") as file:
        return [record for record in map(json.loads, file) if record["split"] == split]


def heard(record: Record) -> list[str]:
    """What the writer had been told."""
    return [*record["feedback"], *REQUESTS]


def by_redraft(record: Record) -> float:
    """Return 1 if the revision is an echo, else 0."""
    return float(echoes(record["revision"], heard(record), f"{record['draft']}\n{record['prompt']}"))


def as_before(record: Record) -> float:
    """Whether 90 % of at least five words are one run of the feedback."""
    said = words(record["revision"].casefold())
    run = " ".join
    length = -(-9 * len(said) // 10)
    texts = [f" {run(words(text.casefold()))} " for text in record["feedback"]]
    runs = (f" {run(said[i : i + length])} " for i in range(len(said) - length + 1))
    return float(len(said) >= 5 and any(piece in text for piece in runs for text in texts))


def by_partial_ratio(record: Record) -> float:
    """The largest partial ratio with anything that the writer had been told, 0 to 1."""
    said = _without_digits(record["revision"])
    return max(partial_ratio(said, _without_digits(text)) for text in heard(record)) / 100


def _without_digits(text: str) -> str:
    return " ".join(re.sub(r"\d", "", text.casefold()).split())


def rates(scorer: Scorer, found: Iterable[Record], threshold: float) -> tuple[float, float]:
    """Which part of the echoes is found, and of the honest revisions is called so, in percent."""
    scores: dict[str, list[bool]] = {"echo": [], "answer": []}
    for record in found:
        if record["label"] == "unclear":
            continue
        scores[record["label"]].append(scorer(record) >= threshold)
    found_part, wrong = (100 * sum(said) / len(said) for said in (scores["echo"], scores["answer"]))
    return found_part, wrong


def best_threshold(scorer: Scorer, found: Sequence[Record]) -> float:
    """The threshold that finds most echoes and calls at most 1 % of the honest revisions so."""
    tried = sorted({scorer(record) for record in found} | {1.01})
    allowed = (each for each in tried if rates(scorer, found, each)[1] <= 100 * MOST_WRONG)
    return max(allowed, key=lambda each: rates(scorer, found, each)[0])


def measure() -> Row:
    """Measures all three rules on both halves."""
    tune, held_out = records("tune"), records("held-out")
    ratio = best_threshold(by_partial_ratio, tune)
    rules = (
        ("redraft", by_redraft, 1.0),
        ("as before", as_before, 1.0),
        ("partial ratio", by_partial_ratio, ratio),
    )
    figures: list[Figure] = []
    for split, found in (("held-out", held_out), ("tuning", tune)):
        counts = {label: sum(record["label"] == label for record in found) for label in ("echo", "answer")}
        for name, scorer, threshold in rules:
            goals = (
                (Goal("≥", 95), Goal("≤", 1)) if (split, name) == ("held-out", "redraft") else (None, None)
            )
            part, wrong = rates(scorer, found, threshold)
            of = f"{name}, {split} records"
            figures += [
                Figure(f"echoes found, {of}", (part,), "%", goals[0], f"of {counts['echo']}"),
                Figure(
                    f"honest revisions called echoes, {of}", (wrong,), "%", goals[1], f"of {counts['answer']}"
                ),
            ]
    note = f"Thresholds: redraft {SHARE:g}, partial ratio {ratio:.2f}."
    return Row("echoes told from answers", HOW, tuple(figures), (note,))


def choose() -> None:
    """Shows the rates of redraft's rule on the tuning records."""
    tune = records("tune")
    for percent in range(20, 75, 5):
        part, wrong = rates(by_redraft, tune, percent / 100)
        print(f"{percent} %: {part:.1f} % of the echoes, {wrong:.1f} % of the honest revisions")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and returns the exit status: 1 if a goal was not reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="rates at several thresholds, nothing written")
    if parser.parse_args(arguments).choose:
        choose()
        return 0
    start = time.perf_counter()
    row = measure()
    print(section(row))
    put(RESULTS, SCRIPT, page([row], SCRIPT, (time.perf_counter() - start) / 60))
    return 0 if all(figure.reached is not False for figure in row.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
