"""Do one step of training, in a process whose memory is watched from outside.

    python benchmarks/train_memory_run.py CONFIG ours|whole --dtype bfloat16 --rows 8 --tokens 1024

The model has random weights in the shapes of CONFIG, a folder with config.json. `ours` trains as redraft
does; `whole` lets transformers compute the loss from the logits of all tokens. Everything else is the same:
all tokens have loss, activations are recomputed in the backward pass, and the optimizer is AdamW. A short
step comes first, so that gradients and the optimizer's state exist when the long one begins.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from redraft.train.attention import use_segments
from redraft.train.load import add_adapter
from redraft.train.loss import fuse
from redraft.train.options import SftOptions

SEED = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("side", choices=["ours", "whole"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--lora", action="store_true")
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    config = AutoConfig.from_pretrained(asked.config)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, asked.dtype))
    trained = add_adapter(model, SftOptions(), note={}) if asked.lora else model
    if asked.side == "ours":
        use_segments(model)
        fuse(trained)
    trained.train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(each for each in trained.parameters() if each.requires_grad)
    for rows, tokens in ((1, 16), (asked.rows, asked.tokens)):
        ids = torch.randint(config.vocab_size, (rows, tokens))
        positions = torch.arange(tokens).repeat(rows, 1)
        if asked.side == "ours":  # as `train.batches.joined` makes them: one row, positions start at 0
            ids, positions = ids.view(1, -1), positions.view(1, -1)
        labels = ids.masked_fill(positions == 0, -100)
        loss = trained(input_ids=ids, position_ids=positions, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


if __name__ == "__main__":
    main()
