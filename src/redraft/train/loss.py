"""Compute the loss of trained tokens without keeping the logits of a whole batch in memory.

Only hidden states that predict a trained token go through the head, one slice at a time, and each slice's
gradient is computed while the slice's logits are in memory. torch's `linear_cross_entropy` is not used. With
torch 2.13 on a CPU (1,024 tokens, a head of 49,152 x 576), `linear_cross_entropy` took 2 to 16 times as long,
and the bf16 sum was off by half a percent. If the head is not a plain matrix, or the model caps or scales
logits, the model's `forward` computes them (for a single row, only at positions that predict trained tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, Signature, signature
from types import MethodType
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from redraft.train import attention
from redraft.train.batches import IGNORED


def fuse(model: PreTrainedModel | PeftModel) -> bool:
    """Make a model compute the loss with the functions of this file when the model is called with labels.

    Call this once, after adding adapters. The model then divides the summed loss by `num_items_in_batch`
    (default: the number of trained tokens in the batch). Return whether logits are computed in slices, which
    saves memory.
    """
    inner = cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
    plain = has_plain_head(inner)
    whole = inner.forward

    def forward(
        self: PreTrainedModel,
        input_ids: Tensor,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **inputs: Any,
    ) -> Any:
        if labels is None:
            return whole(input_ids, **inputs)
        inputs = inputs_of(self, input_ids, inputs)
        targets = functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
        head: Any = self.get_output_embeddings()  # type: ignore[no-untyped-call]
        # FSDP shards the matrix as a DTensor. ZeRO is not supported here: it handles gradients itself.
        if plain and (_is_here(head) or hasattr(head.weight, "device_mesh")):
            trained = targets != IGNORED
            hidden = self.base_model(**inputs).last_hidden_state[trained]
            if _is_here(head):
                loss = summed_loss(hidden, head.weight, head.bias, targets[trained])
            else:
                with _taking_loss(head, targets[trained]):
                    loss = head(hidden)
        else:
            loss = _by_logits(whole, inputs, targets)
        count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=loss / max(int(count), 1))

    # Libraries look for `position_ids` in the signature.
    forward.__signature__ = signature_of(whole)  # type: ignore[attr-defined]
    inner.forward = MethodType(forward, inner)
    return plain


def signature_of(whole: Callable[..., Any]) -> Signature:
    """Return a `forward`'s signature plus `num_items_in_batch`."""
    more = [
        Parameter("num_items_in_batch", Parameter.KEYWORD_ONLY, default=None),
        Parameter("inputs", Parameter.VAR_KEYWORD),
    ]
    own = [
        each
        for each in signature(whole).parameters.values()
        if each.kind is not Parameter.VAR_KEYWORD and each.name != "num_items_in_batch"
    ]
    return Signature([Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *own, *more])


