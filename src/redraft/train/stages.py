"""What differs between the verbs of `redraft train`; `run` is the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from redraft.errors import ModelError, UsageError
from redraft.formats.encoder import Encoder
from redraft.formats.selfee import NATIVE_FORMAT
from redraft.train.attention import use_segments
from redraft.train.batches import (
    Batch,
    Data,
    Row,
    Rows,
    Source,
    joined,
    one_a_row,
    pack,
    padded,
    trained_in,
)
from redraft.train.load import DTYPES, add_adapter, fit_vocabulary, load_model, load_tokenizer
from redraft.train.loss import fuse
from redraft.train.options import DataOptions, TrainOptions
from redraft.train.prepare import Encodes, Prepared
from redraft.train.processes import Say

Own = TypeVar("Own", bound=DataOptions)


class Stages(ABC, Generic[Own]):
    """The stages of a run that differ.

    Attributes:
        marked: What a preview says of tokens with and without the mark of the prepared data. The first is
            empty if no tokens have it.
        parts: What the examples of a row are called in a preview; empty if they have no names.
        measures: Whether the result is measured on the evaluation data, whatever `--eval_strategy` is.
        scores: Whether the model is a classifier with one label, which does not pad with end-of-text.
    """

    row: str  # what a row is called
    marked: tuple[str, str]
    parts: tuple[str, ...] = ()
    measures = False
    scores = False

    def check(self, own: Own, args: TrainingArguments) -> None:
        """Raise `RedraftError` if settings do not fit together, before data and model are loaded."""

    def tokenizer(self, own: Own, model: str, *, say: Say) -> PreTrainedTokenizerBase:
        """Load the tokenizer of a model: a folder, or org/name on the hub."""
        return load_tokenizer(model, pad_token=own.pad_token, apart=self.scores, say=say)

    @abstractmethod
    def encoder(self, own: Own, tokenizer: PreTrainedTokenizerBase) -> Encodes:
        """Return what turns records into examples."""

    @abstractmethod
    def rows(self, prepared: Prepared, own: Own, seed: int) -> Rows:
        """Assign examples to rows."""

    def model(
        self, own: Own, model: str, tokenizer: PreTrainedTokenizerBase, *, seed: int, say: Say
    ) -> PreTrainedModel | PeftModel:
        """Load the model to train, with an adapter if the settings say so."""
        set_seed(seed)  # a classifier's head may be new
        loaded = load_model(model, dtype=DTYPES[own.dtype], four_bits=own.qlora, scores=self.scores)
        grown = fit_vocabulary(loaded, tokenizer, ref=model, say=say)
        note = self.note(own, grown=grown)
        if not own.lora:
            loaded.config.update(note)
            return loaded
        set_seed(seed)
        task = "SEQ_CLS" if self.scores else "CAUSAL_LM"
        return add_adapter(loaded, own, task=task, note=note, whole_vocabulary=grown)

    def note(self, own: Own, *, grown: bool) -> dict[str, Any]:  # noqa: ARG002  (most have none)
        """Return redraft's fields for the configuration of the result; `grown` if the vocabulary has."""
        return {}

    def joins(self, model: Any, own: Own, *, say: Say) -> bool:  # noqa: ARG002  (most never do)
        """Set up the loss, and attention that keeps joined examples apart. False if rows need padding."""
        return False

    def collate(self, rows: Sequence[Row], *, pad: int | None) -> Batch:
        """Return rows as a batch: padded with this token, or joined without padding."""
        return joined(rows) if pad is None else padded(rows, pad=pad)

    def counted(self, batch: Batch) -> int:
        """Return what the loss of a step is divided by: the sum of this over its batches."""
        return trained_in(batch)

    def source(
        self,
        model: Any,  # noqa: ARG002  (most need none of these)
        data: Data,
        own: Own,  # noqa: ARG002
        args: TrainingArguments,  # noqa: ARG002
        tokenizer: PreTrainedTokenizerBase,  # noqa: ARG002
        *,
        warn: Say,  # noqa: ARG002
    ) -> tuple[Source, Any]:
        """Return what the loop reads, and the module around the model that computes the loss, or None."""
        return data, None


class SftStages(Stages[TrainOptions]):
    """Supervised fine-tuning: chains as texts, several in a row, and a causal language model."""

    row = "row"
    marked = ("with loss", "without loss")

    def encoder(self, own: TrainOptions, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """Return the encoder of chains."""
        first = own.answer == "first"
        return Encoder(tokenizer, own.format, own.training_objective, own.model_max_length, first=first)

    def rows(self, prepared: Prepared, own: TrainOptions, seed: int) -> Rows:
        """Assign examples to rows: as many as fit, or one each."""
        if own.packing:
            return pack(prepared.lengths, own.model_max_length, seed)
        return one_a_row(prepared.lengths, own.model_max_length)

    def note(self, own: TrainOptions, *, grown: bool) -> dict[str, Any]:
        """Return that the model writes chains, if it learns them."""
        if own.lora and grown and own.gguf:
            raise UsageError(
                f"--gguf: a GGUF adapter cannot hold the token {own.pad_token!r} that --pad_token adds.",
                hint="Leave --pad_token out: padding then uses a token of the vocabulary, without loss.",
            )
        native = own.format == "selfee" and own.training_objective != "answer"
        return {"redraft_format": NATIVE_FORMAT} if native else {}

    def joins(self, model: PreTrainedModel | PeftModel, own: TrainOptions, *, say: Say) -> bool:
        """Set up the loss, and attention that keeps joined examples apart. False if rows need padding."""
        bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        if getattr(bare.config, "output_router_logits", False):
            say("output_router_logits: the loss that spreads tokens over experts is left out.")
        fuse(bare)
        return can_join(bare, say=say, needed=own.packing)


SFT_STAGES = SftStages()


def can_join(model: PreTrainedModel, *, say: Say, needed: bool = False) -> bool:
    """Set up attention that keeps joined examples apart. Return False if rows need padding."""
    try:
        use_segments(model)
    except ModelError as error:
        if needed:
            raise
        say(f"batches are padded: {error.message}")
        return False
    return True
