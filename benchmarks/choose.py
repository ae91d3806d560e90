"""Measure how well `redraft diagnose --choose` chooses, on random draws from archived answers.

    python benchmarks/choose.py FOLDER    archive the answers in a folder of `diagnose --tasks`, then measure
    python benchmarks/choose.py           measure on the archived answers: 200 draws a task

A draw has 200 items of a task, with replacement. The archive decides what is true. "best" and "chosen" are
the shares of right answers with the best fixed strategy and with the chosen one. "false" is the share of
draws that are certain of a strategy that is behind the best by the margin. "broken" is the share of draws
whose promise is false. "answers" is the share of all answers that a draw uses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from measure import Figure, Goal, Row
from redraft.evaluation.diagnosis.choose import ONE, Race, blocks
from redraft.evaluation.diagnosis.equal_tokens import Spent, curves_in
from redraft.evaluation.diagnosis.strategies import Strategy
from report import told, write

KEPT = Path(__file__).with_name("choose_answers.json")
DRAWS, ITEMS, MARGIN = 200, 200, 0.05
Archive = dict[str, list[list[float]]]  # by strategy: score and tokens of each item


def kept(folder: Path) -> dict[str, Archive]:
    found: dict[str, Archive] = {}
    for runs in sorted((folder / "runs").glob("*/*")):
        if curves := curves_in(runs, *runs.parts[-2:]):
            found["/".join(runs.parts[-2:])] = {
                point.way.name: [[each.score, each.tokens] for each in point.spent] for point in curves.points
            }
    return found


def raced(archive: Archive, rng: Any) -> tuple[Race, float]:
    ways = {Strategy.of(name): items for name, items in archive.items()}
    drawn = rng.integers(0, len(archive[ONE.name]), ITEMS)
    seen: dict[Strategy, dict[str, list[Spent]]] = {way: {} for way in ways}
    running, answers = set(ways), 0
    for count in blocks(ITEMS):
        for way in running:
            answers += count - len(seen[way])
            seen[way] = {str(n): [Spent(*ways[way][item], 0)] for n, item in enumerate(drawn[:count])}
        race = Race(seen, MARGIN)
        if race.certain:
            break
        running = {ONE, *race.left}
    return race, answers / (ITEMS * len(ways))


def row_of(archive: Archive) -> dict[str, Any]:
    scores = {Strategy.of(name): [score for score, _ in items] for name, items in archive.items()}
    true = {way: fmean(each) for way, each in scores.items()}
    harm = {
        way: fmean(max(a - b, 0.0) for a, b in zip(scores[ONE], each, strict=True))
        for way, each in scores.items()
    }
    rng, best = np.random.default_rng(1), max(true.values())
    chosen, certain, false, broken, answers = [], 0, 0, 0, []
    for _ in range(DRAWS):
        race, share = raced(archive, rng)
        way, promise = race.chosen, race.promise(race.chosen)
        chosen.append(true[way])
        answers.append(share)
        certain += race.certain
        false += race.certain and true[way] <= best - MARGIN
        kept_ = promise.right <= true[way] and promise.gain <= true[way] - true[ONE]
        broken += not (kept_ and promise.harm >= harm[way])
    return {
        "one": true[ONE], "best": best, "chosen": fmean(chosen), "certain": certain / DRAWS,
        "false": false / DRAWS, "broken": broken / DRAWS, "answers": fmean(answers),
    }  # fmt: skip


def measure(archives: dict[str, Archive]) -> Row:
    rows = {}
    for name, archive in archives.items():
        plain = {way: items for way, items in archive.items() if not way.startswith("steered")}
        rows |= {name: row_of(archive), f"{name}, nothing steered": row_of(plain)}
    for name, row in rows.items():
        print(f"{name:42}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    behind = tuple(100 * (row["best"] - row["chosen"]) for row in rows.values())
    what = "right answers less than with the best fixed way"
    figures = [Figure(what, (max(behind),), "%", Goal("≤", 1), f"the worst of {len(rows)} rows")]
    for key, goal in (("false", 5), ("broken", 5), ("answers", 60)):
        of_rows = [100 * row[key] for row in rows.values()]
        sides = f"{min(of_rows):.0f} to {max(of_rows):.0f} % of {len(rows)} rows"
        value = fmean(of_rows) if key == "answers" else max(of_rows)
        figures.append(Figure(key, (value,), "%", Goal("≤", goal), sides))
    how = f"{DRAWS} draws of {ITEMS} items from the archived answers of {len(archives)} tasks."
    return Row("`diagnose --choose`", how, tuple(figures))


if __name__ == "__main__":
    if sys.argv[1:]:
        KEPT.write_text(json.dumps(kept(Path(sys.argv[1]))) + "\n")
    row = measure(json.loads(KEPT.read_text()))
    print(told(row))
    write("benchmarks/choose.py", row)