def inputs_of(model: PreTrainedModel, input_ids: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return a model's inputs with the cache turned off. For a packed row, add the bounds of the examples."""
    found: dict[str, Any] = {}
    positions = inputs.get("position_ids")
    packed = model.config._attn_implementation == attention.NAME  # noqa: SLF001 - the only way to ask
    if packed and positions is not None and len(positions) == 1 and "cu_seq_lens_q" not in inputs:
        found = attention.segments(positions)
    return {**inputs, **found, "input_ids": input_ids, "use_cache": False}


@contextmanager
def _taking_loss(head: Any, targets: Tensor) -> Iterator[None]:
    """Make a head return the summed loss, because FSDP gathers the matrix only in the head's `forward`."""
    whole, own = head.forward, vars(head).get("forward")

    def forward(self: Any, hidden: Tensor) -> Tensor:
        if _is_here(self):
            return summed_loss(hidden, self.weight, self.bias, targets)
        return functional.cross_entropy(_at_least_32_bits(whole(hidden)), targets, reduction="sum")

    head.forward = MethodType(forward, head)
    try:
        yield
    finally:
        del head.forward
        if own is not None:
            head.forward = own


def _by_logits(whole: Callable[..., Any], inputs: dict[str, Any], targets: Tensor) -> Tensor:
    trained = targets != IGNORED
    if len(targets) == 1:
        logits = whole(**inputs, logits_to_keep=trained[0].nonzero().flatten()).logits[0]
    else:
        logits = whole(**inputs).logits[trained]
    return functional.cross_entropy(_at_least_32_bits(logits), targets[trained], reduction="sum")


def summed_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Return the summed cross entropy, a scalar in 32 bits, or in 64 bits if the inputs have 64.

    Args:
        hidden: [tokens, width].
        weight: The head's matrix, [vocabulary, width].
        bias: [vocabulary], or None.
        targets: The tokens to predict, [tokens].
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():  # a Function would compute gradients even then
        hidden, weight = hidden.detach(), weight.detach()
        bias = None if bias is None else bias.detach()
    total: Tensor = _Head.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return total


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            total, ctx.grads = _loss_and_grads(hidden, weight, bias, targets, ctx.needs_input_grad)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None
        return (*(None if grad is None else grad.mul_(scale).to(ctx.dtype) for grad in grads), None)


def _loss_and_grads(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    wide = torch.promote_types(hidden.dtype, torch.float32)
    total = torch.zeros((), dtype=wide, device=hidden.device)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None  # each slice would round it
    of_bias = torch.zeros_like(bias, dtype=wide) if wanted[2] and bias is not None else None
    step = max(hidden.shape[1] // 2, 16)  # tokens whose logits take half the memory of the matrix, in 32 bits
    for first in range(0, len(hidden), step):
        part = slice(first, first + step)
        logits = functional.linear(hidden[part], weight, bias)
        loss, change = _cross_entropy(_at_least_32_bits(logits), targets[part], grad=any(wanted))
        total += loss
        if not any(wanted):
            continue
        if of_bias is not None:
            of_bias += change.sum(0)
        change = change.to(hidden.dtype)
        if of_hidden is not None:
            torch.mm(change, weight, out=of_hidden[part])
        if of_weight is not None:
            of_weight += change.T @ hidden[part]
    # With fp16, `backward` scales the gradients. In 16 bits, small ones would become 0 before that.
    kept = wide if weight.dtype == torch.float16 else weight.dtype
    weights = None if of_weight is None else of_weight.to(kept)
    return total, (of_hidden, weights, None if of_bias is None else of_bias.to(kept))


def _cross_entropy(logits: Tensor, targets: Tensor, *, grad: bool) -> tuple[Tensor, Tensor]:
    targets = targets[:, None]
    logits.sub_(logits.amax(-1, keepdim=True))
    picked = logits.gather(1, targets)
    sums = logits.exp_().sum(-1, keepdim=True)
    loss = (sums.log() - picked).sum()
    if grad:
        logits.div_(sums)
        logits.scatter_add_(1, targets, -torch.ones_like(targets, dtype=logits.dtype))
    return loss, logits


def _at_least_32_bits(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _is_here(head: Any) -> bool:
    weight = head.weight
    return not hasattr(weight, "device_mesh") and weight.shape == (head.out_features, head.in_features)


def has_plain_head(model: PreTrainedModel) -> bool:
    """Return whether a model's logits are exactly the last hidden states times the head's matrix."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if type(head) is not torch.nn.Linear:
        return False
    token = torch.zeros(1, 1, dtype=torch.long, device=head.weight.device)
    with _watched(model.base_model, head) as seen, torch.no_grad():
        logits = model(input_ids=token, use_cache=False).logits
    return torch.equal(seen["hidden"], seen["taken"]) and torch.equal(logits, seen["returned"])


@contextmanager
def _watched(base: torch.nn.Module, head: torch.nn.Module) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def leaves(_module: Any, _inputs: Any, outputs: Any) -> None:
        seen["hidden"] = outputs.last_hidden_state

    def enters(_module: Any, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        seen["taken"] = inputs[0]
        # The model must return these numbers unchanged. They are large, so that a bound shows.
        numbers = torch.linspace(-1000, 1000, outputs.shape[-1], dtype=outputs.dtype, device=outputs.device)
        seen["returned"] = numbers.expand_as(outputs)
        return seen["returned"]

    handles = base.register_forward_hook(leaves), head.register_forward_hook(enters)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
