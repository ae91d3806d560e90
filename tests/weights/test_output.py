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
from redraft.files import is_part_of
from redraft.weights.header import TensorInfo
from redraft.weights.output import OutputFolder, Run, Shard, layout, new_file
from redraft.weights.replace import replace_folder
from tests.weights.model_files import llama, save

PART = TensorInfo("a.weight", "F32", (4,))
VALUES = torch.arange(4, dtype=torch.float32)


def make(path: Path, *, force: bool = False, values: torch.Tensor = VALUES) -> None:
    with OutputFolder(path, Run(force=force), provenance={"command": "test"}) as out:
        out.json("config.json", {"small": True})
        for shard in out.todo([Shard("model.safetensors", [PART])]):
            with out.shard(shard, {"by": "a test"}, notes={"seen": 1}) as writer:
                writer.write(values)


def test_a_folder_with_its_manifest(tmp_path: Path) -> None:
    make(tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    assert torch.equal(load_file(file)["a.weight"], VALUES)
    manifest = json.loads((tmp_path / "out" / "redraft.json").read_text())
    assert manifest["command"] == "test"
    assert manifest["files"]["model.safetensors"] == {
        "size": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "seen": 1,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_small_files_have_checksums_too(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", provenance={}) as out:
        out.json("config.json", {"a": "é"})
    manifest = json.loads((tmp_path / "out" / "redraft.json").read_text())
    raw = (tmp_path / "out" / "config.json").read_bytes()
    assert manifest["files"]["config.json"]["sha256"] == hashlib.sha256(raw).hexdigest()


def test_a_folder_that_exists_is_replaced_only_when_told(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(OutputError, match="exists") as caught:
        make(tmp_path / "out")
    assert "--force" in str(caught.value.hint)
    make(tmp_path / "out", force=True, values=VALUES + 1)
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["a.weight"], VALUES + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="did not make"):
        make(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def half(path: Path) -> None:
    with (
        OutputFolder(path, Run(force=True), provenance={}) as out,
        out.shard(Shard("model.safetensors", [PART])) as writer,
    ):
        writer.write(VALUES + 1)
        raise RuntimeError("power cut")


def test_a_folder_with_a_file_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds notes.txt, which redraft did not make"):
        make(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_file_of_somebody_elses_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"mine")
    with (
        pytest.raises(OutputError, match=r"no a.gguf.redraft.json that names it"),
        new_file(tmp_path / "a.gguf", Run(force=True), manifest={}),
    ):
        pass
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
        make(tmp_path / "out")
    assert (tmp_path / "out.partial" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_output_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError):
        make(Path(name))
    with pytest.raises(OutputError), new_file(Path(name), manifest={}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_held_until_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run that starts while the first one is finishing must not start over in the same place."""
    seen = []

    def rename(new: Path, old: Path) -> None:
        with pytest.raises(OutputError, match="another run is writing"):
            make(tmp_path / "out")
        seen.append(new)
        replace_folder(new, old)

    monkeypatch.setattr("redraft.weights.output.replace_folder", rename)
    make(tmp_path / "out")
    assert seen
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["a.weight"], VALUES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_version_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        after_a_shard(tmp_path / "out")
    monkeypatch.setattr("redraft.__version__", "99.0")
    with OutputFolder(tmp_path / "out", provenance={}) as out:
        assert out.done == {}


def after_a_shard(path: Path) -> None:
    with OutputFolder(path, provenance={}) as out:
        with out.shard(Shard("model.safetensors", [PART])) as writer:
            writer.write(VALUES)
        raise RuntimeError("power cut")


def test_the_command_may_be_typed_in_another_way(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        after_a_shard(tmp_path / "out")
    with OutputFolder(tmp_path / "out", Run(command="the same, and --quiet"), provenance={}) as out:
        assert list(out.done) == ["model.safetensors"]


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(RuntimeError, match="power cut"):
        half(tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["a.weight"], VALUES)
    assert [path.name for path in (tmp_path / "out.partial").glob("*.safetensors")] == []


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_anothers_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
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


def test_two_runs_at_once(tmp_path: Path) -> None:
    with (
        OutputFolder(tmp_path / "out", provenance={}),
        pytest.raises(OutputError, match="another run is writing"),
        OutputFolder(tmp_path / "out", provenance={}),
    ):
        pass
    with (
        new_file(tmp_path / "file", manifest={}) as first,
        pytest.raises(OutputError, match="another run is writing"),
        new_file(tmp_path / "file", manifest={}),
    ):
        first.write(b"x")


def test_tensors_that_are_not_as_long_as_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not"):
        make(tmp_path / "out", values=VALUES[:3])
    assert not (tmp_path / "out").exists()


def test_a_file_and_its_manifest(tmp_path: Path) -> None:
    with new_file(tmp_path / "deep" / "a.gguf", manifest={"command": "c"}) as file:
        file.write(b"GGUF")
        assert not (tmp_path / "deep" / "a.gguf").exists()
    manifest = json.loads((tmp_path / "deep" / "a.gguf.redraft.json").read_text())
    assert manifest["files"] == {"a.gguf": {"size": 4, "sha256": hashlib.sha256(b"GGUF").hexdigest()}}
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["a.gguf", "a.gguf.redraft.json"]
    with pytest.raises(OutputError, match="exists"), new_file(tmp_path / "deep" / "a.gguf", manifest={}):
        pass
    with new_file(tmp_path / "deep" / "a.gguf", Run(force=True), manifest={}) as file:
        file.write(b"more")
    assert (tmp_path / "deep" / "a.gguf").read_bytes() == b"more"


def half_a_file(path: Path) -> None:
    with new_file(path, manifest={}) as file:
        file.write(b"half")
        raise RuntimeError("power cut")


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        half_a_file(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="is a folder, but the output is a file"),
        new_file(tmp_path, Run(force=True), manifest={}),
    ):
        pass


def test_no_room_for_it_all_is_told_before_anything_is_written(tmp_path: Path) -> None:
    huge = TensorInfo("a.weight", "F32", (1 << 45,))
    with (
        pytest.raises(OutputError, match=r"needs 140737\.5 GB, and the disk has"),
        OutputFolder(tmp_path / "out", provenance={}) as out,
    ):
        list(out.todo([Shard("model.safetensors", [huge])]))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from redraft.weights.delta import diff
from redraft.weights.output import Run
import torch  # before the limit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
diff(Path("base"), Path("target"), Path("delta"), Run(command="x"))
"""


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the second shard is too large."""
    base = llama() | {"z.weight": torch.zeros(400, 400)}
    save(tmp_path / "base", base)
    save(tmp_path / "target", base, files=len(base))

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FULL_DISK, str(limit)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    full = run(100_000)
    assert "OutputError: delta: no space left on the disk." in full.stderr
    assert "run the same command again: it resumes after the" in full.stderr
    assert not (tmp_path / "delta").exists()
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "delta.partial").glob("*.safetensors")}
    assert len(done) == len(base) - 1
    assert run(1 << 30).returncode == 0
    assert {name: (tmp_path / "delta" / name).stat().st_mtime_ns for name in done} == done


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        make(tmp_path / "out")


def test_an_output_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written: File exists"):
        make(tmp_path / "file" / "out")


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=20), limit=st.integers(1, 120))
def test_layout_keeps_the_order_and_the_limit(sizes: list[int], limit: int) -> None:
    tensors = [TensorInfo(f"t{i}", "U8", (size,)) for i, size in enumerate(sizes)]
    shards = layout(tensors, limit)
    assert [each for shard in shards for each in shard.tensors] == tensors
    assert all(shard.size <= limit or len([t for t in shard.tensors if t.size]) == 1 for shard in shards)
    count = len(shards)
    names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    assert [shard.file for shard in shards] == (names if count > 1 else ["model.safetensors"])


def test_a_finished_output_of_such_a_name_is_kept(tmp_path: Path) -> None:
    """`x` is written as `x.partial`, which may already exist as a user's own output."""
    make(tmp_path / "x.partial")
    with pytest.raises(OutputError, match="finished output of another command"):
        make(tmp_path / "x")
    with pytest.raises(OutputError, match="finished output of another command"):
        make(tmp_path / "x", force=True)
    assert torch.equal(load_file(tmp_path / "x.partial" / "model.safetensors")["a.weight"], VALUES)


def test_notes_in_a_folder_in_the_making_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        after_a_shard(tmp_path / "out")
    (tmp_path / "out.partial" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds notes\.txt, which redraft did not make"):
        make(tmp_path / "out", force=True)
    assert (tmp_path / "out.partial" / "notes.txt").read_text() == "mine"


def test_a_file_aside_that_no_killed_run_left_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.redraft-partial").write_bytes(b"mine")
    with (
        pytest.raises(OutputError, match="did not make it"),
        new_file(tmp_path / "a", manifest={}),
    ):
        pass
    assert (tmp_path / "a.redraft-partial").read_bytes() == b"mine"
    (tmp_path / "b.redraft-lock").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not redraft's"), new_file(tmp_path / "b", manifest={}):
        pass
    assert (tmp_path / "b.redraft-lock").read_bytes() == b"mine"


KILLED = """
import os, sys
from pathlib import Path
from redraft.weights.output import new_file
with new_file(Path(sys.argv[1]), manifest={}) as file:
    file.write(b"half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_left_of_a_file_is_replaced(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.redraft-lock", "a.redraft-partial"]
    with new_file(tmp_path / "a", manifest={}) as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.redraft.json"]


def interrupted(path: Path) -> Path:
    """Return the state file of an unfinished folder."""
    with pytest.raises(RuntimeError, match="power cut"):
        after_a_shard(path)
    return path.with_name(f"{path.name}.partial") / "redraft.partial.json"


def damaged(raw: bytes) -> list[bytes]:
    """Damaged state files: truncated, with other types, and with random bytes."""
    cuts = [raw[:at] for at in range(0, len(raw), max(len(raw) // 8, 1))]
    value = json.loads(raw)
    odd = [
        {**value, key: odd} for key in value for odd in (None, 1, "a", [1], {"a": 1}, {"a": {"size": "b"}})
    ]
    less = [{k: v for k, v in value.items() if k != key} for key in value]
    others = [b"\0" * 100, b"\xff\xfe", b"null", b"[]", b"{}", b'{"done": 1}', b"[" * 100_000]
    return [*cuts, *(json.dumps(each).encode() for each in (*odd, *less)), *others]


def test_a_damaged_note_of_what_is_done_begins_afresh(tmp_path: Path) -> None:
    raw = interrupted(tmp_path / "out").read_bytes()
    for at, each in enumerate(damaged(raw)):
        path, said = tmp_path / f"{at}", []
        interrupted(path).write_bytes(each)
        with OutputFolder(path, Run(force=bool(at % 2), tell=said.append), provenance={}) as out:
            assert out.done == {}, each
            for shard in out.todo([Shard("model.safetensors", [PART])]):
                with out.shard(shard) as writer:
                    writer.write(VALUES)
        assert len(said) == 1, each
        assert not path.with_name(f"{path.name}.partial").exists()
    assert [path.name for path in (tmp_path / "0").iterdir()] != []


def make_file(path: Path, *, force: bool = False, values: torch.Tensor = VALUES) -> None:
    with new_file(path, Run(force=force), manifest={"command": "test"}) as file:
        file.write(values)


def dies_at(call: int, path: Path, make: Callable[..., None] = make) -> int:
    """Make an output in a child that is killed at one call that creates, renames or removes something."""
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


def test_a_death_at_any_moment_is_gone_on_from(tmp_path: Path) -> None:
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
    assert 10 < call < 99


def test_a_death_at_any_moment_leaves_a_file_that_can_be_replaced(tmp_path: Path) -> None:
    for call in range(100):
        path = tmp_path / f"{call}" / "out"
        make_file(path)
        alive = dies_at(call, path, make_file) == 0
        make_file(path, force=True, values=VALUES + 2)
        assert path.read_bytes() == (VALUES + 2).numpy().tobytes()
        names = {each.name for each in path.parent.iterdir()}
        assert {name for name in names if not is_part_of(name, "out.redraft.json")} == {
            "out",
            "out.redraft.json",
        }, call
        if alive:
            break
    assert 2 < call < 99
