"""The stages of a reward model: pairs of answers, and a classifier with one label.

The result loads with plain transformers and peft: its head is `score`, and its reward is read at the last
token that is not padding. So padding is another token than end-of-text. Its configuration records how texts
are written (`redraft_reward`), so that nobody has to repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from redraft.formats.tokens.pairs import PairEncoder
from redraft.train.data.batches import Batch, Row, joined, padded
from redraft.train.data.packing import Rows, two_a_row
from redraft.train.data.store import Prepared
from redraft.train.model.load import DTYPES, fit_vocabulary, load_model, load_tokenizer
from redraft.train.processes import Say
from redraft.train.reward.loss import compare
from redraft.train.run.components import adapted
from redraft.train.run.sft import can_join
from redraft.train.run.stages import Stages
from redraft.train.settings.options import RewardOptions


class RewardStages(Stages[RewardOptions]):
    """What a reward model does differently from other training."""

    row = "pair"
    marked = ("from where the answers part", "the same in both")
    parts: tuple[str, ...] = ("chosen", "rejected")
    measures = True

    def tokenizer(self, own: RewardOptions, model: str, *, say: Say) -> PreTrainedTokenizerBase:
        """Load the tokenizer, with another token to pad with than end-of-text."""
        return load_tokenizer(model, pad_token=own.pad_token, apart=True, say=say)

    def encoder(self, own: RewardOptions, tokenizer: PreTrainedTokenizerBase) -> PairEncoder:
        """Return the encoder of pairs."""
        return PairEncoder(tokenizer, own.format, own.model_max_length, margin=own.margin)

    def rows(self, prepared: Prepared, own: RewardOptions, seed: int) -> Rows:  # noqa: ARG002  (of all stages)
        """Put the two examples of a pair into a row."""
        return two_a_row(prepared.lengths, own.model_max_length)

    def packs(self, own: RewardOptions) -> bool:  # noqa: ARG002  (of all stages)
        """Return that a row holds one pair."""
        return False

    def model(
        self, own: RewardOptions, model: str, tokenizer: PreTrainedTokenizerBase, *, seed: int, say: Say
    ) -> PreTrainedModel | PeftModel:
        """Load a reward model, or a language model with a new head.

        Raises:
            ModelError: The model is incomplete, or does not fit its tokenizer.
            UsageError: Settings contradict each other.
        """
        set_seed(seed)  # of the new head
        loaded = load_model(model, dtype=DTYPES[own.dtype], four_bits=own.qlora, scores=True)
        grown = fit_vocabulary(loaded, tokenizer, ref=model, say=say)
        note = {"redraft_reward": {"format": own.format, "max_length": own.model_max_length}}
        return adapted(loaded, own, seed=seed, task="SEQ_CLS", note=note, whole_vocabulary=grown)

    def joins(self, model: PreTrainedModel | PeftModel, own: RewardOptions, *, say: Say) -> bool:
        """Set up the loss, and attention that keeps joined examples apart. False if rows need padding."""
        bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        compare(bare, own.loss, own.label_smoothing)
        return can_join(bare, say=say)

    def collate(self, rows: Sequence[Row], *, pad: int | None) -> Batch:
        """Join the examples of all pairs, or pad them. Their `margins` are float32 [pairs]."""
        batch = joined(rows) if pad is None else padded(rows, pad=pad)
        return {**batch, "margins": torch.tensor([row[0].margin for row in rows], dtype=torch.float32)}

    def counted(self, batch: Batch) -> int:
        """Return the pairs."""
        return len(batch["margins"])


REWARD_STAGES = RewardStages()
