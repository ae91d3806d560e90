"""The policy with its value head, the reference policy, and how both see a batch of rollouts.

The value head reads the policy's own last hidden state (a shared trunk). The reference policy is the same
model with its adapter switched off, so that no weights are held twice; without an adapter, it has copies of
the top layers, which alone are trained (`layers`). `unwrapped` takes peft off while rollouts are written, for
an engine without adapters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from redraft.train.model.loss import has_plain_head
from redraft.train.rl.algorithm import kl_k3, log_probs_and_entropy, policy_loss, value_loss
from redraft.train.rl.layers import swapped, top_of
from redraft.train.settings.ppo import PpoOptions, layers_unfrozen
from redraft.train.sums import Sums


class Seen(NamedTuple):
    """What a policy says of given responses: each [sequences, tokens], 0 at padding."""

    log_probs: Tensor
    entropy: Tensor
    values: Tensor


class Policy(nn.Module):
    """A policy that is trained, with a value head. Called with a minibatch, it returns its loss.

    Args:
        model: The model with its adapter, or with its top layers unfrozen, before any training.
        own: The settings.

    Attributes:
        config: The model's configuration.
        kl_coef: β, of the KL that is part of the loss; 0 if it is part of the reward.
        frozen: The reference's copies of what is trained without an adapter.
        step_kl: KL of a token of the last minibatch, from the policy that wrote it, before its step.
        sums: The numbers of the steps since the last line of the log.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, own: PpoOptions) -> None:
        super().__init__()
        self.model, self.own, self.config = model, own, model.config
        self._plain = has_plain_head(bare_of(model))  # else the model changes its logits: a bound, a scale
        width = model.config.get_text_config().hidden_size
        # Zeros: an untrained head then changes no advantage.
        self.value_head = nn.Linear(width, 1, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.value_head.requires_grad_(own.algorithm.startswith("ppo"))  # others have no value loss
        top = {} if isinstance(model, PeftModel) else top_of(model, layers_unfrozen(own))
        self._top = tuple(top)
        self.frozen = nn.ModuleList(map(deepcopy, top.values()))
        self.frozen.requires_grad_(requires_grad=False)
        self.kl_coef = 0.0
        self.step_kl = torch.zeros(())
        self.sums = Sums()

    def see(self, input_ids: Tensor, starts: Tensor, mask: Tensor) -> Seen:
        """Compute log-probabilities, entropy and values of responses.

        Args:
            input_ids: Prompts and responses, [sequences, length], padded on the right. A causal model sees no
                padding behind a token, so no attention mask is needed.
            starts: Where each response begins, [sequences].
            mask: Real tokens of the responses, bool [sequences, tokens].
        """
        places = starts[:, None] + torch.arange(mask.shape[1], device=mask.device)
        rows = torch.arange(len(mask), device=mask.device)[:, None].expand_as(places)
        tokens = input_ids[rows[mask], places[mask]]
        # the state that each real token was drawn from
        before, logits = self._computed(input_ids, (rows[mask], places[mask] - 1))
        log_probs, entropy = log_probs_and_entropy(logits[None], tokens[None], self.own.temperature)
        values = self.value_head(before.to(self.value_head.weight.dtype))[:, 0]
        return Seen(*(_scattered(each.float(), mask) for each in (log_probs[0], entropy[0], values)))

    def _computed(self, input_ids: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the last hidden states and the logits at some places."""
        bare = bare_of(self.model)
        if self._plain:
            hidden = bare.base_model(input_ids=input_ids, use_cache=False).last_hidden_state[at]
            return hidden, bare.get_output_embeddings()(hidden)
        whole = bare(input_ids=input_ids, use_cache=False, output_hidden_states=True)
        return whole.hidden_states[-1][at], whole.logits[at]

    def see_reference(self, input_ids: Tensor, starts: Tensor, mask: Tensor) -> Tensor:
        """Return the log-probabilities of the policy as it was before training."""
        with self._as_reference():
            return self.see(input_ids, starts, mask).log_probs

    def _as_reference(self) -> AbstractContextManager[Any]:
        if isinstance(self.model, PeftModel):
            return self.model.disable_adapter()
        return swapped(self.model, dict(zip(self._top, self.frozen, strict=True)))

    def forward(
        self,
        input_ids: Tensor,
        starts: Tensor,
        mask: Tensor,
        log_probs: Tensor,
        ref_log_probs: Tensor,
        values: Tensor,
        advantages: Tensor,
        returns: Tensor,
        num_items_in_batch: Any,
    ) -> CausalLMOutput:
        """Return the loss of a minibatch: its sum over real tokens, divided by those of the whole step."""
        own, count = self.own, max(int(num_items_in_batch), 1)
        now = self.see(input_ids, starts, mask)
        loss, clipped = policy_loss(now.log_probs, log_probs, advantages, mask, own.cliprange)
        self.sums.add("count", mask.sum() / count)
        self.sums.add("policy_loss", loss / count)
        self.sums.add("clip_fraction", clipped / count)
        self.sums.add("entropy", now.entropy.sum() / count)
        # Of the policy before its steps to now: its tokens are samples of the first.
        moved = kl_k3(log_probs, now.log_probs, mask).detach().sum()
        self.step_kl = moved / mask.sum().clamp(min=1)
        self.sums.add("step_kl", moved / count)
        if own.algorithm.startswith("ppo"):
            of_values, clipped = value_loss(now.values, values, returns, mask, own.cliprange_value)
            self.sums.add("value_loss", of_values / count)
            self.sums.add("value_clip_fraction", clipped / count)
            loss = loss + own.vf_coef * of_values
        if self.kl_coef:
            loss = loss + self.kl_coef * kl_k3(now.log_probs, ref_log_probs, mask).sum()
        return CausalLMOutput(loss=loss / count)


def _scattered(values: Tensor, mask: Tensor) -> Tensor:
    """Put the values of real tokens into their places, with 0 at padding."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)


@contextmanager
def unwrapped(model: Any) -> Iterator[Any]:
    """Yield the bare model with plain layers in place of adapted ones. At the end it is as before.

    Weights of 32 bits are copied, and the adapter merged into the copies: that costs the least. In 16 bits,
    a step at 2e-4 would leave 95 % of the entries as they were, and texts were written by another policy than
    the trained one. There the adapter stays beside the weights, in their dtype, as under autocast.
    With 135M parameters on a CPU, a token takes 1 to 20 % longer with that, and 40 to 53 % with copies in 32
    bits, which are no nearer to the trainer: it rounds in 16 bits too.
    """
    bare = bare_of(model)
    adapted = [(name, each) for name, each in bare.named_modules() if isinstance(each, LoraLayer)]
    with swapped(bare, {name: _plain(each) for name, each in adapted}):
        yield bare


def bare_of(model: Any) -> Any:
    """Return a model of transformers without what peft puts around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class _Beside(nn.Module):
    """A linear layer with the two matrices of an adapter beside it, in the dtype of its weight."""

    def __init__(self, base: Any, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.base = base
        self.down: Tensor
        self.up: Tensor
        self.register_buffer("down", down.to(base.weight.dtype), persistent=False)
        self.register_buffer("up", up.to(base.weight.dtype), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Return what the layer and its adapter add up to."""
        found: Tensor = self.base(states) + linear(linear(states, self.down), self.up)
        return found


@torch.no_grad()
def _plain(layer: Any) -> nn.Module:
    """Return a linear layer that computes what an adapted one does, without peft."""
    base, names = layer.get_base_layer(), layer.active_adapters
    down = torch.cat([layer.lora_A[name].weight for name in names])
    up = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for name in names], 1)
    if base.weight.dtype != torch.float32:
        return _Beside(base, down, up)
    plain = nn.Linear(1, 1, bias=False, device="meta")
    plain.weight = nn.Parameter(torch.addmm(base.weight, up, down), requires_grad=False)
    plain.bias = base.bias
    return plain
