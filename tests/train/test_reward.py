"""Reward models: the loss against its formula in float64, and whole runs, which resume and stop as others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from redraft.chain import Prompt
from redraft.chain.encoder import PairEncoder
from redraft.engines.hf.reward import RewardModel
from redraft.errors import ModelError, UsageError
from redraft.evaluation.stats import proportion
from redraft.train.attention import use_segments
from redraft.train.batches import Data, collated, counted_in, joined, padded
from redraft.train.prepare import Stored
from redraft.train.reward import bounds, compare, measure, measured, pairwise
from tests.train.rewards import pairs, ready
from tests.train.test_run import losses
from tests.train.tiny import lines, model_folder
from tests.train.tiny_models import VOCABULARY, tiny

ASKED = Prompt(instruction="Add 3 and 3.")


@pytest.fixture
def here(here: Path) -> Path:
    pairs(here / "pairs.jsonl")
    return here


def trained_rewards(run: object, texts: list[torch.Tensor]) -> list[float]:
    inner = run.loop.trained.model.eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        return [float(inner(input_ids=each[None], labels=None).logits[0, 0]) for each in texts]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")  # peft, of redraft's fields
@pytest.mark.parametrize("lora", ["True", "False"])
def test_plain_transformers_and_peft_give_the_trained_rewards(model: str, here: Path, lora: str) -> None:
    made = ready(model, "--model_name_or_path", model, "--lora", lora, "--learning_rate", "1e-2")
    made.train()
    tokenizer = AutoTokenizer.from_pretrained("out")
    encoder = PairEncoder(tokenizer, "stablevicuna", 128)
    texts = [
        torch.from_numpy(encoder.read(ASKED, answer).ids.astype("int64")) for answer in ("6", "No, it is 7.")
    ]
    assert all(int(text[-1]) == tokenizer.eos_token_id != tokenizer.pad_token_id for text in texts)
    loader = AutoPeftModelForSequenceClassification if lora == "True" else AutoModelForSequenceClassification
    loaded = loader.from_pretrained("out", num_labels=1)
    loaded.config.pad_token_id = tokenizer.pad_token_id
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in texts])
    with torch.no_grad():
        found = loaded(input_ids=ids, attention_mask=mask.long()).logits[:, 0].tolist()
    assert found == pytest.approx(trained_rewards(made, texts), abs=1e-5)


def test_an_adapter_says_how_texts_are_written_and_has_its_head(model: str, here: Path) -> None:
    ready(model, "--lora", "True").train()
    config = json.loads(Path("out/adapter_config.json").read_text())
    assert config["redraft_reward"] == {"format": "stablevicuna", "max_length": 128}
    assert (config["task_type"], config["redraft_format"]) == ("SEQ_CLS", None)
    saved = load_file("out/adapter_model.safetensors")
    assert [each.dtype for name, each in saved.items() if "score" in name] == [torch.float32]


def test_a_tiny_model_learns_which_answer_is_better(model: str, here: Path) -> None:
    words = ["--eval_data_path", "pairs.jsonl", "--learning_rate", "1e-2", "--max_steps", "12"]
    made = ready(model, "--lora", "True", *words)
    made.train()
    assert isinstance(made.loop.eval_data, Data)
    assert measured(made.loop, made.loop.eval_data).accuracy.value == 1.0
    assert losses()[-1] < losses()[0] / 2
    saved = json.loads(Path("out/eval.json").read_text())
    assert (saved["pairs"], saved["accuracy"]["value"]) == (24, 1.0)
    assert 0.8 < saved["accuracy"]["low"] < 0.9


def test_evaluations_between_steps_log_the_accuracy(model: str, here: Path) -> None:
    words = ["--eval_strategy", "steps", "--eval_steps", "2", "--eval_data_path", "pairs.jsonl"]
    ready(model, "--lora", "True", *words).train()
    found = [each for each in lines(Path("out")) if "eval_loss" in each]
    assert found
    assert all(0 <= each["eval_accuracy"] <= 1 for each in found)


def test_the_plan_counts_pairs(model: str, here: Path) -> None:
    lines = ready(model, "--lora", "False").lines()
    assert lines[0].startswith("24 records read, 24 to train on: ")
    assert "from the first difference on" in lines[0]
    assert lines[1].startswith("3 steps of 4 pairs (of 24 pairs), ")


def test_data_without_pairs_says_why(model: str, here: Path) -> None:
    record = {"prompt": "P", "chosen": "same", "rejected": "same"}
    Path("pairs.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({**record, "chosen": ""}) + "\n")
    with pytest.raises(UsageError, match="there is nothing to train on in 2 records") as caught:
        ready(model)
    assert "chosen and rejected are equal" in caught.value.message
    assert "an empty answer" in caught.value.message
    assert "A pair is" in str(caught.value.hint)


def test_a_tokenizer_that_pads_with_its_stop_token_gets_another_one(model: str, here: Path) -> None:
    made = model_folder(here / "model", "bytes")
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(made)
    said: list[str] = []
    run = ready(str(made), said=said)
    assert "the tokenizer pads with '<|im_end|>', its end-of-text token: '<|endoftext|>' is used" in said
    model_config = run.loop.trained.model.config
    assert model_config.pad_token_id == run.loop.trained.tokenizer.pad_token_id != model_config.eos_token_id


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_token_to_pad_with_can_be_added(model: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.train.load._PADS", ())
    made = str(model_folder(here / "model", "bytes"))
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(made)
    with pytest.raises(ModelError, match=r"(?s)no padding token except its end.*--pad_token '\[PAD\]'"):
        ready(made)
    run = ready(made, "--model_name_or_path", made, "--pad_token", "[PAD]", "--lora", "True")
    run.train()
    assert AutoTokenizer.from_pretrained("out").pad_token_id == len(tokenizer)
    text = PairEncoder(run.loop.trained.tokenizer, "stablevicuna", 128).read(ASKED, "6").ids.astype("int64")
    expected = trained_rewards(run, [torch.from_numpy(text)])
    assert RewardModel.load("out").score([(ASKED, "6")]) == pytest.approx(expected, abs=1e-5)


def test_a_model_without_attention_for_joined_rows_has_padded_ones(
    model: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = ready(model, "--lora", "False")
    monkeypatch.setattr("transformers.LlamaForSequenceClassification._supports_flash_attn", False)
    padded = ready(model, "--lora", "False", "--output_dir", "other")
    shapes = [next(each.data.batches(0))["input_ids"].shape[0] for each in (joined, padded)]
    assert shapes == [1, 2 * padded.args.train_batch_size]
    joined.train()
    padded.train()
    assert losses("other") == pytest.approx(losses("out"), rel=1e-4)


REWARDS = st.floats(-30, 30, width=32)


def stored(*ids: int, parts: int) -> Stored:
    return Stored(np.array(ids), np.arange(len(ids)) >= parts)


PAIRS = [
    [stored(5, 6, 7, 8, 2, parts=3), stored(5, 6, 7, 9, 10, 11, 2, parts=3)],
    [stored(4, 20, 30, 31, 2, parts=2), stored(4, 20, 2, parts=2)],
    [stored(9, 9, 8, 2, parts=2), stored(9, 9, 7, 7, 2, parts=2)],
]


def reward_model() -> Any:
    from transformers import LlamaForSequenceClassification

    config = tiny().config
    config.num_labels, config.pad_token_id = 1, 0
    torch.manual_seed(7)
    model = LlamaForSequenceClassification(config).eval()
    compare(model)
    return model


def plain_rewards(model: Any, example: Stored) -> float:
    return float(model(input_ids=torch.from_numpy(example.ids)[None]).logits[0, 0].detach())


@given(REWARDS, REWARDS)
def test_the_loss_of_a_pair_is_its_formula(chosen: float, rejected: float) -> None:
    found = pairwise(*(torch.tensor(each, dtype=torch.float64) for each in (chosen, rejected)))
    assert float(found) == pytest.approx(float(np.logaddexp(0, rejected - chosen)), abs=1e-9)


@pytest.mark.parametrize("join", [True, False])
def test_rewards_are_those_of_plain_transformers(join: bool) -> None:
    model = reward_model()
    batch = collated(PAIRS, pad=None if join else 0, pairs=True)
    if join:
        use_segments(model)
    with torch.no_grad():
        found = model(**batch).rewards
        expected = [[plain_rewards(model, example) for example in pair] for pair in PAIRS]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("join", [True, False])
def test_the_loss_of_a_step_does_not_depend_on_its_batches(join: bool) -> None:
    model = reward_model()
    if join:
        use_segments(model)
    pad = None if join else 0

    def gradient(*parts: list[Any]) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        total = 0.0
        for part in parts:
            output = model(**collated(part, pad=pad, pairs=True), num_items_in_batch=torch.tensor(3))
            output.loss.backward()
            total += output.loss.item()
        return total, model.model.layers[0].mlp.up_proj.weight.grad.clone()

    whole, change = gradient(PAIRS)
    divided, sum_of_changes = gradient(PAIRS[:1], [], PAIRS[1:])
    assert divided == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(sum_of_changes, change, atol=1e-6, rtol=1e-4)


def test_loss_and_hits_are_those_of_the_pairs() -> None:
    model = reward_model()
    output = model(**collated(PAIRS, pad=0, pairs=True))
    gaps = [plain_rewards(model, a) - plain_rewards(model, b) for a, b in PAIRS]
    assert output.loss.item() == pytest.approx(sum([np.logaddexp(0, -gap) for gap in gaps]) / 3, rel=1e-5)
    assert float(output.sums["accuracy"]) == sum(gap > 0 for gap in gaps)


def test_a_tie_is_half_a_hit() -> None:
    model = reward_model()
    torch.nn.init.zeros_(model.score.weight)
    same = stored(5, 6, 2, parts=2)
    assert float(model(**collated([[same, same]], pad=0, pairs=True)).sums["accuracy"]) == 0.5


def test_a_process_without_rows_has_a_loss_of_zero_with_gradients() -> None:
    model = reward_model()
    for pad in (None, 0):
        batch = collated([], pad=pad, pairs=True)
        assert counted_in(batch) == 0
        loss = model(**batch, num_items_in_batch=2).loss
        assert loss.item() == 0
        loss.backward()
        assert model.score.weight.grad is not None


def test_texts_begin_and_end_at_the_same_tokens_joined_or_padded() -> None:
    for batch in (joined(PAIRS), padded(PAIRS, pad=0)):
        starts, ends = bounds(batch["position_ids"], batch.get("attention_mask"))
        flat = batch["input_ids"].flatten()
        texts = [flat[start:end].tolist() for start, end in zip(starts, ends, strict=True)]
        assert texts == [example.ids.tolist() for pair in PAIRS for example in pair]


def test_without_labels_the_model_is_as_before() -> None:
    model = reward_model()
    ids = torch.randint(3, VOCABULARY, (2, 5))
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (2, 1)


def test_a_model_without_that_head_is_refused() -> None:
    with pytest.raises(ModelError, match="has no head named 'score'"):
        compare(tiny())


RANDOM = np.random.default_rng(1)


def random_pairs(slope: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    gap = RANDOM.normal(0, 2, count)
    gap = np.where(RANDOM.random(count) > 1 / (1 + np.exp(-slope * gap)), -gap, gap)
    return np.stack([gap, np.zeros(count)], 1), RANDOM.integers(1, 50, (count, 2)).astype(float)


def test_figures_of_a_few_pairs() -> None:
    rewards = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 3.0], [4.0, -4.0]])
    found = measure(rewards, np.array([[10, 5], [10, 5], [7, 7], [3, 9]], dtype=float))
    assert (found.pairs, found.ties, found.accuracy) == (4, 1, proportion(2.5, 4))
    assert found.loss == pytest.approx(np.log1p(np.exp([-1.0, 1.0, 0.0, -8.0])).mean())
    assert found.longer_is_chosen.value == pytest.approx(2 / 3)
    assert found.prefers_longer.value == pytest.approx(1 / 3)  # the first pair
    assert [(each.low, each.pairs) for each in found.calibration] == [(0.5, 1), (0.7, 2), (0.9, 1)]
    assert found.calibration[1].right.value == 0.5


def test_a_calibrated_reward_is_as_right_as_it_is_sure_and_another_is_found() -> None:
    found = measure(*random_pairs(1.0))
    assert found.miscalibration < 0.03
    assert all(each.right.low - 0.02 < each.said < each.right.high + 0.02 for each in found.calibration)
    assert measure(*random_pairs(0.2)).miscalibration > 0.1


def test_a_reward_that_is_the_length_correlates_with_it() -> None:
    tokens = RANDOM.integers(1, 50, (500, 2)).astype(float)
    found = measure(tokens / 10, tokens)
    assert (found.length.value, found.prefers_longer.value) == (pytest.approx(1), 1.0)
    assert abs(measure(*random_pairs(1.0)).length.value) < 0.1


def test_swapped_pairs_and_a_coin_are_said() -> None:
    rewards, tokens = random_pairs(1.0, 500)
    assert not any("swapped" in line or "a coin." in line for line in measure(rewards, tokens).lines())
    assert "chosen and rejected may be swapped" in measure(rewards[:, ::-1], tokens).lines()[-1]
    last = measure(np.stack([np.tile([1.0, -1.0], 50), np.zeros(100)], 1), tokens[:100]).lines()[-1]
    assert last == "the interval includes 50 %, so the accuracy may be chance."
