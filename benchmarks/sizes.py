"""Computes how many machines a model needs: memory, chains at once, tokens a second, money. Measures nothing.

    python benchmarks/sizes.py               prints the table of docs/operate.md
    python benchmarks/sizes.py --usd 1.9 --chains 200

A server reads all weights and the caches of all chains to write one token of each (Pope et al., "Efficiently
Scaling Transformer Inference", 2022, section 3). So a step takes as long as reading or computing, whichever
is slower. How far real servers stay behind that is assumed: `EFFICIENCY`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import ceil

from redraft.jobs.counting import size_in_words

CONTEXT = 4096  # tokens for which a chain gets room (`engines.local.DEFAULT_CONTEXT`)
HELD = CONTEXT // 2  # tokens that it holds on average: it grows from few to all
READ = (
    2  # prompt tokens that are computed for each new one: revising reads the draft again, most of it cached
)
USED = 0.9  # share of a GPU's memory that vLLM takes by default
MOST = 256  # chains at once on a server, beyond which each becomes slow
EFFICIENCY = 0.6  # share of its bandwidth and of its arithmetic that a server reaches


@dataclass(frozen=True)
class Model:
    """A model, by its config on the hub."""

    name: str
    parameters: float
    bytes: int  # of a weight: 2 in bf16, 1 in FP8
    cached: int  # bytes of a token in the cache of keys and values, in 16 bits: layers × heads × width × 4

    @property
    def weights(self) -> float:
        """All weights in bytes."""
        return self.parameters * self.bytes


@dataclass(frozen=True)
class Gpu:
    """A GPU, by the data sheet of its maker."""

    name: str
    memory: float  # in bytes
    bandwidth: float  # of its memory, in bytes a second
    flops: float  # 16-bit operations a second, without sparsity
    usd: float  # price of an hour, assumed: about what clouds asked in 2026. `--usd` sets another


@dataclass(frozen=True)
class Size:
    """A replica: a model on so many GPUs."""

    model: Model
    gpu: Gpu
    gpus: int = 1

    @property
    def chains(self) -> int:
        """Return how many chains have room at once."""
        room = self.gpus * self.gpu.memory * USED - self.model.weights
        return max(0, min(MOST, int(room / (self.model.cached * CONTEXT))))

    @property
    def rate(self) -> float:
        """Return the new tokens a second of all chains together."""
        reading = (self.model.weights + self.chains * HELD * self.model.cached) / self.gpu.bandwidth
        computing = self.chains * (1 + READ) * 2 * self.model.parameters / self.gpu.flops
        return self.chains / max(reading, computing) * self.gpus * EFFICIENCY

    def cost(self, usd: float | None = None) -> float:
        """Return the USD of a million new tokens."""
        return self.gpus * (usd or self.gpu.usd) / (self.rate * 3600) * 1e6


L4 = Gpu("L4", 24e9, 300e9, 121e12, 0.8)
A100 = Gpu("A100", 80e9, 2039e9, 312e12, 1.6)
H100 = Gpu("H100", 80e9, 3350e9, 989e12, 2.5)
QWEN_4B = Model("Qwen3-4B", 4.02e9, 2, 36 * 8 * 128 * 4)
LLAMA_8B = Model("Llama-3.1-8B", 8.03e9, 2, 32 * 8 * 128 * 4)
QWEN_32B = Model("Qwen2.5-32B", 32.8e9, 2, 64 * 8 * 128 * 4)
QWEN_32B_FP8 = Model("Qwen2.5-32B, FP8", 32.8e9, 1, 64 * 8 * 128 * 4)
LLAMA_70B = Model("Llama-3.3-70B", 70.6e9, 2, 80 * 8 * 128 * 4)

SIZES = (
    Size(QWEN_4B, L4),
    Size(LLAMA_8B, A100),
    Size(LLAMA_8B, H100),
    Size(QWEN_32B_FP8, H100),
    Size(QWEN_32B, H100, 2),
    Size(LLAMA_70B, H100, 4),
)

HEADINGS = "model", "a replica", "weights", "chains at once", "new tokens/s, all and each", "USD a million"


def table(chains: int, usd: float | None = None) -> str:
    """Return the table for so many chains at once."""
    rows = [(*HEADINGS, f"replicas for {chains:,} chains"), ("---",) * (len(HEADINGS) + 1)]
    rows += [_cells(size, chains, usd) for size in SIZES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(size: Size, chains: int, usd: float | None) -> tuple[str, ...]:
    return (
        size.model.name,
        f"{size.gpus} × {size.gpu.name}, {size_in_words(int(size.gpus * size.gpu.memory))}",
        size_in_words(int(size.model.weights)),
        f"{size.chains}",
        f"{_two_digits(size.rate):,} and {_two_digits(size.rate / size.chains)}",
        f"{size.cost(usd):.2f}",
        f"{ceil(chains / size.chains)}",
    )


def _two_digits(value: float) -> int:
    return int(float(f"{value:.2g}"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=500, help="chains at once")
    parser.add_argument("--usd", type=float, help="price of a GPU an hour, in place of those assumed")
    asked = parser.parse_args()
    print(table(asked.chains, asked.usd))


if __name__ == "__main__":
    main()
