"""Weights of 8 bits: half the memory, nearly the same logits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from torch import nn

from redraft.engines.hf.engine import HfEngine
from redraft.engines.hf.load import Linear8
from tests.engines.hf_folders import folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_computes_nearly_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(64, 32, dtype=dtype)
    with torch.no_grad():
        linear.weight[3] *= 1000  # one row with large weights spoils no other
        linear.weight[4] = 0
    given = torch.randn(5, 64, dtype=dtype)
    whole, eight = linear(given), Linear8(linear)(given)
    assert eight.dtype == dtype
    error = (whole - eight).float().abs().amax(0) / whole.float().abs().amax(0)
    assert error.max() < 0.03
    assert torch.equal(eight[:, 4], whole[:, 4])


def test_a_folder_in_8_bits_takes_less_memory_and_says_nearly_the_same(tmp_path: Path) -> None:
    async def scored(*, load_8bit: bool) -> tuple[list[tuple[float, ...]], int, str, set[torch.dtype]]:
        engine = await HfEngine.start(tmp_path, threads=1, gpu=False, load_8bit=load_8bit)
        try:
            tensors = [*engine._model.parameters(), *engine._model.buffers()]
            size = sum(each.numel() * each.element_size() for each in tensors)
            kinds = {each.dtype for each in tensors}
            return await engine.score(["Rain falls from clouds."]), size, engine.info.dtype, kinds
        finally:
            await engine.aclose()

    folder(tmp_path, hidden_size=64, intermediate_size=256, initializer_range=0.05)
    (whole,), size, dtype, _ = asyncio.run(scored(load_8bit=False))
    (eight,), smaller, named, kinds = asyncio.run(scored(load_8bit=True))
    assert whole != eight
    assert max(abs(a - b) for a, b in zip(whole, eight, strict=True)) < 0.02
    assert smaller < size / 2
    assert torch.int8 in kinds
    assert (dtype, named) == ("", "8 bit")
