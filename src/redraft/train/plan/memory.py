"""How much memory a run takes, before it takes it: by part, and for other settings than those in use.

What is counted, in bytes. Weights, gradients and the optimizer's state are counted from the model itself: a
gradient has its weight's dtype, and AdamW keeps two moments of that dtype (Rajbhandari et al., "ZeRO", 2020,
section 3.1: 4 + 4 + 8 bytes a weight in 32 bits). Activations are what autograd keeps for the backward pass;
for that, two short rows run through the model, and every tensor that is kept is counted once. They grow with
the tokens, as attention here keeps no square (Korthikanti et al., "Reducing Activation Recomputation", 2022,
equation 1, without the part that fused attention does not keep), but for copies of weights in 16 bits, which
autocast makes once. With activation checkpointing each layer keeps what enters it, and one layer at a time is
computed anew (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). The loss holds logits of a
slice of tokens (`train.loss`). The rest is what the process has before: Python and its libraries.

Not all of it is there at once: activations go as gradients come. `Plan.peak` is the fullest of three moments.

On a GPU this is what torch allocates, without what the driver takes for itself. Where FSDP or DeepSpeed share
the model no plan is made: each GPU holds about its share of weights, gradients and optimizer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import TrainingArguments

from redraft.train.data.batches import IGNORED
from redraft.train.model import attention
from redraft.train.run.logs import peak_memory
from redraft.train.settings.options import LARGE

MB, GB = 1e6, 1e9
PROBES = (16, 48)
"""Tokens of an example of the two rows that are tried: enough to tell what grows from what does not. They
are few, because what is tried must not take more than the run."""

SCATTER, IN_HEAP = 1.07, 1.85
"""On a CPU, what activations take over what they are: in blocks that go back to the system, and where they
are smaller than that (`LARGE`), in a heap with holes of many sizes. Measured with `redraft train`'s allocator
(`benchmarks/train_estimate.py`); from Python all are in the heap. A GPU's allocator fills its holes."""

ANEW = 2.0
"""Layers' worth of activations while one is computed anew: it and what its gradients take."""

ROOM = 0.92
"""The share of free memory that a plan may fill: allocators lose some between what they hand out."""

_WIDE = 4
"""Bytes of a number in 32 bits."""


@dataclass(frozen=True)
class Plan:
    """What a run keeps in memory. All sizes are in bytes.

    Attributes:
        tokens: Of the longest batch.
        libraries: Of the process before anything is trained; 0 on a GPU.
        weights: All, trained or not.
        gradients: Of what is trained.
        optimizer: Its state.
        kept: Activations a token that wait for the backward pass.
        copies: Of the weights in 16 bits.
        edge: What enters a layer, a token.
        layers: Of the model.
        checkpointed: Whether activations are computed anew.
        accumulates: Whether gradients are there already when a batch begins.
        head: What the gradient of the vocabulary's matrix takes while the loss is computed.
        table: The gradient of the embedding before it is added to that of the head.
        loss_slice: Logits and their gradient, of one slice.
        loss_token: What the loss keeps of a token.
        on_cpu: Whether it is the machine's memory: see `SCATTER`.
    """

    tokens: int
    libraries: int
    weights: int
    gradients: int
    optimizer: int
    kept: float
    copies: float
    edge: float
    layers: int
    checkpointed: bool
    accumulates: bool
    head: int
    table: int
    loss_slice: int
    loss_token: float
    on_cpu: bool

    @property
    def activations(self) -> int:
        """Those of the longest batch, with those of the layer that is computed."""
        layer = self.kept / self.layers
        if self.checkpointed:
            exact = self.tokens * (self.layers * self.edge + ANEW * layer) + self.copies / self.layers
        else:
            exact = self.tokens * (self.kept + layer) + self.copies
        return int(self._scatter * exact)

    @property
    def _scatter(self) -> float:
        if not self.on_cpu:
            return 1.0
        return SCATTER if self.tokens * self.edge >= LARGE else IN_HEAP

    @property
    def loss(self) -> int:
        """What computing the loss takes."""
        return int(self.tokens * self.loss_token) + self.loss_slice + self.head

    @property
    def peak(self) -> int:
        """The most at once: when the loss is computed, when the last gradient comes, or in between."""
        always = self.libraries + self.weights + self.optimizer
        before = self.gradients if self.accumulates else 0
        return always + max(before + self.activations + self.loss, self.gradients + self.table)

    def parts(self) -> dict[str, int]:
        """The parts by name, as they are shown."""
        return {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "loss": self.loss,
            "libraries": self.libraries,
        }

    def at(self, tokens: int) -> Plan:
        """The plan for batches of so many tokens."""
        return replace(self, tokens=tokens)

    def part(self, share: float) -> Plan:
        """The plan for a part of each batch."""
        return self.at(max(int(self.tokens * share), 1))

    def recomputed(self) -> Plan:
        """The plan with activation checkpointing."""
        return replace(self, checkpointed=True)

    def adapter(self) -> Plan:
        """The plan with an adapter, which itself takes a hundredth of the weights and is left out."""
        return replace(self, gradients=0, optimizer=0, head=0, table=0)

    def largest(self, room: int, row: int) -> int:
        """How many rows of `row` tokens fit into so many bytes; 0 if none does."""
        low, high = 0, 1
        while high < 1 << 20 and self.at(high * row).peak <= room:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle * row).peak <= room else (low, middle)
        return low


