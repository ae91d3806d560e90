"""Use the output file of a job as the only record of finished items.

An item is finished if the output contains the item's result: one or several lines of JSON with the item's
id. No other file lists the finished items, so no list can disagree with the output. The next run processes
all items without a result.

A killed process leaves at most one incomplete result, which the next run removes. The output is locked while
open. Failed items are written to `OUT.errors.jsonl`, and the next run retries the items. Results are stored
in the order of completion. A power cut may lose the last lines, which are synced on closing.

Unfinished work is kept in `OUT.unfinished.jsonl`, so that the next run does not pay twice. If an item has
several lines in that file, the last line counts. Incomplete or damaged lines, and lines from runs with other
settings, are skipped. If the file cannot be written, no work is kept. Lines are written at once and synced
once a second, so a power cut costs only the last second's work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from redraft.errors import OutputError, RecordError, RedraftError, one_line
from redraft.jobs.causes import cause_of
from redraft.jobs.files import lock, open_plain, replace_file, replacing
from redraft.jobs.ids import IdSet
from redraft.jobs.lines import LineFile, own_lines, parse_line, read_lines
from redraft.jobs.provenance import Provenance, RunFile

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings of compressed files, to which a job cannot append lines."""


def record_id(record: dict[str, Any]) -> str:
    """Return a record's id."""
    return str(record["id"])


def check_ending(path: Path) -> None:
    """Raise `OutputError` if an output has the ending of a compressed file or a table."""
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        message = f"{path} is named like a table, but the output is JSON Lines."
        raise OutputError(message, hint=f"Write -o {path.with_suffix('.jsonl')}")
    if path.suffix.lower() in _COMPRESSED:
        message = f"{path} is named like a compressed file, but a job writes plain lines of JSON."
        hint = f"Write -o {path.with_suffix('')}, and compress the file when the job is done."
        raise OutputError(message, hint=hint)


def failures(output: Path) -> dict[str, dict[str, Any]]:
    """Map the ids of items to their last failures in `OUT.errors.jsonl`. Invalid lines are skipped."""
    return {
        record["id"]: record
        for record in map(parse_line, read_lines(output.with_name(f"{output.name}.errors.jsonl")))
        if record and all(isinstance(record.get(name), str) for name in ("id", "cause", "error"))
    }


