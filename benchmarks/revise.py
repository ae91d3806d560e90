"""Measures what redraft promises about speed and memory, side by side with its peers, in one run.

    python benchmarks/revise.py             everything; writes its part of RESULTS.md
    python benchmarks/revise.py --only step one row, shown and not written
    python benchmarks/revise.py --quick     tiny numbers, to see that it works; they mean nothing

The machine should have nothing else to do. Exit status 1 if something was not reached, or not measured. What
each row does is in its `row_*.py`. Answers are not judged here: this is about time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import row_chains
import row_overhead
import row_parse
import row_process
import row_speculation
import row_step
from measure import FULL, QUICK, Row, Size
from report import page, put, section

SCRIPT = "benchmarks/revise.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
ROWS: dict[str, Callable[[Size], Row]] = {
    "chains": row_chains.run,
    "overhead": row_overhead.run,
    "speculation": row_speculation.run,
    "step": row_step.run,
    "parse": row_parse.run,
    "memory": row_process.run_memory,
    "help": row_process.run_help,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rows that were asked for, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, and no results written")
    asked = parser.parse_args(arguments)
    start = time.perf_counter()
    rows = [measure(name, QUICK if asked.quick else FULL) for name in asked.only or ROWS]
    if not asked.only and not asked.quick:
        minutes = (time.perf_counter() - start) / 60
        put(RESULTS, SCRIPT, page(rows, SCRIPT, minutes))
        print(f"written: {RESULTS.name}")
    return 0 if all(reached(row) for row in rows) else 1


def measure(name: str, size: Size) -> Row:
    """Measures a row and shows it at once."""
    start = time.perf_counter()
    row = ROWS[name](size)
    print(f"{section(row)}\n\n({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)
    return row


def reached(row: Row) -> bool:
    """Whether a row was measured and reached its goals."""
    return bool(row.figures) and not any(figure.reached is False for figure in row.figures)


if __name__ == "__main__":
    sys.exit(main())
