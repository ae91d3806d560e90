"""Measure the memory and the speed of reinforcement learning in redraft.

    python benchmarks/ppo.py                everything; writes results/ppo.json
    python benchmarks/ppo.py --only memory  one row
    python benchmarks/ppo.py --quick        tiny numbers, only to test the script

Both rows run the default model, on Linux and an otherwise idle machine. The exit status is 1 if a goal was
not reached. `tests/train/rl/test_algorithm.py` compares the formulas with independent loops.
"""

from __future__ import annotations

import sys

import ppo_memory
import ppo_speed
from report import main

ROWS = {"memory": ppo_memory.run, "rollouts": ppo_speed.run}

if __name__ == "__main__":
    sys.exit(main("benchmarks/ppo.py", __doc__, ROWS))
