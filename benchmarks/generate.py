"""Measure generation with a paid teacher: limits, faults, kills, and the cost of orchestration.

    python benchmarks/generate.py          writes results/generate.json
    python benchmarks/generate.py --only kills
    python benchmarks/generate.py --quick  a few prompts, nothing written

The teacher is a local stand-in (`teacher.py`), which enforces limits and keeps an account of paid calls.
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
