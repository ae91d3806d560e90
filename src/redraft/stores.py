"""Files in object stores, such as `s3://bucket/out.jsonl`: the work is done on a copy on this machine.

Any path that fsspec knows will do: `s3://` and `gs://` with an extra, `hf://` without. Stores replace files
whole and lock nothing. So an output grows as objects `OUT.parts/OFFSET`, each of whole lines; at the end it
becomes one object, and they go. What stands beside it (record, failures, marks) is replaced each time, the
journal at the end. A machine that is lost costs what it did since the last object.

The copies lie in `~/.cache/redraft/stores`, by address. What of a copy did not reach the store is sent by the
next run on this machine.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redraft.errors import MissingExtra, OutputError, UsageError
from redraft.files import replacing
from redraft.machine import cache_folder

EVERY = 10.0  # seconds between two objects of an output
WAITS = (2.0, 4.0, 8.0)  # seconds between tries at the end, beside those of the library of the store
_BESIDE = (".run.json", ".errors.jsonl", ".done.jsonl", ".leaks.jsonl", ".refusals.jsonl", ".card.md")
_JOURNAL = ".journal.db"
_SENT = ".sent"  # an empty file beside a copy of which something has been in the store
_URL = re.compile(r"(?!file:)([a-z][a-z0-9+]+):/+(.+)", re.DOTALL)
"""An address. A `Path` has one slash where the user wrote two."""

_PREFACE = re.compile(r"An error occurred \(\w+\) when calling the \w+ operation[^:]*: ")
"""What boto puts before a fault that s3fs does not know."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


def url_of(path: str | Path) -> str | None:
    """Return the address that a path was written as; None for a path of this machine."""
    found = _URL.fullmatch(str(path))
    return f"{found[1]}://{found[2]}" if found else None


def here(path: str | Path) -> Path:
    """Return the copy of a file of a store on this machine; a path of this machine as it is.

    Raises:
        UsageError: The file cannot be read.
    """
    if (url := url_of(path)) is None:
        return Path(path)
    with _reading(url):
        system, key = _opened(url)
        copy = _folder(f"{url} {system.checksum(key)}") / Path(key).name
        if not copy.exists():
            with replacing(copy) as file, system.open(key, "rb") as source:
                shutil.copyfileobj(source, file)
    return copy


def matching(path: Path) -> list[Path]:
    """Return the files of a store that a pattern such as `s3://bucket/out-*` names; else the path."""
    if (url := url_of(path)) is None or "*" not in url:
        return [path]
    with _reading(url):
        system, key = _opened(url)
        return [Path(system.unstrip_protocol(name)) for name in sorted(system.glob(key))]


