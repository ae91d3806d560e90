"""Separate the examples of a packed row: a token attends only to tokens of the same example.

Positions restart at 0 with each example, but this does not separate examples: in transformers' attention with
a cache, an example also attends to earlier examples (logits differed by 0.6). On a GPU in 16 bits, one call
of torch's variable-length flash attention computes all examples. Elsewhere, a loop computes them one by one.
Unpacked rows use `sdpa`. Models with linear attention, chunked attention or attention sinks are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from redraft.errors import ModelError

NAME = "redraft_segments"  # the name of this attention in transformers

_KINDS = {"full_attention", "sliding_attention"}
_HALVES = {torch.float16, torch.bfloat16}

LONG = 512
"""For this many tokens or more, attention on a CPU is faster in 16 bits than in 32. In 16 bits, oneDNN also
makes and caches a kernel for every length: some 20 MB per step."""


class _Scoring(NamedTuple):
    dropout: float
    scaling: float | None
    softcap: float | None
    window: int | None = None


def segments(position_ids: Tensor) -> dict[str, Any]:
    """Return where the examples of a packed row begin and end, as arguments of transformers' attention.

    An example begins where `position_ids`, [1, tokens], restart. `cu_seq_lens_q` (and `…_k`) contains the
    start of each example and the end of the last example, int32 [examples + 1]. `max_length_q` (and `…_k`) is
    the greatest length. Call once per batch, because the call waits for the GPU.
    """
    positions = position_ids.flatten()
    begins = torch.ones_like(positions, dtype=torch.bool)
    begins[1:] = positions[1:] != positions[:-1] + 1
    bounds = functional.pad(begins.nonzero().flatten(), (0, 1), value=len(positions)).int()
    return dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), bounds) | dict.fromkeys(
        ("max_length_q", "max_length_k"), int(bounds.diff().max())
    )


def use_segments(model: PreTrainedModel) -> None:
    """Make a model use `attend`. Raise `ModelError` if packed examples would still attend to each other."""
    others = sorted(set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - _KINDS)
    hookable = model._supports_attention_backend and model._supports_flash_attn  # noqa: SLF001 - their flags
    if others or not hookable:
        why = f"has {', '.join(others)} layers" if others else "has its own attention code"
        raise _unpacked(model, f"{why}, so examples packed into one row would see each other.")
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _mask)
    model.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    position_ids: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    branches: Sequence[tuple[int, Sequence[int]]] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute causal attention within each example.

    Args:
        query: [batch, heads, tokens, width].
        key: [batch, key heads, tokens, width]. The number of heads is a multiple of the key heads.
        value: [batch, key heads, tokens, value width].
        attention_mask: None for packed rows.
        scaling: Factor for the scores, by default 1 / sqrt(width).
        sliding_window: Number of tokens to which a token attends, including the token.
        softcap: Soft limit for the size of scores (Gemma 2).
        position_ids: [1, tokens]. Without `cu_seq_lens_q`, an example begins where these restart.
        cu_seq_lens_q, max_length_q: See `segments`.
        branches: For each branch of `rl.policy.Tree`: length, and indices of branches that form its prefix.

    Returns:
        The output, [batch, tokens, heads, value width], and None in place of attention weights.
    """
    if attention_mask is not None or len(query) != 1 or query.shape[2] != key.shape[2]:
        return _masked(module, query, key, value, attention_mask, _Scoring(dropout, scaling, softcap))
    for name in ("s_aux", "position_bias"):
        if others.get(name) is not None:
            raise _unpacked(module, f"attends with {name}, which packed rows do not support.")
    if branches is not None:
        how = _Scoring(dropout, scaling, softcap, sliding_window)
        return _joined(query, key, value, branches, how), None
    if cu_seq_lens_q is None or max_length_q is None:
        if position_ids is None:
            raise _unpacked(module, "gets no position_ids, which separate the examples of a packed row.")
        found = segments(position_ids)
        cu_seq_lens_q, max_length_q = found["cu_seq_lens_q"], found["max_length_q"]
    window = sliding_window if sliding_window and sliding_window < max_length_q else None
    how = _Scoring(dropout, scaling, softcap, window)
    if softcap is None and not dropout and _has_kernel(query, value):
        return _in_one_call(query, key, value, cu_seq_lens_q, max_length_q, how), None
    return _joined(query, key, value, [(count, ()) for count in cu_seq_lens_q.diff().tolist()], how), None


