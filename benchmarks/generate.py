"""Measures generating with a paid teacher: its limits, its faults, kills, and what orchestration costs.

    python benchmarks/generate.py          writes its part of RESULTS.md
    python benchmarks/generate.py --only kills
    python benchmarks/generate.py --quick  a few prompts, nothing written

The teacher is the stand-in of the tests, which enforces its limits and keeps an account of what was paid.
"""

from __future__ import annotations

import sys
from functools import partial

import generate_cost
import generate_estimate
import generate_limits
import generate_sandbox
from measure import Row
from report import main

SIZES = {
    "limit": (generate_limits.limit, (12_000, 3), (1_300, 1)),
    "faults": (generate_limits.faulty, (1_000, 3), (60, 1)),
    "kills": (generate_limits.killed, (1_000, 25), (60, 3)),
    "sandbox": (generate_sandbox.measure, (1,), (8,)),
    "overhead": (generate_cost.overhead, (2_000, 9), (200, 1)),
    "memory": (generate_cost.memory, (1_000_000, 1), (2_000, 1)),
    "estimate": (generate_estimate.measure, (1_000, 1), (120, 1)),
}
"""Name -> what measures it, and how much of it: full, quick."""


def measure(name: str, *, quick: bool) -> Row:
    """Measure a row."""
    measured, *sizes = SIZES[name]
    return measured(*sizes[quick])


if __name__ == "__main__":
    sys.exit(main("benchmarks/generate.py", __doc__, {name: partial(measure, name) for name in SIZES}))
