"""Measure the promises of `redraft weights` on speed, memory and exactness, beside its peers.

    python benchmarks/weights.py               everything; writes results/weights.json
    python benchmarks/weights.py --only speed  one row
    python benchmarks/weights.py --quick       tiny models, only to test the script
    python benchmarks/weights.py --work DIR    a folder for temporary checkpoints (25 GB)

The machine and the disk of the work folder should otherwise be idle. Linux only. The exit status is 1 if a
goal was not reached or a row not measured. Each row is described in its `weights_*.py`.
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


# The sizes for which goals hold, and small sizes that only test the rows.
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
