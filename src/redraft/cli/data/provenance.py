"""The provenance of an output of `redraft data`, in `OUT.run.json` beside it, as for other verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.cli.shell import tell

if TYPE_CHECKING:
    from redraft.collect.read.inputs import Input


@dataclass
class Making:
    """How an output is made.

    Attributes:
        verb: Such as `clean`.
        config: Everything that decides the result, except the input.
        source: The file of records, if there is only one; `-` is standard input.
        name: The name of that file, if not its path.
        more: Returns further fields of the record, such as other inputs.
    """

    verb: str
    config: dict[str, Any]
    source: Path | None = None
    name: str | None = None
    more: Callable[[], dict[str, Any]] = dict
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _length: int | None = None

    def ended(self) -> None:
        """Note the length of the source, all of which was read. It may grow later."""
        self._length = length_of(self.source) if self.source else None

    def write(self, out: Path, *, kept: int, dropped: Mapping[str, int]) -> None:
        """Write the record. The output must have its final name.

        Raises:
            OutputError: The record cannot be written.
            UsageError: An input cannot be read again.
        """
        from redraft.jobs.provenance import Making as Whole
        from redraft.jobs.provenance import RunFile

        run = RunFile(out)
        run.begin(Whole(f"data {self.verb}", self.config), resume=False)
        run.record["source"] = self.source and fingerprint(self.source, self.name, self._length)
        run.record["sessions"][-1]["started"] = self._started.isoformat(timespec="seconds")
        run.record |= {**self.more(), "dropped": dict(sorted(dropped.items()))}
        run.end(records=kept)


def length_of(path: Path) -> int | None:
    """Return the size of a file in bytes, or None for a stream."""
    return path.stat().st_size if path.is_file() else None


def fingerprint(path: Path, name: str | None = None, length: int | None = None) -> dict[str, Any] | None:
    """Return name, size and SHA-256 of a file, or the name of a stream, which cannot be read twice.

    Args:
        path: The file.
        name: Its name, if not its path.
        length: The number of bytes that were read. A file that has grown since is reported.
    """
    from redraft.formats.read.files import name_of
    from redraft.jobs.provenance import Making as Whole

    if not path.is_file():
        return {"path": name_of(path)}
    _report_growth(path, length)
    return Whole("", source=path, name=name).fingerprint(length)


def _report_growth(path: Path, length: int | None) -> None:
    from redraft.formats.read.files import name_of

    now = path.stat().st_size
    if length is not None and now > length:
        tell(f"{name_of(path)} grew from {length:,} to {now:,} bytes after it was read: the rest is not in.")


def fingerprint_of_all(name: str, files: Iterable[Input], lengths: Mapping[Path, int]) -> dict[str, Any]:
    """Return name, size and SHA-256 of all files of a folder or dataset, joined in order of their names."""
    from hashlib import sha256

    digest, size, count = sha256(), 0, 0
    for file in files:
        count += 1
        left = lengths.get(file.path, file.path.stat().st_size)
        _report_growth(file.path, left)
        with file.path.open("rb") as content:
            while block := content.read(min(1 << 20, left)):
                digest.update(block)
                size += len(block)
                left -= len(block)
    return {"path": name, "files": count, "bytes": size, "sha256": digest.hexdigest()}
