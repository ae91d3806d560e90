"""Encode texts and detokenize streams, for engines whose tokenizer runs in this process.

Only the chat template writes control tokens. A user's text never becomes a control token. A stream yields
whole characters, and no text that may become a stop string: tokens are held back until the text is final. The
tokens of a piece always spell the piece's text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redraft.chain.thoughts import Tags, tags_of
from redraft.engines.base import Message, Tokens, first_stop, held_back
from redraft.engines.local import LocalEngine, Told
from redraft.engines.messages import template_refuses
from redraft.errors import ModelError
from redraft.jobs.signals import in_daemon_thread

_BROKEN = "\ufffd"
_CHARACTER = 4  # maximum bytes, and so tokens, of a character in UTF-8
_CONTEXT = 4  # tokens of the prompt that decide whether the first new token keeps its space


@dataclass(frozen=True)
class FinalText:
    """Final text, with the tokens that spell the text."""

    text: str = ""
    tokens: Tokens = ()
    stop_text: str | None = None  # the stop string after the text. Its tokens are among `tokens`.


@dataclass
class Spelling:
    """Detokenizes one stream."""

    decode: Callable[[Sequence[int]], str]
    before: list[int]  # the last released tokens, which affect the spelling of the next token
    stop: tuple[str, ...] = ()  # non-empty strings that end the stream
    _unspelt: list[int] = field(default_factory=list)
    _held: list[FinalText] = field(default_factory=list)

    @classmethod
    def after(
        cls, prompt: Sequence[int], decode: Callable[[Sequence[int]], str], stop: Sequence[str]
    ) -> Spelling:
        """Create a detokenizer for the tokens that follow a prompt."""
        return cls(decode, list(prompt[-_CONTEXT:]), tuple(filter(None, stop)))

    def add(self, token: int) -> FinalText:
        """Add a token. Return the text that is now final, which may be empty."""
        self._unspelt.append(token)
        start, after = self.decode(self.before), self.decode(self.before + self._unspelt)
        if after.startswith(start) and not after.endswith(_BROKEN):
            return self._release(after.removeprefix(start), len(self._unspelt))
        # The last three tokens may be an incomplete character. The text before them is final.
        sure = len(self._unspelt) - (_CHARACTER - 1)
        known = self.decode(self.before + self._unspelt[:sure]) if sure > 0 else ""
        if sure > 0 and known.startswith(start) and after[:-1].startswith(known):
            return self._release(known.removeprefix(start), sure)
        return FinalText()

    def end(self, *unspoken: int) -> FinalText:
        """Return the text held back. Add the tokens `unspoken`, unless the text ends at a stop string."""
        if self._unspelt:
            start, after = self.decode(self.before), self.decode(self.before + self._unspelt)
            cut = self._release(after.removeprefix(start).rstrip(_BROKEN), len(self._unspelt))
            if cut.stop_text is not None:
                return cut
            self._held.insert(0, cut)
        last = joined(self._held)
        return FinalText(last.text, last.tokens + unspoken)

    def _release(self, text: str, count: int) -> FinalText:
        tokens, self._unspelt = self._unspelt[:count], self._unspelt[count:]
        self.before = tokens if text else (self.before + tokens)[-2 * _CONTEXT :]
        self._held.append(FinalText(text, tuple(tokens)))
        whole = joined(self._held)
        if found := first_stop(whole.text, self.stop):
            self._held = []
            return FinalText(whole.text[: found[0]], whole.tokens, found[1])
        certain = len(whole.text) - held_back(whole.text, self.stop)
        ready: list[FinalText] = []
        while self._held and certain >= len(self._held[0].text):
            ready.append(self._held.pop(0))
            certain -= len(ready[-1].text)
        return joined(ready)


def joined(pieces: Sequence[FinalText]) -> FinalText:
    """Join consecutive pieces. Only the last piece may end at a stop string."""
    text, tokens = "".join(p.text for p in pieces), tuple(token for p in pieces for token in p.tokens)
    return FinalText(text, tokens, pieces[-1].stop_text if pieces else None)


_MARK = "\n"  # put before a text that continues another, so that the tokenizer adds its space before the mark


class Tokenizer:
    """A transformers tokenizer that several threads may use at once."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer: Any = tokenizer
        self._of_grammars: Any = None
        self.name = name
        # A call changes a setting of the tokenizer, which fails while another thread uses the tokenizer.
        self._lock = threading.Lock()
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.size = max(self.vocabulary.values(), default=-1) + 1  # the largest id, plus one
        self.tags = tags_of(str(tokenizer.chat_template or ""))
        self._shown = {self.vocabulary[tag]: tag for tag in self.tags.tokens if tag in self.vocabulary}
        self._mark = self._ids(_MARK)
        plain, special = self._ids("a"), self._ids("a", start=True)
        found = (at for at in range(len(special)) if special[at : at + len(plain)] == plain)
        before = next(found, len(special) - len(plain))
        self._first, self._behind = special[:before], len(special) - before - len(plain)
        self._spaced = self._ids(_MARK + "a")[len(self._mark) :] != self._ids("a")

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._tokenizer.chat_template)

    @property
    def end(self) -> str:
        """The text of the token that ends an answer; empty if there is none."""
        return self._tokenizer.eos_token or ""

    def for_grammars(self, ends: frozenset[int]) -> Any:
        """Return llguidance's tokenizer with this vocabulary. The first call takes about a second."""
        from llguidance.hf import from_tokenizer

        with self._lock:
            if self._of_grammars is None:
                self._of_grammars = from_tokenizer(self._tokenizer, self.size, sorted(ends))
            return self._of_grammars

    def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. Set `special` for the start of a prompt."""
        if special:
            ids = self._ids(text, start=True)
            return ids[: len(ids) - self._behind]
        if not self._spaced:
            return self._ids(text)
        marked = self._ids(_MARK + text)
        return marked[len(self._mark) :] if marked[: len(self._mark)] == self._mark else self._ids(text)

    def decode(self, tokens: Sequence[int], *, control: bool = True) -> str:
        """Return the text of token ids. Without `control`, leave out control tokens except thought tags."""
        at = -1 if control else next((i for i, token in enumerate(tokens) if token in self._shown), -1)
        if at >= 0:
            ends = (self.decode(part, control=False) for part in (tokens[:at], tokens[at + 1 :]))
            return self._shown[tokens[at]].join(ends)
        before = self._mark if self._spaced else ()
        with self._lock:
            text: str = self._tokenizer.decode(
                [*before, *tokens], skip_special_tokens=not control, clean_up_tokenization_spaces=False
            )
        return text.removeprefix(_MARK) if self._spaced else text

    def tokenize(self, text: str, *, start: bool, control: bool) -> Tokens:
        """Return token ids. `start` prepends BOS to a text without BOS."""
        tokens = self._ids(text, control=control)
        return self._first + tokens if start and tokens[: len(self._first)] != self._first else tokens

    def render(self, messages: Sequence[Message], told: Told = None) -> str:
        """Render messages with the chat template and the variables `told`, or raise `RecordError`."""
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True, **(told or {})
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise template_refuses(self.name, str(error)) from None
        return text

    def _ids(self, text: str, *, start: bool = False, control: bool = False) -> Tokens:
        with self._lock:
            found = self._tokenizer(text, add_special_tokens=start, split_special_tokens=not control)
            return tuple(found["input_ids"])


class TokenizedEngine(LocalEngine):
    """An engine whose tokenizer runs in this process."""

    _tokenizer: Tokenizer

    @property
    def _tags(self) -> Tags:  # type: ignore[override]
        return self._tokenizer.tags

    async def encode(self, text: str, *, special: bool = False) -> Tokens:
        """Return the token ids of a text. A text such as `</s>` does not become a control token."""
        return self._tokenizer.encode(text, special=special)

    async def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, including control tokens."""
        self._check(tokens)
        return self._tokenizer.decode(tokens)

    async def _tokenize(self, text: str, *, start: bool = False, control: bool) -> Tokens:
        return self._tokenizer.tokenize(text, start=start, control=control)

    async def _end(self) -> str:
        return self._tokenizer.end

    async def _render(self, messages: Sequence[Message], told: Told = None) -> str:
        # In a thread, because a template from the internet may run for ever.
        return await in_daemon_thread(lambda: self._tokenizer.render(messages, told))

    def _check(self, tokens: Sequence[int]) -> None:
        wrong = next((token for token in tokens if not 0 <= token < self._tokenizer.size), None)
        if wrong is not None:
            size = self._tokenizer.size
            raise ModelError(f"{self._info.name} has no token {wrong}: its vocabulary has {size} tokens.")

    def _spelling(self, prompt: Tokens, stop: Sequence[str]) -> Spelling:
        tokenizer = self._tokenizer  # not self: streams outlive the loop, and would keep the engine alive
        return Spelling.after(prompt, lambda ids: tokenizer.decode(ids, control=False), stop)
