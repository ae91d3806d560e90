"""Measures what redraft promises about speed and memory, side by side with its peers, in one run.

    python benchmarks/revise.py             everything; writes results/revise.json
    python benchmarks/revise.py --only step one row
    python benchmarks/revise.py --quick     tiny numbers, to see that it works; they mean nothing

The machine should have nothing else to do. Exit status 1 if something was not reached, or not measured. What
each row does is in its `row_*.py`. Answers are not judged here: this is about time.
"""

from __future__ import annotations

import sys

import row_chains
import row_overhead
import row_process
import row_speculation
from measure import FULL, QUICK
from report import main, sized

RUNS = {
    "chains": row_chains.run,
    "overhead": row_overhead.run,
    "speculation": row_speculation.run,
    "memory": row_process.run_memory,
    "start": row_process.run_start,
}
ROWS = {name: sized(run, (FULL,), (QUICK,)) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/revise.py", __doc__, ROWS))
