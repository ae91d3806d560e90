"""Measure the promises of redraft on speed and memory, beside its peers, in one run.

    python benchmarks/revise.py             everything; writes results/revise.json
    python benchmarks/revise.py --only step one row
    python benchmarks/revise.py --quick     tiny numbers, only to test the script

The machine should otherwise be idle. The exit status is 1 if a goal was not reached or a row not measured.
Each row is described in its `row_*.py`. Answers are timed, but not judged.
"""

from __future__ import annotations

import sys

import row_overhead
import row_process
import row_speculation
from measure import FULL, QUICK
from report import main, sized

RUNS = {
    "overhead": row_overhead.run, "grammar": row_overhead.grammar,
    "speculation": row_speculation.run, "memory": row_process.run_memory, "start": row_process.run_start,
}  # fmt: skip
ROWS = {name: sized(run, (FULL,), (QUICK,)) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/revise.py", __doc__, ROWS))
