"""Preference pairs as tokens: prompt, answer and stop token, for the chosen and the rejected answer.

Both have the same prompt, cut at the same place, so they are equal up to where the answers part. Tokens
before that cannot make one better than the other. The tokens after it are marked in `trained`, like tokens
with loss in other training. A reward model that is used reads an answer in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from redraft.chain import Chain, Prompt, Step, is_blank
from redraft.errors import RecordError
from redraft.formats import TrainingFormat
from redraft.formats.read.records import RawRecord
from redraft.formats.render.loss_mask import Span
from redraft.formats.render.spans import spans_of
from redraft.formats.tokens.encoder import Encoder, Example, Skipped, Uncut
from redraft.formats.write import Unfit, to_preference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EQUAL = "chosen and rejected are equal"
EMPTY = "an empty answer"
EQUAL_WHEN_CUT = "chosen and rejected are equal up to the length limit"

Pair = tuple[Example, Example]  # the chosen answer and the rejected one, each with its prompt


class PairEncoder:
    """Turn chains into pairs, deterministically. An encoder can be pickled."""

    wanted = 'A pair is {"prompt": "…", "chosen": "…", "rejected": "…"}.'

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: TrainingFormat = "chat",  # noqa: A002  (the option's name)
        max_length: int = 2048,
        *,
        margin: float | str = 0.0,
        whole: bool = False,
    ) -> None:
        """Read the tokenizer.

        Args:
            tokenizer: A tokenizer of transformers, with a tokenizer.json.
            format: The text of a prompt and its answer.
            max_length: The most tokens of prompt and answer.
            margin: By how much the chosen answer should be better, or the field of records that says it.
            whole: Mark both answers as a whole, not from where they part.

        Raises:
            UsageError: `max_length` is too short, or the model's chat template is missing or cannot be used.
            ModelError: The tokenizer has no usable stop token.
        """
        self._encoder, self._margin = Encoder(tokenizer, format, "answer", max_length), margin
        self._whole = whole

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a chain's pair, apart from the code."""
        parts = ["pairs", self._encoder.fingerprint, self._margin, self._whole]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def chains(self, record: RawRecord) -> Iterable[Chain]:
        """Return the chains of a record that become pairs: each pair of ranked replies of an OASST1 tree.

        Raises:
            RecordError: The record is damaged or no chain.
        """
        return record.pairs()

    def encode(self, chain: Chain) -> Pair | Skipped:
        """Return the pair of a chain, or why there is none."""
        try:
            chosen, rejected = answers_of(chain)
            uncut = [self._uncut(chain.prompt, answer) for answer in (chosen, rejected)]
            longest = max(each.learnt for each in uncut)
            found = [each.fitted(self._encoder.max_length, longest) for each in uncut]
            margin = self._margin_of(chain)
        except RecordError as error:
            return Skipped(error.message)
        if skipped := next((each for each in found if isinstance(each, Skipped)), None):
            return skipped
        return _parted(*found, margin=margin, whole=self._whole)  # type: ignore[arg-type]  # none is skipped

    def read(self, prompt: Prompt, answer: str) -> Example:
        """Return a prompt with one answer, as in a pair. Of an empty answer, that is its stop token.

        Raises:
            RecordError: There is no question, the template refuses it or the answer, or the prompt leaves no
                room.
        """
        uncut = self._unanswered(prompt) if is_blank(answer) else self._uncut(prompt, answer)
        found = uncut.fitted(self._encoder.max_length)
        if isinstance(found, Skipped):
            raise RecordError(found.reason)
        return found

    def _unanswered(self, prompt: Prompt) -> Uncut:
        uncut = self._uncut(prompt, "a")  # an empty turn is no answer to the formats
        place = slice(*uncut.answers[-1])
        return replace(uncut, ids=np.delete(uncut.ids, place), trained=np.delete(uncut.trained, place))

    def _uncut(self, prompt: Prompt, answer: str) -> Uncut:
        chain = Chain(prompt=prompt, steps=(Step(answer=answer),), best=0)
        encoder = self._encoder
        spans = spans_of(chain, encoder.format, "answer", encoder.vocabulary.template)
        uncut = encoder.uncut(_last_answer(spans))
        asked = [(min(uncut.asked)[0], max(uncut.asked)[1])] if uncut.asked else []
        return replace(uncut, asked=asked)  # the middle of a conversation may be several turns

    def _margin_of(self, chain: Chain) -> float:
        if not isinstance(self._margin, str):
            return self._margin
        found = {**chain.meta, **chain.meta.get("source", {})}.get(self._margin)
        if isinstance(found, int | float) and not isinstance(found, bool) and np.isfinite(found):
            return float(found)
        raise RecordError(f"its {self._margin!r} is not a number (--margin)")


def answers_of(chain: Chain) -> tuple[str, str]:
    """Return the chosen and the rejected answer of a chain, by `formats.write.to_preference`.

    Raises:
        RecordError: They are equal, one is empty, or no answer was judged better than the first.
    """
    if any(is_blank(step.answer) for step in chain.steps):
        raise RecordError(EMPTY)
    record = to_preference(chain)
    if isinstance(record, Unfit):
        pair = chain.meta.get("preference") is True
        raise RecordError(EQUAL if pair else record.reason)
    return record["chosen"][0]["content"], record["rejected"][0]["content"]


def _last_answer(spans: Sequence[Span]) -> list[Span]:
    """Return the spans up to the end of the last answer. All before it are its prompt."""
    end = max(number for number, span in enumerate(spans) if not span.given) + 1
    start = max(number for number, span in enumerate(spans[:end]) if span.given) + 1
    return [*(replace(span, trained=False, given=True) for span in spans[:start]), *spans[start:end]]


def _parted(chosen: Example, rejected: Example, *, margin: float, whole: bool) -> Pair | Skipped:
    """Mark the tokens from where the two part, unless the whole answers stay marked."""
    shorter = min(len(chosen.ids), len(rejected.ids))
    differs = np.flatnonzero(chosen.ids[:shorter] != rejected.ids[:shorter])
    if not len(differs) and len(chosen.ids) == len(rejected.ids):
        return Skipped(EQUAL_WHEN_CUT)
    parts = int(differs[0]) if len(differs) else shorter
    marked = (
        replace(each, trained=each.trained if whole else np.arange(len(each.ids)) >= parts, margin=margin)
        for each in (chosen, rejected)
    )
    return next(marked), next(marked)
