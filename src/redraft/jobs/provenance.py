"""Record the provenance of an output in `OUT.run.json`: settings, input, and each session.

Only the same command with the same settings and input may add to an output, so that all results are
comparable. The input may have new lines at the end, but the earlier lines must be the same, because ids are
often line numbers. Options that only change the speed (`--parallel`, threads) are not recorded as settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redraft
from redraft.errors import OutputError, UsageError
from redraft.jobs.files import sha256_of, write_file
from redraft.jobs.machine import cache_folder

_CONTENT = "the content of "  # precedes the name of an option in the record
_BRIEF = 60  # characters of a setting to show
_INPUTS = ("inputs", "against")  # fields of a record with fingerprints of more files
_PREFIX = re.compile(r"[a-z-]+(?:\[[^\]]*\])?:")  # in `script:FILE` and `reward[0.7]:FOLDER`
_BLOCK = 1 << 20  # bytes of a file that are read at once
_NOT_RESULTS = re.compile(r"(^|/)(\.|checkpoint-)|\.(run\.json|lock)$|\.journal\.db")
"""Paths in an output folder that are not results: locks, checkpoints and records."""


@dataclass(frozen=True)
class Provenance:
    """The command, settings and input from which an output is made."""

    command: str  # the verb, such as `answer`
    # Everything that decides the results, as JSON values: model, sampling, seed, mode, checks…
    config: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None  # the file that the items come from; `name` is its name, if not its path
    name: str | None = None

    def fingerprint(self, length: int | None = None) -> dict[str, Any] | None:
        """Return name, size in bytes and SHA-256 of the source, or of the source's first `length` bytes."""
        return None if self.source is None else fingerprint([self.source], self.name, length)


class RunFile:
    """The file `OUT.run.json`. Only the session that has locked the output writes to this file.

    Hints of error messages contain `elsewhere`, which names another output, and `start_over`, which says how
    to start over (None: delete the output).
    """

    def __init__(
        self, output: Path, *, elsewhere: str = "to another file (-o)", start_over: str | None = None
    ) -> None:
        self.output, self._elsewhere, self._start_over = output, elsewhere, start_over
        named = output.resolve() if output.name in {"", ".."} else output
        self.path = named.parent / f"{named.name}.run.json"
        self.record: dict[str, Any] = {}

    def read(self) -> dict[str, Any] | None:
        """Return the run record, or None if the file is missing or damaged."""
        try:
            record = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return record if _is_record(record) else None

    def holder(self) -> int | None:
        """Return the process id of an unfinished last session, otherwise None."""
        sessions = (self.read() or {}).get("sessions") or [{}]
        return None if "ended" in sessions[-1] else sessions[-1].get("pid")

    def paid(self) -> str:
        """Describe the cost of all sessions. Return an empty text for a single session."""
        sessions = (self.read() or {}).get("sessions") or []
        if len(sessions) < 2:
            return ""
        tokens, usd = (sum(each.get(name) or 0 for each in sessions) for name in ("tokens", "usd"))
        least = "" if all("tokens" in each for each in sessions) else "at least "  # one was killed
        money = f", {usd:,.4f} USD" if usd else ""
        how = " (estimated)" * any(each.get("estimated") for each in sessions)
        return f"{least}{tokens:,} new tokens{money}{how} in {len(sessions)} runs, failures included"

    def check(self, provenance: Provenance) -> None:
        """Raise `OutputError` if existing results have other settings or input, or no run record."""
        if (before := self.read()) is None:
            name = self.path.name
            why = f"{name} cannot be read" if self.path.exists() else f"its record {name} is missing"
            hint = f"Write {self._elsewhere}, or {self._start_over or f'move {self.output} away'}."
            raise OutputError(f"{self.output} is not empty, but {why}.", hint=hint)
        if found := list(_differences(before, provenance)):
            journal = self.path.with_name(f"{self.path.name.removesuffix('.run.json')}.journal.db")
            kept = f"\n{journal} has the replies, so the same requests cost nothing."
            raise OutputError(
                f"{self.output} was made differently: {'; '.join(found)}.",
                hint=f"Repeat the earlier command to resume, write {self._elsewhere}, or "
                f"{self._start_over or f'delete {self.output} to start over'}."
                f"{kept if journal.exists() else ''}",
            )

    def is_of(self, provenance: Provenance) -> bool:
        """Return whether there is a record with the settings and input of `provenance`."""
        before = self.read()
        return before is not None and not any(_differences(before, provenance))

    def begin(self, provenance: Provenance, *, resume: bool, **about: Any) -> None:
        """Begin a session.

        Args:
            resume: Whether to keep earlier sessions. They should be kept if they wrote or paid for results.
            about: More fields for this session, which are never compared.
        """
        before = self.read() if resume else None
        sessions = [*(before or {}).get("sessions", ()), _session() | about]
        self.write(_record(provenance, provenance.fingerprint(), sessions))

    def end(self, **figures: float) -> None:
        """Record the end of the session and figures of the session, such as the number of failed items."""
        self.record["sessions"][-1] |= {"ended": now(), **figures}
        self.write(self.record)

    def note(self, **about: Any) -> None:
        """Add fields to the run record, as JSON values."""
        self.write((self.read() or {}) | about)

    def put(
        self, provenance: Provenance, *, source: dict[str, Any] | None, about: dict[str, Any], **figures: Any
    ) -> None:
        """Write the run record of a finished output that was made in one session.

        `about` is added to the record, and `figures` to the session.
        """
        self.write(_record(provenance, source, [_session() | {"ended": now()} | figures]) | about)

    def write(self, record: dict[str, Any]) -> None:
        """Write a record to the file."""
        self.record = record
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        write_file(self.path, text.encode("utf-8", "replace"), hint=f"Make room, or write {self._elsewhere}.")


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("config", {}), dict | None):
        return False
    sessions, source = record.get("sessions", []), record.get("source")
    if not isinstance(sessions, list) or not all(isinstance(each, dict) for each in sessions):
        return False
    if not isinstance(source, dict):
        return source is None
    return isinstance(source.get("path"), str) and isinstance(source.get("bytes", 0), int)


