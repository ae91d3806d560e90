"""Outputs: unfinished ones never look finished, no user's file is lost, and a full disk is reported."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from redraft.errors import OutputError
from redraft.weights.header import TensorInfo
from redraft.weights.output import Run, Shard, layout, new_file, new_folder
from redraft.weights.replace import replace_folder, write_json
from tests.weights.model_files import llama, save

VALUES = torch.arange(4, dtype=torch.float32)


def make(path: Path, *, force: bool = False, values: torch.Tensor = VALUES) -> None:
    with new_folder(path, Run(force=force), manifest={"command": "test"}) as out:
        write_json(out.aside / "config.json", {"small": True})
        for shard in out.planned([Shard("model.safetensors", [TensorInfo("a.weight", "F32", (4,))])]):
            with out.shard(shard, {"by": "a test"}) as writer:
                writer.write(values)


def no_file(path: Path, match: str, *, force: bool = False) -> None:
    with pytest.raises(OutputError, match=match), new_file(path, Run(force=force), manifest={}):
        pass


def test_a_folder_with_its_manifest(tmp_path: Path) -> None:
    make(tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    assert torch.equal(load_file(file)["a.weight"], VALUES)
    manifest = json.loads((tmp_path / "out" / "redraft.json").read_text())
    assert manifest["command"] == "test"
    for path in (file, tmp_path / "out" / "config.json"):
        size, checksum = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
        assert manifest["files"][path.name] == {"size": size, "sha256": checksum}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_folder_that_exists_is_replaced_only_when_told(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(OutputError, match=r"(?s)exists.*--force"):
        make(tmp_path / "out")
    make(tmp_path / "out", force=True, values=VALUES + 1)
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["a.weight"], VALUES + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_somebody_else_made_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="did not make"):
        make(tmp_path / "mine", force=True)
    make(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it contains notes.txt, which redraft did not make"):
        make(tmp_path / "out", force=True)
    no_file(tmp_path, "is a folder, but the output must be a file")
    with pytest.raises(OutputError, match="cannot be written: File exists"):
        make(tmp_path / "mine" / "thesis.txt" / "out")
    kept = [(tmp_path / "mine" / "thesis.txt").read_text(), (tmp_path / "out" / "notes.txt").read_text()]
    assert kept == ["years of work", "mine"]


def test_a_file_of_somebody_elses_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"mine")
    no_file(tmp_path / "a.gguf", r"no a.gguf.redraft.json that names it", force=True)
    with pytest.raises(OutputError, match="did not make it"):
        make(tmp_path / "a.gguf", force=True)
    assert (tmp_path / "a.gguf").read_bytes() == b"mine"


def test_what_lies_aside_and_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for name in ("poetry.lock", "poetry.partial", "poetry.tmp"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="redraft did not make"):
        make(tmp_path / "poetry")
    with new_file(tmp_path / "poetry", manifest={}) as file:
        file.write(b"x")
    assert {(tmp_path / f"poetry.{end}").read_text() for end in ("lock", "partial", "tmp")} == {"mine"}
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="redraft did not make"):
        make(tmp_path / "out", force=True)
    assert (tmp_path / "out.partial" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_output_without_a_name(here: Path, name: str) -> None:
    with pytest.raises(OutputError):
        make(Path(name))
    no_file(Path(name), "does not name|folder")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:  # as on systems that cannot swap two names
        monkeypatch.setattr("redraft.weights.replace._exchange", lambda one, other: False)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "says").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "says").read_text() == "new"


def test_a_link_of_that_name_is_replaced_and_not_what_it_names(tmp_path: Path) -> None:
    make(tmp_path / "kept")
    (tmp_path / "out").symlink_to("kept")
    make(tmp_path / "out", force=True, values=VALUES + 1)
    assert not (tmp_path / "out").is_symlink()
    assert torch.equal(load_file(tmp_path / "kept" / "model.safetensors")["a.weight"], VALUES)


def test_the_lock_holds_until_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(new: Path, old: Path) -> None:
        with pytest.raises(OutputError, match="another run is writing"):
            make(tmp_path / "out")
        replace_folder(new, old)

    monkeypatch.setattr("redraft.weights.output.replace_folder", rename)
    make(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tensors_that_are_not_as_long_as_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not"):
        make(tmp_path / "out", values=VALUES[:3])
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_its_manifest(tmp_path: Path) -> None:
    with new_file(tmp_path / "deep" / "a.gguf", manifest={"command": "c"}) as file:
        file.write(b"GGUF")
        assert not (tmp_path / "deep" / "a.gguf").exists()
    manifest = json.loads((tmp_path / "deep" / "a.gguf.redraft.json").read_text())
    assert manifest["files"] == {"a.gguf": {"size": 4, "sha256": hashlib.sha256(b"GGUF").hexdigest()}}
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["a.gguf", "a.gguf.redraft.json"]
    no_file(tmp_path / "deep" / "a.gguf", "exists")
    with new_file(tmp_path / "deep" / "a.gguf", Run(force=True), manifest={}) as file:
        file.write(b"more")
    assert (tmp_path / "deep" / "a.gguf").read_bytes() == b"more"
    with pytest.raises(RuntimeError), new_file(tmp_path / "b", manifest={}):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["deep"], "one that fails leaves nothing"


def test_no_room_for_it_all_is_told_before_anything_is_written(tmp_path: Path) -> None:
    huge = TensorInfo("a.weight", "F32", (1 << 45,))
    with (
        pytest.raises(OutputError, match=r"needs 140,737,488\.36 MB, and the disk has"),
        new_folder(tmp_path / "out", manifest={}) as out,
    ):
        list(out.planned([Shard("model.safetensors", [huge])]))


FULL_DISK = """
import resource, signal
from pathlib import Path
from redraft.weights.delta import diff
from redraft.weights.output import Run
import torch  # before the limit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
diff(Path("base"), Path("target"), Path("delta"), Run(command="x"))
"""


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle(tmp_path: Path) -> None:
    base = llama() | {"z.weight": torch.zeros(400, 400)}
    save(tmp_path / "base", base)
    save(tmp_path / "target", base, files=len(base))

    command = [sys.executable, "-c", FULL_DISK]
    full = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "OutputError: delta cannot be written: the disk has no space left." in full.stderr
    assert "run the same command again" in full.stderr
    assert not list(tmp_path.glob("delta*")), "nothing is left of it"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        make(tmp_path / "out")


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=20), limit=st.integers(1, 120))
def test_layout_keeps_the_order_and_the_limit(sizes: list[int], limit: int) -> None:
    tensors = [TensorInfo(f"t{i}", "U8", (size,)) for i, size in enumerate(sizes)]
    shards = layout(tensors, limit)
    assert [each for shard in shards for each in shard.tensors] == tensors
    assert all(shard.size <= limit or len([t for t in shard.tensors if t.size]) == 1 for shard in shards)
    count = len(shards)
    names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    assert [shard.file for shard in shards] == (names if count > 1 else ["model.safetensors"])


def test_a_file_aside_that_no_killed_run_left_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.redraft-partial").write_bytes(b"mine")
    no_file(tmp_path / "a", "did not make it")
    assert (tmp_path / "a.redraft-partial").read_bytes() == b"mine"
    (tmp_path / "b.redraft-lock").write_bytes(b"mine")
    no_file(tmp_path / "b", "redraft did not make")
    assert (tmp_path / "b.redraft-lock").read_bytes() == b"mine"


def make_file(path: Path, *, force: bool = False, values: torch.Tensor = VALUES) -> None:
    with new_file(path, Run(force=force), manifest={"command": "test"}) as file:
        file.write(values)


def dies_at(call: int, path: Path, make: Callable[..., None] = make) -> int:
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    left = [call]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    make(path, force=True, values=VALUES + 1)
    os._exit(0)


@pytest.mark.slow
def test_a_death_at_any_moment_leaves_a_folder_that_can_be_replaced(tmp_path: Path) -> None:
    for call in range(100):
        path = tmp_path / f"{call}" / "out"
        make(path)
        alive = dies_at(call, path) == 0
        assert (path / "model.safetensors").is_file()
        make(path, force=True, values=VALUES + 1)
        assert torch.equal(load_file(path / "model.safetensors")["a.weight"], VALUES + 1)
        assert [each.name for each in path.parent.iterdir()] == ["out"], call
        names = ["config.json", "model.safetensors", "redraft.json"]
        assert sorted(each.name for each in path.iterdir()) == names, call
        if alive:
            break
    assert 5 < call < 99


def test_a_death_at_any_moment_leaves_a_file_that_can_be_replaced(tmp_path: Path) -> None:
    for call in range(100):
        path = tmp_path / f"{call}" / "out"
        make_file(path)
        alive = dies_at(call, path, make_file) == 0
        make_file(path, force=True, values=VALUES + 2)
        assert path.read_bytes() == (VALUES + 2).numpy().tobytes()
        names = {each.name for each in path.parent.iterdir() if not each.name.endswith(".part")}
        assert names == {"out", "out.redraft.json"}, call
        if alive:
            break
    assert 2 < call < 99
