"""Estimate the memory of a run before it starts: by part, and for other settings.

A gradient has its weight's dtype, and AdamW keeps two moments of it (Rajbhandari et al., "ZeRO", 2020,
section 3.1). Activations are what autograd keeps for the backward pass, counted in two short rows. They grow
with the tokens, since attention here keeps no square (Korthikanti et al., "Reducing Activation
Recomputation", 2022, equation 1). With activation checkpointing each layer keeps its input, and one layer at
a time is recomputed (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). On a GPU it is what
torch allocates, without the driver. If FSDP or DeepSpeed shard the model, there is no plan.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import TrainingArguments

from redraft.machine import free_memory
from redraft.train import attention
from redraft.train.batches import IGNORED
from redraft.train.options import LARGE

MB, GB = 1e6, 1e9
PROBES = (16, 48)
"""Tokens of an example in the two trial rows: enough to separate what grows from what does not, and few,
because the trial must not take more than the run."""

SCATTER, IN_HEAP = 1.07, 1.85
"""The memory of activations on a CPU, over their size: in blocks that return to the system, and for smaller
blocks (`LARGE`) in a heap with holes. Measured with `redraft train`'s allocator
(`benchmarks/train_estimate.py`); from Python all are in the heap. A GPU's allocator fills its holes."""

RECOMPUTED = 2.0
"""The memory while a layer is recomputed, in activations of a layer: its own and its gradients'."""

