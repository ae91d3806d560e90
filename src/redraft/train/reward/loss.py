"""The loss of preference pairs: the chosen answer should have the higher reward.

    -log sigmoid(r_chosen - r_rejected - margin)

This is the likelihood of Bradley and Terry's model (Biometrika 39, 1952, 324), as in InstructGPT (Ouyang et
al. 2022, equation 1), where r is a number at the last token of a text. It is summed over pairs and divided by
those of the whole step (`run.loop`), so a pair counts the same in any batch.

`pairwise-tokens` is trlX's variant: a reward at each token from where the two texts part, with the mean of
their losses. trlX goes on to the end of the longer text and reads the shorter one's rewards on padding. Here
the shorter text keeps the reward of its last token.

Rows are joined without padding if attention keeps them apart, else padded. Examples lie in the order chosen,
rejected, chosen, rejected.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from redraft.errors import ModelError
from redraft.train.data.batches import IGNORED
from redraft.train.model.loss import inputs_of, signature_of

Loss = Literal["pairwise", "pairwise-tokens"]


@dataclass
class PairOutput(ModelOutput):
    """What a model gives for a batch of pairs.

    Attributes:
        loss: The summed loss over `num_items_in_batch`, in nats.
        rewards: [pairs, 2]: of the chosen and the rejected answer.
        sums: `accuracy`: the pairs whose chosen answer has the higher reward. A tie counts half;
            of DPO, the means of TRL, times the pairs.
    """

    loss: Tensor | None = None
    rewards: Tensor | None = None
    sums: dict[str, Tensor] | dict[str, float] | None = None


def pairwise(chosen: Tensor, rejected: Tensor, margin: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the loss of each comparison, in nats, of the arguments' shape.

    Args:
        chosen: Rewards.
        rejected: Rewards.
        margin: By how much the chosen reward should be higher (Llama 2, Touvron et al. 2023, section 3.2.2).
        smoothing: The share of pairs whose labels are wrong (cDPO, Mitchell 2023, for rewards).
    """
    gap = chosen - rejected - margin
    return -(1 - smoothing) * functional.logsigmoid(gap) - smoothing * functional.logsigmoid(-gap)


def from_parting(
    rewards: Tensor, starts: Tensor, ends: Tensor, marked: Tensor, margins: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return trlX's loss of each pair, [pairs]: the mean over tokens from where its texts part.

    Args:
        rewards: Of each token, [tokens].
        starts: Where each text starts, [2 pairs].
        ends: Where each ends, [2 pairs].
        marked: Whether a token comes after the parting, [tokens].
        margins: [pairs].
        smoothing: As in `pairwise`.
    """
    lengths = (ends - starts).tolist()
    losses = []
    for pair, margin in enumerate(margins):
        (c, r), longest = (starts[2 * pair], starts[2 * pair + 1]), max(lengths[2 * pair : 2 * pair + 2])
        parts = lengths[2 * pair] - int(marked[c : ends[2 * pair]].sum())
        places = torch.arange(parts, longest, device=rewards.device)
        one, other = (
            rewards[start + places.clamp(max=length - 1)]
            for start, length in ((c, lengths[2 * pair]), (r, lengths[2 * pair + 1]))
        )
        losses.append(pairwise(one, other, margin, smoothing).mean())
    return torch.stack(losses)


def bounds(position_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return where each text starts and ends among all tokens of a batch, each [texts].

    Args:
        position_ids: [rows, tokens]. In a joined row they restart with each text.
        attention_mask: [rows, tokens] of padded rows, with 0 for padding; None for a joined row.
    """
    if attention_mask is None:
        starts = (position_ids[0] == 0).nonzero().flatten()
        return starts, functional.pad(starts[1:], (0, 1), value=position_ids.shape[1])
    rows, longest = attention_mask.shape
    starts = torch.arange(rows, device=attention_mask.device) * longest
    return starts, starts + attention_mask.sum(1)


def compare(model: PreTrainedModel, loss: Loss = "pairwise", smoothing: float = 0.0) -> None:
    """Make a reward model compute the loss of pairs when it is called with labels.

    It then takes the batches of `reward.stages`, and `num_items_in_batch`: the pairs to divide by, by default
    those of the batch. Without labels nothing changes. Rewards have 32 bits: in 16, many would tie.

    Raises:
        ModelError: Its head is not a module `score` on its last hidden states.
    """
    if not isinstance(getattr(model, "score", None), torch.nn.Module):
        name = type(model).__name__
        raise ModelError(f"{name} has no head 'score', so it cannot be trained as a reward model.")
    model.score.float()
    whole = model.forward

    def forward(
        self: Any,
        input_ids: Tensor,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        margins: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        if labels is None:
            return whole(input_ids, **inputs)
        given = {name: each for name, each in inputs.items() if each is not None}
        starts, ends = bounds(given["position_ids"], given.get("attention_mask"))
        hidden = self.base_model(**inputs_of(self, input_ids, given)).last_hidden_state.flatten(0, 1)
        with torch.autocast(hidden.device.type, enabled=False):
            if loss == "pairwise":
                last = rewards = self.score(hidden[ends - 1].float()).flatten()
            else:
                rewards = self.score(hidden.float()).flatten()
                last = rewards[ends - 1]
            count = len(last) // 2
            if margins is None:
                margins = last.new_zeros(count)
            if not count:  # this process has no rows
                return PairOutput(loss=rewards.sum() * 0, rewards=last.new_zeros(0, 2))
            chosen, rejected = last[0::2], last[1::2]
            if loss == "pairwise":
                losses = pairwise(chosen, rejected, margins, smoothing)
            else:
                marked = labels.flatten() != IGNORED
                losses = from_parting(rewards, starts, ends, marked, margins, smoothing)
        hits = (chosen > rejected).float() + (chosen == rejected).float() / 2
        total = losses.sum() / max(int(count if num_items_in_batch is None else num_items_in_batch), 1)
        return PairOutput(total, torch.stack([chosen, rejected], 1).detach(), {"accuracy": hits.sum()})

    forward.__signature__ = signature_of(whole)  # type: ignore[attr-defined]
    model.forward = MethodType(forward, model)