def plan_of(
    model: nn.Module, args: TrainingArguments, *, tokens: int, share: float, examples: Sequence[int]
) -> Plan:
    """The plan of a run, from the model as it will be trained and where it is.

    Args:
        model: With its adapter, its attention and its loss. It is left as it was, and so is chance.
        args: Of Trainer.
        tokens: Of the longest batch.
        share: How many of the tokens carry loss, 0 to 1.
        examples: Tokens of each example of that batch.
    """
    bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    config = bare.config.get_text_config()
    trained = [each for each in model.parameters() if each.requires_grad]
    weights = _bytes(model.parameters())
    device = next(model.parameters()).device
    long = sum(each for each in examples if each >= attention.LONG)
    with attention.as_long() if 2 * long > sum(examples) else nullcontext():
        kept, copies = _activations(model, args, share)
    # Only now: some libraries are not loaded before the first pass.
    libraries = 0 if device.type == "cuda" else max(resident() - weights, 0)
    gradients = _bytes(trained)
    head = bare.get_output_embeddings().weight
    computed = _computed_bytes(args, head)
    matrix = head.numel() * (_WIDE + computed) if head.requires_grad else 0
    count = min(max(config.hidden_size // 2, 16), max(int(tokens * share), 1))
    return Plan(
        tokens=tokens,
        libraries=libraries,
        weights=weights,
        gradients=gradients,
        optimizer=int(moments(args) * gradients),
        kept=kept,
        copies=copies,
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
    """Bytes of the optimizer's state a byte of gradient: AdamW has two moments, Lion one, SGD none."""
    name = str(getattr(args.optim, "value", args.optim))
    if "adafactor" in name or name in ("sgd", "apollo_adamw", "galore_adafactor"):
        return 0.0
    count = 1.0 if any(each in name for each in ("lion", "rmsprop", "adagrad")) else 2.0
    return count / 4 if "8bit" in name else count


def _computed_bytes(args: TrainingArguments, weight: Tensor) -> int:
    """Bytes of a number as layers compute it."""
    return 2 if args.bf16 or args.fp16 else weight.element_size()


def _autocast(args: TrainingArguments, device: torch.device) -> AbstractContextManager[Any]:
    if not (args.bf16 or args.fp16):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if args.bf16 else torch.float16)


def _activations(model: nn.Module, args: TrainingArguments, share: float) -> tuple[float, float]:
    """Bytes that are kept for the backward pass: a token, and however many there are."""
    small, large = (_kept(model, args, length, share) for length in PROBES)
    slope = (large - small) / (2 * (PROBES[1] - PROBES[0]))
    return slope, max(small - slope * 2 * PROBES[0], 0.0)


def _kept(model: nn.Module, args: TrainingArguments, length: int, share: float) -> int:
    """Bytes that are kept of a row of two examples of that length."""
    device = next(model.parameters()).device
    ids = torch.zeros(1, 2 * length, dtype=torch.long, device=device)
    positions = torch.arange(length, device=device).repeat(2)[None]
    labels = ids.clone()
    labels[:, : max(int(2 * length * (1 - share)), 1)] = IGNORED
    with _unchanged(model), _autocast(args, device), _counting(model) as seen:
        loss = model(input_ids=ids, position_ids=positions, labels=labels).loss
    total = sum(seen.values())
    del loss
    return total


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """The model as it trains, and then as it was. What is drawn by chance is not missed later."""
    was = model.training
    model.train()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.train(was)


@contextmanager
def _counting(model: nn.Module) -> Iterator[dict[int, int]]:
    """Notes the memory of what autograd keeps, without the model's own tensors, by where it is."""
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
    """Bytes in words."""
    return f"{count / GB:.2f} GB" if count >= GB / 10 else f"{count / MB:.1f} MB"


def resident() -> int:
    """Bytes of memory that this process has now; the most it had, where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE")


def room(device: torch.device) -> int:
    """Bytes that a run may have in all: what is free, and what this process has already."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(ROOM * (free + torch.cuda.memory_reserved(device)))
    return int(ROOM * (_free() + resident()))


def _free() -> int:
    """Bytes that can be had on this machine, or in the container that this process is in."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        machine = next(int(each.split()[1]) * 1024 for each in lines if each.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pass  # no Linux
    left = left_in(Path("/sys/fs/cgroup"))
    return max(machine if left is None else min(machine, left), 0)


def left_in(group: Path) -> int | None:
    """Bytes that can be had in a control group, whose files these are; None if nothing limits it.

    What was read of files, and is given up when memory is short, counts as free: as in MemAvailable.
    """
    try:
        limit = (group / "memory.max").read_text("ascii").strip()
        if limit == "max":
            return None
        used = int((group / "memory.current").read_text("ascii"))
        stat = dict(each.split() for each in (group / "memory.stat").read_text("ascii").splitlines())
        return int(limit) - used + int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):
        return None  # no such group
