"""Define what each verb of `redraft train` provides, such as an encoder and a model with a loss."""

# ruff: noqa: ARG002  (most verbs need few of these arguments)
from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar

from peft import PeftModel
from transformers import PreTrainedModel, TrainingArguments

from redraft.engines.load import DEFAULTS, with_gguf
from redraft.errors import ModelError
from redraft.train.attention import use_segments
from redraft.train.batches import Data, Rows, Source
from redraft.train.load import Tokenizer
from redraft.train.loop import Loop
from redraft.train.options import RunOptions
from redraft.train.prepare import Encodes, Ints
from redraft.train.processes import Say

Own = TypeVar("Own", bound=RunOptions)
Made = tuple[PreTrainedModel | PeftModel, bool]  # a model, and whether it keeps the examples of a row apart


class Verb(ABC, Generic[Own]):
    """A verb of `redraft train`, such as `sft`."""

    row: str  # the noun for a row
    # How a preview describes the marked tokens of an example ("" if none are marked), and the others.
    marked: tuple[str, str]
    parts: tuple[str, ...] = ()  # names of a row's examples in a preview, such as chosen and rejected
    measures = False  # whether the result is measured on the evaluation data, whatever `--eval_strategy` is
    scores = False  # whether the model is a classifier with one label, which does not pad with end-of-text

    def check(self, own: Own, model: str) -> None:
        """Raise `RedraftError` if settings contradict each other."""

    @abstractmethod
    def encoder(self, own: Own, tokenizer: Tokenizer) -> Encodes:
        """Return the encoder that turns records into examples."""

    @abstractmethod
    def rows(self, lengths: Ints, own: Own) -> Rows:
        """Assign examples of these lengths to rows."""

    @abstractmethod
    def model(self, own: Own, ref: str, tokenizer: Tokenizer, *, say: Say) -> Made:
        """Return the model with its loss, and whether attention separates the examples of a row."""

    def source(
        self, model: Any, data: Data, own: Own, args: TrainingArguments, tokenizer: Tokenizer
    ) -> tuple[Source, Any]:
        """Return the loop's data, and a module that computes the loss (None if `model` computes the loss)."""
        return data, None

    def finish(self, own: Own, loop: Loop, base: str, *, command: str, say: Say, warn: Say) -> None:
        """Finish a run after the last step. Called in all processes."""

    def following(self, own: Own, base: str) -> str:
        """Return a line with the next command for the trained model."""
        return what_follows(own, base)


def verb_of(options: type[RunOptions]) -> Verb[Any]:
    """Import and return the verb to which these settings belong, such as `sft`."""
    found: Verb[Any] = resolve_name(f"redraft.train.{options.verb}:VERB")
    return found


def bare_of(model: Any) -> Any:
    """Return a transformers model without peft's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def can_join(model: PreTrainedModel, *, say: Say, needed: bool = False) -> bool:
    """Set up attention that separates the examples of a row. Return False if rows must be padded instead."""
    try:
        use_segments(model)
    except ModelError as error:
        if needed:
            raise
        say(f"batches are padded: {error.message}")
        return False
    return True


def what_follows(own: RunOptions, base: str, gguf: str | None = None) -> str:
    """Return a line with the next command for a trained model or adapter. `gguf` is the GGUF file, if any."""
    named, output = own.model_name_or_path, str(own.output_dir)
    if not own.lora:
        return _try(gguf or output)
    first = named.partition("+")[0]
    if first in DEFAULTS or first.lower().endswith(".gguf"):
        if gguf:
            return _try(with_gguf(named, gguf))
        words = shlex.join([output, "--base", first, "-o", f"{output.rstrip('/')}.gguf"])
        return f"For llama.cpp: redraft weights lora-gguf {words}"
    if not Path(base).expanduser().is_dir():
        return f"Merge it into its base: redraft weights merge-lora {shlex.join([base, output])} -o FOLDER"
    tried = _try(f"{base}+{output}")
    if not gguf:
        return tried
    model = shlex.quote(f"BASE.gguf+{gguf}")
    return f"{tried} (llama.cpp: redraft weights gguf {shlex.quote(base)} -o BASE.gguf, then --model {model})"


def _try(model: str) -> str:
    return f"Try it: redraft ask … --model {shlex.quote(model)}"
