"""Folders to GGUF files: llama.cpp says what transformers says, and every byte is what gguf's own functions make."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from redraft.engines.base import Sampling
from redraft.engines.llamacpp import LlamaCppEngine
from redraft.errors import ModelError, OutputError, UsageError
from redraft.weights import to_gguf
from redraft.weights.gguf import GGUFHeader, read_header
from redraft.weights.gguf_names import gguf_name, permute
from redraft.weights.gguf_quant import QUANTS
from redraft.weights.to_gguf import export_gguf
from tests.weights.tiny_folders import ARCHITECTURES, SPECIAL, VOCABULARY, load, tiny_folder

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name.lower(): (name, {}) for name in ARCHITECTURES},
    **{f"{name.lower()} tied": (name, {"tie_word_embeddings": True}) for name in ARCHITECTURES},
    "all biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "wide heads": ("Qwen3", {"head_dim": 32}),
    "wide heads of llama": ("Llama", {"head_dim": 32}),
    "one kv head": ("Llama", {"num_key_value_heads": 1}),
    "llama3 scaling": ("Llama", {"rope_parameters": LLAMA3}),
    "linear scaling": (
        "Qwen2",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}},
    ),
    "yarn": ("Qwen3", {"rope_parameters": YARN}),
    "yarn, stronger": ("Llama", {"rope_parameters": {**YARN, "attention_factor": 1.5}}),
    "yarn, mscale": ("Qwen2", {"rope_parameters": {**YARN, "mscale": 2.0, "mscale_all_dim": 0.5}}),
}


def prompts() -> list[list[int]]:
    """Some of a few tokens, and some that are longer than the context before scaling."""
    drawn = random.Random(5)
    return [
        [drawn.randrange(SPECIAL, VOCABULARY) for _ in range(length)] for length in (1, 4, 9, 30, 70, 130)
    ]


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    """What a model says in 32 bits, as far as it was in no doubt."""
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < 0.03:
            break
        tokens.append(int(best.indices[0]))
    return tokens[len(prompt) :]


def said_by_llamacpp(file: Path, count: int) -> list[str]:
    """What llama.cpp says to each of the prompts, as text."""

    async def texts() -> list[str]:
        engine = await LlamaCppEngine.start(file, threads=1, speculate=False)
        try:
            sampling = Sampling(temperature=0.0, max_tokens=count)
            return [
                "".join([delta.text async for delta in engine.stream(each, sampling)]) for each in prompts()
            ]
        finally:
            await engine.aclose()

    return asyncio.run(texts())


@pytest.mark.parametrize("model", MODELS)
def test_llamacpp_says_what_transformers_says(model: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    architecture, changes = MODELS[model]
    folder = tiny_folder(tmp_path / "hf", architecture, **changes)
    export_gguf(folder, tmp_path / "m.gguf", quant="f16")
    loaded, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    sure = [greedy(loaded, prompt, 8) for prompt in prompts()]
    assert sum(map(len, sure)) >= 12
    for expected, said in zip(sure, said_by_llamacpp(tmp_path / "m.gguf", 8), strict=True):
        assert said.startswith(tokenizer.decode(expected))