def licences_beside(output: Path) -> list[str]:
    """Return the licences of a file's sources, from the file's provenance record."""
    found = (RunFile(output).read() or {}).get("licences")
    return sorted(map(str, found)) if isinstance(found, dict) else []


def fingerprint(files: Sequence[Path], name: str | None = None, length: int | None = None) -> dict[str, Any]:
    """Return name, size in bytes and SHA-256 of a file, or of several files joined in the given order.

    For a missing file, or a stream that cannot be read twice, return only the name.

    Args:
        name: The recorded name. The default is the path of the first file.
        length: The number of bytes to read from each file, if not all.
    """
    name = name or ("standard input" if str(files[0]) == "-" else str(files[0]))
    if len(files) == 1 and not files[0].is_file():
        return {"path": name}
    digest, total = hashlib.sha256(), 0
    for path in files:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size if length is None else length
                left = size
                while left > 0 and (block := file.read(min(left, _BLOCK))):
                    digest.update(block)
                    left -= len(block)
                total += size
        except OSError as error:
            message = f"cannot read {path if len(files) > 1 else name}: {error.strerror}."
            raise UsageError(message, hint="Check that it is a file and that you may read it.") from None
    return {"path": name, "bytes": total, "sha256": digest.hexdigest()}


class ContentHashes:
    """SHA-256 of files and folders. The file `path` stores the hashes until sizes or times change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, AttributeError):
            self._known = dict(json.loads(path.read_bytes()).items())

    def of(self, path: Path) -> str | None:
        """Return the hash of a file, or of a folder's file names and contents; None if there are no files."""
        inside = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else []
        names = [(each.relative_to(path).as_posix(), each) for each in inside]
        files = sorted(pair for pair in names if not _NOT_RESULTS.search(pair[0]))
        if not (files := [(path.name, path)] if path.is_file() else files):
            return None
        stats = [(name, each.stat()) for name, each in files]
        seen = _hash(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        if (known := self._known.get(str(path.absolute()), ["", ""]))[0] == seen:
            return known[1]
        whole = path.is_file()
        found = sha256_of(path) if whole else _hash(f"{name} {sha256_of(each)}" for name, each in files)
        self._known = {name: each for name, each in self._known.items() if os.path.lexists(name)}
        self._known[str(path.absolute())] = [seen, found]
        if self._path.parent.is_dir():  # not in a dry run
            write_file(self._path, json.dumps(self._known, indent=1).encode())
        return found


def _hash(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def contents_of(named: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Return the hashes of the files and folders that options name, for the settings in the run record.

    Scripts of replies (`script:FILE`), which may change between runs, are skipped.
    """
    hashes = ContentHashes(cache_folder() / "hashes.json")
    files = {name: each for name, each in named.items() if not str(each).startswith("script:")}
    found = {name: [hashes.of(path) for path in paths_in(each)] for name, each in files.items()}
    return {_CONTENT + name: each for name, each in found.items() if each}


def paths_in(value: Any) -> Iterator[Path]:
    """Yield the existing paths in an option: both parts of `base+adapter`, and FILE in `judge:FILE`."""
    if isinstance(value, list | tuple | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from paths_in(each)
    elif isinstance(value, str | Path):
        text = str(value)
        named = _PREFIX.sub("", text)
        for name in dict.fromkeys([text, named, *named.split("+")]):
            with suppress(OSError, RuntimeError, ValueError):  # a long text, an unknown user, a zero byte
                if (path := Path(name).expanduser()).exists() and path.name not in {"", ".."}:
                    yield path


def content(file: Path) -> dict[str, Any]:
    """Return a file's name without the folder, size in bytes, and SHA-256."""
    return {**fingerprint([file]), "path": file.name}


def _record(
    provenance: Provenance, source: dict[str, Any] | None, sessions: list[dict[str, Any]]
) -> dict[str, Any]:
    config = json.loads(json.dumps(provenance.config))
    return {"command": provenance.command, "config": config, "source": source, "sessions": sessions}


def _differences(before: dict[str, Any], provenance: Provenance) -> Iterator[str]:
    yield from _changed(before, _record(provenance, None, []))
    yield from _source_differences(before.get("source"), provenance)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    if before.get("command") != after.get("command"):
        yield f"by {before.get('command')}, not by {after.get('command')}"
    old, new = before.get("config") or {}, after.get("config") or {}
    for name in sorted(old.keys() | new.keys()):
        usual = "default" if name == "model" else None  # earlier versions stored null for the default model
        pair = [usual if each.get(name) is None else each[name] for each in (old, new)]
        if pair[0] != pair[1]:
            was, now_is = map(_in_words, pair)
            name = name.replace("tokens_sha256", f"{_CONTENT}the training tokens")
            said = f"{name} was {was} and is {now_is}" if was != now_is else f"{name} ({was}) changed"
            yield f"{name} changed" if name.startswith(_CONTENT) else said  # hashes say nothing


def differences(first: dict[str, Any], other: dict[str, Any], source: Path | None) -> Iterator[str]:
    """Yield a text for each difference between the run records of two outputs.

    Inputs of different lengths count as equal if both are beginnings of the file `source`.
    """
    yield from _changed(first, other)
    for name in _INPUTS:
        files = [[file.get("sha256") for file in record.get(name) or ()] for record in (first, other)]
        if files[0] != files[1]:
            yield f"the files of {name} differ"
    inputs = [record.get("source") or {} for record in (first, other)]
    if inputs[0].get("sha256") == inputs[1].get("sha256"):
        return
    if source is None or {} in inputs:
        names = [each.get("path", "nothing") for each in inputs]
        yield "the input was {} and is {}, with other content".format(*names)
        return
    for each in inputs:
        yield from _source_differences(each, Provenance("", source=source))


def united(records: Sequence[dict[str, Any]], counted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the run record of merged outputs. Counts of licences and dropped records come from `counted`."""
    sessions = {json.dumps(each, sort_keys=True): each for r in records for each in r.get("sessions", ())}
    ordered = sorted(sessions.values(), key=lambda session: str(session.get("started")))
    longest = max(records, key=lambda record: (record.get("source") or {}).get("bytes") or 0)
    counts = {name: Counter[str]() for name in ("licences", "dropped") if any(name in r for r in counted)}
    for name, count in counts.items():
        for record in counted:
            count.update(record.get(name) or {})
    return (
        longest | {"sessions": ordered} | {name: dict(sorted(each.items())) for name, each in counts.items()}
    )


def _source_differences(old: dict[str, Any] | None, provenance: Provenance) -> Iterator[str]:
    name = provenance.name or str(provenance.source or "nothing")
    if old is None or provenance.source is None:
        if (old is None) != (provenance.source is None):
            yield f"the input was {old['path'] if old else 'nothing'} and is {name}"
        return
    if Path(old["path"]).name != Path(name).name:  # ids begin with the file's name
        yield f"the input was {old['path']} and is {name}"
        return
    new = provenance.fingerprint(old.get("bytes"))
    if new and new.get("sha256") != old.get("sha256"):
        yield f"the input ({name}) has changed (lines may only be added at its end)"


def _in_words(value: Any) -> str:
    if isinstance(value, bool | None):
        return {True: "on", False: "off", None: "not set"}[value]
    if isinstance(value, list):
        text = ", ".join(map(_in_words, value)) or "none"
    elif isinstance(value, dict):
        named = value.get("name") or value.get("path")
        text = str(named or ", ".join(f"{key} {_in_words(each)}" for key, each in value.items()) or "none")
    else:
        text = str(value)
        text = text if text and not any(map(str.isspace, text)) else json.dumps(text, ensure_ascii=False)
    return text if len(text) <= _BRIEF else text[: _BRIEF - 1] + "…"


def _session() -> dict[str, Any]:
    return {"redraft": redraft.__version__, "pid": os.getpid(), "started": now()}


def now() -> str:
    """Return the current UTC time in ISO format, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
