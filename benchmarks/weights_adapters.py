"""Compare merged weights with the adapter at run time, in transformers and llama.cpp, and q4_1 with f16."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from material import default_model
from measure import Figure, Goal, Row
from weights_equal import there_and_back
from weights_gguf import as_float32
from weights_greedy import Agreement, Text, agreement, in_llamacpp, in_transformers, questions
from weights_material import Scale, make_adapter
from weights_run import remove, weights

MERGED = "merge-lora vs the adapter at run time, in transformers (fp32)"
GGUF = "lora-gguf vs the merged model as GGUF, in llama.cpp (fp32)"
QUANTISED = "q4_1 vs its f16 copy, in llama.cpp"
ADAPTER = (
    "The default model as a folder in fp32, and a peft adapter of rank 16 with random values on every linear "
    "layer. "
)
GREEDY = (
    "Greedy answers of {tokens} tokens to {prompts} questions. Log-probabilities are compared up to the "
    "first token that differs."
)
HOW_MERGED = ADAPTER + "One side is the output of `merge-lora`, the other base and adapter in peft. " + GREEDY
HOW_GGUF = (
    ADAPTER
    + "One side is the file of `lora-gguf` on the base, the other the merged model, both in float32 (written "
    "by gguf). llama.cpp keeps keys and values in f16 on both sides. " + GREEDY
)
HOW_QUANTISED = (
    "One side is the default model's file, with most weights in q4_1. The other is the f16 file that "
    "`from-gguf` and `gguf` make of it. llama.cpp rounds activations differently for q4_1. " + GREEDY
)
SAME = Goal("≥", 95.0)
FEW = 20  # texts of the base alone, to show that the adapter has an effect


def run_merged(scale: Scale) -> Row:
    from peft import PeftModel
    from transformers import AutoTokenizer

    folder = scale.work / "merged"
    base, adapter, merged = _make(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    models = _load(merged), PeftModel.from_pretrained(_load(base), adapter).eval(), _load(base)
    asked = questions(scale.prompts)
    ours, theirs, without = (
        [write(question) for question in some]
        for write, some in zip(
            [in_transformers(model, tokenizer, scale.tokens) for model in models],
            (asked, asked, asked[:FEW]),
            strict=True,
        )
    )
    remove(folder)
    figures = (*_figures(agreement(ours, theirs), SAME), _effect(ours, without))
    return Row(MERGED, _how(HOW_MERGED, scale), figures)


def run_gguf(scale: Scale) -> Row:
    folder = scale.work / "adapter"
    base, adapter, merged = _make(folder)
    files = {}
    for name, model in (("base", base), ("merged", merged)):
        half = folder / f"{name}-f16.gguf"
        weights("gguf", model, "-o", half, "--quant", "f16")
        files[name] = as_float32(half, model, folder / f"{name}.gguf")
    lora = folder / "lora.gguf"
    weights("lora-gguf", adapter, "-o", lora, "--base", base)
    asked = questions(scale.prompts)
    ours = in_llamacpp(files["base"], [lora], asked, scale.tokens)
    theirs = in_llamacpp(files["merged"], [], asked, scale.tokens)
    without = in_llamacpp(files["base"], [], asked[:FEW], scale.tokens)
    remove(folder)
    figures = (*_figures(agreement(ours, theirs), SAME), _effect(ours, without))
    return Row(GGUF, _how(HOW_GGUF, scale), figures)


def run_quantised(scale: Scale) -> Row:
    folder = scale.work / "quantised"
    model = folder / "model"
    folder.mkdir()
    weights("from-gguf", default_model(), "-o", model, "--dtype", "fp32")
    half, _ = there_and_back(folder, model)
    asked = questions(scale.prompts)
    ours = in_llamacpp(default_model(), [], asked, scale.tokens)
    theirs = in_llamacpp(half, [], asked, scale.tokens)
    remove(folder)
    return Row(QUANTISED, _how(HOW_QUANTISED, scale), _figures(agreement(ours, theirs), None))


def _how(how: str, scale: Scale) -> str:
    return how.format(tokens=scale.tokens, prompts=scale.prompts)


def _make(folder: Path) -> tuple[Path, Path, Path]:
    folder.mkdir()
    base, merged = folder / "base", folder / "merged"
    weights("from-gguf", default_model(), "-o", base, "--dtype", "fp32")
    adapter = make_adapter(folder / "adapter", json.loads((base / "config.json").read_text("utf-8")))
    weights("merge-lora", base, adapter, "-o", merged)
    return base, adapter, merged


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _figures(found: Agreement, goal: Goal | None) -> tuple[Figure, ...]:
    return (
        Figure("texts that are the same", (100 * found.same,), "%", goal),
        Figure("tokens before texts part", (100 * found.common,), "%"),
        Figure("largest difference of a top-20 log-probability", (found.difference,), "nats"),
    )


def _effect(ours: Sequence[Text], without: Sequence[Text]) -> Figure:
    found = agreement(ours[: len(without)], without)
    return Figure(
        "texts that the base alone writes too", (100 * found.same,), "%", None, f"of {len(without)}"
    )
