"""Work on files in object stores, such as `s3://bucket/out.jsonl`, through copies on this machine.

All paths that fsspec supports are accepted; `s3://` and `gs://` need an extra. Inputs and existing outputs
are downloaded before the work. After the work, outputs are uploaded with the run record, errors and
journal. A killed run resumes on the same machine from the copy in `~/.cache/redraft/stores`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redraft.errors import MissingExtra, OutputError, UsageError, path_of
from redraft.jobs.files import replacing
from redraft.jobs.machine import cache_folder

_BESIDE = (".run.json", ".errors.jsonl", ".journal.db")
_URL = re.compile(r"(?!file:)([a-z][a-z0-9+]+):/+(.+)", re.DOTALL)
"""Matches the URL of a file in a store, even if `Path` has reduced `//` to `/`."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


def url_of(path: str | Path) -> str | None:
    """Return a path's URL in a store, or None for a local path."""
    found = _URL.fullmatch(str(path))
    return f"{found[1]}://{found[2]}" if found else None


def here(path: str | Path) -> Path:
    """Return the local copy of a file in a store, or raise `UsageError`. Return a local path unchanged."""
    if (url := url_of(path)) is None:
        return path_of(path)
    with _reading(url):
        system, key = _opened(url)
        copy = _folder(f"{url} {system.checksum(key)}") / Path(key).name
        if not copy.exists():
            with replacing(copy) as file, system.open(key, "rb") as source:
                shutil.copyfileobj(source, file)
    return copy


def matching(path: Path) -> list[Path]:
    """Return the files that match a pattern such as `s3://bucket/out-*`. Return any other path unchanged."""
    if (url := url_of(path)) is None or "*" not in url:
        return [path]
    with _reading(url):
        system, key = _opened(url)
        return [Path(system.unstrip_protocol(name)) for name in sorted(system.glob(key))]


class Store:
    """An output in a store, with a copy on this machine."""

    def __init__(self, url: str, base: Store | None = None) -> None:
        self.url, self.base = url, base
        self._system, self._key = _opened(url)
        self.copy = _folder(url) / Path(self._key).name

    def exists(self) -> bool:
        """Return whether the output is in the store."""
        with _reading(self.url):
            return bool(self._system.exists(self._key))

    def pull(self) -> None:
        """Download the output, run record, errors and journal, unless the local output is longer."""
        if self.base:
            self.base.pull()
        with _reading(self.url):
            self._system.invalidate_cache()
            here = self.copy.stat().st_size if self.copy.exists() else 0
            if not self._system.exists(self._key) or self._system.size(self._key) < here:
                return
            for ending in ("", *_BESIDE):
                file = self._beside(ending)
                file.unlink(missing_ok=True)
                if self._system.exists(self._key + ending):
                    self._system.get_file(self._key + ending, str(file))

    def begin(self) -> None:
        """Upload the run record before the first paid request. Raise `OutputError` if the upload fails."""
        self._send(".run.json")

    def close(self) -> None:
        """Upload the output, run record, errors and journal. Raise `OutputError` if the upload fails."""
        if self.copy.exists():
            self._send(*_BESIDE, "")

    def _send(self, *endings: str) -> None:
        try:
            for ending in endings:
                file = self._beside(ending)
                if file.exists():
                    self._system.put_file(str(file), self._key + ending)
                elif self._system.exists(self._key + ending):
                    self._system.rm_file(self._key + ending)
        except OSError as error:
            hint = f"Finished work is safe in {self.copy}. Run the same command on this machine to resume."
            raise OutputError(f"cannot write {self.url}: {_reason(error)}.", hint=hint) from None

    def _beside(self, ending: str) -> Path:
        return self.copy.with_name(self.copy.name + ending)


def _folder(name: str) -> Path:
    folder = cache_folder() / "stores" / hashlib.sha256(name.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _opened(url: str) -> tuple[Any, str]:
    protocol = url.partition(":")[0]
    try:
        from fsspec.core import url_to_fs

        system, key = url_to_fs(url)
    except ImportError as error:
        if protocol in _EXTRAS:
            raise MissingExtra(f"{protocol}://", _EXTRAS[protocol]) from None
        raise UsageError(f"{url} cannot be opened: {error}.", hint="Install the missing package.") from None
    except ValueError as error:
        hint = "redraft reads s3://, gs://, hf:// and other paths that fsspec supports."
        raise UsageError(f"{url}: {error}.", hint=hint) from None
    return system, str(key)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).rstrip(".")


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"{url}: there is no such file.", hint="Check the address.") from None
    except OSError as error:
        # A store also answers "Forbidden" to a signature that is too old or too new.
        clock = " Check the clock of this machine too." if isinstance(error, PermissionError) else ""
        hint = f"Check the address, and that you may read the file.{clock}"
        raise UsageError(f"{url} cannot be read: {_reason(error)}.", hint=hint) from None
