"""Measure how often `grounded` passes an invention, and how often it fails an honest extraction.

    python benchmarks/grounded.py           seconds; writes results/grounded.json
    python benchmarks/grounded.py --tune    shows each error on the half that was used to write the rules

The pairs are in `tests/data/extractions.tsv`. `tests/data/README.md` says who wrote and labelled them.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from measure import Figure, Goal, Row
from redraft.chain import Prompt
from redraft.checks.grounded import Grounded
from redraft.evaluation.stats import proportion
from report import told, write


def judged(*splits: str, tell: bool = False) -> Counter[tuple[str, str, bool]]:
    """Count pairs by split, kind of error (`none` if honest), and verdict. `tell` prints wrong verdicts."""
    counts: Counter[tuple[str, str, bool]] = Counter()
    split = text = ""
    for line in (Path(__file__).parent.parent / "tests/data/extractions.tsv").read_text("utf-8").splitlines():
        first, kind, last = line.replace("⏎", "\n").split("\t")
        if first:
            split, text = first, last
        elif split in splits:
            found = Grounded().check(last, Prompt(instruction="Extract the facts.", input=text))
            counts[split, kind, found.passed] += 1
            if tell and found.passed != (kind == "none"):
                print(f"{kind}: {last!r}\n    {found.message}\n    {text!r}")
    return counts


def measure(*splits: str) -> Row:
    counts, figures = judged(*splits), []
    kinds = sorted({kind for _, kind, _ in counts})
    for split in splits:
        for name, chosen in (("inventions passed", set(kinds) - {"none"}), ("honest ones refused", {"none"})):
            wrong, right = (
                sum(counts[split, kind, passed] for kind in chosen)
                for passed in (name == "inventions passed", name != "inventions passed")
            )
            rate = proportion(wrong, wrong + right).times(100)
            sides = f"{wrong} of {wrong + right}, interval {rate.low:.1f} to {rate.high:.1f} %"
            figures.append(Figure(f"{split}: {name}", (rate.value,), "%", Goal("≤", 5), sides))
    passed = {kind: sum(counts[split, kind, True] for split in splits) for kind in kinds if kind != "none"}
    how = f"Inventions that pass, by kind: {', '.join(f'{kind} {n}' for kind, n in passed.items())}."
    return Row("`grounded`: pairs of a text and an extraction", how, tuple(figures))


if __name__ == "__main__":
    if "--tune" in sys.argv[1:]:
        judged("tune", tell=True)
        print(told(measure("tune")))
    else:
        row = measure("held", "model")
        print(told(row))
        write("benchmarks/grounded.py", row)
