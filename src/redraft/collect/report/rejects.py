"""Count what a run did not put into its output: failures, and chains that were dropped because they leak.

`redraft answer` and `redraft generate chains` write them beside it, as `FILE.errors.jsonl` and
`FILE.leaks.jsonl`. Lines of other programs in files of these names are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redraft.collect.report.summary import DataSummary
from redraft.formats.read.records import RawRecord
from redraft.jobs.lines import parse_line, read_lines


def rejects(paths: Sequence[Path]) -> DataSummary:
    """Return a summary of what lies beside some files: failures by cause, and dropped chains."""
    summary = DataSummary()
    for path in paths:
        _failures(summary, path.with_name(f"{path.name}.errors.jsonl"))
        _leaks(summary, path.with_name(f"{path.name}.leaks.jsonl"))
    return summary


def _failures(summary: DataSummary, file: Path) -> None:
    last: dict[str, dict[str, Any]] = {}  # a record that failed again is written again
    for line in read_lines(file):
        record = parse_line(line)
        if record and isinstance(record.get("id"), str) and isinstance(record.get("error"), str):
            last[record["id"]] = record
    for record in last.values():
        summary.name("failures", record["error"])
        summary.warn("failed", f"{record['error']}: {record.get('message')}")


def _leaks(summary: DataSummary, file: Path) -> None:
    for number, line in enumerate(read_lines(file)):
        record = parse_line(line)
        if record and "steps" in record:
            summary.warn("dropped", f"{file}:{number + 1}")
            summary.shown.setdefault("leaking", RawRecord(f"{file}:{number + 1}", file.stem, number, line))
