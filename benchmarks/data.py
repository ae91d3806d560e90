"""Measures what `redraft data` promises about speed, memory and exactness, with its peers in the same run.

    python benchmarks/data.py               everything; writes its part of RESULTS.md
    python benchmarks/data.py --only clean  one row, shown and not written
    python benchmarks/data.py --quick       little data, to see that it works; the numbers mean nothing
    python benchmarks/data.py --work DIR    where the data is made (8 GB), and removed at the end

It needs the shared data beside the checkout. The machine should have nothing else to do. Linux only.
Exit status 1 if something was not reached, or not measured. What each row does is in its `data_*.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import data_clean
import data_memory
import data_minhash
import data_rouge
from data_material import Scale
from measure import Row
from redraft.machine import all_cores
from report import page, put, section
from revise import RESULTS, reached

SCRIPT = "benchmarks/data.py"
ROWS: dict[str, Callable[[Scale], Row]] = {
    "rouge": data_rouge.run,
    "pool": data_rouge.run_pool,
    "clean": data_clean.run,
    "minhash": data_minhash.run,
    "memory": data_memory.run,
}


def full(work: Path) -> Scale:
    """What is promised."""
    return Scale(
        rounds=3,
        pool=20_000,
        candidates=20,
        grow=86_000,
        kept=52_000,
        conversations=70_000,
        sample=5_000,
        texts=1_000_000,
        exact=20_000,
        memory=(10**9, 2 * 10**9),
        workers=all_cores(),
        work=work,
    )


def quick(work: Path) -> Scale:
    """As little as shows that it works."""
    return Scale(
        rounds=1,
        pool=300,
        candidates=3,
        grow=400,
        kept=200,
        conversations=60,
        sample=30,
        texts=2_000,
        exact=1_000,
        memory=(200_000, 400_000),
        workers=2,
        work=work,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rows that were asked for, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="little data, and no results written")
    parser.add_argument("--work", type=Path, help="a folder with 8 GB of room (default: for temporary files)")
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
