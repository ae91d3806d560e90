"""Build paragraphs, lists, quotes and tables from nested frames.

A frame that closes becomes a block of the frame around it. At most `DEPTH` frames are open. Deeper ones are
flattened into the innermost, so neither time nor text grows with the square of the nesting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

DEPTH = 32  # most frames that are open at once

COLUMNS = 50
"""Most columns of a row that has cells spanning several. A span's further columns are empty cells."""

FrameKind = Literal["document", "quote", "ul", "ol", "li", "table", "tr", "cell"]
LISTS: tuple[FrameKind, ...] = ("ul", "ol")


class Block(NamedTuple):
    """A finished part of the text."""

    kind: Literal["text", "list", "code", "table"]
    text: str


Cell = list[Block]


@dataclass
class Frame:
    """An open element.

    Attributes:
        number: The number of an item or of a list's next item; the columns that a cell spans.
        blocks: Its finished parts. The items of a list are its blocks.
    """

    kind: FrameKind
    number: int = 1
    blocks: list[Block] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)


class Frames:
    """The open frames. The outermost is the document."""

    def __init__(self) -> None:
        self._frames = [Frame("document")]
        self._beyond: Counter[FrameKind] = Counter()

    @property
    def top(self) -> Frame:
        """Return the innermost frame."""
        return self._frames[-1]

    def add(self, block: Block) -> None:
        """Add a block. Directly in a list it becomes an item; between cells it goes before the table."""
        top = self._frames[-1]
        if top.kind in LISTS and block.kind != "list":
            _close_item(Frame("li", top.number, [block]), top)
            return
        for home in reversed(self._frames):
            if home.kind not in ("table", "tr"):
                home.blocks.append(block)
                return

    def push(self, kind: FrameKind, number: int = 1) -> None:
        """Open a frame unless it is too deep."""
        if len(self._frames) < DEPTH:
            self._frames.append(Frame(kind, number))
        else:
            self._beyond[kind] += 1

    def leave(self, kinds: Sequence[FrameKind], *fences: FrameKind) -> None:
        """Close the innermost frame of these kinds, which may have been too deep to open."""
        deep = next((kind for kind in kinds if self._beyond[kind]), None)
        if deep:
            self._beyond[deep] -= 1
        else:
            self.close(kinds, *fences)

    def close(self, kinds: Sequence[FrameKind], *fences: FrameKind) -> None:
        """Close the innermost frame of these kinds and everything in it, unless a fence is in between."""
        for place in range(len(self._frames) - 1, 0, -1):
            if self._frames[place].kind in kinds:
                while len(self._frames) > place:
                    self._pop()
                return
            if self._frames[place].kind in fences:
                return

    def item(self, number: int | None) -> None:
        """Open an item of the innermost list. Without a list, open one."""
        self.close(("li",), "ul", "ol", "quote", "cell")
        if self.top.kind not in LISTS:
            self.push("ul")
        if self.top.kind in LISTS:
            self.push("li", self.top.number if number is None else number)

    def row(self) -> None:
        """Open a row of the innermost table, unless that was too deep."""
        if self._in_table():
            self.close(("tr",), "table")
            self.push("tr")

    def cell(self, span: int) -> None:
        """Open a cell of the row. Without a row, open one."""
        if not self._in_table():
            return
        self.close(("cell",), "table")
        if self.top.kind == "table":
            self.push("tr")
        if self.top.kind == "tr":
            self.push("cell", max(1, min(span, COLUMNS - len(self.top.cells))))

    def end_part(self, kind: Literal["tr", "cell"]) -> None:
        """Close a row or a cell of the innermost table."""
        if self._in_table():
            self.close((kind,), "table")

    def finish(self) -> list[Block]:
        """Close all frames, and return the document's blocks."""
        while len(self._frames) > 1:
            self._pop()
        return self.top.blocks

    def _in_table(self) -> bool:
        return not self._beyond["table"] and any(frame.kind == "table" for frame in self._frames)

    def _pop(self) -> None:
        frame = self._frames.pop()
        match frame.kind:
            case "li":
                _close_item(frame, self.top)
            case "ul" | "ol":
                self._close_list(frame)
            case "quote" if frame.blocks:
                lines = joined(frame.blocks).split("\n")
                self.add(Block("text", "\n".join(f"> {line}" if line else ">" for line in lines)))
            case "cell":
                self.top.cells += [frame.blocks, *([] for _ in range(frame.number - 1))]
            case "tr":
                self.top.rows.append(frame.cells)
            case "table":
                for block in _table(frame.rows):
                    self.add(block)

    def _close_list(self, frame: Frame) -> None:
        if frame.blocks:
            # Items have empty lines between them if one of them has one.
            loose = any("\n\n" in item.text for item in frame.blocks)
            text = ("\n\n" if loose else "\n").join(item.text for item in frame.blocks)
            inside = self.top.kind in LISTS and self.top.blocks
            self.add(Block("list", indented(text, 2) if inside else text))


def joined(blocks: Iterable[Block], *, tight: bool = False) -> str:
    """Join blocks with empty lines. With `tight`, a list follows its text without one."""
    text = ""
    for block in blocks:
        gap = "\n" if tight and block.kind == "list" else "\n\n"
        text += gap + block.text if text else block.text
    return text


def indented(text: str, width: int) -> str:
    """Indent each line that is not empty."""
    return "\n".join(" " * width + line if line else line for line in text.split("\n"))


def _close_item(item: Frame, outer: Frame) -> None:
    outer.number = item.number + 1
    if item.blocks:
        marker = f"{item.number}. " if outer.kind == "ol" else "- "
        text = indented(joined(item.blocks, tight=True), len(marker))
        outer.blocks.append(Block("text", marker + text[len(marker) :]))


def _table(rows: Sequence[Sequence[Cell]]) -> list[Block]:
    """Return a table with its first row as the head, or only the contents if it lays out code or tables."""
    cells = [cell for row in rows for cell in row]
    blocks = [block for cell in cells for block in cell]
    if len(cells) < 2 or any(block.kind in ("code", "table") for block in blocks):
        return blocks
    columns = max(len(row) for row in rows)
    head, *body = ([_in_cell(cell) for cell in row] for row in rows if row)
    lines = [_row(head + [""] * (columns - len(head))), _row(["---"] * columns), *map(_row, body)]
    return [Block("table", "\n".join(lines))] if blocks else []


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _in_cell(cell: Cell) -> str:
    return " ".join(block.text for block in cell).replace("\n", " ").replace("|", "\\|")
