"""The batches of a run, in `OUT.batches.jsonl` beside its output, so that a run that was stopped finds them.

Three lines tell the story of a batch. The first is written before the server is asked to create it: from then
on its requests are never sent twice, even if the process dies before it hears of the new batch.

    {"file": "file-1", "server": "https://…/v1", "at": 1700000000, "requests": ["ab12…", …]}
    {"file": "file-1", "batch": "batch_1"}
    {"file": "file-1", "ended": "completed"}

The last one is written when all its replies are in the journal. The output's lock covers this file too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redraft.errors import OutputError
from redraft.jobs.lines import LineFile, parse_line, read_lines


@dataclass(frozen=True)
class Sent:
    """A batch that was sent.

    Attributes:
        file: The id of its input file at the server.
        server: The base address of the server.
        at: When the file was uploaded, in Unix seconds.
        requests: The `custom_id` of each request.
        number: Its number in this file, from 1: the wave.
        batch: Its id; empty where the server had not told it before the process died.
    """

    file: str
    server: str
    at: int
    requests: Sequence[str]
    number: int
    batch: str = ""


class BatchFile:
    """The open file. It belongs to an output that is locked by this process.

    Raises:
        OutputError: It cannot be written, or a line of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        self._pending: dict[str, Sent] = {}
        self._lines = LineFile(path, made_up=True)
        try:
            self._lines.cut(self._read())
        except BaseException:
            self._lines.close()
            raise

    def pending(self, server: str | None = None) -> list[Sent]:
        """Return the batches, of one server or of all, whose replies are not all in the journal."""
        return [sent for sent in self._pending.values() if server in (None, sent.server)]

    def uploaded(self, file: str, server: str, requests: Sequence[str]) -> Sent:
        """Record that a batch is about to be created. Raises `OutputError` if it cannot be written."""
        at = int(time.time())
        self._append({"file": file, "server": server, "at": at, "requests": list(requests)})
        return self._pending[file]

    def created(self, sent: Sent, batch: str) -> Sent:
        """Record the id of a batch. Raises `OutputError` if it cannot be written."""
        self._append({"file": sent.file, "batch": batch})
        return self._pending[sent.file]

    def ended(self, sent: Sent, how: str) -> None:
        """Record that nothing more will be read of a batch. Raises `OutputError` as above."""
        self._append({"file": sent.file, "ended": how})

    def close(self) -> None:
        """Sync and close the file. Remove it if it is empty."""
        self._lines.close()
        if not self._lines.size:
            self.path.unlink(missing_ok=True)

    def _append(self, record: dict[str, Any]) -> None:
        self._lines.append(json.dumps(record))
        self._lines.sync()
        self._note(record)

    def _read(self) -> int:
        """Read the lines, and return the length of the whole ones."""
        length = 0
        for number, line in enumerate(read_lines(self.path), start=1):
            record = parse_line(line)
            if record is None and not line.endswith(b"\n"):
                break
            try:
                self._note(record or {})
            except (KeyError, TypeError):
                raise OutputError(
                    f"{self.path} is the file for batches, and line {number} is not one.",
                    hint="Move it away. Batches that are under way are then sent, and paid, again.",
                ) from None
            length += len(line)
        return length

    def _note(self, record: dict[str, Any]) -> None:
        file = record["file"]
        if "ended" in record:
            del self._pending[file]
        elif "batch" in record:
            self._pending[file] = replace(self._pending[file], batch=str(record["batch"]))
        else:
            self._count += 1
            requests = [str(each) for each in record["requests"]]
            self._pending[file] = Sent(file, record["server"], record["at"], requests, self._count)
