"""Prepare data like a training run, and write the counts and the packing efficiency."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from redraft.chain.encoder import Encoder
from redraft.train.batches import pack
from redraft.train.prepare import prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    from transformers import AutoTokenizer

    encoder = Encoder(AutoTokenizer.from_pretrained(asked.tokenizer), max_length=asked.tokens)
    prepared = prepare(asked.data, encoder, asked.cache, workers=asked.workers)
    rows = pack(prepared.lengths, asked.tokens)
    found = {
        "examples": len(prepared),
        "tokens": prepared.report.tokens,
        "rows": len(rows),
        "efficiency": rows.efficiency,
    }
    asked.out.write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":  # tokenising processes import this file too
    main()
