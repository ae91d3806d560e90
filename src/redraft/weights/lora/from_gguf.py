"""Reads the weights of a GGUF adapter under peft's names, so that training can go on from them.

The rows of B of q and k are restored to their original order. Adapters of embeddings are not supported: no
recipe of redraft makes them.
"""

from __future__ import annotations

from pathlib import Path

import torch

from redraft.errors import ModelError
from redraft.weights.gguf.families import Sizes, hf_name, permuted_heads, unpermute
from redraft.weights.gguf.quant import TensorReader
from redraft.weights.gguf.reader import adapter_header

_HALVES = {".lora_a": "lora_A", ".lora_b": "lora_B"}


def lora_weights(file: Path, sizes: Sizes) -> dict[str, torch.Tensor]:
    """Return the halves of a GGUF adapter in float32, by peft's names: A (rank, in), B (out, rank).

    Args:
        file: The adapter.
        sizes: Those of its base.

    Raises:
        ModelError: The file is damaged, or changes what no linear layer holds.
    """
    header = adapter_header(file)
    reader, found = TensorReader(file, header), {}
    for name, tensor in header.tensors.items():
        weight, half = name[:-7], _HALVES.get(name[-7:])
        module = hf_name(weight)
        if half is None or module is None or not weight.startswith("blk."):
            raise ModelError(f"{file} changes {name!r:.80}, which training cannot go on from.")
        rows = torch.from_numpy(reader.rows(tensor))
        heads = permuted_heads(sizes.family, weight, sizes.heads, sizes.kv_heads) if half == "lora_B" else 0
        key = f"base_model.model.{module.removesuffix('.weight')}.{half}.weight"
        found[key] = unpermute(rows, heads) if heads else rows
    return found
