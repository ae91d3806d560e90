"""The stages of supervised fine-tuning: chains as texts, several in a row, and a causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from redraft.errors import ModelError, UsageError
from redraft.formats.selfee import NATIVE_FORMAT
from redraft.formats.tokens.encoder import Encoder
from redraft.train.data.batches import Batch, Row, joined, padded, trained_in
from redraft.train.data.packing import Rows, one_a_row, pack
from redraft.train.data.store import Prepared
from redraft.train.model.attention import use_segments
from redraft.train.model.load import DTYPES, fit_vocabulary, load_model, load_tokenizer
from redraft.train.model.loss import fuse
from redraft.train.processes import Say
from redraft.train.run.components import adapted
from redraft.train.run.stages import Stages
from redraft.train.settings.options import TrainOptions


class SftStages(Stages[TrainOptions]):
    """What fine-tuning on chains does differently from other training."""

    row = "row"
    marked = ("with loss", "without loss")
    parts: tuple[str, ...] = ()
    measures = False

    def tokenizer(self, own: TrainOptions, model: str, *, say: Say) -> PreTrainedTokenizerBase:
        """Load the tokenizer."""
        return load_tokenizer(model, pad_token=own.pad_token, say=say)

    def encoder(self, own: TrainOptions, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """Return the encoder of chains."""
        return Encoder(
            tokenizer, own.format, own.training_objective, own.model_max_length, first=own.answer == "first"
        )

    def rows(self, prepared: Prepared, own: TrainOptions, seed: int) -> Rows:
        """Assign examples to rows: as many as fit, or one each."""
        if own.packing:
            return pack(prepared.lengths, own.model_max_length, seed)
        return one_a_row(prepared.lengths, own.model_max_length)

    def packs(self, own: TrainOptions) -> bool:
        """Return whether rows are filled with as many examples as fit."""
        return own.packing

    def model(
        self, own: TrainOptions, model: str, tokenizer: PreTrainedTokenizerBase, *, seed: int, say: Say
    ) -> PreTrainedModel | PeftModel:
        """Load a causal language model.

        Raises:
            ModelError: The model is incomplete, or does not fit its tokenizer.
            UsageError: Settings contradict each other.
        """
        loaded = load_model(model, dtype=DTYPES[own.dtype], four_bits=own.qlora)
        grown = fit_vocabulary(loaded, tokenizer, ref=model, say=say)
        if own.lora and grown and own.gguf:
            raise UsageError(
                f"--gguf: a GGUF adapter cannot hold the token {own.pad_token!r} that --pad_token adds.",
                hint="Leave --pad_token out: padding then uses a token of the vocabulary, without loss.",
            )
        native = own.format == "selfee" and own.training_objective != "answer"
        note = {"redraft_format": NATIVE_FORMAT} if native else {}
        return adapted(loaded, own, seed=seed, note=note, whole_vocabulary=grown)

    def joins(self, model: PreTrainedModel | PeftModel, own: TrainOptions, *, say: Say) -> bool:
        """Set up the loss, and attention that keeps joined examples apart. False if rows need padding."""
        bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        if getattr(bare.config, "output_router_logits", False):
            say("output_router_logits: the loss that spreads tokens over experts is left out.")
        fuse(bare)
        return can_join(bare, say=say, needed=own.packing)

    def collate(self, rows: Sequence[Row], *, pad: int | None) -> Batch:
        """Join the examples of all rows, or pad them."""
        return joined(rows) if pad is None else padded(rows, pad=pad)

    def counted(self, batch: Batch) -> int:
        """Return the tokens with loss."""
        return trained_in(batch)


SFT_STAGES = SftStages()


def can_join(model: PreTrainedModel, *, say: Say, needed: bool = False) -> bool:
    """Set up attention that keeps joined examples apart. Return False if rows need padding.

    Raises:
        ModelError: They do, and joining is needed.
    """
    try:
        use_segments(model)
    except ModelError as error:
        if needed:
            raise
        say(f"batches are padded: {error.message}")
        return False
    return True
