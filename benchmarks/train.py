"""Measures what `redraft train` promises about speed and memory, with its peers in the same run.

    python benchmarks/train.py                everything; writes results/train.json
    python benchmarks/train.py --only memory  one row
    python benchmarks/train.py --quick        short rows and little data, to see that it works; the numbers
                                              mean nothing
    python benchmarks/train.py --work DIR     where data and models are made (4 GB), and removed at the end

It needs the shared data beside the checkout, and TRL for a peer. The machine should have nothing else to do,
and 20 GB of memory. Linux only. Exit status 1 if something was not reached, or not measured. What each row
does is in its `train_*.py`; GPUs have `train_gpu.py`.
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

RUNS = {
    "speed": train_speed.run,
    "memory": train_memory.run,
    "prepare": train_prepare.run,
}
"""How full packed rows are is measured where they are prepared."""


# What is promised, and as little as shows that it works.
FULL = partial(Scale, records=178_000, rounds=3, steps=4, shrink=1, workers=all_cores())
LITTLE = partial(Scale, records=200, rounds=1, steps=1, shrink=8, workers=2)
ROWS = {name: scaled(run, FULL, LITTLE) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/train.py", __doc__, ROWS, room="4 GB"))
