from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import ModelError, OutputError
from redraft.train import checkpoints
from tests.train.tiny import curve, data, loop, prepared


def nothing() -> None:
    """Wait for other processes: there are none."""


def save(output: Path, step: int, text: str = "weights") -> Path:
    with checkpoints.saving(output, step, leads=True, wait=nothing) as folder:
        (folder / "model.safetensors").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "part").write_text("x")
    return output / f"checkpoint-{step}"


def test_a_checkpoint_lists_its_files(tmp_path: Path) -> None:
    assert json.loads((save(tmp_path, 5) / checkpoints.MARKER).read_text()) == {
        "files": {"model.safetensors": [7, zlib.crc32(b"weights")], "sub/part": [1, zlib.crc32(b"x")]}
    }
    assert [each.complete for each in checkpoints.checkpoints(tmp_path)] == [True]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint-5"]


def test_the_newest_is_found_by_its_step(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        save(tmp_path, step)
    (tmp_path / "checkpoint-last").mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")
    found, said = checkpoints.newest(tmp_path)
    assert (found and found.step, said) == (100, [])
    assert checkpoints.newest(tmp_path / "nowhere") == (None, [])


def test_only_files_of_a_checkpoint_are_read(tmp_path: Path) -> None:
    (save(tmp_path, 5) / checkpoints.MARKER).write_text('{"files": {"/dev/null": [null, 1]}}')
    assert checkpoints.checkpoints(tmp_path)[0].missing == ("/dev/null",)


def lose(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def unmark(folder: Path) -> None:
    (folder / checkpoints.MARKER).unlink()


CHANGED = "sub/part has changed since it was saved (the folder has: complete.json, model.safetensors, sub)"
FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lose, "model.safetensors is missing or truncated (the folder has: complete.json, sub)"),
    (lambda folder: (folder / "sub" / "part").write_text(""), "sub/part is missing or truncated"),
    (lambda folder: (folder / "sub" / "part").write_text("y"), CHANGED),
    (unmark, "complete.json is missing or damaged (the folder has: model.safetensors, sub)"),
    (lambda folder: (folder / checkpoints.MARKER).write_text('{"files": 3}'), "complete.json is missing"),
]


@pytest.mark.parametrize(("damage", "why"), FAULTS)
def test_one_that_is_cut_is_passed_over_and_named(tmp_path: Path, damage: Any, why: str) -> None:
    save(tmp_path, 10)
    damage(save(tmp_path, 20))
    found, said = checkpoints.newest(tmp_path)
    assert (found and found.step, len(said)) == (10, 1)
    assert f"checkpoint-20 is skipped: {why}" in said[0]


def test_where_none_was_ever_whole_a_run_begins_anew(tmp_path: Path) -> None:
    unmark(save(tmp_path, 20))
    found, said = checkpoints.newest(tmp_path)
    assert found is None
    assert "checkpoint-20 is skipped: complete.json is missing" in said[0]
    assert said[1] == "there is no other checkpoint: the run starts over."


@pytest.mark.parametrize(("damage", "why"), [each for each in FAULTS if each[0] is not unmark])
def test_where_none_is_whole_it_is_said_what_to_type(tmp_path: Path, damage: Any, why: str) -> None:
    damage(save(tmp_path, 20))
    with pytest.raises(ModelError) as error:
        checkpoints.newest(tmp_path)
    assert why in error.value.message
    assert "--overwrite_output_dir" in str(error.value.hint)


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fail() -> None:
        with checkpoints.saving(tmp_path, 20, leads=True, wait=nothing) as folder:
            (folder / "half").write_text("x")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot be written: No space left on device\.\n") as error:
        fail()
    assert str(error.value.hint).endswith("free some space. Then type the same command again.")
    save(tmp_path, 10)
    with pytest.raises(OutputError, match=r"No space .* The earlier checkpoints are intact\.\n") as error:
        fail()
    assert "without --overwrite_output_dir: the run resumes from the newest" in str(error.value.hint)
    found, said = checkpoints.newest(tmp_path)
    assert (found and found.step, said) == (10, [])
    save(tmp_path, 20)
    checkpoints.prune(tmp_path, None)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-20"]


