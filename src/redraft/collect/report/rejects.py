"""Count what a run did not put into its output: failures, and chains that were dropped because they leak.

`redraft answer` and `redraft generate chains` write them beside it, as `FILE.errors.jsonl` and
`FILE.leaks.jsonl`. Lines of other programs in files of these names are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from redraft.collect.report.summary import DataSummary
from redraft.formats.read.records import RawRecord
from redraft.jobs.ledger import failures
from redraft.jobs.lines import parse_line, read_lines


def rejects(paths: Sequence[Path]) -> DataSummary:
    """Return a summary of what lies beside some files: failures by cause, and dropped chains."""
    summary = DataSummary()
    for path in paths:
        for record in failures(path).values():
            summary.name("failures", str(record["cause"]))
            summary.warn("failed", f"{record['cause']}: {record.get('message')}")
        _leaks(summary, path.with_name(f"{path.name}.leaks.jsonl"))
    return summary


def _leaks(summary: DataSummary, file: Path) -> None:
    for number, line in enumerate(read_lines(file)):
        record = parse_line(line)
        if record and "steps" in record:
            summary.warn("dropped", f"{file}:{number + 1}")
            summary.shown.setdefault("leaking", RawRecord(f"{file}:{number + 1}", file.stem, number, line))
