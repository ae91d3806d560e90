"""Measures what `redraft weights` promises about speed, memory and exactness, with its peers in the same run.

    python benchmarks/weights.py               everything; writes results/weights.json
    python benchmarks/weights.py --only speed  one row
    python benchmarks/weights.py --quick       tiny models, to see that it works; the numbers mean nothing
    python benchmarks/weights.py --work DIR    where the checkpoints are made (25 GB), and removed at the end

The machine, and the disk that the work folder is on, should have nothing else to do. Linux only.
Exit status 1 if something was not reached, or not measured. What each row does is in its `weights_*.py`.
"""

from __future__ import annotations

import sys
from functools import partial

import weights_adapters
import weights_equal
import weights_memory
import weights_speed
import weights_whole
from report import main, scaled
from weights_material import GIB, Scale

RUNS = {
    "speed": weights_speed.run,
    "memory": weights_memory.run,
    "whole": weights_whole.run,
    "equal": weights_equal.run,
    "quantised": weights_adapters.run_quantised,
    "merged": weights_adapters.run_merged,
    "adapter": weights_adapters.run_gguf,
}


# What is promised, and as little as shows that it works.
FULL = partial(
    Scale,
    rounds=3,
    speed=4 * GIB,
    memory=(GIB, 2 * GIB, 4 * GIB),
    whole=4 * GIB,
    prompts=100,
    tokens=64,
    quants=("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"),
)

LITTLE = partial(
    Scale,
    rounds=1,
    speed=GIB // 64,
    memory=(GIB // 64, GIB // 32),
    whole=GIB // 64,
    prompts=2,
    tokens=8,
    quants=("q4_0",),
)


ROWS = {name: scaled(run, FULL, LITTLE) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/weights.py", __doc__, ROWS, room="25 GB"))
