"""Measures the memory and the speed of reinforcement learning in redraft.

    python benchmarks/ppo.py                everything; writes results/ppo.json
    python benchmarks/ppo.py --only memory  one row
    python benchmarks/ppo.py --quick        tiny numbers, to see that it works

Both run the default model, on a machine that has nothing else to do. Linux only. Exit status 1 if a goal was
not reached. The formulas are compared with independent loops in `tests/train/rl/test_algorithm.py`.
"""

from __future__ import annotations

import sys

import ppo_memory
import ppo_speed
from report import main

ROWS = {"memory": ppo_memory.run, "rollouts": ppo_speed.run}

if __name__ == "__main__":
    sys.exit(main("benchmarks/ppo.py", __doc__, ROWS))
