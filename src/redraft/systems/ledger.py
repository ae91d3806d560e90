"""What is done of a run: a record of each stage in `DIR/.run`, and hashes of what stages read and made.

A stage is done if its record ended, its options and the content of all that it reads are as recorded, and its
output is as it left it. What an output holds in the middle is the verb's own matter: it resumes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from redraft.errors import OutputError
from redraft.files import sha256_of, write_file
from redraft.jobs.provenance import Provenance, RunFile, differences
from redraft.systems.recipe import Stage

_NOT_RESULTS = re.compile(r"(^|/)(\.|checkpoint-)|\.(run\.json|lock)$|\.journal\.db")
"""What in an output folder is no result: locks, checkpoints and records."""

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


class Hashes:
    """SHA-256 of files and folders. What was not touched since is not read again: size and time say it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, AttributeError):
            self._known = dict(json.loads(path.read_bytes()).items())

    def of(self, path: Path) -> str | None:
        """Return the hash of a file, or of a folder's files with their names; None if it is not there."""
        files = sorted(_files(path))
        if not files:
            return None
        stats = [(name, each.stat()) for name, each in files]
        seen = _hash(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        if (known := self._known.get(str(path), ["", ""]))[0] == seen:
            return known[1]
        whole = path.is_file()
        found = sha256_of(path) if whole else _hash(f"{name} {sha256_of(each)}" for name, each in files)
        self._known[str(path)] = [seen, found]
        if self._path.parent.is_dir():  # not in a dry run
            write_file(self._path, json.dumps(self._known, indent=1).encode())
        return found


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
    for each in path.rglob("*") if path.is_dir() else ():
        name = each.relative_to(path).as_posix()
        if each.is_file() and not _NOT_RESULTS.search(name):
            yield name, each


def _hash(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Ledger:
    """The records of the stages of a run in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes = Hashes(folder / ".run" / "hashes.json")

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
