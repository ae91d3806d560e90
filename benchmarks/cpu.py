"""Measures the engines of a CPU: their speed beside their peers, their memory, and their answers.

python benchmarks/cpu.py          some hours; writes its part of RESULTS.md
python benchmarks/cpu.py --only engines
python benchmarks/cpu.py --quick  a few prompts, nothing written

The machine should have nothing else to do. Steps and copies are measured by `revise.py`.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import cpu_formats
import cpu_quality
import row_chains
import row_engines
from measure import FULL, QUICK, Row
from report import main


def chains(*, quick: bool) -> Row:
    """Measures native chains beside SelFee's loop."""
    return row_chains.run(replace(QUICK, rounds=1) if quick else FULL, row_chains.MANY)


ROWS = {
    "chains": chains,
    "engines": row_engines.run,
    "memory": row_engines.memory,
    "quality": cpu_quality.quality,
    "formats": cpu_formats.formats,
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/cpu.py", __doc__, ROWS))
