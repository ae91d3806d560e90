"""A process of Ray that makes shares, one after the other, as `--shard I/N` would.

It gets and gives JSON. A share opens its model, its files and its lock anew, so what another process left is
gone on with, and what is done is in the files of the share alone.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from redraft.errors import RedraftError
from redraft.jobs.harness import RunEvent, RunProgress
from redraft.jobs.ledger import InUse
from redraft.jobs.stores import url_of
from redraft.serve.cluster.connect import versions


@dataclass(frozen=True)
class Work:
    """What a verb does, for all shares. Each field is a JSON value.

    Attributes:
        function: Module and name of the coroutine, such as `redraft.revision.runs.answers:aanswer_file`.
        arguments: Its arguments; the last one is the output.
        options: Its keyword arguments, without the share.
        files: What every machine has to read; one of them lies in the folder of the output.
        folder: The folder that paths start from.
    """

    function: str
    arguments: list[Any]
    options: dict[str, Any]
    files: list[str]
    folder: str

    @classmethod
    def of(cls, function: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Work:
        """Return work whose paths are given as `Path`s. Those that are in a store are no files here.

        An option that is None was not given.
        """
        told = {name: value for name, value in options.items() if value is not None}
        given = [*arguments, *told.values()]
        paths = [path for each in given for path in (each if isinstance(each, list) else [each])]
        files = [str(path) for path in paths if isinstance(path, Path) and url_of(path) is None]
        words, named = json.loads(json.dumps([arguments, {**told, "quiet": True}], default=str))
        return cls(function, words, named, files, str(Path.cwd()))

    def to_json(self) -> str:
        """Return the work as a process of Ray gets it."""
        return json.dumps(asdict(self))


class ShareActor:
    """Makes shares, one at a time, and tells how far the present one is."""

    def __init__(self, work: str) -> None:
        self._work = Work(**json.loads(work))
        self._at: RunProgress | None = None

    async def hello(self) -> str:
        """Return the versions and the name of this machine, and the first file that it cannot read."""
        node = os.getppid()  # Ray's process on this machine; its test cluster has several on one
        return json.dumps(
            {**versions(), "machine": socket.gethostname(), "node": node, "lacks": self._lacks()}
        )

    def _lacks(self) -> str:
        if not self._work.files:
            return ""
        try:
            os.chdir(self._work.folder)
        except OSError:
            return self._work.folder
        return next((file for file in self._work.files if not os.access(file, os.R_OK)), "")

    async def make(self, share: str, limits: str) -> str:
        """Make a share within limits, and return what it came to."""
        self._at = None
        work, more = self._work, {"shard": share, "on_event": self._note, **json.loads(limits)}
        try:
            made = await resolve_name(work.function)(*work.arguments, **{**work.options, **more})
        except RedraftError as error:
            fault: dict[str, Any] = {"message": error.message, "hint": error.hint}
            return json.dumps({**fault, "status": error.exit_status, "in_use": isinstance(error, InUse)})
        counts: Mapping[str, Any] = {"done": made.found + made.added, "failed": made.failed}
        spent = {"tokens": made.job.spent.tokens, "usd": made.job.spent.usd}
        return json.dumps({**counts, **spent, "status": made.exit_status, "limit": made.limit})

    async def progress(self) -> str:
        """Return how far the present share is."""
        at = self._at
        return json.dumps(
            {name: getattr(at, name) for name in ("done", "failed", "tokens", "usd")} if at else {}
        )

    def _note(self, event: RunEvent) -> None:
        if isinstance(event, RunProgress):
            self._at = event
