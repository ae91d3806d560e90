"""Whole runs of reward models: what comes out, and that they resume and stop as other runs do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from redraft.chain import Prompt
from redraft.chain.encoder import PairEncoder
from redraft.engines.hf.reward import RewardModel
from redraft.errors import ModelError, UsageError
from redraft.train.reward import measured
from tests.train.rewards import pairs, ready
from tests.train.test_run import losses
from tests.train.tiny import lines, model_folder

ASKED = Prompt(instruction="Add 3 and 3.")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pairs(tmp_path / "pairs.jsonl")
    return tmp_path


def trained_rewards(run: object, texts: list[torch.Tensor]) -> list[float]:
    inner = run.loop.trained.model.eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        return [float(inner(input_ids=each[None], labels=None).logits[0, 0]) for each in texts]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")  # peft, of redraft's fields
@pytest.mark.parametrize("lora", ["True", "False"])
def test_plain_transformers_and_peft_give_the_rewards_that_were_trained(
    model: str, here: Path, lora: str
) -> None:
    """Also in padded batches, where a reward is read at the last token that is not padding."""
    words = ["--model_name_or_path", model, "--lora", lora, "--learning_rate", "1e-2"]
    made = ready(model, *words)
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
    found = measured(made.loop, made.eval_data)
    assert found
    assert found.accuracy.value == 1.0
    assert losses()[-1] < losses()[0] / 2
    saved = json.loads(Path("out/eval.json").read_text())
    assert saved["pairs"] == 24
    assert saved["accuracy"]["value"] == 1.0
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
    assert "from where the answers part" in lines[0]
    assert lines[1].startswith("3 steps of 4 pairs (of 24 pairs), ")


def test_data_without_pairs_says_why(model: str, here: Path) -> None:
    record = {"prompt": "P", "chosen": "same", "rejected": "same"}
    Path("pairs.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({**record, "chosen": ""}) + "\n")
    with pytest.raises(UsageError, match="none of the 2 records has anything to train on") as caught:
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
    assert "the tokenizer pads with '<|im_end|>', its end-of-text: '<|endoftext|>' is taken" in said
    model_config = run.loop.trained.model.config
    assert model_config.pad_token_id == run.loop.trained.tokenizer.pad_token_id != model_config.eos_token_id


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_token_to_pad_with_can_be_added(model: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.train.load._PADS", ())
    made = str(model_folder(here / "model", "bytes"))
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(made)
    with pytest.raises(ModelError, match="no token to pad with but its end-of-text") as caught:
        ready(made)
    assert "--pad_token '[PAD]'" in str(caught.value.hint)
    words = ["--model_name_or_path", made, "--pad_token", "[PAD]", "--lora", "True"]
    run = ready(made, *words)
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
