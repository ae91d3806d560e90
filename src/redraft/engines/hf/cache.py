"""Keys and values of several texts, each in a slot of its own: one pass of a model continues them all.

transformers' own caches grow by one batch that begins and ends together, with padding on the left. Here texts
join and leave between passes, each begins at place 0 of its slot, and what a slot holds can be continued
later: the mask says which places a text may look at, and nothing has to be moved. All layers keep all places;
a sliding window is a matter of the mask too.

Models that remember something else than keys and values, such as the state of a recurrence, do not fit here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

FIRST_ROOM = 256
"""Places that a slot has at first; doubled when they do not suffice."""


@dataclass(frozen=True)
class Pass:
    """What one pass of the model computes: the next `count` tokens of some texts.

    Attributes:
        slots: The slots of the texts, in the batch's order.
        starts: How many tokens each of them holds already.
        count: New tokens, as many for each.
    """

    slots: tuple[int, ...]
    starts: tuple[int, ...]
    count: int

    @property
    def length(self) -> int:
        """Places of a slot that have to be read: those of the longest text."""
        return max(self.starts) + self.count

    def places(self, device: torch.device) -> torch.Tensor:
        """Where the new tokens stand, and so their position ids. Shape (texts, count)."""
        starts = torch.tensor(self.starts, device=device)
        return starts[:, None] + torch.arange(self.count, device=device)

    def mask(self, dtype: torch.dtype, device: torch.device, window: int | None = None) -> torch.Tensor:
        """What a new token may look at: 0 for itself and what is before it, else the least of numbers.

        Args:
            dtype: The model's.
            device: The model's.
            window: How many tokens it sees, itself included; None for all.

        Returns:
            Shape (texts, 1, count, length): added to the scores.
        """
        at = self.places(device)[:, None, :, None]
        seen = torch.arange(self.length, device=device)
        hidden = seen > at if window is None else (seen > at) | (seen <= at - window)
        return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(
            hidden, torch.finfo(dtype).min
        )


class Slots(Cache):
    """The slots of all layers. Set `step` before each pass."""

    def __init__(self, layers: int, slots: int, context: int) -> None:
        self.step = Pass((0,), (0,), 1)
        super().__init__(layers=[_Layer(self, slots, context) for _ in range(layers)])


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer: keys and values, each of shape (slots, heads, room, width)."""

    is_sliding = False

    def __init__(self, cache: Slots, slots: int, context: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache, self.slots, self.context = cache, slots, context

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps the new tokens' states, each of shape (texts, heads, count, width); gives those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        step = self.cache.step
        self.keys = self._with_room(self.keys, step.length)
        self.values = self._with_room(self.values, step.length)
        rows = torch.tensor(step.slots, device=key_states.device)[:, None]
        places = step.places(key_states.device)
        self.keys[rows, :, places] = key_states.transpose(1, 2)
        self.values[rows, :, places] = value_states.transpose(1, 2)
        return _read(self.keys, step), _read(self.values, step)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Makes the tensors, without places yet: heads and widths are only known from a first pass."""
        self.keys, self.values = (
            states.new_zeros(self.slots, states.shape[1], 0, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def _with_room(self, held: torch.Tensor | None, length: int) -> torch.Tensor:
        assert held is not None  # noqa: S101  (made before)
        room = held.shape[2]
        if length <= room:
            return held
        # Zeros, because a place that the mask hides is still multiplied by 0, and 0 · NaN is NaN.
        wide = held.new_zeros(
            *held.shape[:2], min(max(2 * room, length, FIRST_ROOM), self.context), held.shape[3]
        )
        wide[:, :, :room] = held
        return wide

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what is read."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens of the longest text before the pass."""
        return max(self.cache.step.starts)

    def get_max_length(self) -> int:
        """The most tokens of a text."""
        return self.context


def forward(
    model: Any,
    cache: Slots,
    windows: Mapping[str, int | None],
    ids: Sequence[Sequence[int]],
    step: Pass,
    *,
    keep: int = 1,
) -> torch.Tensor:
    """One pass of a model.

    Args:
        model: A causal language model of transformers.
        cache: What the texts hold so far; holds the new tokens too afterwards.
        windows: By kind of attention (`full_attention`, `sliding_attention`), how many tokens it sees; None
            for all.
        ids: The new tokens, `step.count` of each text.
        step: Where they belong.
        keep: How many of them need logits, from the last.

    Returns:
        Logits, shape (texts, keep, vocabulary).
    """
    cache.step = step
    masks = {kind: step.mask(model.dtype, model.device, window) for kind, window in windows.items()}
    logits: torch.Tensor = model(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
        position_ids=step.places(model.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    ).logits
    return logits


def _read(held: torch.Tensor, step: Pass) -> torch.Tensor:
    """The slots of a pass. Neighbours are a view; others are copied out."""
    first, last = step.slots[0], step.slots[-1]
    if step.slots == tuple(range(first, last + 1)):
        return held[first : last + 1, :, : step.length]
    return held[list(step.slots), :, : step.length]


def layers_of(model: Any) -> int:
    """How many layers have keys and values."""
    return int(model.config.get_text_config().num_hidden_layers)


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
