"""Draws docs/ask.svg, the picture of the README, from a real run of the default model.

    python scripts/picture.py

Nothing in it is written by hand. The seed is chosen so that the run is short and shows a revision. What a
model says differs between machines, so `make docs` does not redraw it.
"""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text as RichText

import redraft
from redraft.cli.watch import Watch
from redraft.revision.ops import Progress, Text

PROMPT = "Describe a lighthouse."
CHECKS = ["words<=30", "lacks:light"]
WIDTH = 92
TARGET = Path(__file__).resolve().parent.parent / "docs" / "ask.svg"


async def draw(seed: int) -> str:
    """Runs the README's command and gives the terminal as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    checks = " ".join(f"--check '{check}'" for check in CHECKS)
    console.print(RichText.assemble(("$ ", "green"), f"redraft ask {PROMPT!r} {checks} --no-steer\n"))
    with Watch(console) as watch:
        async for event in redraft.stream(PROMPT, checks=CHECKS, steer=False, seed=seed, max_tokens=200):
            if not isinstance(
                event, Text | Progress
            ):  # what moves on a real terminal would be drawn again and again
                watch.show(event)
    return console.export_svg(title="redraft ask")


if __name__ == "__main__":
    TARGET.write_text(asyncio.run(draw(int(sys.argv[1]) if len(sys.argv) > 1 else 102)), encoding="utf-8")
