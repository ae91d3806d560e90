"""Measures generating with a paid teacher: its limits, its faults, kills, and what orchestration costs.

    python benchmarks/generate.py          writes results/generate.json
    python benchmarks/generate.py --only kills
    python benchmarks/generate.py --quick  a few prompts, nothing written

The teacher is the stand-in of the tests, which enforces its limits and keeps an account of what was paid.
"""

from __future__ import annotations

import sys

import generate_cost
import generate_limits
from report import main, sized

ROWS = {
    "limit": sized(generate_limits.limit, (12_000, 3), (1_300, 1)),
    "faults": sized(generate_limits.faulty, (1_000, 3), (60, 1)),
    "kills": sized(generate_limits.killed, (1_000, 25), (60, 2)),
    "overhead": sized(generate_cost.overhead, (2_000, 9), (200, 1)),
    "memory": sized(generate_cost.memory, (1_000_000, 1), (2_000, 1)),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/generate.py", __doc__, ROWS))
