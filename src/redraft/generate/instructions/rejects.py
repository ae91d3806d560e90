"""What was rejected, in `OUT.rejected.jsonl`: the task, the rule, the reason, and the nearest instruction.

The rejects of a request are written right before its tasks. Those of a request that is not done are removed
when the file is opened, because the request is judged again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from redraft.files import replacing
from redraft.generate.instructions.rules import Fault
from redraft.generate.instructions.tasks import Origin, Task
from redraft.jobs.lines import LineFile, own_lines

_FIELDS = {"rule", "request", "number", "record"}


class Rejects(AbstractContextManager["Rejects"]):
    """The rejects of an output that is locked by this process.

    Args:
        output: The output.
        done: Ids of finished requests.

    Attributes:
        counts: Rejects by rule.
        claimed: Request, place and text of each instruction that was new, but whose answers were rejected.

    Raises:
        OutputError: The file cannot be written, or has something else in it.
    """

    def __init__(self, output: Path, done: Container[str]) -> None:
        self.path = path_of(output)
        self.counts: Counter[str] = Counter()
        self.claimed: list[tuple[int, int, str]] = []
        self._lines: LineFile | None = None
        if self.path.exists():
            with replacing(self.path) as file:
                for _, record, _ in own_lines(self.path, "rejects", lambda found: found.keys() >= _FIELDS):
                    if str(record["request"]) in done:
                        file.write(f"{_line(record)}\n".encode())
                        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        self.counts[str(record["rule"])] += 1
        if record.get("claimed"):
            self.claimed.append((record["request"], record["number"], record["record"]["instruction"]))

    def add(self, *records: dict[str, Any]) -> None:
        """Count and write the rejects of a request.

        Raises:
            OutputError: They cannot be written.
        """
        if not records:
            return
        if self._lines is None:
            self._lines = LineFile(self.path, made_up=True)
        self._lines.append(*map(_line, records))
        for record in records:
            self._count(record)

    def __exit__(self, *_: object) -> None:
        if self._lines:
            self._lines.close()


def path_of(output: Path) -> Path:
    """Return the file for what an output rejects."""
    return output.with_name(output.name + ".rejected.jsonl")


def rejected(
    task: Task, origin: Origin, fault: Fault, nearest: str | None = None, *, claimed: bool = False
) -> dict[str, Any]:
    """Return the record of a rejected task.

    Args:
        task: The task.
        origin: Where it was generated.
        fault: Why it is rejected.
        nearest: The instruction that it is similar to.
        claimed: Its instruction is new, and later ones have to differ from it.
    """
    record = {**fault._asdict(), "id": origin.id, "request": origin.request, "number": origin.number}
    near = {} if nearest is None else {"nearest": nearest}
    return {**record, "record": task.record(), **near, **({"claimed": True} if claimed else {})}


def rejected_reply(text: str, way: str, request: int, fault: Fault) -> dict[str, Any]:
    """Return the record of a reply in which no task could be read."""
    return {
        **fault._asdict(),
        "id": f"{way}/{request}",
        "request": request,
        "number": 0,
        "record": {"reply": text},
    }


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
