"""Measure how well redraft tells talk about the answer from answers, on labelled revisions and first answers.

    python benchmarks/echo.py         writes its part of RESULTS.md
    python benchmarks/echo.py --tune  the rates on the tuning records alone, and the records that are wrong

The revisions are tests/data/echoes.jsonl, the first answers first_answers.jsonl (see the README there). Two
simpler rules are measured beside redraft's: the one that redraft had before, and rapidfuzz's partial ratio
without digits, at the threshold that is best for it on the tuning records.
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
from redraft.revision.prompts import SHIPPED, Wording
from redraft.stats import proportion
from redraft.verify.base import demand_of
from redraft.verify.echo import echoes, repeats, talks
from redraft.verify.parse import parse_check
from redraft.verify.segment import words
from report import page, put, section

SCRIPT = "benchmarks/echo.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
LABELLED = Path(__file__).parent.parent / "tests" / "data" / "echoes.jsonl"
FIRST = LABELLED.with_name("first_answers.jsonl")
LABELS = ("echo", "answer")
MOST_WRONG = 0.01
"""The part of honest revisions that may be called echoes."""
HOW = (
    "Real revisions of the default model, labelled by reading them (tests/data/README.md). The words of talk "
    "and the thresholds were chosen on the tuning records. The held-out records have other prompts; nothing "
    "was tuned on them; four versions of the rule were compared on 109 of the 306. `As "
    "before` is the rule that 90 % of the words are one run of the feedback. `Partial ratio` is that of "
    "rapidfuzz, without digits, with the feedback and the requests to revise, at the threshold that "
    "finds most echoes of the tuning records and calls at most 1 % of their honest revisions echoes. "
    "Intervals are Wilson's, at 95 %."
)

HOW_FIRST = (
    "Short texts written by hand as answers to prompts, and the default model's first drafts for prompts "
    "with checks, all labelled before the rule saw them (tests/data/README.md). The rule was chosen on the "
    "tuning records, which three earlier held-out sets joined; all by hand are by the rule's first author. "
    "The held-out records are by another writer, who had not seen the rule. At first sight it found 108 of "
    "these 159 (67.9 %) and called 14 of 459 honest answers talk (3.1 %): expect these rates for prompts and "
    "talk of others. Their writer then changed the rule without looking at its errors on them, but knew what "
    "had been written, and looked at their rates six times. `As before` is the rule that a text "
    "which repeats a demand is an echo. Intervals are Wilson's, at 95 %."
)

BEFORE = Wording(
    "before", SHIPPED["brief"].criticise, "Not quite right yet:\n{found}\n\nWrite it again, mended."
)
"""The wording with which the labelled revisions were asked for. redraft had it first."""

Record = dict[str, Any]
Scorer = Callable[[Record], float]


def records(split: str, path: Path = LABELLED) -> list[Record]:
    """The labelled texts of a split: `tune` or `held-out`."""
    with path.open(encoding="utf-8") as file:
        return [record for record in map(json.loads, file) if record["split"] == split]


def heard(record: Record) -> list[str]:
    """What the writer had been told."""
    return [*record["feedback"], *BEFORE.requests]


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


def demand(record: Record) -> str:
    """What the writer was told beside the prompt."""
    demands = list(dict.fromkeys(filter(None, (demand_of(parse_check(text)) for text in record["checks"]))))
    return demands[0] if len(demands) == 1 else "\n".join(f"- {each}" for each in demands)


def first_by_redraft(record: Record) -> float:
    """Return 1 if the first answer is talk, else 0."""
    return float(talks(record["answer"], record["prompt"], demand(record)))


def first_as_before(record: Record) -> float:
    """Whether the first answer repeats a demand."""
    return float(repeats(record["answer"], demand(record)))


def by_partial_ratio(record: Record) -> float:
    """The largest partial ratio with anything that the writer had been told, 0 to 1."""
    said = _without_digits(record["revision"])
    return max(partial_ratio(said, _without_digits(text)) for text in heard(record)) / 100


def _without_digits(text: str) -> str:
    return " ".join(re.sub(r"\d", "", text.casefold()).split())


def hits(scorer: Scorer, found: Iterable[Record], threshold: float, label: str) -> tuple[int, int]:
    """Return how many records of a label score at least the threshold, and how many there are."""
    scores = [scorer(record) >= threshold for record in found if record["label"] == label]
    return sum(scores), len(scores)


def best_threshold(scorer: Scorer, found: Sequence[Record]) -> float:
    """Return the threshold that finds most echoes and calls at most 1 % of the honest revisions echoes."""
    scores = {id(record): scorer(record) for record in found}

    def known(record: Record) -> float:
        return scores[id(record)]

    tried = sorted({*scores.values(), 1.01})
    wrong = {threshold: hits(known, found, threshold, "answer") for threshold in tried}
    allowed = [threshold for threshold in tried if wrong[threshold][0] <= MOST_WRONG * wrong[threshold][1]]
    return max(allowed, key=lambda threshold: hits(known, found, threshold, "echo"))


def figure(what: str, counts: tuple[int, int], goal: Goal | None) -> Figure:
    """Return a rate in percent, with its counts and its interval."""
    rate = proportion(*counts).times(100)
    sides = f"{counts[0]} of {counts[1]}, interval {rate.low:.1f} to {rate.high:.1f} %"
    return Figure(what, (rate.value,), "%", goal, sides)


def measure() -> Row:
    """Measure the three rules on both halves."""
    splits = {"held-out": records("held-out"), "tuning": records("tune")}
    ratio = best_threshold(by_partial_ratio, splits["tuning"])
    rules = (
        ("redraft", by_redraft, 1.0),
        ("as before", as_before, 1.0),
        ("partial ratio", by_partial_ratio, ratio),
    )
    figures: list[Figure] = []
    for split, found in splits.items():
        for name, scorer, threshold in rules:
            goals = (
                (Goal("≥", 95), Goal("≤", 1)) if (split, name) == ("held-out", "redraft") else (None, None)
            )
            of = f"{name}, {split} records"
            for what, label, goal in zip(
                ("echoes found", "honest revisions called echoes"), LABELS, goals, strict=True
            ):
                figures.append(figure(f"{what}, {of}", hits(scorer, found, threshold, label), goal))
    return Row(
        "echoes told from answers", HOW, tuple(figures), (f"Threshold of the partial ratio: {ratio:.2f}.",)
    )


def measure_first() -> Row:
    """Measure the rule for first answers, and the one before it, on both halves."""
    figures: list[Figure] = []
    for split, name in (("held-out", "held-out"), ("tune", "tuning")):
        found = records(split, FIRST)
        for rule, scorer in (("redraft", first_by_redraft), ("as before", first_as_before)):
            goals = (
                (Goal("≥", 95), Goal("≤", 1)) if (split, rule) == ("held-out", "redraft") else (None, None)
            )
            whats = ("talk found", "honest answers called talk")
            for what, label, goal in zip(whats, LABELS, goals, strict=True):
                counts = hits(scorer, found, 1.0, label)
                figures.append(figure(f"{what}, {rule}, {name} first answers", counts, goal))
    return Row("talk told from first answers", HOW_FIRST, tuple(figures))


def tune() -> None:
    """Show the rates on the tuning records, and the records that are called wrongly."""
    found = records("tune")
    for label in LABELS:
        print(label, hits(by_redraft, found, 1.0, label))
    for record in found:
        if record["label"] in LABELS and by_redraft(record) != (record["label"] == "echo"):
            print(record["label"], json.dumps(record["revision"], ensure_ascii=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit status: 1 if a goal was not reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="tuning records alone; writes nothing")
    if parser.parse_args(arguments).tune:
        tune()
        return 0
    start = time.perf_counter()
    rows = [measure(), measure_first()]
    print(*map(section, rows), sep="\n")
    put(RESULTS, SCRIPT, page(rows, SCRIPT, (time.perf_counter() - start) / 60))
    return 0 if all(figure.reached is not False for row in rows for figure in row.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
