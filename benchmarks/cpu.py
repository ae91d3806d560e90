"""Measure the CPU engines: their speed beside their peers, and their memory.

python benchmarks/cpu.py          some hours; writes results/cpu.json
python benchmarks/cpu.py --only engines
python benchmarks/cpu.py --quick  a few prompts, nothing written

With `avx2.c` preloaded, the figures are those of a processor with AVX2 alone, in rows of their own.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import row_chains
import row_engines
from measure import FULL, QUICK, Goal, Row
from report import main

AVX2 = "avx2.so" in os.environ.get("LD_PRELOAD", "")
GOALS = {8: Goal("≥", 7.0), 32: Goal("≥", 13.0)} if AVX2 else row_chains.MANY


def chains(*, quick: bool) -> Row:
    return named(row_chains.run(replace(QUICK, rounds=1) if quick else FULL, GOALS))


def engines(*, quick: bool) -> Row:
    return named(row_engines.run(quick=quick))


def named(row: Row) -> Row:
    return replace(row, measure=f"{row.measure}{', with AVX2 alone' * AVX2}")


ROWS = {"chains": chains, "engines": engines, "memory": row_engines.memory}

if __name__ == "__main__":
    if AVX2:
        from torch.backends.cpu import get_cpu_capability

        assert get_cpu_capability() == "AVX2", "AVX-512 is not hidden: see avx2.py"
    sys.exit(main("benchmarks/cpu.py", __doc__, ROWS))
