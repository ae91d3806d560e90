"""The peer of `weights_whole`: loads base and delta whole with transformers, adds them, and saves the sum.

    python benchmarks/weights_whole_peer.py BASE DELTA TARGET

It works like the `apply_delta` scripts of Vicuna, Alpaca and StableVicuna, in words of our own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(base: str, delta: str, target: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, low_cpu_mem_usage=True)
        for folder in (base, delta)
    ]
    with torch.no_grad():
        added = models[0].state_dict()
        for name, value in models[1].state_dict().items():
            value += added[name]
    models[1].save_pretrained(target)
    for path in Path(target).iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
