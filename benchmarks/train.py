"""Measures what `redraft train` promises about speed, memory and exactness, with its peers in the same run.

    python benchmarks/train.py                everything; writes its part of RESULTS.md
    python benchmarks/train.py --only memory  one row, shown and not written
    python benchmarks/train.py --quick        short rows and little data, to see that it works; the numbers
                                              mean nothing
    python benchmarks/train.py --work DIR     where data and models are made (4 GB), and removed at the end

It needs the shared data beside the checkout, and TRL for a peer. The machine should have nothing else to do,
and 20 GB of memory. Linux only. Exit status 1 if something was not reached, or not measured. What each row
does is in its `train_*.py`; GPUs have `train_gpu.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import train_estimate
import train_exact
import train_memory
import train_prepare
import train_speed
from measure import Row
from redraft.machine import all_cores
from report import page, put, section
from revise import RESULTS, reached
from train_material import Scale

SCRIPT = "benchmarks/train.py"
ROWS: dict[str, Callable[[Scale], Row]] = {
    "speed": train_speed.run,
    "memory": train_memory.run,
    "packed": train_exact.run_packed,
    "resumed": train_exact.run_resumed,
    "prepare": train_prepare.run,
    "estimate": train_estimate.run,
}
"""How full packed rows are is measured where they are prepared."""


def full(work: Path) -> Scale:
    """What is promised."""
    return Scale(records=178_000, rounds=3, steps=4, shrink=1, workers=all_cores(), work=work)


def quick(work: Path) -> Scale:
    """As little as shows that it works."""
    return Scale(records=200, rounds=1, steps=1, shrink=8, workers=2, work=work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rows that were asked for, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="little data, and no results written")
    parser.add_argument("--work", type=Path, help="a folder with 4 GB of room (default: for temporary files)")
    asked = parser.parse_args(arguments)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="redraft-bench-", dir=asked.work) as work:
        scale = (quick if asked.quick else full)(Path(work))
        rows = [measure(name, scale) for name in asked.only or ROWS]
    if not asked.only and not asked.quick:
        put(RESULTS, SCRIPT, page(rows, SCRIPT, (time.perf_counter() - start) / 60))
        print(f"written: {RESULTS.name}")
    return 0 if all(reached(row) for row in rows) else 1


def measure(name: str, scale: Scale) -> Row:
    """Measures a row and shows it at once."""
    start = time.perf_counter()
    row = ROWS[name](scale)
    print(f"{section(row)}\n\n({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
