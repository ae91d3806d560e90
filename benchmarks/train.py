"""Measure the promises of `redraft train` on speed and memory, beside its peers in the same run.

    python benchmarks/train.py                everything; writes results/train.json
    python benchmarks/train.py --only memory  one row
    python benchmarks/train.py --quick        short rows and little data, only to test the script
    python benchmarks/train.py --work DIR     a folder for temporary data and models (4 GB)

This needs Linux, 20 GB of memory, an otherwise idle machine, the shared data beside the checkout, and TRL as
a peer. The exit status is 1 if a goal was not reached or a row not measured. Each row is described in its
`train_*.py`. For GPUs, see `train_gpu.py`.
"""

from __future__ import annotations

import sys
from functools import partial

import train_memory
import train_prepare
import train_speed
from redraft.jobs.machine import all_cores
from report import main, scaled
from train_material import Scale

RUNS = {"speed": train_speed.run, "memory": train_memory.run, "prepare": train_prepare.run}
"""The row `prepare` also measures packing efficiency."""


# The sizes for which goals hold, and small sizes that only test the rows.
FULL = partial(Scale, records=178_000, rounds=5, steps=2, shrink=1, workers=all_cores())
LITTLE = partial(Scale, records=200, rounds=1, steps=1, shrink=8, workers=2)
ROWS = {name: scaled(run, FULL, LITTLE) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/train.py", __doc__, ROWS, room="4 GB"))
