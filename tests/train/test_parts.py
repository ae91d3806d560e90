from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from redraft.train import parts
from redraft.train.options import Options


@pytest.mark.parametrize("asked", [False, True])
def test_a_loss_of_experts_that_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    for name in ("use_segments", "fuse"):
        monkeypatch.setattr(parts, name, lambda _: None)
    model: Any = SimpleNamespace(config=SimpleNamespace(output_router_logits=asked))
    said: list[str] = []
    assert parts.can_join(model, Options(), said.append)
    assert said == ["output_router_logits: the loss that spreads tokens over experts is left out."] * asked
