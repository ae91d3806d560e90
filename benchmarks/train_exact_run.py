"""The loss of packed rows and of their parts, in a process of its own.

    python benchmarks/train_exact_run.py --model FOLDER --data FILE --out FILE --tokens 2048 --rows 6

Writes a JSON list with an object a row: how many `examples` it has, and nats a trained token of the row as
redraft computes it (`packed`) and of its examples as transformers does (`parts`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from redraft.chain.encoder import Encoder
from redraft.train.attention import use_segments
from redraft.train.batches import IGNORED, joined, pack
from redraft.train.loss import fuse
from redraft.train.prepare import Stored, prepare


def main() -> None:
    """Computes both, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--model", "--data", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--tokens", "--rows"):
        parser.add_argument(name, type=int, required=True)
    asked = parser.parse_args()
    encoder = Encoder(AutoTokenizer.from_pretrained(asked.model), max_length=asked.tokens)
    prepared = prepare([asked.data], encoder, asked.out.with_suffix(".cache"), workers=1)
    rows = pack(prepared.lengths, asked.tokens)
    plain, ours = (AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32) for _ in range(2))
    use_segments(ours)
    fuse(ours)
    found = []
    with torch.no_grad():
        for number in range(min(asked.rows, len(rows))):
            examples = [prepared[int(example)] for example in rows[number]]
            packed = float(ours(**joined([examples])).loss)
            found.append(
                {"examples": len(examples), "packed": packed, "parts": loss_of_parts(plain, examples)}
            )
    asked.out.write_text(json.dumps(found), "utf-8")


def loss_of_parts(model: Any, examples: list[Stored]) -> float:
    """The mean loss over trained tokens of all examples, each computed by itself.

    From logits in 32 bits, but added up in 64: torch's softmax over this vocabulary in 32 bits is itself off
    by up to 1e-5.
    """
    total, count = 0.0, 0
    for example in examples:
        ids, trained = (torch.from_numpy(each.copy()).long() for each in (example.ids, example.trained))
        logits = model(input_ids=ids[None]).logits[0, :-1].double()
        targets = ids[1:].masked_fill(trained[1:] == 0, IGNORED)
        total += float(cross_entropy(logits, targets, reduction="sum"))
        count += int((targets != IGNORED).sum())
    return total / count


if __name__ == "__main__":
    main()
