"""The report of `verify`: faults, and parts that could not be checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redraft.counting import counted
from redraft.errors import ModelError
from redraft.weights.header import NotHandled
from redraft.weights.inspect.facts import one_line

SHOWN = 8
"""Faults of one kind that are listed. The others are counted."""


@dataclass
class Verdict:
    """The results of a verification.

    Attributes:
        path: The file or folder.
        findings: The faults, one per line.
        notes: Parts that could not be checked, one per line.
        files: The number of files read.
        tensors: The number of tensors in them.
        size: Bytes of these tensors.
        checksums: The number of files that match the manifest's checksum.
    """

    path: Path
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    tensors: int = 0
    size: int = 0
    checksums: int = 0

    @property
    def sound(self) -> bool:
        """Whether there are no faults. Otherwise the exit status is 1."""
        return not self.findings

    def lines(self) -> list[str]:
        """The report as text."""
        looked = (
            f"{counted(self.files, 'file')}, {counted(self.tensors, 'tensor')}, {self.size / 1e6:,.2f} MB"
        )
        sums = (
            f"{counted(self.checksums, 'checksum')} as in the manifest" if self.checksums else "no checksums"
        )
        verdict = counted(len(self.findings), "fault") if self.findings else "sound"
        last = f"{self.path}: {verdict} ({looked}; {sums})"
        return [one_line(line) for line in (*self.findings, *self.notes, last)]

    def add(self, faults: list[str], kind: str) -> None:
        """Add faults of one kind, and count those beyond `SHOWN`."""
        self.findings += faults[:SHOWN]
        if len(faults) > SHOWN:
            self.findings.append(f"… and {len(faults) - SHOWN:,} more {kind}")

    @contextmanager
    def check(self, what: str) -> Iterator[list[str]]:
        """Collect faults that a check finds, and the error that ends it. Notes call its subject `what`."""
        found: list[str] = []
        try:
            yield found
        except NotHandled as error:
            self.notes.append(f"{what} was not checked: {error.message}")
        except ModelError as error:
            found.append(error.message)
        self.add([fault for fault in found if fault not in self.findings], "of that kind")
