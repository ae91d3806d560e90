"""The sizes of docs/operate.md are what `benchmarks/sizes.py` computes, and it computes what it says."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def sizes() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("sizes", ROOT / "benchmarks" / "sizes.py")
    assert spec
    assert spec.loader
    module = sys.modules["sizes"] = importlib.util.module_from_spec(spec)  # where dataclasses look
    spec.loader.exec_module(module)
    yield module
    del sys.modules["sizes"]


def test_the_table_is_current(sizes: ModuleType) -> None:
    assert sizes.table(500) in (ROOT / "docs" / "operate.md").read_text("utf-8")


def test_a_replica_by_hand(sizes: ModuleType) -> None:
    model = sizes.Model("", parameters=10e9, bytes=2, cached=100_000)
    gpu = sizes.Gpu("", memory=80e9, bandwidth=3e12, flops=1e15, usd=3.6)
    size = sizes.Size(model, gpu)
    assert size.chains == int((72e9 - 20e9) / (100_000 * 4096)) == 126
    step = (20e9 + 126 * 2048 * 100_000) / 3e12  # reading is slower than computing
    assert size.rate == pytest.approx(126 / step * 0.6)
    assert size.cost() == pytest.approx(3.6 / 3600 / size.rate * 1e6)
    assert size.cost(7.2) == pytest.approx(2 * size.cost())
