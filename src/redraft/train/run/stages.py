"""What differs between the verbs that train on given data: how a record is read, and how the model is loaded.

Everything else (`run.run`, `run.loop`, `plan`) is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase, TrainingArguments

from redraft.train.data.batches import Batch, Data, Row, Source
from redraft.train.data.encoding import Encodes
from redraft.train.data.packing import Rows
from redraft.train.data.store import Prepared
from redraft.train.processes import Say
from redraft.train.settings.options import DataOptions

Own = TypeVar("Own", bound=DataOptions, contravariant=True)


class Stages(Protocol[Own]):
    """The stages of a run that differ.

    Attributes:
        row: What a row is called.
        marked: What a preview says of tokens with and without the mark of the prepared data. The first is
            empty if no tokens have it.
        parts: What the examples of a row are called in a preview; empty if they have no names.
        measures: Whether the result is measured on the evaluation data, whatever `--eval_strategy` is.
    """

    row: str
    marked: tuple[str, str]
    parts: tuple[str, ...]
    measures: bool

    def check(self, own: Own, args: TrainingArguments) -> None:  # noqa: ARG002  (the default needs none)
        """Raise `RedraftError` if settings do not fit together, before data and model are loaded."""
        return

    def tokenizer(self, own: Own, model: str, *, say: Say) -> PreTrainedTokenizerBase:
        """Load the tokenizer of a model: a folder, or org/name on the hub."""
        ...

    def encoder(self, own: Own, tokenizer: PreTrainedTokenizerBase) -> Encodes:
        """Return what turns records into examples."""
        ...

    def rows(self, prepared: Prepared, own: Own, seed: int) -> Rows:
        """Assign examples to rows."""
        ...

    def packs(self, own: Own) -> bool:
        """Return whether rows are filled with as many examples as fit."""
        ...

    def model(self, own: Own, model: str, tokenizer: PreTrainedTokenizerBase, *, seed: int, say: Say) -> Any:
        """Load the model to train, with an adapter if the settings say so."""
        ...

    def joins(self, model: Any, own: Own, *, say: Say) -> bool:
        """Set up the loss, and attention that keeps joined examples apart. False if rows need padding."""
        ...

    def collate(self, rows: Sequence[Row], *, pad: int | None) -> Batch:
        """Return rows as a batch: padded with this token, or joined without padding."""
        ...

    def counted(self, batch: Batch) -> int:
        """Return what the loss of a step is divided by: the sum of this over its batches."""
        ...

    def source(
        self,
        model: Any,  # noqa: ARG002  (the default needs none of them)
        data: Data,
        own: Own,  # noqa: ARG002
        args: TrainingArguments,  # noqa: ARG002
        tokenizer: PreTrainedTokenizerBase,  # noqa: ARG002
        *,
        warn: Say,  # noqa: ARG002
    ) -> tuple[Source, Any]:
        """Return what the loop reads, and the module around the model that computes the loss, or None.

        By default, that is the data itself, and the model computes its own loss.
        """
        return data, None
