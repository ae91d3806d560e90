"""Prompts as tokens, up to where a model writes: what reinforcement learning starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from redraft.chain import Chain
from redraft.formats import TrainingFormat
from redraft.formats.read.records import RawRecord
from redraft.formats.tokens.encoder import NO_ROOM, Encoder, Example, Skipped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptEncoder:
    """Turn chains into the tokens of their prompts. Answers are not read. An encoder can be pickled."""

    wanted = 'A record is {"instruction": "…"}, or a conversation.'

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: TrainingFormat,  # noqa: A002  (the option's name)
        max_length: int,
        room: int,
    ) -> None:
        """Read the tokenizer.

        Args:
            tokenizer: A tokenizer of transformers, with a tokenizer.json.
            format: The text of a prompt.
            max_length: The most tokens of prompt and answer.
            room: Tokens of it that are kept for the answer.

        Raises:
            UsageError: `max_length` is too short, or the model's chat template is missing or cannot be used.
            ModelError: The tokenizer has no usable stop token.
        """
        self._encoder, self._most = Encoder(tokenizer, format, "answer", max_length), max_length - room

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a prompt's tokens, apart from the code."""
        return hashlib.sha256(f"prompts {self._encoder.fingerprint} {self._most}".encode()).hexdigest()

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return the chain of a record.

        Raises:
            RecordError: The record is damaged or no chain.
        """
        return [record.chain()]

    def encode(self, chain: Chain) -> Example | Skipped:
        """Return the tokens of a chain's prompt, or why there are none."""
        ids = self._encoder.prompt(chain.prompt)
        if isinstance(ids, Skipped):
            return ids
        if len(ids) > self._most:
            return Skipped(NO_ROOM)
        return Example(ids, np.zeros(len(ids), np.bool_))
