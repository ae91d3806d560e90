"""Score the answers in a CSV file, list their faults, and print an interval for the share that passes.

pip install '.[eval]' && python score_csv.py answers.csv scored.csv 'words<=20' lacks:sorry
The column `answer` is scored. The column `question` is optional, and contains the prompts.
"""

import asyncio
import csv
import sys
from pathlib import Path

from redraft.evaluation.stats import proportion
from redraft.integrations.judged import Judged, checks_of, judged


async def score(rows: list[dict[str, str]], *checks: str) -> list[Judged]:
    parsed = checks_of(checks)
    return [await judged(parsed, row["answer"], row.get("question", "")) for row in rows]


if __name__ == "__main__":
    source, target, *checks = sys.argv[1:]
    with Path(source).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "answer" not in rows[0]:
        sys.exit(f"{source} has no column `answer`; it has {', '.join(rows[0])}.")
    found = asyncio.run(score(rows, *checks))
    with Path(target).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*(rows[0] if rows else []), "score", "wrong"])
        writer.writeheader()
        for row, each in zip(rows, found, strict=True):
            writer.writerow({**row, "score": f"{each.score:.2f}", "wrong": each.feedback})
    passed = sum(each.passed for each in found)
    share = proportion(passed, len(found))
    print(f"{passed} of {len(found)} pass: {share.low:.0%} to {share.high:.0%}")
