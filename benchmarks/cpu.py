"""Measure the CPU engines: their speed beside their peers, and their memory.

python benchmarks/cpu.py          some hours; writes results/cpu.json
python benchmarks/cpu.py --only engines
python benchmarks/cpu.py --quick  a few prompts, nothing written
"""

from __future__ import annotations

import sys
from dataclasses import replace

import row_chains
import row_engines
from measure import FULL, QUICK, Row
from report import main


def chains(*, quick: bool) -> Row:
    return row_chains.run(replace(QUICK, rounds=1) if quick else FULL, row_chains.MANY)


ROWS = {"chains": chains, "engines": row_engines.run, "memory": row_engines.memory}

if __name__ == "__main__":
    sys.exit(main("benchmarks/cpu.py", __doc__, ROWS))
