"""Measure the server: beside the bare engine, under load, with clients that leave, and over a long time.

    python benchmarks/serve.py          writes results/serve.json
    python benchmarks/serve.py --only soak
    python benchmarks/serve.py --quick  little of each, nothing written

All processes, clients included, are on this machine and share its cores.
"""

from __future__ import annotations

import sys

import serve_bare
import serve_kills
import serve_load
import serve_soak
import serve_times
from report import main, sized

ROWS = {
    "rate": sized(serve_bare.rate, (8, serve_bare.TOKENS), (1, 8)),
    "first": sized(serve_bare.first, (5, 67), (1, 8)),
    "load": sized(serve_load.measure, (500, 60), (20, 1)),
    "cut": sized(serve_times.cut, (20, 20), (2, 5)),
    "kills": sized(serve_kills.measure, (20, 4), (2, 2)),
    "health": sized(serve_times.health, (20, 8_000_000), (2, 100_000)),
    "ready": sized(serve_times.ready, (6, 1), (2, 1)),
    "soak": sized(serve_soak.measure, (900, 1), (20, 1)),
}

if __name__ == "__main__":
    sys.exit(main("benchmarks/serve.py", __doc__, ROWS))
