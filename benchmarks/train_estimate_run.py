"""A plan of a run's memory, and then what a few steps of it take, in a process of its own.

    python benchmarks/train_estimate_run.py CONFIG --dtype bfloat16 --rows 8 --tokens 512 [--lora] [--again]

A model of random weights in the shapes of CONFIG, a folder with config.json, trained as redraft trains it:
the plan is made before the first step, as in a run. `--again` is activation checkpointing, `--times` how many
batches make one step. Of each batch, half of the tokens carry loss. Prints a JSON object: the plan's peak and
parts, and the most memory of the process (`VmHWM`), or of the GPU as torch counts it.
"""

from __future__ import annotations

import argparse
import json

import torch
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

from redraft.train.attention import use_segments
from redraft.train.batches import IGNORED
from redraft.train.load import add_adapter
from redraft.train.loss import fuse
from redraft.train.memory import peak_memory, plan_of
from redraft.train.options import TrainOptions

SEED = 5
STEPS = 4


def main() -> None:
    """Plans, and does the steps."""
    asked = _asked()
    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = AutoConfig.from_pretrained(asked.config)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, asked.dtype)).to(device)
    trained = add_adapter(model, TrainOptions(), note={}) if asked.lora else model
    use_segments(model)
    fuse(trained)
    trained.train()
    args = TrainingArguments(
        use_cpu=device == "cpu",
        bf16=asked.bf16,
        activation_checkpointing=asked.again,
        gradient_accumulation_steps=asked.times,
    )
    examples = [asked.tokens] * asked.rows
    plan = plan_of(trained, args, tokens=sum(examples), share=0.5, examples=examples)
    if asked.again:
        model.activation_checkpointing_enable({"use_reentrant": False})
    _train(trained, asked, config.vocab_size, device)
    print(json.dumps({"plan": plan.peak, "parts": plan.parts(), "took": peak_memory()}))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--times", type=int, default=1)
    for flag in ("--lora", "--again", "--bf16"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def _train(model: torch.nn.Module, asked: argparse.Namespace, vocabulary: int, device: str) -> None:
    """Steps of AdamW, as Trainer's default does them."""
    weights = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, fused=True)
    for _ in range(STEPS):
        for _ in range(asked.times):
            ids = torch.randint(vocabulary, (1, asked.rows * asked.tokens), device=device)
            positions = torch.arange(asked.tokens, device=device).repeat(asked.rows)[None]
            labels = ids.masked_fill(positions < asked.tokens // 2, IGNORED)
            with torch.autocast(device, torch.bfloat16, enabled=asked.bf16):
                loss = model(input_ids=ids, position_ids=positions, labels=labels).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