ROOM = 0.92  # the share of free memory that a plan may fill: allocators lose some
_WIDE = 4  # bytes of a number in 32 bits


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a run. All sizes are in bytes."""

    tokens: int  # tokens of the longest batch
    libraries: int  # the process before training; 0 on a GPU
    weights: int
    gradients: int
    optimizer: int
    kept: float  # activations per token that wait for the backward pass
    copies: float  # copies of weights in 16 bits
    edge: float  # input of a layer, per token
    layers: int
    checkpointed: bool  # whether activations are recomputed
    accumulates: bool  # whether a batch may start with gradients in memory
    head: int  # gradient of the head's matrix while the loss is computed
    table: int  # gradient of the embedding before it is added to the head's
    loss_slice: int  # logits of a slice, and their gradient
    loss_token: float  # memory of the loss per token
    on_cpu: bool  # whether it is the machine's memory: see `SCATTER`

    @property
    def activations(self) -> int:
        """Activations of the longest batch, and of the layer that is computed."""
        layer = self.kept / self.layers
        if self.checkpointed:
            exact = self.tokens * (self.layers * self.edge + RECOMPUTED * layer) + self.copies / self.layers
        else:
            exact = self.tokens * (self.kept + layer) + self.copies
        if not self.on_cpu:
            return int(exact)
        return int((SCATTER if self.tokens * self.edge >= LARGE else IN_HEAP) * exact)

    @property
    def loss(self) -> int:
        """Memory to compute the loss."""
        return int(self.tokens * self.loss_token) + self.loss_slice + self.head

    @property
    def peak(self) -> int:
        """The most memory at once: when the loss is computed, or at the last gradient."""
        always = self.libraries + self.weights + self.optimizer
        before = self.gradients if self.accumulates else 0
        return always + max(before + self.activations + self.loss, self.gradients + self.table)

    def parts(self) -> dict[str, int]:
        """Return the parts by name, to show them."""
        return {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "loss": self.loss,
            "libraries": self.libraries,
        }

    def at(self, tokens: int) -> MemoryPlan:
        """Return the plan for batches of this many tokens."""
        return replace(self, tokens=tokens)

    def part(self, share: float) -> MemoryPlan:
        """Return the plan for a share of each batch."""
        return self.at(max(int(self.tokens * share), 1))

    def recomputed(self) -> MemoryPlan:
        """Return the plan with activation checkpointing."""
        return replace(self, checkpointed=True)

    def adapter(self) -> MemoryPlan:
        """Return the plan with an adapter. Its own hundredth of the weights is left out."""
        return replace(self, gradients=0, optimizer=0, head=0, table=0)

    def largest(self, room: int, row: int) -> int:
        """Return how many rows of `row` tokens fit into `room` bytes."""
        low, high = 0, 1
        while high < 1 << 20 and self.at(high * row).peak <= room:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle * row).peak <= room else (low, middle)
        return low


def plan_of(
    model: nn.Module, args: TrainingArguments, *, tokens: int, share: float, examples: Sequence[int]
) -> MemoryPlan:
    """Return the plan of a run, from its model on its device.

    Args:
        model: The model with its adapter, attention and loss. It and the random generators stay unchanged.
        share: Share of tokens with loss, 0 to 1.
        examples: Tokens of each example of that batch.
    """
    bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    config = bare.config.get_text_config()
    trained = [each for each in model.parameters() if each.requires_grad]
    weights = _bytes(model.parameters())
    device = next(model.parameters()).device
    long = sum(each for each in examples if each >= attention.LONG)
    with attention.as_long() if 2 * long > sum(examples) else nullcontext():
        small, large = (_kept(model, args, length, share) for length in PROBES)
    kept = (large - small) / (2 * (PROBES[1] - PROBES[0]))
    # After the trial: some libraries are loaded in the first pass.
    libraries = 0 if device.type == "cuda" else max(resident() - weights, 0)
    gradients = _bytes(trained)
    embedding = bare.get_input_embeddings().weight
    head = getattr(bare.get_output_embeddings(), "weight", embedding.detach()[:0])  # a reward model has none
    computed = 2 if args.bf16 or args.fp16 else head.element_size()  # bytes of a number in the layers
    matrix = head.numel() * (_WIDE + computed) if head.requires_grad else 0
    count = min(max(config.hidden_size // 2, 16), max(int(tokens * share), 1))
    return MemoryPlan(
        tokens=tokens,
        libraries=libraries,
        weights=weights,
        gradients=gradients,
        optimizer=int(moments(args) * gradients),
        kept=kept,
        copies=max(small - kept * 2 * PROBES[0], 0.0),
        edge=config.hidden_size * head.element_size(),
        layers=config.num_hidden_layers,
        checkpointed=bool(args.activation_checkpointing),
        accumulates=args.gradient_accumulation_steps > 1,
        head=matrix,
        table=head.numel() * head.element_size() if head.requires_grad else 0,
        loss_slice=count * head.shape[0] * (_WIDE + (2 * computed if computed < _WIDE else 0)),
        loss_token=2 * share * config.hidden_size * computed,
        on_cpu=device.type == "cpu",
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


def moments(args: TrainingArguments) -> float:
    """Return bytes of optimizer per byte of gradient: AdamW has two moments, Lion one, SGD none."""
    name = str(getattr(args.optim, "value", args.optim))
    if "adafactor" in name or name in ("sgd", "apollo_adamw", "galore_adafactor"):
        return 0.0
    count = 1.0 if any(each in name for each in ("lion", "rmsprop", "adagrad")) else 2.0
    return count / 4 if "8bit" in name else count


def _kept(model: nn.Module, args: TrainingArguments, length: int, share: float) -> int:
    device = next(model.parameters()).device
    ids = torch.zeros(1, 2 * length, dtype=torch.long, device=device)
    positions = torch.arange(length, device=device).repeat(2)[None]
    labels = ids.clone()
    labels[:, : max(int(2 * length * (1 - share)), 1)] = IGNORED
    half = torch.bfloat16 if args.bf16 else torch.float16
    cast = torch.autocast(device.type, half) if args.bf16 or args.fp16 else nullcontext()
    with _unchanged(model), cast, _counting(model) as seen:
        loss = model(input_ids=ids, position_ids=positions, labels=labels).loss
    total = sum(seen.values())
    del loss
    return total


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put the model into training mode, and restore it and the random generators afterwards."""
    was = model.training
    model.train()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.train(was)


@contextmanager
def _counting(model: nn.Module) -> Iterator[dict[int, int]]:
    """Record the memory that autograd keeps, by address, without the model's own tensors."""
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield seen


def size(count: float) -> str:
    """Return a number of bytes as text."""
    return f"{count / GB:.2f} GB" if count >= GB / 10 else f"{count / MB:.1f} MB"


def peak_memory() -> int:
    """Return the peak memory in bytes: of the GPU if one is used, else of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.cuda.max_memory_allocated() or own


def resident() -> int:
    """Return the memory of this process now, or its peak if the system does not tell, in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE")


def room(device: torch.device) -> int:
    """Return the bytes that a run may have: what is free and what this process has."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(ROOM * (free + torch.cuda.memory_reserved(device)))
    return int(ROOM * (free_memory() + resident()))