def _joined(
    query: Tensor, key: Tensor, value: Tensor, parts: Sequence[tuple[int, Sequence[int]]], how: _Scoring
) -> Tensor:
    # Not slices: the gradient of a slice is as large as the whole row.
    q, k, v = (torch.split(each, [count for count, _ in parts], dim=2) for each in (query, key, value))
    found = []
    for number, (_, above) in enumerate(parts):
        keys, values = (torch.cat([each[one] for one in (*above, number)], dim=2) for each in (k, v))
        found.append(_one(q[number], keys, values, how))
    return torch.cat(found, dim=2).transpose(1, 2).contiguous()


def _unpacked(module: torch.nn.Module, why: str) -> ModelError:
    hint = "Train it with one example per row: --packing false"
    return ModelError(f"{type(module).__name__} {why}", hint=hint)


def _has_kernel(query: Tensor, value: Tensor) -> bool:
    width = query.shape[-1]
    fits = width == value.shape[-1] and width % 8 == 0 and width <= 256  # limits of torch's flash attention
    return query.is_cuda and query.dtype in _HALVES and fits


def _in_one_call(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, how: _Scoring
) -> Tensor:
    from torch.nn.attention import varlen

    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    sees = (how.window - 1 if how.window else -1, 0)
    out = varlen.varlen_attn(
        q, k, v, bounds, bounds, longest, longest, scale=how.scaling, window_size=sees, enable_gqa=True
    )
    return cast(Tensor, out).unsqueeze(0)


def _one(query: Tensor, key: Tensor, value: Tensor, how: _Scoring) -> Tensor:
    length, seen, window = query.shape[2], key.shape[2], how.window
    if _is_faster_in_32_bits(query, key):
        with torch.autocast("cpu", enabled=False):
            q, k, v = query.float(), key.float(), value.float()
            return _one(q, k, v, how).to(value.dtype)
    narrow = length < seen or (window is not None and seen > window) or how.softcap is not None
    band = _band(length, seen, window or seen, query.device) if narrow else None
    if how.softcap is not None:
        return _capped(query, key, value, band, how)
    return functional.scaled_dot_product_attention(
        query, key, value, band, how.dropout, is_causal=band is None, scale=how.scaling, enable_gqa=True
    )


def _is_faster_in_32_bits(query: Tensor, key: Tensor) -> bool:
    halves = query.dtype in _HALVES or torch.is_autocast_enabled("cpu")
    return query.device.type == "cpu" and halves and key.shape[2] < LONG


def _band(length: int, seen: int, window: int, device: torch.device) -> Tensor:
    sees = torch.ones(length, seen, dtype=torch.bool, device=device)
    return sees.tril(seen - length).triu(seen - length + 1 - window)


def _capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, how: _Scoring) -> Tensor:
    key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if how.scaling is None else how.scaling)
    cap = cast(float, how.softcap)
    scores = cap * torch.tanh(scores / cap)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # with -inf, padding would be NaN
    elif mask is not None:
        scores = scores + mask
    return functional.dropout(scores.softmax(-1, dtype=torch.float32).to(query.dtype), how.dropout) @ value


def _masked(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, how: _Scoring
) -> tuple[Tensor, None]:
    if _is_faster_in_32_bits(query, key):
        with torch.autocast("cpu", enabled=False):
            added = mask if mask is None or mask.dtype == torch.bool else mask.float()
            found, _ = _masked(module, query.float(), key.float(), value.float(), added, how)
            return found.to(value.dtype), None
    if how.softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, mask, dropout=how.dropout, scaling=how.scaling
        )
    if mask is None and query.shape[2] > 1:
        length = query.shape[2]
        mask = _band(length, length, length, query.device)
    return _capped(query, key, value, mask, how).transpose(1, 2).contiguous(), None


def _mask(
    batch_size: int, q_length: int, kv_length: int, *, attention_mask: Tensor | None = None, **others: Any
) -> Tensor | None:
    if batch_size == 1 and q_length == kv_length and attention_mask is None and not others.get("use_vmap"):
        return None
    return sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, **others)
