"""A key-value cache with a slot for each sequence, so that one forward pass continues many sequences.

A cache of transformers holds one left-padded batch, whose sequences begin and end together. Here, sequences
join and leave between passes, a sequence begins at position 0 of a slot, and a slot can be continued later.
Models with other state than keys and values, such as recurrent models, are not supported.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

Windows = Mapping[str, int | None]  # the number of visible tokens by kind of attention; None for all
FIRST_ROOM = 256  # initial positions of a slot; doubled when needed


@dataclass(frozen=True)
class Pass:
    """One pass of the model: the next `count` tokens of some sequences."""

    slots: tuple[int, ...]
    starts: tuple[int, ...]  # number of tokens in each slot before the pass
    count: int

    @property
    def length(self) -> int:
        """The length of the longest sequence after the pass."""
        return max(self.starts) + self.count

    def places(self, device: torch.device) -> torch.Tensor:
        """Return the positions of the new tokens, shape (sequences, count)."""
        return torch.tensor(self.starts, device=device)[:, None] + torch.arange(self.count, device=device)

    def mask(self, dtype: torch.dtype, device: torch.device, window: int | None = None) -> torch.Tensor:
        """Return the attention mask: 0 for visible positions, the dtype's minimum for hidden positions.

        `window` is the number of visible tokens, including the new token; None for all tokens. The mask has
        the shape (sequences, 1, count, length), and is added to the attention scores.
        """
        at = self.places(device)[:, None, :, None]
        seen = torch.arange(self.length, device=device)
        hidden = seen > at if window is None else (seen > at) | (seen <= at - window)
        least = torch.finfo(dtype).min
        return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, least)


@dataclass
class _Now:
    """The current pass. Layers refer to this, not to the cache: a cycle would keep the cache in memory."""

    step: Pass


class Slots(Cache):
    """The cache of all layers of a model."""

    def __init__(self, model: Any, slots: int, context: int) -> None:
        self.now, self.argument = _Now(Pass((0,), (0,), 1)), cache_argument(model)
        layers = model.config.get_text_config().num_hidden_layers
        super().__init__(layers=[_Layer(self.now, slots, context) for _ in range(layers)])

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the first `count` keys and values of a slot to another slot."""
        for layer in self.layers:
            assert isinstance(layer, _Layer)  # noqa: S101  (`__init__` made them)
            for held in (layer.keys, layer.values):
                assert held is not None  # noqa: S101  (something was read into it)
                held[target, :, :count] = held[source, :, :count]


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    is_sliding = False

    def __init__(self, now: _Now, slots: int, context: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.slots, self.context = now, slots, context

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values, shape (sequences, heads, count, width). Return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        step = self.now.step
        self.keys = self._with_room(self.keys, step.length)
        self.values = self._with_room(self.values, step.length)
        rows = torch.tensor(step.slots, device=key_states.device)[:, None]
        places = step.places(key_states.device)
        self.keys[rows, :, places] = key_states.transpose(1, 2)
        self.values[rows, :, places] = value_states.transpose(1, 2)
        return _read(self.keys, step), _read(self.values, step)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(self.slots, states.shape[1], 0, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def _with_room(self, held: torch.Tensor | None, length: int) -> torch.Tensor:
        assert held is not None  # noqa: S101  (lazy_initialization made it)
        room = held.shape[2]
        if length <= room:
            return held
        # Zeros, because hidden positions are multiplied by 0, and 0 · NaN is NaN.
        wider = min(max(2 * room, length, FIRST_ROOM), self.context)
        wide = held.new_zeros(*held.shape[:2], wider, held.shape[3])
        wide[:, :, :room] = held
        return wide

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return max(self.now.step.starts)

    def get_max_length(self) -> int:
        return self.context


def forward(
    model: Any, cache: Slots, windows: Windows, ids: Sequence[Sequence[int]], step: Pass, *, keep: int = 1
) -> torch.Tensor:
    """Run one pass of a model, and extend the cache by `step.count` new tokens of each sequence.

    Return the logits of the last `keep` tokens, shape (sequences, keep, vocabulary).
    """
    cache.now.step = step
    masks = {kind: step.mask(model.dtype, model.device, window) for kind, window in windows.items()}
    logits: torch.Tensor = model(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
        position_ids=step.places(model.device),
        use_cache=True,
        # As indices: with a slice, the head would copy its matrix for each sequence.
        logits_to_keep=torch.arange(step.count - keep, step.count, device=model.device),
        **{cache.argument: cache},
    ).logits
    return logits


def _read(held: torch.Tensor, step: Pass) -> torch.Tensor:
    first, last = step.slots[0], step.slots[-1]
    if step.slots == tuple(range(first, last + 1)):
        return held[first : last + 1, :, : step.length]
    return held[list(step.slots), :, : step.length]


def cache_argument(model: Any) -> str:
    """Return the name of a model's argument for the cache."""
    # transformers 5.24 renamed it.
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
