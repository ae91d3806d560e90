"""The two processes of `test_distributed`: FSDP2 in the loop, on a CPU.

accelerate shards on GPUs only. Here it is told that this CPU is one. A module of its own, so that processes
can be started with it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import distributed
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import TrainerCallback

from redraft.train import loss, trained
from redraft.train.attention import use_segments
from redraft.train.checkpoints import newest
from redraft.train.loss import fuse
from tests.train.tiny import data, llama, loop, prepared
from tests.train.together import forked

RANKS = 2
KINDS = ("tied", "bf16")
"""The models that the loop trains: one with a tied head; one with its own head, computed in bf16."""

SIZE = 1  # rows of a process's batch


def model(kind: str) -> Any:
    made = llama(dropout=0.0)
    if kind != "tied":
        made.config.tie_word_embeddings = False
        made.lm_head.weight = torch.nn.Parameter(made.lm_head.weight.detach() + 0.1)
    use_segments(made)
    fuse(made)
    return made


class Kill(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            signal.raise_signal(signal.SIGTERM)


def run(
    output: Path,
    examples: Any,
    kind: str,
    *,
    resumes: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    ranks: int = RANKS,
) -> int:
    rank = distributed.get_rank() if ranks > 1 else 0
    size = SIZE * RANKS // ranks
    read = data(examples, size=size, rank=rank, ranks=ranks)
    made = loop(
        output,
        read,
        model(kind),
        eval_data=read,
        max_steps=6,
        save_steps=100,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=3,
        per_device_train_batch_size=size,
        bf16=kind == "bf16",
        fsdp=True if ranks > 1 else None,
        fsdp_config={"reshard_after_forward": True} if ranks > 1 else None,
    )
    for each in callbacks:
        made.callbacks.append(each)
    done = made.run(newest(output)[0] if resumes else None)
    assert {each.dtype for each in made._losses} == {torch.float32}
    assert any(isinstance(each, DTensor) for each in made.trained.model.parameters()) == (ranks > 1)
    return done


def take_for_a_gpu() -> None:
    accelerator = trained.Accelerator

    def create(*args: Any, **more: Any) -> Any:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return accelerator(*args, **more)

    trained.Accelerator = create  # type: ignore[assignment,misc]


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("all logits were asked for")


def done(folder: Path, rank: int) -> Path:
    """This file shows that a process finished. Its exit status does not: a thread of gloo may abort it."""
    return folder / f"done-{rank}"


def main() -> None:
    folder = Path(sys.argv[1])
    loss._by_logits = _never
    functional.cross_entropy = _never
    with forked(folder, RANKS) as rank:
        take_for_a_gpu()
        for kind in KINDS:
            # Six steps; then again, with a signal to one process, which stops both.
            examples = prepared(folder / f"by-loop-{kind}-{rank}")
            run(folder / f"{kind}-whole", examples, kind)
            assert run(folder / f"{kind}-halves", examples, kind, callbacks=[Kill()] if rank else []) == 2
            assert run(folder / f"{kind}-halves", examples, kind, resumes=True) == 6
        distributed.barrier()
        done(folder, rank).touch()


if __name__ == "__main__":
    main()
