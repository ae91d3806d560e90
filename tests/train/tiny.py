"""A model of two small layers, data of a few tokens, and a loop that trains on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from redraft.train import LOG
from redraft.train.attention import use_segments
from redraft.train.batches import Data, Order, joined, pack
from redraft.train.loop import Loop
from redraft.train.loss import fuse
from redraft.train.prepare import DataReport, Prepared, Writer, open_prepared
from tests.train.tokenizer_kinds import tokenizer

VOCABULARY = 48
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def llama(*, dropout: float = 0.1, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        **SHAPE,
        max_position_embeddings=128,
        attention_dropout=dropout,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    use_segments(model)
    return model


def prepared(folder: Path, examples: int = 40, seed: int = 0) -> Prepared:
    random = np.random.default_rng(seed)
    folder.mkdir()
    writer = Writer(folder)
    for number in range(examples):
        length = int(random.integers(6, 25))
        ids = (int(random.integers(VOCABULARY)) + np.arange(length)) % VOCABULARY
        writer.add(f"tiny/{number}", ids, np.arange(length) >= length // 3)
    writer.finish("tiny", DataReport(records=examples, examples=examples))
    found = open_prepared(folder, "tiny")
    assert found
    return found


def data(examples: Prepared, *, size: int = 2, capacity: int = 48, **order: Any) -> Data:
    packed = pack(examples.lengths, capacity)
    return Data(examples, packed, Order(len(packed), size, **{"seed": 1, **order}), joined)


def loop(folder: Path, read: Data, model: Any = None, eval_data: Data | None = None, **more: Any) -> Loop:
    own = {name: more.pop(name) for name in ("divergence_steps",) if name in more}
    settings: dict[str, Any] = {
        "output_dir": str(folder), "use_cpu": True, "max_steps": 12, "save_steps": 4,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "lr_scheduler_type": "cosine",
        "warmup_steps": 2, "logging_steps": 1, "report_to": "none",
    }  # fmt: skip
    model = llama() if model is None else model
    fuse(model)
    return Loop(model, TrainingArguments(**(settings | more)), read, eval_data, quiet=True, **own)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / LOG).read_text().splitlines()]


def curve(output: Path) -> list[dict[str, float]]:
    keys = {"step", "loss", "grad_norm", "trained_tokens", "eval_loss"}
    return [{key: line[key] for key in keys & line.keys()} for line in lines(output)]


def model_folder(folder: Path, kind: str = "llama") -> Path:
    made = tokenizer(kind)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(made),
        **SHAPE,
        max_position_embeddings=1024,
        bos_token_id=made.bos_token_id,
        eos_token_id=made.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def chains(path: Path, count: int = 24) -> Path:
    with path.open("w") as file:
        for n in range(count):
            drafts = [2 * n] if n % 3 == 0 else [2 * n + 1, 2 * n]
            steps = [{"answer": str(each), "feedback": feedback(n, right=each == 2 * n)} for each in drafts]
            prompt = {"instruction": f"Add {n} and {n}."}
            chain = {"version": 1, "id": f"sum/{n}", "prompt": prompt, "steps": steps, "best": len(steps) - 1}
            file.write(json.dumps(chain) + "\n")
    return path


def feedback(n: int, *, right: bool) -> dict[str, str]:
    verdict, words = ("accept", "No revision") if right else ("revise", "Revision")
    return {"text": f"{n} + {n} is {2 * n}. {words} is needed.", "verdict": verdict}
