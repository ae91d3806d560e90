"""Measures the server: against the bare engine, under load, with clients that leave, and over a long time.

    python benchmarks/serve.py          writes its part of RESULTS.md
    python benchmarks/serve.py --only soak
    python benchmarks/serve.py --quick  little of each, nothing written

All processes are on this machine and share its cores, the clients too.
"""

from __future__ import annotations

import sys
from functools import partial

import serve_bare
import serve_kills
import serve_load
import serve_soak
import serve_times
from measure import Row
from report import main

SIZES = {
    "rate": (serve_bare.rate, (8, serve_bare.TOKENS), (1, 8)),
    "first": (serve_bare.first, (3, 67), (1, 8)),
    "load": (serve_load.measure, (500, 60), (20, 1)),
    "cut": (serve_times.cut, (20, 20), (2, 5)),
    "kills": (serve_kills.measure, (20, 4), (2, 2)),
    "ready": (serve_times.ready, (6, 1), (2, 1)),
    "soak": (serve_soak.measure, (900, 1), (20, 1)),
}
"""Name -> what measures it, and how much of it: full, quick."""


def measure(name: str, *, quick: bool) -> Row:
    """Measure a row."""
    measured, *sizes = SIZES[name]
    return measured(*sizes[quick])


if __name__ == "__main__":
    sys.exit(main("benchmarks/serve.py", __doc__, {name: partial(measure, name) for name in SIZES}))