class Store:
    """An output in a store, with its copy on this machine.

    Attributes:
        url: Its address.
        copy: The copy, and the files beside it.
        base: The output of the whole, if this is that of a share: it is fetched too.
    """

    def __init__(self, url: str, base: Store | None = None) -> None:
        self.url, self.base = url, base
        self._system, self._key = _opened(url)
        self.copy = _folder(url) / Path(self._key).name
        self._lock = threading.Lock()  # a run ends while its last `push` may be under way
        self._sent = 0  # bytes of the copy that are in the store

    def exists(self) -> bool:
        """Whether the output is there, whole or in parts."""
        with _reading(self.url):
            return bool(self._system.exists(self._key) or self._parts())

    def pull(self) -> None:
        """Fetch what is in the store. Of a copy that begins with that, the rest is kept: it was not sent.

        Raises:
            UsageError: It cannot be read.
        """
        if self.base:
            self.base.pull()
        with _reading(self.url):
            self._restart()
            aside = self.copy.with_name(f"{self.copy.name}.fetched")
            with aside.open("wb") as file:
                for key in [*([self._key] if self._system.exists(self._key) else []), *self._parts()]:
                    if file.tell() == _offset(key):
                        with self._system.open(key, "rb") as source:
                            shutil.copyfileobj(source, file)
                self._sent = file.tell()
            if not self._sent or _begins(self.copy, aside):
                aside.unlink()
                return
            for ending in (*_BESIDE, _JOURNAL):
                self._fetch(ending)
            aside.replace(self.copy)

    def _restart(self) -> None:
        """Remove the copy of an output that was in the store and was removed there: it is to be made anew."""
        mark = self._beside(_SENT)
        if mark.exists() and not (self._system.exists(self._key) or self._parts()):
            for ending in ("", *_BESIDE, _JOURNAL, _SENT):
                self._beside(ending).unlink(missing_ok=True)

    def push(self) -> None:
        """Send the lines that are new, and what is beside them.

        Raises:
            OutputError: The store does not take them.
        """
        with self._sending(), self.copy.open("rb") as file:
            file.seek(self._sent)
            new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            if new:
                self._system.pipe_file(f"{self._key}.parts/{self._sent:016}", new)
                self._sent += len(new)
                self._send_beside()
                self._beside(_SENT).touch()

    def close(self) -> None:
        """Send the whole output and all beside it, and remove its parts. Errors as for `push`."""
        self._insist(self._send_all)

    def begin(self) -> None:
        """Send the record, before anything is paid for that the store does not take. Errors as for `push`."""
        self._insist(lambda: self._send(".run.json"))

    def _insist(self, send: Callable[[], None]) -> None:
        with self._sending():
            for wait in WAITS:
                with suppress(OSError):
                    send()
                    return
                time.sleep(wait)
            send()

    def _send_all(self) -> None:
        if not self.copy.exists():
            return
        self._send_beside()
        self._send(_JOURNAL)
        self._system.put_file(str(self.copy), self._key)
        self._beside(_SENT).touch()
        if parts := self._parts():
            self._system.rm(parts)
        self._sent = self.copy.stat().st_size

    def _send_beside(self) -> None:
        for ending in _BESIDE:
            self._send(ending)

    def _send(self, ending: str) -> None:
        """Send a file that is beside the output. Remove one that is gone."""
        file = self._beside(ending)
        if file.exists():
            self._system.put_file(str(file), self._key + ending)
        elif ending == ".errors.jsonl" and self._system.exists(self._key + ending):
            self._system.rm_file(self._key + ending)

    def _fetch(self, ending: str) -> None:
        file = self._beside(ending)
        file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._system.get_file(self._key + ending, str(file))

    def _beside(self, ending: str) -> Path:
        return self.copy.with_name(self.copy.name + ending)

    def _parts(self) -> list[str]:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            return sorted(self._system.ls(f"{self._key}.parts", detail=False))
        return []

    @contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except OSError as error:
            raise OutputError(
                f"cannot write {self.url}: {_reason(error)}.",
                hint=f"What is done is safe in {self.copy}: the same command on this machine goes on.",
            ) from None


def _offset(key: str) -> int:
    """Return where an object of an output begins in it."""
    name = key.rpartition("/")[2]
    return int(name) if key.rpartition("/")[0].endswith(".parts") and name.isdecimal() else 0


def _begins(copy: Path, with_that: Path) -> bool:
    """Whether a copy is there and begins with what was fetched."""
    if not copy.exists() or copy.stat().st_size < with_that.stat().st_size:
        return False
    with copy.open("rb") as own, with_that.open("rb") as fetched:
        return all(block == own.read(len(block)) for block in iter(lambda: fetched.read(1 << 20), b""))


def _folder(name: str) -> Path:
    folder = cache_folder() / "stores" / hashlib.sha256(name.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    protocol = url.partition(":")[0]
    try:
        from fsspec.core import url_to_fs

        system, key = url_to_fs(url)
    except ImportError as error:
        if protocol in _EXTRAS:
            raise MissingExtra(f"a path of {protocol}://", _EXTRAS[protocol]) from None
        raise UsageError(f"{url} cannot be opened: {error}.", hint="Install what fsspec asks for.") from None
    except ValueError as error:
        hint = "redraft reads s3://, gs://, hf:// and other paths of fsspec."
        raise UsageError(f"{url}: {error}.", hint=hint) from None
    return system, str(key)


def _reason(error: OSError) -> str:
    return _PREFACE.sub("", error.strerror or str(error) or type(error).__name__).rstrip(".")


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"{url}: there is no such file.", hint="Is the address right?") from None
    except OSError as error:
        # A store also answers "Forbidden" to a signature that is too old or too new.
        clock = ", and is the clock of this machine" if isinstance(error, PermissionError) else ""
        hint = f"May you read it? Is the address right{clock}?"
        raise UsageError(f"{url} cannot be read: {_reason(error)}.", hint=hint) from None
