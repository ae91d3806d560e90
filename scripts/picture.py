"""Draws docs/ask.svg, the picture of the README, from a real run of the default model.

    python scripts/picture.py

It is the run of `make demo`. Nothing in it is written by hand. What a model says differs between machines, so
`make docs` does not redraw it.
"""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from rich.console import Console
from rich.text import Text as RichText

import redraft
from redraft.cli.watch import Watch
from redraft.revision.ops import Progress, Text

PROMPT = "Describe a lighthouse."
CHECKS = ["words<=30"]
FLAGS = "--mode verified --no-steer --no-tell-checks --temperature 0"
WIDTH = 92
TARGET = Path(__file__).resolve().parent.parent / "docs" / "ask.svg"


async def draw() -> str:
    """Run the command of `make demo` and return the terminal as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    checks = " ".join(f"--check '{check}'" for check in CHECKS)
    console.print(RichText.assemble(("$ ", "green"), f'redraft ask "{PROMPT}" {checks} \\\n    {FLAGS}\n'))
    events = redraft.stream(
        PROMPT, checks=CHECKS, mode="verified", steer=False, tell_checks=False, temperature=0
    )
    with Watch(console) as watch:
        async for event in events:
            if not isinstance(event, Text | Progress):  # what moves would be drawn again and again
                watch.show(event)
    return console.export_svg(title="redraft ask")


if __name__ == "__main__":
    TARGET.write_text(asyncio.run(draw()), encoding="utf-8")
