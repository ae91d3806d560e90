"""Measures what an application developer gets, beside instructor, mellea and the openai SDK.

    python benchmarks/apps.py          writes its part of RESULTS.md
    python benchmarks/apps.py --only schemas
    python benchmarks/apps.py --quick  a few prompts, nothing written

All ask the same llama.cpp server with the default model. `pip install instructor mellea openai` first.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import apps_calls
import apps_constraints
import apps_schemas
from measure import Row
from report import main

SIZES = {
    "calls": (apps_calls.measure, 300, 20),
    "schemas": (apps_schemas.measure, 20, 1),
    "constraints": (apps_constraints.measure, 100, 3),
}
"""Name -> what measures it, and how many prompts or calls: full, quick."""


def measure(name: str, *, quick: bool) -> Row:
    """Measure a row."""
    measured, *sizes = SIZES[name]
    return asyncio.run(measured(sizes[quick]))


if __name__ == "__main__":
    sys.exit(main("benchmarks/apps.py", __doc__, {name: partial(measure, name) for name in SIZES}))
