"""Measures what an application developer gets, beside instructor, mellea and the openai SDK.

    python benchmarks/apps.py          writes its part of RESULTS.md
    python benchmarks/apps.py --only schemas
    python benchmarks/apps.py --quick  a few prompts, nothing written

All ask the same llama.cpp server with the default model. `pip install instructor mellea openai` first.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import apps_calls
import apps_constraints
import apps_schemas
from report import page, put, section

SCRIPT = "benchmarks/apps.py"
RESULTS = Path(__file__).with_name("RESULTS.md")
ROWS = {
    "calls": (apps_calls.measure, 300, 20),
    "schemas": (apps_schemas.measure, 20, 1),
    "constraints": (apps_constraints.measure, 100, 3),
}
"""Name -> what measures it, and how many prompts or calls: full, quick."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the part of the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ROWS, action="append", help="a row, and no results written")
    parser.add_argument("--quick", action="store_true", help="a few prompts, and no results written")
    asked, start = parser.parse_args(arguments), time.perf_counter()
    rows = []
    for name in asked.only or ROWS:
        measure, full, quick = ROWS[name]
        rows.append(asyncio.run(measure(quick if asked.quick else full)))
        print(section(rows[-1]), flush=True)
    if not asked.only and not asked.quick:
        put(RESULTS, SCRIPT, page(rows, SCRIPT, (time.perf_counter() - start) / 60))
    return int(any(figure.reached is False for row in rows for figure in row.figures))


if __name__ == "__main__":
    sys.exit(main())
