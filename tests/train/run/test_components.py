from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from redraft.errors import ModelError
from redraft.train.run.run import get_ready
from redraft.train.settings.args import parse
from redraft.train.settings.options import TrainOptions
from redraft.train.stages import SFT_STAGES
from tests.train.tiny import chains, model_folder
from tests.train.tiny_models import EXPERTS, tiny


@pytest.mark.parametrize("asked", [False, True])
def test_a_loss_of_experts_that_is_left_out_is_said(asked: bool) -> None:
    said: list[str] = []
    model = tiny("Qwen3Moe", output_router_logits=asked, **EXPERTS)
    assert SFT_STAGES.joins(model, TrainOptions(), say=said.append)
    assert said == ["output_router_logits: the loss that spreads tokens over experts is left out."] * asked


@pytest.mark.parametrize("packing", [False, True])
def test_without_packing_a_model_that_cannot_join_has_padded_batches(packing: bool) -> None:
    model = tiny()
    model._supports_flash_attn = False  # what transformers says of it
    said: list[str] = []
    with pytest.raises(ModelError, match="its own attention") if packing else nullcontext():
        assert not SFT_STAGES.joins(model, TrainOptions(packing=packing), say=said.append)
    assert len(said) == (not packing)
    assert all(line.startswith("batches are padded: ") for line in said)
    ids = torch.tensor([[1, 2, 3]])
    assert model(input_ids=ids, labels=ids, num_items_in_batch=torch.tensor(1)).loss > 0


def test_how_far_tokens_are_is_said_of_all_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.train.prepare.SECONDS", 0)
    one, other = chains(tmp_path / "chains.jsonl"), chains(tmp_path / "held-out.jsonl")
    words = (
        f"--data_path {one} --eval_strategy epoch --eval_data_path {other} --output_dir {tmp_path / 'out'}"
    )
    said: list[str] = []
    model = str(model_folder(tmp_path / "model"))
    get_ready(
        parse([*words.split(), "--lora", "True", "--per_device_train_batch_size", "1"]),
        model,
        tmp_path / "cache",
        say=said.append,
    )
    assert [line for line in said if "so far" in line] == ["24 records tokenised so far."] * 2
