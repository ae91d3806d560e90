"""Measures what reinforcement learning in redraft promises about its formulas.

    python benchmarks/ppo.py               everything; writes its part of RESULTS.md
    python benchmarks/ppo.py --only loops  one row, shown and not written
    python benchmarks/ppo.py --quick       few batches, to see that it works

The row `trl` installs TRL 0.11 in an environment of its own (1.5 GB, removed at the end). Exit status 1 if a
goal was not reached.
"""

from __future__ import annotations

import sys

import ppo_algorithm
from report import main

ROWS = {"loops": ppo_algorithm.run_loops, "trl": ppo_algorithm.run_trl}

if __name__ == "__main__":
    sys.exit(main("benchmarks/ppo.py", __doc__, ROWS))