def test_as_many_are_kept_as_asked_for(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    lose(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-0").mkdir()  # another trainer's, which has no list
    lose(save(tmp_path, 9))  # newer than any whole one: it may be somebody's only trace
    checkpoints.prune(tmp_path, 2)
    assert [each.step for each in checkpoints.checkpoints(tmp_path)] == [9, 4, 3, 0]
    checkpoints.prune(tmp_path, 0)
    assert len(checkpoints.checkpoints(tmp_path)) == 4
    checkpoints.remove_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_half_removed_has_lost_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        checkpoints.prune(tmp_path, 1)
    assert [each.step for each in checkpoints.checkpoints(tmp_path)] == [2]
    checkpoints.prune(tmp_path, 1)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-2"]


def test_one_that_cannot_be_removed_stops_nothing_but_a_new_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(16, "Device or resource busy")

    for step in (1, 2):
        save(tmp_path, step)
    monkeypatch.setattr(Path, "rename", fail)
    checkpoints.prune(tmp_path, 1)
    with pytest.raises(OutputError, match="checkpoint-2 cannot be deleted"):
        checkpoints.remove_all(tmp_path)
    assert [each.complete for each in checkpoints.checkpoints(tmp_path)] == [True, True]


def test_none_is_lost_where_no_newer_one_is_whole(tmp_path: Path) -> None:
    unmark(save(tmp_path, 1))
    checkpoints.prune(tmp_path, 1)
    assert [each.step for each in checkpoints.checkpoints(tmp_path)] == [1]


# A real run that is killed while it saves.

CHILD = """
import sys, time
from pathlib import Path
from redraft.train import checkpoints
from tests.train.tiny import data, loop, prepared

folder = Path(sys.argv[1])
write = checkpoints.save_state

def slow(path, state):
    write(path, state)
    if "4" in path.parent.name:
        print("saving", path, flush=True)
        time.sleep(600)

checkpoints.save_state = slow
loop(folder / "out", data(prepared(folder / "data")), max_steps=6, save_steps=2).run()
"""


@pytest.mark.slow
def test_kill_9_while_saving_loses_nothing_but_that_save(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    # As many threads as here, where other tests may have set them: sums depend on it in their last bit.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        assert "saving" in child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    out = tmp_path / "out"
    found, said = checkpoints.newest(out)
    assert (found and found.step, said) == (2, [])
    assert any(each.name.startswith(".saving") for each in out.iterdir())

    from redraft.train.prepare import open_prepared

    kept = open_prepared(tmp_path / "data", "tiny")
    assert kept
    read = data(kept)
    six: dict[str, Any] = {"max_steps": 6, "save_steps": 2}
    assert loop(out, read, **six).run(found) == 6
    assert not any(each.name.startswith(".saving") for each in out.iterdir())
    unbroken = tmp_path / "unbroken"
    loop(unbroken, data(prepared(tmp_path / "again")), **six).run()
    assert curve(out) == curve(unbroken)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.integers() | st.text()
trees = st.recursive(
    plain, lambda below: st.lists(below) | st.tuples(below) | st.dictionaries(keys, below), max_leaves=20
)


@given(trees)
def test_a_tree_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "tree"
    checkpoints.save_state(path, tree)
    assert checkpoints.load_state(path) == tree


def test_tensors_may_share_memory_and_be_views(tmp_path: Path) -> None:
    whole = torch.arange(6).reshape(2, 3)
    checkpoints.save_state(tmp_path / "state", [whole, whole, whole.T])
    first, second, turned = checkpoints.load_state(tmp_path / "state")
    assert all(map(torch.equal, (first, second, turned), (whole, whole, whole.T)))


def test_what_is_no_part_of_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a set"):
        checkpoints.save_state(tmp_path / "state", {"a": {1}})


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(1))]


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    draws()
    np.random.randn()  # which keeps a second value for the next call
    checkpoints.save_state(tmp_path / "random", checkpoints.random_state())
    expected = draws()
    draws()
    checkpoints.set_random_state(checkpoints.load_state(tmp_path / "random"))
    assert draws() == expected


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(ModelError, match="cannot be read"):
        checkpoints.load_state(tmp_path / "state")