def done_in(path: Path, provenance: Provenance, key: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """Yield the ids of the finished items in a closed output that has one line per item.

    Raises:
        OutputError: The output is being written, or was made with other settings.
        RecordError: A line is not a result.
    """
    run = RunFile(path)
    with path.open("rb") as file:
        if not lock(file.fileno(), shared=True):
            raise being_written(path, run)
        if os.fstat(file.fileno()).st_size:
            run.check(provenance)
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield id_in(parse_line(line), path, number, key)


def id_in(
    record: dict[str, Any] | None, path: Path, number: int, key: Callable[[dict[str, Any]], str]
) -> str:
    """Return the item's id from a line of an output. Raise `RecordError` if the line is not a result."""
    hint = "Correct or remove the line. If redraft did not write the file, move it away."
    if record is None:
        raise RecordError(f"{path}:{number}: the line is not a JSON object.", hint=hint)
    try:
        return key(record)
    except KeyError as field:
        raise RecordError(f"{path}:{number}: the field {field.args[0]!r} is missing.", hint=hint) from None


class InUse(OutputError):
    """Another process has locked an output."""


def being_written(path: Path, run: RunFile) -> InUse:
    """Return the error for an output that another process has locked."""
    holder = run.holder()
    message = f"{path} is being written by another redraft process{f' ({holder})' if holder else ''}."
    return InUse(message, hint="Wait for that process.")


class Ledger(AbstractContextManager["Ledger"]):
    """An open output file, to which one process adds results. See `Job` for the arguments."""

    def __init__(
        self,
        path: Path,
        provenance: Provenance,
        *,
        key: Callable[[dict[str, Any]], str] = record_id,
        is_last: Callable[[dict[str, Any]], bool] = lambda _: True,
        on_found: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Open and lock the file, cut off an incomplete result, and find the finished items.

        Raises:
            OutputError: The file cannot be written, is in use by another process, was made with other
                settings, or is named like a compressed file or a table.
            RecordError: A line before the last is not a result.
        """
        check_ending(path)
        self.path = path
        self.done = IdSet()
        # The number of unfinished items by cause of failure, and the message and hint of the first listed
        # failure. Both are complete when the ledger is closed.
        self.causes: Counter[str] = Counter()
        self.first_failure = ""
        self._failed = 0
        self.torn = 0  # bytes of a torn result that were cut off
        self.figures: Callable[[], dict[str, float]] = dict  # more figures of this session, for its record
        self._key, self._is_last = key, is_last
        self._run = RunFile(path)
        self.fresh = not os.path.exists(path)  # noqa: PTH110  (False if it is unknown)
        self._lines = LineFile(path)
        self._errors_path = path.with_name(path.name + ".errors.jsonl")
        self._errors: LineFile | None = None
        try:
            self._lock()
            self.fresh = self.fresh and not self._lines.size  # another process may have written to it
            if self._lines.size:
                self._run.check(provenance)
            if os.path.lexists(self._errors_path):  # it is rewritten at the end, so it must be redraft's
                LineFile(self._errors_path, made_up=True).close()
                for _ in own_lines(self._errors_path, "failures", lambda it: isinstance(it.get("id"), str)):
                    pass
            self._recover(on_found)
            # A run that finished no item may have paid for items, so its session is kept too.
            resume = len(self.done) > 0 or (not self.fresh and self._run.is_of(provenance))
            self._run.begin(provenance, resume=resume)
        except BaseException:
            self._lines.close()
            raise
        self.found = len(self.done)  # items that earlier runs finished

    def append(self, item_id: str, *lines: str) -> None:
        """Append the result of an item: JSON texts. A line break is added to each.

        Raises:
            OutputError: The result cannot be written. The output is unchanged.
        """
        self._lines.append(*lines)
        self.done.add(item_id)

    def fail(self, item_id: str, error: RedraftError) -> None:
        """Write an item's failure and unfinished chain to the errors file. The next run retries the item."""
        if self._errors is None:
            self._errors = LineFile(self._errors_path, made_up=True)
            self._errors.cut(sum(len(line) for line in read_lines(self._errors_path) if line.endswith(b"\n")))
        chain = error.chain.model_dump(mode="json") if error.chain else None
        record: dict[str, Any] = {"id": item_id, "cause": cause_of(error), "error": type(error).__name__}
        record |= {"message": error.message, "hint": error.hint, "chain": chain}
        self._errors.append(json.dumps(record, ensure_ascii=False))
        self._failed += 1

    def __exit__(self, *_: object) -> None:
        """Sync the output, remove failures of finished items from the errors file, and release the lock."""
        if self._errors:
            self._errors.close()
        # On a full disk, these two fail too, and an earlier error has said so.
        with contextlib.suppress(OSError, OutputError):
            self._tidy_failures()
            counts = {"done": len(self.done), "added": len(self.done) - self.found, "failed": self._failed}
            self._run.end(**counts, **self.figures())
        self._lines.close()

    def _lock(self) -> None:
        if not self._lines.lock():
            raise being_written(self.path, self._run)

    def _recover(self, on_found: Callable[[bytes], None]) -> None:
        whole = size = 0
        lines: list[bytes] = []  # lines of the current item
        for number, line in enumerate(read_lines(self.path), start=1):
            record, size = parse_line(line), size + len(line)
            if record is None and size == self._lines.size:
                break
            name = id_in(record, self.path, number, self._key)
            lines.append(line)
            if record and self._is_last(record):
                self.done.add(name)
                for each in lines:
                    on_found(each)
                lines, whole = [], size
        if whole < size:
            self.torn = size - whole
            self._lines.cut(whole)

    def _tidy_failures(self) -> None:
        last: dict[str, bytes] = {}
        causes: dict[str, str] = {}
        for line in read_lines(self._errors_path):
            record = parse_line(line)
            if record is not None and record["id"] not in self.done:
                last[record["id"]] = line
                causes[record["id"]] = str(record.get("cause"))
        self.causes.update(causes.values())
        if not last:
            self._errors_path.unlink(missing_ok=True)
            return
        first = parse_line(next(iter(last.values()))) or {}
        self.first_failure = one_line(first.get("message", ""), first.get("hint"))
        replace_file(self._errors_path, b"".join(last.values()))


TIDIED_AT = 4 << 20
"""Size in bytes at which finished items leave `OUT.unfinished.jsonl`, and again whenever the size doubles."""

_LONGEST = 64 << 20  # longest line in bytes that is read
SYNCED_EVERY = 1.0  # seconds between two syncs. All streams wait during a sync.


class Unfinished(AbstractContextManager["Unfinished"]):
    """The unfinished work on an output's items.

    Args:
        output: The output file, locked by this process.
        provenance: The output's settings. Work from runs with other settings is not used.
        done: Ids of finished items, which the caller keeps up to date.
        forget: Whether to remove the file of unfinished work, because the output was deleted.
    """

    def __init__(
        self, output: Path, provenance: Provenance, done: Container[str], *, forget: bool = False
    ) -> None:
        self.path = output.with_name(output.name + ".unfinished.jsonl")
        # The settings that decide results, without the input, which may grow.
        settings = json.dumps([provenance.command, provenance.config], sort_keys=True)
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._done = done
        self._kept: dict[str, bytes] = {}  # the last line of each item
        self._lines: LineFile | None = None
        self._usable = True
        self._synced, self._tidy_at = 0.0, TIDIED_AT
        with contextlib.suppress(OSError):
            self._kept = dict(self._read())
        if forget and self._kept:
            self._kept = {}
            with contextlib.suppress(OSError):
                self.path.unlink()

    def get(self, item_id: str) -> Any:
        """Return an item's unfinished work, a JSON value, or None."""
        return json.loads(self._kept[item_id])["work"] if item_id in self._kept else None

    def keep(self, item_id: str, work: str) -> None:
        """Store an item's unfinished work, a JSON value, in place of the earlier value."""
        if not self._usable:
            return
        head = json.dumps({"id": item_id, "settings": self._settings})[:-1]
        line = f'{head}, "work": {work}}}'
        try:
            if self._lines is None or self._lines.size >= self._tidy_at:
                self._lines = self._tidied()
            self._lines.append(line)
            self._kept[item_id] = line.encode() + b"\n"
            now = time.monotonic()
            if now - self._synced >= SYNCED_EVERY:
                self._synced = now
                self._lines.sync()
        except (OSError, OutputError):
            self._usable = False

    def __exit__(self, *_: object) -> None:
        """Remove finished items from the file, or the whole file if all items are finished."""
        with contextlib.suppress(OSError, OutputError):
            if self._kept:
                self._lines = self._tidied()
                if not self._kept:
                    self.path.unlink()
        if self._lines is not None:
            self._lines.close()

    def _read(self) -> Iterator[tuple[str, bytes]]:
        with os.fdopen(open_plain(self.path, os.O_RDONLY), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return
            while line := file.readline(_LONGEST):
                record = parse_line(line)
                if record is None or record.get("settings") != self._settings or "work" not in record:
                    continue
                if isinstance(name := record.get("id"), str) and name not in self._done:
                    yield name, line

    def _tidied(self) -> LineFile:
        self._kept = {name: line for name, line in self._kept.items() if name not in self._done}
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        with replacing(self.path) as file:
            file.writelines(self._kept.values())
        lines = LineFile(self.path)
        self._tidy_at = max(TIDIED_AT, 2 * lines.size)
        return lines
