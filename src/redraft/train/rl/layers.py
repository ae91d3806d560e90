"""Train the top layers of a model, so that the reference policy needs a copy of those alone.

The layers below stay as they were, and belong to both. What is above the lowest trained layer is trained: the
layers, the norm after them, and the head. A head that is the embedding too stays, because the layers below
read it.

trlX has the setting too (`num_layers_unfrozen`). Its earlier versions froze lower layers alone: embeddings
were trained, and changed the reference with the policy. Later ones froze embeddings and tied heads, as here.
trlX runs the lower layers once for both; here they run for each, as with an adapter. Its −1, which trains all
and holds a second model, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from redraft.errors import ModelError, UsageError


def unfreeze_top(model: Any, count: int) -> None:
    """Let only the top layers be trained.

    Args:
        model: A causal language model of transformers.
        count: How many layers.

    Raises:
        UsageError: It has fewer layers.
        ModelError: Its layers are not found.
    """
    parts = top_of(model, count)
    model.requires_grad_(requires_grad=False)
    for each in parts.values():
        each.requires_grad_()


def top_of(model: Any, count: int) -> dict[str, nn.Module]:
    """Return the modules that are trained with so many layers, by name. Raises as `unfreeze_top`."""
    depth = model.config.get_text_config().num_hidden_layers
    lists = (pair for pair in model.named_modules() if isinstance(pair[1], nn.ModuleList))
    name, layers = next((pair for pair in lists if len(pair[1]) == depth), ("", None))
    if layers is None:
        raise ModelError(
            f"{type(model).__name__} has no list of {depth} layers, whose top ones could be trained.",
            hint="--lora True",
        )
    if count > depth:
        raise UsageError(
            f"--num_layers_unfrozen {count}: the model has {depth} layers.",
            hint=f"--num_layers_unfrozen {depth}",
        )
    found = {f"{name}.{number}": layers[number] for number in range(depth - count, depth)}
    around = name.rpartition(".")[0]
    for own, each in model.get_submodule(around).named_children():
        if each is not layers and not isinstance(each, nn.Embedding):
            found[f"{around}.{own}"] = each
    head = model.get_output_embeddings()
    if head.weight is not model.get_input_embeddings().weight:
        found |= {named: each for named, each in model.named_modules() if each is head}
    return {named: each for named, each in found.items() if any(True for _ in each.parameters())}


@contextmanager
def swapped(model: Any, others: Mapping[str, nn.Module]) -> Iterator[Any]:
    """Yield a model with other modules in place of those of these names. At the end it has its own again."""
    own = {name: model.get_submodule(name) for name in others}
    try:
        for name, each in others.items():
            model.set_submodule(name, each)
        yield model
    finally:
        for name, each in own.items():
            model.set_submodule(name, each)
