"""Measure structured output for applications, beside instructor and the openai SDK.

    python benchmarks/apps.py          writes results/apps.json
    python benchmarks/apps.py --only schemas
    python benchmarks/apps.py --quick  a few prompts, nothing written

All sides ask the same llama.cpp server with the default model. `pip install instructor openai` first.
"""

from __future__ import annotations

import asyncio
import sys

import apps_schemas
from report import main, sized

ROWS = {"schemas": sized(lambda prompts: asyncio.run(apps_schemas.measure(prompts)), (20,), (1,))}

if __name__ == "__main__":
    sys.exit(main("benchmarks/apps.py", __doc__, ROWS))
