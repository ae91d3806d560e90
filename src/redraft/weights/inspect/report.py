"""What `verify` found: faults, and what it could not look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redraft.errors import ModelError
from redraft.weights.header import NotHandled
from redraft.weights.inspect.facts import many, one_line

SHOWN = 8
"""How many faults of one kind are listed; further ones are counted."""


@dataclass
class Report:
    """What was found.

    Attributes:
        path: What was looked at.
        findings: What is wrong, a line each. None: it is sound, as far as this looks.
        notes: What could not be looked at, a line each.
        files: How many files were read.
        tensors: How many tensors were found in them.
        size: Bytes of those tensors.
        checksums: How many files have the checksum that the manifest says.
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
        """Whether nothing is wrong. The command's exit status is 1 otherwise."""
        return not self.findings

    def lines(self) -> list[str]:
        """The report as text."""
        looked = f"{many(self.files, 'file')}, {many(self.tensors, 'tensor')}, {self.size / 1e6:,.2f} MB"
        sums = f"{many(self.checksums, 'checksum')} as in the manifest" if self.checksums else "no checksums"
        verdict = many(len(self.findings), "fault") if self.findings else "sound"
        last = f"{self.path}: {verdict} ({looked}; {sums})"
        return [one_line(line) for line in (*self.findings, *self.notes, last)]

    def add(self, faults: list[str], kind: str) -> None:
        """Add findings of one kind, and count those that are too many to list."""
        self.findings += faults[:SHOWN]
        if len(faults) > SHOWN:
            self.findings.append(f"… and {len(faults) - SHOWN:,} more {kind}")

    def hold(self, what: str, faults: Iterator[str]) -> None:
        """Add the faults that a check finds, up to the error that ends it.

        Args:
            what: What the check looks at. It becomes a note where redraft does not handle that kind.
            faults: One in each line.
        """
        found: list[str] = []
        try:
            found.extend(faults)
        except NotHandled as error:
            self.notes.append(f"{what} was not looked at: {error.message}")
        except ModelError as error:
            found.append(error.message)
        self.add([each for each in found if each not in self.findings], "of that kind")
