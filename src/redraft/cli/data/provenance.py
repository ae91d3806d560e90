"""How an output of `redraft data` was made: `OUT.run.json` beside it, as other verbs write it."""

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
    """What makes an output what it is.

    Attributes:
        verb: Such as `clean`.
        config: What decides the result, but for the input. Processes do not.
        source: The file of records, if it is one; `-` is standard input.
        name: What to call that file, if not by its path.
        more: Gives what else is to be written, such as other inputs.
    """

    verb: str
    config: dict[str, Any]
    source: Path | None = None
    name: str | None = None
    more: Callable[[], dict[str, Any]] = dict
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _length: int | None = None

    def ended(self) -> None:
        """Note how long the source is, now that all of it was read: it may grow from here on."""
        self._length = length_of(self.source) if self.source else None

    def write(self, out: Path, *, kept: int, dropped: Mapping[str, int]) -> None:
        """Writes it, when the output has its name.

        Raises:
            OutputError: It cannot be written.
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
    """Return the bytes of a file; None of a stream."""
    return path.stat().st_size if path.is_file() else None


def fingerprint(path: Path, name: str | None = None, length: int | None = None) -> dict[str, Any] | None:
    """Return name, bytes and SHA-256 of a file; of a stream, which cannot be read twice, the name.

    Args:
        path: The file.
        name: What to call it, if not by its path.
        length: How many bytes were read, if the file may have grown since. It is said if it has.
    """
    from redraft.formats.read.files import name_of
    from redraft.jobs.provenance import Making as Whole

    if not path.is_file():
        return {"path": name_of(path)}
    _say_growth(path, length)
    return Whole("", source=path, name=name).fingerprint(length)


def _say_growth(path: Path, length: int | None) -> None:
    from redraft.formats.read.files import name_of

    now = path.stat().st_size
    if length is not None and now > length:
        tell(f"{name_of(path)} grew from {length:,} to {now:,} bytes after it was read; the rest is not in.")


def fingerprint_of_all(name: str, files: Iterable[Input], lengths: Mapping[Path, int]) -> dict[str, Any]:
    """Return the same of all files of a folder or dataset, one behind the other, by their names."""
    from hashlib import sha256

    digest, size, count = sha256(), 0, 0
    for file in files:
        count += 1
        left = lengths.get(file.path, file.path.stat().st_size)
        _say_growth(file.path, left)
        with file.path.open("rb") as content:
            while block := content.read(min(1 << 20, left)):
                digest.update(block)
                size += len(block)
                left -= len(block)
    return {"path": name, "files": count, "bytes": size, "sha256": digest.hexdigest()}
