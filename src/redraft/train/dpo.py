"""The stages of DPO: pairs of answers, a causal language model, and the loss of TRL's `DPOTrainer`.

TRL is asked for the loss of each batch and nothing else. The reference is the model without its adapter, or
with a copy of the one that is trained further; if all weights are trained, it is a second copy of them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset
from huggingface_hub import constants
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainingArguments
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from redraft.errors import UsageError
from redraft.formats.encoder import PairEncoder
from redraft.train.batches import Batch, Data, Row, Rows, SharedMeans, two_a_row
from redraft.train.prepare import Prepared
from redraft.train.processes import Say
from redraft.train.reward import PairOutput
from redraft.train.settings.options import DpoOptions
from redraft.train.stages import Stages

_LOGGED = ("rewards/", "logps/")  # how the names begin of those of TRL's metrics that are logged


_NO_DATA = Dataset.from_list([{"prompt": ""}])  # TRL wants to have some


class _Trainer(DPOTrainer):  # type: ignore[misc]  # mypy does not read TRL
    """TRL's trainer, which tokenises nothing."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


@contextmanager
def _old_names() -> Iterator[None]:
    """Ignore that TRL 1.16 uses names that transformers 5.23 has replaced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
        yield


class DpoLoss(nn.Module):
    """A model that is called with pairs and returns TRL's loss of them. TRL changes it in place."""

    def __init__(
        self, model: Any, own: DpoOptions, args: TrainingArguments, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        super().__init__()
        self.model = model
        self.sums = SharedMeans()  # TRL's metrics of the pairs since the last line of the log
        constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL reports the making of a trainer to the hub
        reference = None if own.lora else copy.deepcopy(model)
        try:
            with _old_names():
                trainer = _Trainer(
                    model,
                    reference,
                    _config(own, args),
                    train_dataset=_NO_DATA,
                    processing_class=tokenizer,
                )
        except ValueError as error:
            raise UsageError(f"TRL does not take these settings: {error!s:.300}") from None
        trainer.remove_callback(PrinterCallback)
        # The loop adds up what the processes find. TRL would gather it, which needs batches of one size.
        trainer.accelerator.gather = trainer.accelerator.gather_for_metrics = lambda each: each
        if own.lora and not own.lora_from:
            model.delete_adapter("ref")  # TRL's copy of the new adapter: the reference has none
        self._trainer = trainer

    def forward(self, num_items_in_batch: Any, **inputs: Tensor) -> PairOutput:
        """Return the summed loss over `num_items_in_batch`, and sums of TRL's metrics."""
        count = _pairs(inputs)
        with _old_names():
            loss = self._trainer.compute_loss(self.model, inputs)
        logs: dict[str, float] = {}
        self._trainer.log(logs)  # which adds its metrics of this batch
        self._trainer.state.log_history.clear()
        named = {name.removeprefix("eval_"): count * each for name, each in logs.items()}
        sums = {name: each for name, each in named.items() if name.startswith(_LOGGED)}
        if self.training:
            for name, each in {**sums, "count": count}.items():
                self.sums.add(name, each)
        return PairOutput(loss * count / num_items_in_batch, None, sums)


def _config(own: DpoOptions, args: TrainingArguments) -> Any:
    config = DPOConfig(
        output_dir=str(args.output_dir),
        beta=own.beta,
        loss_type=[own.loss_type],
        label_smoothing=own.label_smoothing,
        max_length=None,
        disable_dropout=not own.lora_dropout,
        gradient_checkpointing=False,
        disable_tqdm=True,
        report_to="none",
        **{name: getattr(args, name) for name in ("bf16", "fp16", "use_cpu", "seed")},
    )
    config._n_gpu = args.n_gpu  # noqa: SLF001  (of several GPUs, one process uses one)
    return config


class DpoStages(Stages[DpoOptions]):
    """What DPO does differently from other training."""

    row = "pair"
    marked = ("in answers", "in prompts")
    parts = ("chosen", "rejected")

    def check(self, own: DpoOptions, args: TrainingArguments) -> None:  # noqa: ARG002  (of all stages)
        """Raise `UsageError` if the model would be sharded."""
        if args.fsdp or args.deepspeed:
            raise UsageError("DPO does not shard the model.", hint="--fsdp False, without --deepspeed")

    def encoder(self, own: DpoOptions, tokenizer: PreTrainedTokenizerBase) -> PairEncoder:
        """Return the encoder of pairs, which marks their answers."""
        return PairEncoder(tokenizer, own.format, own.model_max_length, whole=True)

    def rows(self, prepared: Prepared, own: DpoOptions, seed: int) -> Rows:  # noqa: ARG002  (of all stages)
        """Put the two examples of a pair into a row."""
        return two_a_row(prepared.lengths, own.model_max_length)

    def collate(self, rows: Sequence[Row], *, pad: int | None) -> Batch:
        """Return pairs as TRL pads them: all chosen texts, then all rejected ones.

        Returns:
            `input_ids`, `attention_mask` and `completion_mask`, which is 1 for answers, each int64
            [2 pairs, longest]. No rows give a pair without answers.
        """
        nothing: dict[str, Any] = {"prompt_ids": [pad, pad], "chosen_ids": [], "rejected_ids": []}
        batch: Batch = DataCollatorForPreference(pad)([_of(row) for row in rows] or [nothing])
        return batch

    def counted(self, batch: Batch) -> int:
        """Return the pairs."""
        return _pairs(batch)

    def source(
        self,
        model: Any,
        data: Data,
        own: DpoOptions,
        args: TrainingArguments,
        tokenizer: PreTrainedTokenizerBase,
        *,
        warn: Say,  # noqa: ARG002  (of all stages)
    ) -> tuple[Data, DpoLoss]:
        """Return the data, and the module around the model that computes the loss."""
        loss = DpoLoss(model, own, args, tokenizer)
        return replace(data, sums=loss.sums), loss


DPO_STAGES = DpoStages()


def _of(row: Row) -> dict[str, list[int]]:
    """Return a pair in TRL's names. Both texts have the same prompt."""
    chosen, rejected = row
    start = int(np.argmax(chosen.trained))
    return {
        "prompt_ids": chosen.ids[:start].tolist(),
        "chosen_ids": chosen.ids[start:].tolist(),
        "rejected_ids": rejected.ids[start:].tolist(),
    }


def _pairs(batch: Batch) -> int:
    return int(batch["completion_mask"].any(1).sum()) // 2
