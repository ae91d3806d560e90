"""A run of one of the ways to spend tokens, over the records of a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redraft.chain import Chain, read_jsonl
from redraft.evaluation.diagnosis.ways import Way, reader_of, retold, strangers, voted
from redraft.evaluation.tasks.run import ScoredRun
from redraft.verify.base import Check


@dataclass
class WayRun(ScoredRun):
    """A run of a way.

    Attributes:
        way: The way.
        given: The records.
        guides: The checks that guide; none for those of the task.
        revised: The file of the way `revise`, which tells strangers' feedback.
    """

    way: Way = None  # type: ignore[assignment]
    given: tuple[Chain, ...] = ()
    guides: tuple[Check, ...] = ()
    revised: Path = Path()

    def __post_init__(self) -> None:
        self.verb = f"diagnose {self.task}"

    def records(self) -> Iterator[Chain]:
        """Yield the records."""
        return iter(self.given)

    @cached_property
    def _told(self) -> Mapping[str, str]:
        return strangers(read_jsonl(self.revised)) if self.way.kind == "shuffled" else {}

    def options_of(self, record: Chain) -> Mapping[str, Any]:
        """Return the checks that guide the chain of a record, as the way tells them."""
        checks = self.guides or self.checks(record)
        if self.way.kind in ("blind", "shuffled"):
            checks = retold(checks, self._told.get(record.id, ""))
        elif self.way.kind == "vote":
            checks = retold(checks, never=True)
        return {"checks": checks}

    async def finish(self, chain: Chain, record: Chain) -> Chain | None:
        """Return a chain with its voted answer, and the truth about its answers."""
        said = reader_of(self.checks(record)) if self.way.kind == "vote" else None
        return await super().finish(voted(chain, said) if said else chain, record)
