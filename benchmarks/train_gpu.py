"""Measure training of a whole model on one GPU: tokens a second, and the share of the GPU's peak.

    python benchmarks/train_gpu.py

Models of 1B and 8B parameters in Llama's shapes, with random weights; packed rows of examples of many
lengths; redraft's attention, loss and batches; AdamW on weights in bf16. Each model is trained uncompiled and
compiled layer by layer. Activations are kept if memory allows it, and otherwise recomputed. Without a GPU,
nothing is measured, and the exit status is 0.

Work (FLOPs) is counted as in PaLM (Chowdhery et al., 2022, appendix B): the work of the forward pass, and
twice as much for the backward pass. Recomputed activations do not count:

- 6 for each token and each weight of a layer's matrices, and of the head for each token that carries loss;
- 12 × layers × width for each pair of a token and a token that it sees, itself included. The number of pairs
  is about half the square of an example's length.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from redraft.train.attention import use_segments
from redraft.train.batches import IGNORED, Batch, joined
from redraft.train.loss import fuse
from redraft.train.prepare import Stored

GOAL = 0.45
"""The goal for the share of peak. torchtitan reaches 33 to 39 % at 8B on an H100, nanochat 41 to 50 %."""

SEED = 7
MEAN, SPREAD = 6.2, 0.7
"""The mean and deviation of the logarithm of an example's length. The mean length is 630, the median 493."""

PEAKS = {
    "H200": 989.4e12, "H100 PCIe": 756e12, "H100 NVL": 835.5e12, "H100": 989.4e12, "B200": 2250e12,
    "A100": 312e12,
}  # fmt: skip
"""Peak FLOPs per second of dense bf16 products, added up in 32 bits, from NVIDIA's data sheets. Some sheets
print twice as many, for sparse matrices. The first entry counts whose words are all in the name of the
device."""


@dataclass(frozen=True)
class Shape:
    name: str
    width: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int
    tied: bool
    tokens: int

    def config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            max_position_embeddings=self.tokens,
            tie_word_embeddings=self.tied,
        )


SHAPES = (
    Shape("Llama 3.2 1B", 2048, 16, 32, 8, 8192, 128_256, tied=True, tokens=16_384),
    Shape("Llama 3.1 8B", 4096, 32, 32, 8, 14_336, 128_256, tied=False, tokens=8_192),
)
SMALL = (Shape("a tiny one", 32, 2, 4, 2, 48, 128, tied=True, tokens=256),)


@dataclass(frozen=True)
class Way:
    name: str
    compiled: bool = False


@dataclass(frozen=True)
class Result:
    tokens: float  # per second
    flops: float  # per second
    memory: int  # peak bytes of the GPU; 0 on a CPU
    recompute: bool  # whether activations were recomputed


def lengths(tokens: int, random: np.random.Generator) -> list[int]:
    drawn: list[int] = []
    while sum(drawn) < tokens:
        drawn.append(max(2, int(random.lognormal(MEAN, SPREAD))))
    return [int(end - begin) for begin, end in pairwise(np.minimum(np.cumsum([0, *drawn]), tokens))]


def batches(shape: Shape, count: int) -> list[tuple[Batch, float]]:
    random = np.random.default_rng(SEED)
    made = []
    for _ in range(count):
        row = [
            Stored(random.integers(shape.vocabulary, size=length), np.arange(length) >= length // 2)
            for length in lengths(shape.tokens, random)
        ]
        batch = joined([row])
        trained = int((batch["labels"][..., 1:] != IGNORED).sum())
        made.append((batch, work(shape, [len(each.ids) for each in row], trained)))
    return made


def work(shape: Shape, examples: Sequence[int], trained: int) -> float:
    keys = shape.width // shape.heads * shape.key_heads
    layer = 2 * shape.width * (shape.width + keys) + 3 * shape.width * shape.inner
    matrices = 6 * shape.layers * layer * sum(examples) + 6 * shape.width * shape.vocabulary * trained
    return matrices + 6 * shape.layers * shape.width * sum(each * (each + 1) for each in examples)


def made(shape: Shape, way: Way, device: torch.device, *, recompute: bool) -> Any:
    torch.manual_seed(SEED)
    with device:
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16)
    model.train()
    use_segments(model)
    fuse(model)
    if recompute:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if way.compiled:
        for layer in model.model.layers:
            layer.compile(backend="inductor" if device.type == "cuda" else "eager")
    return model


def measure(shape: Shape, way: Way, device: torch.device, *, steps: int, recompute: bool) -> Result:
    model = made(shape, way, device, recompute=recompute)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    rows = batches(shape, 2 * steps)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = [step(model, optimizer, batch, device) for batch, _ in rows][steps:]
    flops = [done / each for (_, done), each in zip(rows[steps:], seconds, strict=True)]
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return Result(shape.tokens / statistics.median(seconds), statistics.median(flops), memory, recompute)


def step(model: Any, optimizer: torch.optim.Optimizer, batch: Batch, device: torch.device) -> float:
    begun = time.perf_counter()
    inputs = {name: each.to(device) for name, each in batch.items()}
    model(**inputs).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def tried(shape: Shape, way: Way, device: torch.device, steps: int) -> Result | None:
    """Measure with kept activations or, if these do not fit, recomputed ones. Return None if neither fits."""
    for recompute in (False, True):
        try:
            return measure(shape, way, device, steps=steps, recompute=recompute)
        except torch.cuda.OutOfMemoryError:
            pass
        finally:
            gc.collect()
            torch.compiler.reset()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return None


WAYS = (Way("bf16"), Way("bf16, compiled", compiled=True))


def peak(name: str) -> float | None:
    words = set(re.split(r"[\s-]+", name))
    return next((value for known, value in PEAKS.items() if words.issuperset(known.split())), None)


def line(shape: Shape, way: Way, result: Result | None, most: float | None) -> str:
    if result is None:
        return f"| {shape.name} | {way.name} | does not fit | | | |"
    share = "unknown" if most is None else f"{result.flops / most:.1%}"
    kept = "recomputed" if result.recompute else "kept"
    pace = f"{result.tokens:,.0f} | {share} | {result.memory / 1e9:.1f} GB"
    return f"| {shape.name} | {way.name} | {pace} | {kept} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only test the script, with a tiny model")
    parser.add_argument("--steps", type=int, default=10, help="measured steps (10), after as many others")
    asked = parser.parse_args()
    if not torch.cuda.is_available() and not asked.quick:
        print("There is no GPU here, so nothing is measured. On a CPU: python benchmarks/train.py")
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "this CPU"
    most = peak(name) if device.type == "cuda" else None
    print(
        f"{name}: "
        + (f"peak {most / 1e12:,.1f} TFLOP/s in bf16, goal {GOAL:.0%}" if most else "peak not known")
    )
    print(
        "\n| model | way | tokens/s | of peak | memory | activations |\n|---|---|---|---|---|---|", flush=True
    )
    for shape in SMALL if asked.quick else SHAPES:
        for way in WAYS:
            print(line(shape, way, tried(shape, way, device, asked.steps), most), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
