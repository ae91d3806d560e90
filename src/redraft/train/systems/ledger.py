"""What is done of a run: a record of each stage in `DIR/.run`, and hashes of what stages read and made.

A stage is done if its record ended, its options and the content of all that it reads are as recorded, and its
output is as it left it. What an output holds in the middle is the verb's own matter: it resumes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from redraft.errors import OutputError
from redraft.jobs.provenance import ContentHashes, Provenance, RunFile, differences
from redraft.train.systems.recipe import Stage

_SHORT = 16  # digits of a hash in a record: 64 bits


class Kind(Enum):
    """How far a stage is."""

    NEW = "make"
    BEGUN = "resume"
    CHANGED = "make again"
    DONE = "done"
    EDITED = "edited"


class State(NamedTuple):
    """How far a stage is, and why it is made again."""

    kind: Kind
    why: str = ""


class Ledger:
    """The records of the stages of a run in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes = ContentHashes(folder / ".run" / "hashes.json")

    def out(self, stage: Stage) -> Path:
        """Return the output of a stage."""
        return self.folder / stage.out

    def record(self, stage: Stage) -> RunFile:
        """Return the file of a stage's record."""
        return RunFile(self.folder / ".run" / stage.name)

    def edited(self, stage: Stage) -> str:
        """Return what to add to its verb if someone edited its output, and the run went on with that."""
        return ", then edited" if (self.record(stage).read() or {}).get("edited") else ""

    def provenance(self, stage: Stage, read: Mapping[str, str | None]) -> Provenance:
        """Return how a stage's output is made; `read` are hashes of what it reads."""
        content = {f"the content of {name}": (each or "")[:_SHORT] for name, each in read.items()}
        config = {**stage.options, **content}
        return Provenance(stage.verb, config | ({"command": stage.command} if stage.command else {}))

    def state(self, stage: Stage, made: Provenance) -> State:
        """Return how far a stage is.

        Raises:
            OutputError: A file that no stage made has the name of its output.
        """
        record, out = self.record(stage).read(), self.out(stage)
        if record is None:
            if out.exists():
                raise OutputError(
                    f"{out} is there, and no run made it.",
                    hint="Move it away, or name another folder: -o DIR",
                )
            return State(Kind.NEW)
        now = {"command": made.command, "config": json.loads(json.dumps(made.config))}
        if why := list(differences(record, now, None)):
            return State(Kind.CHANGED, "; ".join(why))
        if not record.get("made"):
            return State(Kind.BEGUN)
        if (found := self.hashes.of(out)) is None:
            return State(Kind.NEW, f"{out.name} is gone")
        return State(Kind.DONE if found == record["made"] else Kind.EDITED)

    def set_aside(self, stage: Stage) -> None:
        """Move an old output and its side files into `before`. Its journal stays: replies are paid for."""
        out = self.out(stage)
        beside = [each for each in out.parent.glob(f"{out.name}*") if _belongs(each.name, out.name)]
        if beside:
            before = self.folder / "before"
            before.mkdir(exist_ok=True)
            number = sum(1 for _ in before.glob(f"{stage.name}-*")) + 1
            place = before / f"{stage.name}-{number}"
            place.mkdir()
            for each in beside:
                each.rename(place / each.name)
        self.record(stage).path.unlink(missing_ok=True)


def _belongs(name: str, out: str) -> bool:
    return name == out or (name.startswith(f"{out}.") and ".journal.db" not in name)


def spent(record: Mapping[str, Any] | None) -> dict[str, float]:
    """Return seconds, tokens and USD of all sessions in a stage's record."""
    total = {"seconds": 0.0, "tokens": 0.0, "usd": 0.0}
    for session in (record or {}).get("sessions", ()):
        for name in total:
            total[name] += session.get(name) or 0.0
    return total
