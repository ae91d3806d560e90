"""How an output was made, written beside it as `OUT.run.json`: settings, input, and every session that wrote.

A file is only ever gone on with by the same command with the same settings on the same input, so that all
of it was made alike. Input may have grown at its end; what was there before must not have changed, because
lines are often known by their number alone. Speed (`--parallel`, threads) is no part of the settings.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redraft
from redraft.errors import OutputError, UsageError
from redraft.files import replace_file


@dataclass(frozen=True)
class Making:
    """What makes an output what it is.

    Attributes:
        command: The verb, such as `answer`.
        config: Everything that decides the results, as JSON values: model, sampling, seed, mode, checks…
        source: The file that the items come from; None where there is none.
        name: What to call that file, if not by its path.
    """

    command: str
    config: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None
    name: str | None = None

    def fingerprint(self, length: int | None = None) -> dict[str, Any] | None:
        """Name, length in bytes and SHA-256 of the source, or of its first `length` bytes.

        Raises:
            UsageError: It cannot be read.
        """
        return (
            None if self.source is None else _fingerprint(self.source, self.name or str(self.source), length)
        )


class RunFile:
    """The file `OUT.run.json`. One session at a time writes to it: the one that holds the ledger's lock.

    Args:
        output: What it is about.
        elsewhere: How the command is told of another output, for hints.
        as_before: What to add to "run it as before", for hints.
        anew: How what is there is given up, for hints. By default by hand.
    """

    def __init__(
        self,
        output: Path,
        *,
        elsewhere: str = "to another file with -o",
        as_before: str = "",
        anew: str | None = None,
    ) -> None:
        self.output, self._elsewhere, self._as_before, self._anew = output, elsewhere, as_before, anew
        named = output.resolve() if output.name in {"", ".."} else output
        self.path = named.parent / f"{named.name}.run.json"
        self.record: dict[str, Any] = {}

    def read(self) -> dict[str, Any] | None:
        """The record, or None where there is none that can be read."""
        try:
            record = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return record if _is_record(record) else None

    def holder(self) -> int | None:
        """The process of the last session, if that session did not end."""
        sessions = (self.read() or {}).get("sessions") or [{}]
        last = sessions[-1]
        return None if "ended" in last else last.get("pid")

    def insist(self, making: Making) -> None:
        """Sees to it that an output that has results was made in this way.

        Raises:
            OutputError: It was made in another way, or nothing says how.
            UsageError: The input cannot be read.
        """
        before = self.read()
        if before is None:
            name = self.path.name
            why = f"{name} cannot be read" if self.path.exists() else f"no {name} says how it was made"
            raise OutputError(
                f"{self.output} is not empty, and {why}.",
                hint=f"Write {self._elsewhere}, or {self._anew or 'move this one away'}.",
            )
        if found := list(_differences(before, making)):
            raise OutputError(
                f"{self.output} was made in another way: {'; '.join(found)}.",
                hint=f"Run it as before{self._as_before} to go on, write {self._elsewhere}, or "
                f"{self._anew or f'delete {self.output} to start over'}.",
            )

    def begin(self, making: Making, *, resume: bool, **about: Any) -> None:
        """Begins a session.

        Args:
            making: What the session is about to do.
            resume: The output has results of earlier sessions, which are to be remembered.
            about: What else to remember of this session, as JSON values. It is never compared.

        Raises:
            OutputError: It cannot be written.
            UsageError: The input cannot be read.
        """
        before = self.read() if resume else None
        self.record = {
            "command": making.command,
            "config": _as_json(making.config),
            "source": making.fingerprint(),
            "sessions": [*(before or {}).get("sessions", ()), _session() | about],
        }
        self._write()

    def end(self, **figures: int) -> None:
        """Ends the session, with figures of what it did."""
        self.record["sessions"][-1] |= {"ended": _now(), **figures}
        self._write()

    def _write(self) -> None:
        text = json.dumps(self.record, indent=1, ensure_ascii=False) + "\n"
        try:
            replace_file(self.path, text.encode("utf-8", "replace"))
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}.",
                hint=f"Make room, or write {self._elsewhere}.",
            ) from None


def _is_record(record: Any) -> bool:
    """Whether a JSON value has the form that `RunFile.begin` writes, as far as it is read again."""
    if not isinstance(record, dict) or not isinstance(record.get("config", {}), dict | None):
        return False
    sessions, source = record.get("sessions", []), record.get("source")
    listed = isinstance(sessions, list) and all(isinstance(each, dict) for each in sessions)
    return listed and (source is None or (isinstance(source, dict) and _is_source(source)))


def _is_source(source: dict[str, Any]) -> bool:
    return isinstance(source.get("path"), str) and isinstance(source.get("bytes", 0), int)


def _fingerprint(source: Path, name: str, length: int | None) -> dict[str, Any]:
    try:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size if length is None else length
            digest = hashlib.sha256()
            for block in _blocks(file, size):
                digest.update(block)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}.", hint="Name a file of prompts.") from None
    return {"path": name, "bytes": size, "sha256": digest.hexdigest()}


def _blocks(file: Any, size: int, block: int = 1 << 20) -> Iterator[bytes]:
    while size > 0 and (data := file.read(min(size, block))):
        size -= len(data)
        yield data


def _differences(before: dict[str, Any], making: Making) -> Iterator[str]:
    if before.get("command") != making.command:
        yield f"by {before.get('command')}, not by {making.command}"
    old, new = before.get("config") or {}, _as_json(making.config)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name} was {_brief(old.get(name))} and is {_brief(new.get(name))}"
    yield from _source_differences(before.get("source"), making)


def _source_differences(old: dict[str, Any] | None, making: Making) -> Iterator[str]:
    name = making.name or str(making.source or "nothing")
    if old is None or making.source is None:
        if (old is None) != (making.source is None):
            yield f"the input was {old['path'] if old else 'nothing'} and is {name}"
        return
    if Path(old["path"]).name != Path(name).name:  # ids are made of it
        yield f"the input was {old['path']} and is {name}"
        return
    new = making.fingerprint(old["bytes"])
    if new and new["sha256"] != old["sha256"]:
        yield f"the input ({name}) is not what it was (lines may be added at its end, but not changed)"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    """The values as they will be read back, so that a tuple equals the list that it becomes."""
    record: dict[str, Any] = json.loads(json.dumps(config))
    return record


def _session() -> dict[str, Any]:
    return {
        "redraft": redraft.__version__,
        "commit": commit(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def commit() -> str | None:
    """The git commit of this redraft, `-dirty` where it is changed; None where it runs from no checkout."""
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    if not (root / ".git").exists() or root / "src" / "redraft" != package:
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        # Not `describe --dirty`: it locks the index, and leaves the lock behind when it is killed.
        changed = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changed else head


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
    return done.stdout.strip()
