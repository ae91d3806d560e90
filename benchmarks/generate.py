"""Measures generating with a paid teacher: its limits, its faults, kills, and what orchestration costs.

    python benchmarks/generate.py          writes its part of RESULTS.md
    python benchmarks/generate.py --only kills
    python benchmarks/generate.py --quick  a few prompts, nothing written

The teacher is the stand-in of the tests, which enforces its limits and keeps an account of what was paid.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import generate_cost
import generate_estimate
import generate_limits
from report import page, put, section

SCRIPT = "benchmarks/generate.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
ROWS = {
    "limit": (generate_limits.limit, (12_000, 3), (1_300, 1)),
    "faults": (generate_limits.faulty, (1_000, 3), (60, 1)),
    "kills": (generate_limits.killed, (1_000, 25), (60, 3)),
    "overhead": (generate_cost.overhead, (2_000, 9), (200, 1)),
    "memory": (generate_cost.memory, (1_000_000, 1), (2_000, 1)),
    "estimate": (generate_estimate.measure, (1_000, 1), (120, 1)),
}
"""Name -> what measures it, and how much of it: full, quick."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the part of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="a few prompts, and no results written")
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
