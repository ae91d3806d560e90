"""Measures what reinforcement learning in redraft promises: its formulas, memory and speed.

    python benchmarks/ppo.py               everything; writes results/ppo.json
    python benchmarks/ppo.py --only loops  one row
    python benchmarks/ppo.py --quick       tiny numbers, to see that it works

The row `trl` installs TRL 0.11 in an environment of its own (1.5 GB, removed at the end). `memory` and
`rollouts` run the default model, on a machine that has nothing else to do. Linux only. Exit
status 1 if a goal was not reached.
"""

from __future__ import annotations

import sys

import ppo_algorithm
import ppo_memory
import ppo_speed
from report import main

ROWS = {
    "loops": ppo_algorithm.run_loops,
    "trl": ppo_algorithm.run_trl,
    "memory": ppo_memory.run,
    "rollouts": ppo_speed.run,
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/ppo.py", __doc__, ROWS))
