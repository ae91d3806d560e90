"""Encode texts and messages with the tokenizer of a transformers folder.

A user's text never becomes a control token: `<|im_end|>` in a prompt or message stays ten characters. Only
the chat template writes control tokens. A tokenizer that puts a space before every text puts none before a
text that continues another.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from redraft.engines.base import Message, Tokens
from redraft.errors import ModelError

_MARK = "\n"
"""Precedes a text that continues another, so that the tokenizer's space goes before the mark."""


class Tokenizer:
    """A tokenizer of transformers, safe for several threads.

    Args:
        tokenizer: A fast tokenizer.
        name: The model's name in messages.

    Attributes:
        vocabulary: The id of each token.
        size: The largest id, plus one.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        # A call sets how the tokenizer treats control tokens, and fails while another thread uses it.
        self._lock = threading.Lock()
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.size = max(self.vocabulary.values(), default=-1) + 1
        self._mark = self._ids(_MARK)
        self._first, self._behind = self._put_around("a")
        self._spaced = self._ids(_MARK + "a")[len(self._mark) :] != self._ids("a")

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._tokenizer.chat_template)

    @property
    def end(self) -> str:
        """The text of the token that ends an answer; empty if there is none."""
        return self._tokenizer.eos_token or ""

    def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text; `special` for the start of a prompt."""
        if special:
            ids = self._ids(text, start=True)
            return ids[: len(ids) - self._behind]
        if not self._spaced:
            return self._ids(text)
        marked = self._ids(_MARK + text)
        if marked[: len(self._mark)] == self._mark:
            return marked[len(self._mark) :]
        return self._ids(text)

    def decode(self, tokens: Sequence[int], *, control: bool = True) -> str:
        """Return the text of token ids. `control` writes out control tokens."""
        before = self._mark if self._spaced else ()
        with self._lock:
            text: str = self._tokenizer.decode(
                [*before, *tokens], skip_special_tokens=not control, clean_up_tokenization_spaces=False
            )
        return text.removeprefix(_MARK) if self._spaced else text

    def tokenize(self, text: str, *, start: bool, control: bool) -> Tokens:
        """Return token ids; `start` prepends BOS unless it is there already, as in llama.cpp and training."""
        tokens = self._ids(text, control=control)
        return self._first + tokens if start and tokens[: len(self._first)] != self._first else tokens

    def render(self, messages: Sequence[Message]) -> str:
        """Render messages with the chat template.

        Raises:
            ModelError: The template refuses the messages.
        """
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise ModelError(
                f"the chat template of {self._name} refuses these messages: {str(error)[:200]}."
            ) from None
        return text

    def _put_around(self, text: str) -> tuple[Tokens, int]:
        """Return the tokens that the tokenizer puts before a text, and the number that it puts behind."""
        plain, special = self._ids(text), self._ids(text, start=True)
        found = (at for at in range(len(special)) if special[at : at + len(plain)] == plain)
        before = next(found, len(special) - len(plain))
        return special[:before], len(special) - before - len(plain)

    def _ids(self, text: str, *, start: bool = False, control: bool = False) -> Tokens:
        with self._lock:
            return tuple(
                self._tokenizer(text, add_special_tokens=start, split_special_tokens=not control)["input_ids"]
            )
