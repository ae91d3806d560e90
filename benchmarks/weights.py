"""Measures what `redraft weights` promises about speed, memory and exactness, with its peers in the same run.

    python benchmarks/weights.py               everything; writes its part of RESULTS.md
    python benchmarks/weights.py --only speed  one row, shown and not written
    python benchmarks/weights.py --quick       tiny models, to see that it works; the numbers mean nothing
    python benchmarks/weights.py --work DIR    where the checkpoints are made (25 GB), and removed at the end

The machine, and the disk that the work folder is on, should have nothing else to do. Linux only.
Exit status 1 if something was not reached, or not measured. What each row does is in its `weights_*.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import weights_adapters
import weights_equal
import weights_memory
import weights_speed
import weights_whole
from measure import Row
from report import page, put, section
from revise import RESULTS, reached
from weights_material import GIB, Scale

SCRIPT = "benchmarks/weights.py"
ROWS: dict[str, Callable[[Scale], Row]] = {
    "speed": weights_speed.run,
    "memory": weights_memory.run,
    "whole": weights_whole.run,
    "equal": weights_equal.run,
    "quantised": weights_adapters.run_quantised,
    "merged": weights_adapters.run_merged,
    "adapter": weights_adapters.run_gguf,
}


def full(work: Path) -> Scale:
    """What is promised."""
    return Scale(
        rounds=3,
        speed=4 * GIB,
        memory=(GIB, 2 * GIB, 4 * GIB),
        whole=4 * GIB,
        prompts=100,
        tokens=64,
        quants=("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"),
        work=work,
    )


def quick(work: Path) -> Scale:
    """As little as shows that it works."""
    tiny = GIB // 64
    return Scale(
        rounds=1,
        speed=tiny,
        memory=(tiny, 2 * tiny),
        whole=tiny,
        prompts=2,
        tokens=8,
        quants=("q4_0",),
        work=work,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rows that were asked for, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="tiny models, and no results written")
    parser.add_argument(
        "--work", type=Path, help="a folder with 25 GB of room (default: for temporary files)"
    )
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
