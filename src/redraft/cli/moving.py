"""The part of the terminal that moves: what is waited for or written, its clock, and the end of the text."""

from __future__ import annotations

import sys
from time import monotonic

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from redraft.counting import printable


class Moving:
    """One moving part at a time, below what was printed before. It is removed when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._title, self._indent, self._begun = "", 0, 0.0
        self._pieces: list[str] = []

    def begin(self, title: str, indent: int = 0) -> None:
        """Begin to draw a title, with a clock. `indent` is in columns."""
        self._title, self._indent, self._begun = title, indent, monotonic()
        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            transient=True,
            refresh_per_second=12,
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def add(self, piece: str) -> None:
        """Write on."""
        self._pieces.append(piece)

    def end(self) -> str:
        """Remove what was drawn, and return the text."""
        if self._live is not None:
            self._live.stop()
        text, self._live, self._pieces = "".join(self._pieces), None, []
        return text

    def _drawn(self) -> RenderableType:
        """Return the title and the end of the text, as much as the screen holds."""
        lines = printable("".join(self._pieces)).splitlines()
        room = max(self._console.height - 4, 3)
        tail = Text("\n".join(lines[-room:]))
        tail.truncate(self._console.width * room)
        text = Text.assemble((f"{self._title} … {monotonic() - self._begun:.0f} s", "dim"))
        return Padding(text.append("\n").append_text(tail) if lines else text, (0, 0, 0, self._indent))
