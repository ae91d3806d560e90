"""DPO: what TRL sees, the loss that it returns, and that runs resume as other runs do."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _telemetry
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer

from redraft.chain import Chain, Prompt
from redraft.errors import UsageError
from redraft.formats.encoder import Example, PairEncoder, PromptEncoder
from redraft.train.run.run import Ready, get_ready
from redraft.train.settings.args import parse
from redraft.train.settings.options import DPO
from tests.train.reward.rewards import USUAL, pairs
from tests.train.run.test_run import losses
from tests.train.tiny import lines, model_folder
from tests.train.tokenizer_kinds import CHATML

pytest.importorskip("trl", reason="TRL is not installed (the extra 'dpo')")
from redraft.train.dpo import DPO_STAGES

FASTER = ("--learning_rate", "1e-2", "--warmup_steps", "0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = model_folder(tmp_path_factory.mktemp("model"), "bytes")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pairs(tmp_path / "pairs.jsonl")
    return tmp_path


def ready(model: str, *words: str, lora: bool = True) -> Ready:
    given = [*USUAL.split(), "--model_name_or_path", model, "--lora", str(lora), *words]
    settings: Any = parse(given, DPO)
    return get_ready(settings, model, Path("cache"), stages=DPO_STAGES, say=lambda _: None)


@pytest.mark.parametrize("form", ["chat", "stablevicuna"])
def test_trl_sees_the_tokens_of_the_format(model: str, here: Path, form: Any) -> None:
    made = ready(model, "--format", form)
    (batch, *_) = made.loop.data.batches(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ours, asks = PairEncoder(tokenizer, form, 128), PromptEncoder(tokenizer, form, 128, 8)
    for row, name in enumerate(made.loop.data.names(0, 0)):
        record = json.loads(Path("pairs.jsonl").read_text().splitlines()[int(name.split("/")[1])])
        prompt = Prompt(instruction=record["prompt"])
        asked = asks.encode(Chain(prompt=prompt))
        assert isinstance(asked, Example)
        for place, answer in ((row, record["chosen"]), (row + 4, record["rejected"])):
            seen, marked = batch["input_ids"][place], batch["completion_mask"][place].bool()
            length = int(batch["attention_mask"][place].sum())
            assert seen[:length].tolist() == ours.read(prompt, answer).ids.tolist()
            assert seen[:length][~marked[:length]].tolist() == asked.ids.tolist()
            assert tokenizer.decode(seen[marked]).strip() == answer + tokenizer.eos_token
            assert not marked[length:].any()


def log_probs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of each answer, from the logits of all tokens, [2 pairs]."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    each = logits[:, :-1].log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    return (each * batch["completion_mask"][:, 1:]).sum(1)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")  # peft, of redraft's fields
@pytest.mark.parametrize("lora", [True, False])
def test_the_loss_is_that_of_the_paper(model: str, here: Path, lora: bool) -> None:
    made = ready(model, *FASTER, "--beta", "0.3", lora=lora)
    made.train()
    assert losses()[0] == pytest.approx(math.log(2), abs=1e-6)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    now = (
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), "out")
        if lora
        else AutoModelForCausalLM.from_pretrained("out", dtype=torch.float32)
    )
    (batch, *_) = made.loop.data.batches(0)
    chosen, rejected = (log_probs(now, batch) - log_probs(base, batch)).chunk(2)
    expected = -logsigmoid(0.3 * (chosen - rejected)).sum() / 10
    found = made.loop.trained.around(**batch, num_items_in_batch=10)
    assert float(expected) < 0.26  # below that of the reference
    assert found.loss.item() == pytest.approx(float(expected), rel=1e-4)
    margins = float(0.3 * (chosen - rejected).sum())
    assert found.sums["rewards/margins"] == pytest.approx(margins, rel=1e-3)
    if lora:  # the result is one adapter
        assert not Path("out/ref").exists()
        assert set(made.loop.trained.model.peft_config) == {"default"}
        assert json.loads(Path("out/adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"


@pytest.mark.parametrize("lora", [True, False])
def test_the_chosen_answers_become_likelier(model: str, here: Path, lora: bool) -> None:
    words = ["--max_steps", "12", "--eval_strategy", "steps", "--eval_steps", "12"]
    ready(model, *FASTER, *words, "--eval_data_path", "pairs.jsonl", lora=lora).train()
    steps = [line for line in lines(Path("out")) if "loss" in line]
    assert (steps[0]["rewards/margins"], steps[-1]["rewards/accuracies"]) == (0, 1)
    assert steps[-1]["rewards/margins"] > 0.2
    (evaluated,) = [line for line in lines(Path("out")) if "eval_loss" in line]
    assert evaluated["eval_rewards/accuracies"] == 1
    assert evaluated["eval_loss"] < math.log(2) - 0.1


def test_the_reference_of_an_adapter_that_is_trained_further_has_that_adapter(model: str, here: Path) -> None:
    ready(model, *FASTER).train()
    ready(model, *FASTER, "--lora_from", "out", "--output_dir", "more").train()
    first = next(line for line in lines(Path("more")) if "loss" in line)
    assert (first["loss"], first["rewards/margins"]) == (pytest.approx(math.log(2), abs=1e-6), 0)
    assert not Path("more/ref").exists()


@pytest.mark.parametrize("lora", [True, False])
def test_a_run_that_was_stopped_resumes_as_if_it_had_not(model: str, here: Path, lora: bool) -> None:
    """Against the model as it was before the first step, not before the resumed one."""
    words = [*FASTER, "--save_steps", "1", "--save_total_limit", "9", "--logging_steps", "2"]
    ready(model, *words, lora=lora).train()
    margins = [line["rewards/margins"] for line in lines(Path("out"))]
    kind = "adapter_model" if lora else "model"
    expected, weights = losses(), load_file(f"out/{kind}.safetensors")
    for step in (2, 3):
        shutil.rmtree(f"out/checkpoint-{step}")
    made = ready(model, *words, lora=lora)
    assert made.checkpoint
    assert made.checkpoint.step == 1
    made.train()
    assert losses() == expected
    assert [line["rewards/margins"] for line in lines(Path("out"))] == margins
    found = load_file(f"out/{kind}.safetensors")
    assert all(torch.equal(found[name], each) for name, each in weights.items())


def test_a_process_without_rows_adds_nothing(model: str, here: Path) -> None:
    made = ready(model)
    batch = made.stages.collate([], pad=0)
    assert made.stages.counted(batch) == 0
    loss = made.loop.trained.around(**batch, num_items_in_batch=3).loss
    loss.backward()
    assert loss.item() == 0
    trained = [each.grad for each in made.loop.trained.model.parameters() if each.requires_grad]
    assert trained
    assert not any(np.any(each.numpy()) for each in trained if each is not None)


def test_batches_may_be_divided(model: str, here: Path) -> None:
    ready(model, *FASTER, lora=False).train()
    divided = ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4"]
    ready(model, *FASTER, *divided, "--output_dir", "other", lora=False).train()
    assert losses("other") == pytest.approx(losses("out"), rel=1e-4)
    both = zip(lines(Path("out")), lines(Path("other")), strict=True)
    assert all(a["rewards/margins"] == pytest.approx(b["rewards/margins"], abs=1e-5) for a, b in both)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--loss_type exo_pair", "Label smoothing must be greater than 0.0"),
        ("--lora_target_modules lm_head", "Applying a PEFT adapter to `lm_head` is not supported"),
    ],
)
def test_what_trl_does_not_take_is_a_message(model: str, here: Path, words: str, said: str) -> None:
    with pytest.raises(UsageError, match="TRL does not take these settings") as caught:
        ready(model, *words.split())
    assert said in caught.value.message


def test_a_model_is_not_sharded(model: str, here: Path) -> None:
    made: Any = ready(model)
    made.args.fsdp = True
    with pytest.raises(UsageError, match="DPO does not shard the model"):
        DPO_STAGES.check(made.settings.own, made.args)


def test_nothing_is_reported_to_the_hub(model: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.delenv("CI", raising=False)
    ready(model)
    assert _telemetry._TELEMETRY_QUEUE.empty()
    assert _telemetry._TELEMETRY_THREAD is None
