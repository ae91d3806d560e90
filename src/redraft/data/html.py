"""Convert an HTML page to markdown, in one pass over the page's tags.

Code blocks keep text and language. Inline code, headings, nested and numbered lists, tables, quotes, links,
emphasis, the TeX of formulas, and the alternative texts of pictures are kept. Scripts, styles, buttons and
drawings are left out. Nothing is escaped, not even `2 * 3`, because models read the plain text.

Lists, quotes and tables are frames. A closed frame becomes a block of the enclosing frame. No tree is built.
At most `DEPTH` frames are open, and deeper frames are flattened into the innermost open frame. So neither
time nor output grows quadratically with a page's nesting. Invalid pages are parsed much as in browsers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from redraft.data import html_tags as tags

DEPTH = 32  # most frames that are open at once

COLUMNS = 50
"""The number of columns to which cells with `colspan` may extend a row, by adding empty cells."""

FrameKind = Literal["document", "quote", "ul", "ol", "li", "table", "tr", "cell"]
_LISTS: tuple[FrameKind, ...] = ("ul", "ol")


class _Block(NamedTuple):
    kind: Literal["text", "list", "code", "table"]
    text: str


Cell = list[_Block]


@dataclass
class Frame:
    """An open list, item, quote, table, row or cell, or the document."""

    kind: FrameKind
    number: int = 1  # the number of an item or of a list's next item; the columns that a cell spans
    # Finished contents. The blocks of a list are its items.
    blocks: list[_Block] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)


class Frames:
    """The open frames. The outermost frame is the document."""

    def __init__(self) -> None:
        self._frames = [Frame("document")]
        self._beyond: defaultdict[FrameKind, int] = defaultdict(int)

    @property
    def top(self) -> Frame:
        """Return the innermost frame."""
        return self._frames[-1]

    def add(self, block: _Block) -> None:
        """Add a block. In a list, a block becomes an item. Between cells, a block goes before the table."""
        top = self._frames[-1]
        if top.kind in _LISTS and block.kind != "list":
            _close_item(Frame("li", top.number, [block]), top)
            return
        for home in reversed(self._frames):
            if home.kind not in ("table", "tr"):
                home.blocks.append(block)
                return

    def push(self, kind: FrameKind, number: int = 1) -> None:
        """Open a frame, unless `DEPTH` frames are open."""
        if len(self._frames) < DEPTH:
            self._frames.append(Frame(kind, number))
        else:
            self._beyond[kind] += 1

    def leave(self, kinds: Sequence[FrameKind], *fences: FrameKind) -> None:
        """Close the innermost frame of `kinds`, unless the frame was too deep to be opened."""
        if deep := next((kind for kind in kinds if self._beyond[kind]), None):
            self._beyond[deep] -= 1
        else:
            self.close(kinds, *fences)

    def close(self, kinds: Sequence[FrameKind], *fences: FrameKind) -> None:
        """Close the innermost frame of `kinds` and all frames in it. Frames of `fences` stop the search."""
        for place in range(len(self._frames) - 1, 0, -1):
            if self._frames[place].kind in kinds:
                while len(self._frames) > place:
                    self._pop()
                return
            if self._frames[place].kind in fences:
                return

    def item(self, number: int | None) -> None:
        """Open an item of the innermost list. If no list is open, open a list first."""
        self.close(("li",), "ul", "ol", "quote", "cell")
        if self.top.kind not in _LISTS:
            self.push("ul")
        if self.top.kind in _LISTS:
            self.push("li", self.top.number if number is None else number)

    def row(self) -> None:
        """Open a row of the innermost table, unless that table was too deep to be opened."""
        if self._in_table():
            self.close(("tr",), "table")
            self.push("tr")

    def cell(self, span: int) -> None:
        """Open a cell of the innermost row. If no row is open, open a row first."""
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

    def finish(self) -> list[_Block]:
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
            case "ul" | "ol" if frame.blocks:
                # Items have empty lines between them if one of them contains an empty line.
                loose = any("\n\n" in item.text for item in frame.blocks)
                text = ("\n\n" if loose else "\n").join(item.text for item in frame.blocks)
                inside = self.top.kind in _LISTS and self.top.blocks
                self.add(_Block("list", indented(text, 2) if inside else text))
            case "quote" if frame.blocks:
                lines = joined(frame.blocks).split("\n")
                self.add(_Block("text", "\n".join(f"> {line}" if line else ">" for line in lines)))
            case "cell":
                self.top.cells += [frame.blocks, *([] for _ in range(frame.number - 1))]
            case "tr":
                self.top.rows.append(frame.cells)
            case "table":
                for block in _table(frame.rows):
                    self.add(block)


def joined(blocks: Iterable[_Block], *, tight: bool = False) -> str:
    """Join blocks with empty lines. With `tight`, there is no empty line before a list."""
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
        outer.blocks.append(_Block("text", marker + text[len(marker) :]))


def _table(rows: Sequence[Sequence[Cell]]) -> list[_Block]:
    cells = [cell for row in rows for cell in row]
    blocks = [block for cell in cells for block in cell]
    if len(cells) < 2 or any(block.kind in ("code", "table") for block in blocks):
        return blocks
    columns = max(len(row) for row in rows)
    head, *body = (
        [" ".join(block.text for block in cell).replace("\n", " ").replace("|", "\\|") for cell in row]
        for row in rows
        if row
    )
    lines = [head + [""] * (columns - len(head)), ["---"] * columns, *body]
    return [_Block("table", "\n".join(f"| {' | '.join(line)} |" for line in lines))] if blocks else []


_BLANKS = re.compile(r"[ \t\r\f\xa0]{2,}|[\t\r\f\xa0]")
_LINES = re.compile(r" ?\n[ \n]*")
_GAPS = ("", " ", "\n", "\n\n")


class Mark(NamedTuple):
    """The markup before and after a text, such as `**` or the two halves of a link."""

    kind: str
    begin: str
    end: str


class _Line:
    def __init__(self) -> None:
        self.flat = False  # line breaks become spaces, as in headings and cells
        self.parts: list[str] = []
        self._gap = 0  # an index of _GAPS
        self._broken = False
        self._open: list[Mark] = []
        self._waiting: list[Mark] = []

    def text(self, source: str) -> None:
        if source == "\n":  # the most frequent text between tags
            self._gap = max(self._gap, 2)
            return
        text = tags.decoded(source)
        core = text.strip(tags.WHITE)
        before, _, behind = text.partition(core) if core else (text, "", "")
        if before:
            self._widen(before)
        if not core:
            return
        if "  " in core or not core.isprintable():
            core = _BLANKS.sub(" ", core)
        self.write(_LINES.sub(self._break, core) if "\n" in core else core)
        if behind:
            self._widen(behind)

    def write(self, text: str) -> None:
        if self.parts and self._gap:
            self.parts.append(" " if self.flat else _GAPS[self._gap])
        self._gap, self._broken = 0, False
        if self._waiting:
            self.parts += [mark.begin for mark in self._waiting]
            self._open += self._waiting
            self._waiting = []
        self.parts.append(text)

    def line_break(self) -> None:
        self._gap = 3 if self._broken else max(self._gap, 2)
        self._broken = True

    def begin(self, mark: Mark) -> None:
        if all(mark.kind != other.kind for other in (*self._open, *self._waiting)):
            self._waiting.append(mark)

    def finish(self, kind: str) -> None:
        """End a mark. Marks that began later end too, and begin again."""
        if all(mark.kind != kind for mark in self._open):
            self._waiting = [mark for mark in self._waiting if mark.kind != kind]
            return
        again: list[Mark] = []
        while (mark := self._open.pop()).kind != kind:
            self.parts.append(mark.end)
            again.insert(0, mark)
        self.parts.append(mark.end)
        self._waiting = again + self._waiting

    def take(self) -> str:
        """End the paragraph and return the text. Open marks begin again in the next paragraph."""
        self._gap, self._broken = 0, False
        if not self.parts:
            return ""
        if self._open:
            self.parts += [mark.end for mark in reversed(self._open)]
            self._waiting, self._open = self._open + self._waiting, []
        text = "".join(self.parts)
        self.parts = []
        return text

    def _widen(self, blanks: str) -> None:
        self._gap = max(self._gap, 1 + min(blanks.count("\n"), 2))

    def _break(self, found: re.Match[str]) -> str:
        return " " if self.flat else _GAPS[1 + min(found[0].count("\n"), 2)]


_STRONG, _EMPHASIS, _STRUCK = Mark("b", "**", "**"), Mark("i", "*", "*"), Mark("s", "~~", "~~")
_MARKS = {
    **dict.fromkeys(("b", "strong"), _STRONG),
    **dict.fromkeys(("i", "em"), _EMPHASIS),
    **dict.fromkeys(("s", "del", "strike"), _STRUCK),
    # Markdown has no marks for these. Without tags, x² would become x2.
    "sup": Mark("sup", "<sup>", "</sup>"),
    "sub": Mark("sub", "<sub>", "</sub>"),
}
_SHOWN_OF = re.compile(r"\d{1,4} / \d{1,4}")
_SKIPPED = frozenset(tags.SKIPPED.split())


def markdown_of(html: str) -> str:
    """Convert an HTML text to markdown, without leading or trailing white space."""
    return _Page(html.replace("\r\n", "\n")).read()


class _Page:
    def __init__(self, html: str) -> None:
        self.html, self.at = html, 0
        self.elements = tags.Elements(html)
        self.line = _Line()
        self.frames = Frames()
        self.level = 0
        self.display = False
        self.drawn = 0  # no formula before this index has TeX

    def read(self) -> str:
        html, add = self.html, self.line.text
        begin = html.find("<")
        while begin >= 0:
            end = html.find(">", begin, begin + _WIDTH)
            if tag := _BARE.get(html[begin + 1 : end]) if end > 0 else None:
                (handle, name), attributes, end = tag, "", end + 1
            elif found := tags.TOKEN.match(html, begin):
                slash, name, attributes = found.groups("")
                name, end = name.lower(), found.end()
                handle = _HANDLERS.get(slash + name) if name else _comment
            else:
                begin = html.find("<", begin + 1)
                continue
            if begin > self.at:
                add(html[self.at : begin])
            self.at = end
            if handle:
                handle(self, name, attributes)
            begin = html.find("<", self.at)
        if self.at < len(html):
            add(html[self.at :])
        self.paragraph()
        blocks = self.frames.finish()
        if blocks and _SHOWN_OF.fullmatch(blocks[0].text):  # "2 / 2": the number of the answer shown
            del blocks[0]
        return joined(blocks)

    def paragraph(self) -> None:
        if text := self.line.take():
            self.frames.add(_Block("text", f"{'#' * self.level} {text}" if self.level else text))

    def heading(self, level: int = 0) -> None:
        self.paragraph()
        self.level = level
        self.line.flat = level > 0 or self.frames.top.kind == "cell"

    def code(self, block: str) -> None:
        self.heading()
        if block:
            self.frames.add(_Block("code", block))

    def formula(self, tex: str, *, display: bool) -> None:
        if not display:
            self.line.write(f"${tex}$")
        elif tex:
            self.paragraph()
            self.frames.add(_Block("text", f"$$\n{tex}\n$$" if "\n" in tex else f"$${tex}$$"))


def _comment(page: _Page, *_: str) -> None:
    begins = page.html.startswith("<!--", page.at - 4)  # else it is a <!doctype>
    if begins and (comment := page.elements.until("-->", page.at)):
        page.at = comment[1]


def _paragraph(page: _Page, *_: str) -> None:
    if page.line.parts:  # most of these tags follow one another
        page.paragraph()


def _link(page: _Page, _: str, attributes: str) -> None:
    page.line.finish("a")
    address = tags.attribute(attributes, "href")
    if address and not address.lower().startswith(("#", "javascript:")):
        odd = any(char in address for char in " ()<>\n")
        page.line.begin(Mark("a", "[", f"](<{address}>)" if odd else f"]({address})"))


def _list(page: _Page, name: str, attributes: str) -> None:
    page.heading()
    page.frames.push("ol" if name == "ol" else "ul", tags.number(attributes, "start", 1))


def _item(page: _Page, _: str, attributes: str) -> None:
    page.heading()
    own = tags.number(attributes, "value", -1)
    page.frames.item(own if own >= 0 else None)


def _frame(page: _Page, name: str, _: str) -> None:
    page.heading()
    page.frames.push("table" if name == "table" else "quote")


def _row(page: _Page, *_: str) -> None:
    page.heading()
    page.frames.row()


def _rule(page: _Page, *_: str) -> None:
    page.heading()
    page.frames.add(_Block("text", "---"))


def _picture(page: _Page, _: str, attributes: str) -> None:
    if words := " ".join(tags.attribute(attributes, "alt").split()):
        page.line.write(words)


def _cell(page: _Page, _: str, attributes: str) -> None:
    page.paragraph()
    page.frames.cell(tags.number(attributes, "colspan", 1))
    page.heading()


def _preformatted(page: _Page, _: str, attributes: str) -> None:
    inside, page.at = page.elements.until("</pre", page.at) or (page.html[page.at :], len(page.html))
    page.code(tags.code_block(inside, attributes))


def _inline_code(page: _Page, name: str, attributes: str) -> None:
    inside, page.at = page.elements.until(f"</{name}", page.at) or ("", page.at)
    code = tags.plain(inside)
    if "\n" in code.strip():  # a block without <pre>
        page.code(tags.fenced(code.strip("\n"), tags.class_language(attributes)))
    elif code := code.strip():
        page.line.write(tags.spanned(code))


def _skip(page: _Page, name: str, attributes: str) -> None:
    inside, page.at = page.elements.until(f"</{name}", page.at) or ("", page.at)
    if name == "script" and "math/tex" in attributes and inside.strip():  # where MathJax keeps its source
        page.formula(inside.strip(), display="mode=display" in attributes)


def _math(page: _Page, _: str, attributes: str) -> None:
    inside, over = "", page.at
    if page.at >= page.drawn:  # else an earlier search found no TeX up to here
        inside, over = page.elements.until("</math", page.at) or (inside, over)
    if tex := tags.tex_of(inside):
        page.formula(tex, display=page.display or 'display="block"' in attributes)
        page.at = over
    elif inside:
        page.drawn = over
    page.display = False


def _span(page: _Page, name: str, attributes: str) -> None:
    if "katex-display" in attributes:
        page.display = True
    has = page.elements.has
    drawn = "katex-html" in attributes and has("application/x-tex")
    if drawn or ("MathJax" in attributes and has("math/tex")):
        page.at = page.elements.behind(name, page.at)


_Handle = Callable[[_Page, str, str], None]
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def _ends(close: Callable[[Frames], None]) -> _Handle:
    def end(page: _Page, *_: str) -> None:
        page.paragraph()
        close(page.frames)
        page.heading()

    return end


_STARTS: dict[str, _Handle] = {
    **dict.fromkeys(tags.BLOCKS.split(), _paragraph),
    **dict.fromkeys(_SKIPPED, _skip),
    **dict.fromkeys(tags.CODE.split(), _inline_code),
    **dict.fromkeys(_MARKS, lambda page, name, _: page.line.begin(_MARKS[name])),
    **dict.fromkeys(_HEADINGS, lambda page, name, _: page.heading(int(name[1]))),
    **dict.fromkeys(("ul", "ol", "menu"), _list),
    **dict.fromkeys(("td", "th"), _cell),
    "a": _link,
    "blockquote": _frame,
    "br": lambda page, *_: page.line.line_break(),
    "hr": _rule,
    "img": _picture,
    "li": _item,
    "math": _math,
    "pre": _preformatted,
    "span": _span,
    "table": _frame,
    "tr": _row,
}
_ENDS: dict[str, _Handle] = {
    **dict.fromkeys(tags.BLOCKS.split(), _paragraph),
    **dict.fromkeys(_MARKS, lambda page, name, _: page.line.finish(_MARKS[name].kind)),
    **dict.fromkeys(_HEADINGS, lambda page, *_: page.heading()),
    **dict.fromkeys(("ul", "ol", "menu"), _ends(lambda frames: frames.leave(_LISTS, "cell"))),
    **dict.fromkeys(("td", "th"), _ends(lambda frames: frames.end_part("cell"))),
    "a": lambda page, *_: page.line.finish("a"),
    "blockquote": _ends(lambda frames: frames.leave(("quote",), "cell")),
    "li": _ends(lambda frames: frames.close(("li",), "ul", "ol", "quote", "cell")),
    "table": _ends(lambda frames: frames.leave(("table",))),
    "tr": _ends(lambda frames: frames.end_part("tr")),
}

_HANDLERS = _STARTS | {f"/{name}": handle for name, handle in _ENDS.items()}
_BARE = {
    written: (_HANDLERS.get(f"{end}{name}"), name)
    for name in tags.NAMES
    for end in ("", "/")
    for written in (f"{end}{name}", f"{end}{name.upper()}")
} | dict.fromkeys(("br/", "br /"), (_STARTS["br"], "br"))
"""Maps the text between `<` and `>` to a handler, for tags without attributes. Most tags have none."""
_WIDTH = 2 + max(map(len, _BARE))
