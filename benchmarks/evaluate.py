"""Measures what evaluation promises: exact figures, honest intervals, and a report on many reviews.

    python benchmarks/evaluate.py          writes its part of RESULTS.md
    python benchmarks/evaluate.py --only many
    python benchmarks/evaluate.py --quick  few reviews and simulations, nothing written

The released figures need the shared data beside the checkout; the page needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import evaluate_coverage
import evaluate_reviews
from report import page, put, section

SCRIPT = "benchmarks/evaluate.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
ROWS = {
    "figures": (evaluate_reviews.figures, (1, 1), (1, 1)),
    "scores": (evaluate_reviews.scores, (1, 1), (1, 1)),
    "many": (evaluate_reviews.many, (100_000, 3), (1_000, 1)),
    "page": (evaluate_reviews.browser, (2_000, 5), (100, 1)),
    "coverage": (evaluate_coverage.coverage, (10_000, 1), (50, 1)),
}
"""Name -> what measures it, and how much of it: full, quick."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the part of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="little of each, and no results written")
    asked, start = parser.parse_args(arguments), time.perf_counter()
    rows = []
    for name in asked.only or ROWS:
        measure, full, quick = ROWS[name]
        rows.append(measure(*(quick if asked.quick else full)))
        print(section(rows[-1]), flush=True)
    if not asked.only and not asked.quick:
        put(RESULTS, SCRIPT, page(rows, SCRIPT, (time.perf_counter() - start) / 60))
    return int(any(figure.reached is False for row in rows for figure in row.figures))


if __name__ == "__main__":
    sys.exit(main())
