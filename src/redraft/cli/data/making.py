"""How an output of `redraft data` was made: `OUT.run.json` beside it, as other verbs write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redraft.collect.inputs import Input


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

    def write(self, out: Path, *, kept: int, dropped: Mapping[str, int]) -> None:
        """Writes it, when the output has its name.

        Raises:
            OutputError: It cannot be written.
            UsageError: An input cannot be read again.
        """
        from redraft.jobs.making import Making as Whole
        from redraft.jobs.making import RunFile

        run = RunFile(out)
        run.begin(Whole(f"data {self.verb}", self.config), resume=False)
        run.record["source"] = self.source and fingerprint(self.source, self.name)
        run.record["sessions"][-1]["started"] = self._started.isoformat(timespec="seconds")
        run.record |= {**self.more(), "dropped": dict(sorted(dropped.items()))}
        run.end(records=kept)


def fingerprint(path: Path, name: str | None = None) -> dict[str, Any] | None:
    """Name, bytes and SHA-256 of a file; of a stream, which cannot be read twice, the name."""
    from redraft.formats.files import name_of
    from redraft.jobs.making import Making as Whole

    return Whole("", source=path, name=name).fingerprint() if path.is_file() else {"path": name_of(path)}


def fingerprint_of_all(name: str, files: Iterable[Input]) -> dict[str, Any]:
    """The same of all files of a folder or dataset, one behind the other, in the order of their names."""
    from hashlib import sha256

    digest, size, count = sha256(), 0, 0
    for file in files:
        count += 1
        with file.path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
                size += len(block)
    return {"path": name, "files": count, "bytes": size, "sha256": digest.hexdigest()}
