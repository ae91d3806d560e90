"""An output file that is its own ledger: what is in it is done.

An item's result is one line of JSON that holds the item's id, or several, of which the last one says so.
Nothing else remembers what was done, so nothing can disagree with the output. An item that gave no line is
done again by the next run.

A killed process leaves at most one item's torn result, and the next run cuts it off. The file is locked while
it is open. Failed items are written to `OUT.errors.jsonl` and are tried again by the next run. Results stand
in the order in which they were finished. A power cut may lose the last lines, which are synced on closing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from redraft.errors import OutputError, RecordError, RedraftError
from redraft.jobs.causes import cause_of
from redraft.jobs.files import lock, replace_file
from redraft.jobs.ids import IdSet
from redraft.jobs.lines import LineFile, own_lines, parse_line, read_lines
from redraft.jobs.provenance import Provenance, RunFile

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings that promise what lines added one by one are not."""


def record_id(record: dict[str, Any]) -> str:
    """Return the field `id` of a record."""
    return str(record["id"])


def check_ending(path: Path) -> None:
    """Raise if an output has the name of a compressed file."""
    if path.suffix.lower() in _COMPRESSED:
        raise OutputError(
            f"{path} has the name of a compressed file, and a job writes plain lines of JSON.",
            hint=f"Write -o {path.with_suffix('')}, and compress it when it is complete.",
        )


def failures(output: Path) -> dict[str, dict[str, Any]]:
    """Return the last failure of each item beside an output, by the item's id, with its cause.

    Lines of other programs are skipped.
    """
    found = map(parse_line, read_lines(output.with_name(f"{output.name}.errors.jsonl")))
    return {
        record["id"]: record
        for record in found
        if record and all(isinstance(record.get(name), str) for name in ("id", "cause", "error"))
    }


def done_in(path: Path, provenance: Provenance, key: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """Yield the ids of what is done in an output that nobody writes to, with one line an item.

    Raises:
        OutputError: It is being written, or was made in another way.
        RecordError: A line in it is not a result.
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
    """Return the id of a line of an output. Raise `RecordError` if it is not a result."""
    hint = f"Was it written by redraft? Correct or remove the line, or move {path} away."
    if record is None:
        raise RecordError(f"{path}:{number}: not a JSON object.", hint=hint)
    try:
        return key(record)
    except KeyError as field:
        raise RecordError(f"{path}:{number}: {field.args[0]} is missing.", hint=hint) from None


class InUse(OutputError):
    """Another process has locked an output."""


def being_written(path: Path, run: RunFile) -> InUse:
    """Return the error for an output that another process has locked."""
    holder = run.holder()
    return InUse(
        f"{path} is being written by another redraft{f' (process {holder})' if holder else ''}.",
        hint="Wait until it is done, or write to another file with -o.",
    )


class Ledger(AbstractContextManager["Ledger"]):
    """An output file, open for one process to add results to."""

    def __init__(
        self,
        path: Path,
        provenance: Provenance,
        *,
        key: Callable[[dict[str, Any]], str] = record_id,
        is_last: Callable[[dict[str, Any]], bool] = lambda _: True,
        on_found: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Open and lock the file, cut off what is torn, and read what is done. Arguments are as in `Job`.

        Raises:
            OutputError: It cannot be written, is in use by another process, was made in another way,
                or has the name of a compressed file.
            RecordError: A line in the middle is not a result.
        """
        check_ending(path)
        self.path = path
        self.done = IdSet()
        # Why items that are not done failed, counted; and message and hint of the first that is listed as
        # failed, if one is. Complete when the ledger is closed.
        self.causes: Counter[str] = Counter()
        self.first_failure = ""
        self._failed = 0
        self.torn = 0  # bytes of a torn result that were cut off
        self.figures: Callable[[], dict[str, float]] = dict  # more figures of this session, for its record
        self._key, self._is_last = key, is_last
        self._run = RunFile(path)
        self.fresh = not os.path.exists(path)  # noqa: PTH110  (False where it cannot be told)
        self._lines = LineFile(path)
        self._errors_path = path.with_name(path.name + ".errors.jsonl")
        self._errors: LineFile | None = None
        try:
            self._lock()
            self.fresh = self.fresh and not self._lines.size  # another process may have been faster
            if self._lines.size:
                self._run.check(provenance)
            if os.path.lexists(self._errors_path):  # it is rewritten at the end, so it has to be one
                LineFile(self._errors_path, made_up=True).close()
                for _ in own_lines(self._errors_path, "failures", lambda it: isinstance(it.get("id"), str)):
                    pass
            self._recover(on_found)
            # A run that finished no item may have paid for some: its session is kept too.
            resume = len(self.done) > 0 or (not self.fresh and self._run.is_of(provenance))
            self._run.begin(provenance, resume=resume)
        except BaseException:
            self._lines.close()
            raise
        self.found = len(self.done)  # items that were done before

    def append(self, item_id: str, *lines: str) -> None:
        """Add the result of an item: lines of JSON, without line breaks.

        Raises:
            OutputError: It cannot be written; the output is unchanged.
        """
        self._lines.append(*lines)
        self.done.add(item_id)

    def fail(self, item_id: str, error: RedraftError) -> None:
        """Record that an item failed, with the chain so far. The next run tries the item again."""
        if self._errors is None:
            self._errors = LineFile(self._errors_path, made_up=True)
            self._errors.cut(sum(len(line) for line in read_lines(self._errors_path) if line.endswith(b"\n")))
        chain = error.chain.model_dump(mode="json") if error.chain else None
        record: dict[str, Any] = {"id": item_id, "cause": cause_of(error), "error": type(error).__name__}
        record |= {"message": error.message, "hint": error.hint, "chain": chain}
        self._errors.append(json.dumps(record, ensure_ascii=False))
        self._failed += 1

    def close(self) -> None:
        """Sync the output, remove the failures of items that are done, and release the lock."""
        if self._errors:
            self._errors.close()
        # On a full disk these two fail, and an error that says so is on its way already.
        with contextlib.suppress(OSError, OutputError):
            self._tidy_failures()
            counts = {"done": len(self.done), "added": len(self.done) - self.found, "failed": self._failed}
            self._run.end(**counts, **self.figures())
        self._lines.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        if not self._lines.lock():
            raise being_written(self.path, self._run)

    def _recover(self, on_found: Callable[[bytes], None]) -> None:
        whole = size = 0
        lines: list[bytes] = []  # of the item that is read
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
        """Keep the last failure of each item that is not done. Remove the file if there is none."""
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
        self.first_failure = " ".join(filter(None, [first.get("message"), first.get("hint")]))
        replace_file(self._errors_path, b"".join(last.values()))
