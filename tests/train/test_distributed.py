"""Two processes with FSDP2 equal one: in loss, the gradient's norm, and when they resume after a signal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train import sharded
from tests.train.tiny import curve, prepared
from tests.train.together import run_together

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    said = run_together("tests.train.sharded", sharded.RANKS, made)
    assert all(sharded.done(made, rank).exists() for rank in range(sharded.RANKS)), said
    return made


@pytest.mark.parametrize("kind", sharded.KINDS)
def test_shards_train_as_one_process_does(folder: Path, tmp_path: Path, kind: str) -> None:
    sharded.run(tmp_path / "one", prepared(tmp_path / "data"), kind, ranks=1)
    assert [line["step"] for line in curve(tmp_path / "one")] == [1, 2, 3, 3, 4, 5, 6, 6]
    for one, two in zip(curve(tmp_path / "one"), curve(folder / f"{kind}-whole"), strict=True):
        assert two == pytest.approx(one, rel=1e-2 if kind == "bf16" else 1e-5)


@pytest.mark.parametrize("kind", sharded.KINDS)
def test_a_signal_to_one_process_stops_both_and_both_go_on(folder: Path, kind: str) -> None:
    assert (folder / f"{kind}-halves" / "checkpoint-2" / "complete.json").is_file()
    assert curve(folder / f"{kind}-halves") == curve(folder / f"{kind}-whole")
