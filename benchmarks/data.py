"""Measure the promises of `redraft data` on speed, memory and exactness, beside its peers.

    python benchmarks/data.py               everything; writes results/data.json
    python benchmarks/data.py --only clean  one row
    python benchmarks/data.py --quick       little data, only to test the script
    python benchmarks/data.py --work DIR    a folder for temporary data (8 GB)

This needs Linux, an otherwise idle machine, and the shared data beside the checkout. The exit status is 1 if
a goal was not reached or a row not measured. Each row is described in its `data_*.py`.
"""

from __future__ import annotations

import sys
from functools import partial

import data_clean
import data_memory
import data_minhash
import data_rouge
import data_verbs
from data_material import Scale
from redraft.jobs.machine import all_cores
from report import main, scaled

RUNS = {
    "rouge": data_rouge.run, "clean": data_clean.run, "verbs": data_verbs.run, "minhash": data_minhash.run,
    "memory": data_memory.run,
}  # fmt: skip


# The sizes for which goals hold, and small sizes that only test the rows.
FULL = partial(
    Scale, rounds=5, pool=20_000, candidates=20, conversations=70_000, sample=5_000, records=100_000,
    texts=1_000_000, exact=20_000, memory=(10**9, 2 * 10**9), workers=all_cores(),
)  # fmt: skip
LITTLE = partial(
    Scale, rounds=1, pool=300, candidates=3, conversations=60, sample=30, records=300, texts=2_000,
    exact=1_000, memory=(200_000, 400_000), workers=2,
)  # fmt: skip
ROWS = {name: scaled(run, FULL, LITTLE) for name, run in RUNS.items()}

if __name__ == "__main__":
    sys.exit(main("benchmarks/data.py", __doc__, ROWS, room="8 GB"))
