from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.errors import ModelError
from redraft.train.run.checkpoints import load_state, random_state, save_state, set_random_state

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.integers() | st.text()
trees = st.recursive(
    plain, lambda below: st.lists(below) | st.tuples(below) | st.dictionaries(keys, below), max_leaves=20
)


@given(trees)
def test_a_tree_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "tree"
    save_state(path, tree)
    assert load_state(path) == tree


def test_an_optimizer_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    save_state(tmp_path / "state", optimizer.state_dict())
    before, after = optimizer.state_dict(), load_state(tmp_path / "state")
    assert after["param_groups"] == before["param_groups"]
    for number, state in before["state"].items():
        assert all(torch.equal(value, after["state"][number][name]) for name, value in state.items())


def test_tensors_may_share_memory_and_be_views(tmp_path: Path) -> None:
    whole = torch.arange(6).reshape(2, 3)
    save_state(tmp_path / "state", [whole, whole, whole.T])
    first, second, turned = load_state(tmp_path / "state")
    assert torch.equal(first, whole)
    assert torch.equal(second, whole)
    assert torch.equal(turned, whole.T)


def test_what_is_no_part_of_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a set"):
        save_state(tmp_path / "state", {"a": {1}})


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(1))]


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    draws()
    np.random.randn()  # which keeps a second value for the next call
    save_state(tmp_path / "random", random_state())
    expected = draws()
    draws()
    set_random_state(load_state(tmp_path / "random"))
    assert draws() == expected


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(ModelError, match="cannot be read"):
        load_state(tmp_path / "state")
