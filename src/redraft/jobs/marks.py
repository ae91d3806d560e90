"""Which items of an output are done, where one item may give no line or several: `OUT.done.jsonl`.

A mark is a line `{"id": …, "end": …}`: the item, and the length of the output in bytes after it. It is
written after all lines of the item. Lines behind the last mark belong to an item that was cut, and are
removed, so half an item never counts as done.
"""

from __future__ import annotations

import json
from pathlib import Path

from redraft.errors import OutputError
from redraft.ids import IdSet
from redraft.jobs.lines import LineFile, parse_line, read_lines

_BEGIN = b'{"id": '


class Marks:
    """The marks of an output that is locked by this process.

    Args:
        output: The output.
        size: Its length in bytes.
        fresh: It was just created: marks of an output that is gone are removed.

    Attributes:
        done: IdSet of finished items.
        end: The length of the output after the last of them.

    Raises:
        OutputError: The marks cannot be written, are missing, or do not fit the output.
    """

    def __init__(self, output: Path, size: int, *, fresh: bool) -> None:
        self.path = output.with_name(output.name + ".done.jsonl")
        self._output = output
        self.done = IdSet()
        self.end = 0
        if size and not self.path.exists():
            raise self._unusable(f"no {self.path.name} says which items are done")
        self._lines = LineFile(self.path, made_up=True)
        try:
            whole = self._read(size)
            if fresh:
                self.done, self.end, whole = IdSet(), 0, 0
            self._lines.cut(whole)
            self._check_line_break()
        except BaseException:
            self._lines.close()
            raise

    def add(self, item_id: str, end: int) -> None:
        """Mark an item as done, now that the output has `end` bytes.

        Raises:
            OutputError: The mark cannot be written.
        """
        self._lines.append(json.dumps({"id": item_id, "end": end}))
        self.done.add(item_id)
        self.end = end

    def close(self) -> None:
        """Sync and close the file."""
        self._lines.close()

    def _read(self, size: int) -> int:
        """Read the marks, and return the length of those that are whole and within the output.

        After a power cut there may be marks of lines that never reached the disk.
        """
        length = 0
        for number, line in enumerate(read_lines(self.path), start=1):
            mark = parse_line(line)
            if mark is None and _is_torn(line):
                break
            if not mark or not isinstance(mark.get("id"), str) or not isinstance(mark.get("end"), int):
                raise self._unusable(f"line {number} of {self.path.name} is damaged")
            if mark["end"] > size:
                break
            self.done.add(mark["id"])
            self.end = mark["end"]
            length += len(line)
        return length

    def _check_line_break(self) -> None:
        if self.end:
            with self._output.open("rb") as file:
                file.seek(self.end - 1)
                if file.read(1) != b"\n":
                    raise self._unusable(f"it is not the file that {self.path.name} lists")

    def _unusable(self, reason: str) -> OutputError:
        return OutputError(
            f"{self._output} cannot be added to: {reason}.", hint="Write to another file with -o."
        )


def _is_torn(line: bytes) -> bool:
    """Whether a line is the beginning of a mark, or the zeros that a power cut leaves."""
    begins = line.startswith(_BEGIN) or _BEGIN.startswith(line)
    return not line.endswith(b"\n") and (begins or not line.strip(b"\0"))
