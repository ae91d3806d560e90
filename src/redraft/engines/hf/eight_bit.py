"""Weights of 8 bits, for models that would not fit otherwise.

Each row of a linear layer's weights has whole numbers from -127 to 127 and one scale, as in FastChat's
`--load-8bit`, which has groups instead of rows. A layer computes in the dtype of its input, so it takes less
memory and more time. Embeddings and the output layer, which often share their weights, stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 127
"""The largest whole number of a row."""


class Linear8(nn.Module):
    """A linear layer with weights of 8 bits.

    Args:
        linear: The layer with its weights, of shape (outputs, inputs).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        largest = weight.abs().amax(dim=1, keepdim=True).float()
        scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
        self.register_buffer("whole", (weight.float() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.to(weight.dtype))
        self.bias = linear.bias

    def forward(self, given: Tensor) -> Tensor:
        """Return the layer's output, of shape (…, outputs), for an input of shape (…, inputs)."""
        whole, scale = self.get_buffer("whole"), self.get_buffer("scale")
        return nn.functional.linear(given, whole.to(given.dtype) * scale.to(given.dtype), self.bias)


def to_8bit(model: Any) -> None:
    """Replace the linear layers of a model, one after the other, all but its output layer."""
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(module, name, Linear8(child))
