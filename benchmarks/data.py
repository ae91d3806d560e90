"""Measures what `redraft data` promises about speed, memory and exactness, with its peers in the same run.

    python benchmarks/data.py               everything; writes results/data.json
    python benchmarks/data.py --only clean  one row
    python benchmarks/data.py --quick       little data, to see that it works; the numbers mean nothing
    python benchmarks/data.py --work DIR    where the data is made (8 GB), and removed at the end

It needs the shared data beside the checkout. The machine should have nothing else to do. Linux only.
Exit status 1 if something was not reached, or not measured. What each row does is in its `data_*.py`.
"""

from __future__ import annotations

import sys
from functools import partial

import data_clean
import data_memory
import data_minhash
import data_rouge
from data_material import Scale
from redraft.jobs.machine import all_cores
from report import main, scaled

RUNS = {
    "rouge": data_rouge.run,
    "clean": data_clean.run,
    "minhash": data_minhash.run,
    "memory": data_memory.run,
}


# What is promised, and as little as shows that it works.
FULL = partial(
    Scale,
    rounds=3,
    pool=20_000,
    candidates=20,
    conversations=70_000,
    sample=5_000,
    texts=1_000_000,
    exact=20_000,
    memory=(10**9, 2 * 10**9),
    workers=all_cores(),
)

LITTLE = partial(
    Scale,
    rounds=1,
    pool=300,
    candidates=3,
    conversations=60,
    sample=30,
    texts=2_000,
    exact=1_000,
    memory=(200_000, 400_000),
    workers=2,
)


ROWS = {name: scaled(run, FULL, LITTLE) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/data.py", __doc__, ROWS, room="8 GB"))
