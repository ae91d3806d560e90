"""The text of a stream, token by token: whole characters, and nothing that may turn out to be a stop string.

A token need not be a character: the three bytes of 日 may be three tokens. And a stop string may begin in one
token and end in a later one. Tokens are held back until their text is certain, and then given together with
it, so that the tokens of a piece always spell its text.

Which tokens there are, and how they are spelt, is the tokenizer's affair; nothing here needs a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from redraft.engines.base import Tokens

_BROKEN = "\ufffd"
_CHARACTER = 4
"""Bytes of the longest character in UTF-8, and so the most tokens that it can have."""

_CONTEXT = 4
"""Tokens of the prompt that decide how the first new token is spelt: with its space, or without."""


@dataclass(frozen=True)
class Piece:
    """Text that is certain, with its tokens.

    Attributes:
        stop_text: The stop string that came behind the text. Its tokens are among `tokens`.
    """

    text: str = ""
    tokens: Tokens = ()
    stop_text: str | None = None


@dataclass
class Spelling:
    """Makes text of one stream's tokens.

    Attributes:
        decode: The text of token ids.
        said: The tokens before those that are still held back, as many as matter for their spelling.
        stop: Strings that end the stream; none is empty.
    """

    decode: Callable[[Sequence[int]], str]
    said: list[int]
    stop: tuple[str, ...] = ()
    _unspelt: list[int] = field(default_factory=list)
    _held: list[Piece] = field(default_factory=list)

    @classmethod
    def after(
        cls, prompt: Sequence[int], decode: Callable[[Sequence[int]], str], stop: Sequence[str]
    ) -> Spelling:
        """The text that follows a prompt."""
        return cls(decode, list(prompt[-_CONTEXT:]), tuple(filter(None, stop)))

    def add(self, token: int) -> Piece:
        """Takes the next token; gives what became certain, which may be nothing."""
        self._unspelt.append(token)
        before, after = self.decode(self.said), self.decode(self.said + self._unspelt)
        if after.startswith(before) and not after.endswith(_BROKEN):
            return self._release(after.removeprefix(before), len(self._unspelt))
        # The last character may be incomplete, and with it the last three tokens. What is before them stands.
        sure = len(self._unspelt) - (_CHARACTER - 1)
        known = self.decode(self.said + self._unspelt[:sure]) if sure > 0 else ""
        if sure > 0 and known.startswith(before) and after[:-1].startswith(known):
            return self._release(known.removeprefix(before), sure)
        return Piece()

    def end(self, *unspoken: int) -> Piece:
        """What is still held back, when no more tokens come: with those that end a text and have none."""
        if self._unspelt:
            before, after = self.decode(self.said), self.decode(self.said + self._unspelt)
            cut = self._release(after.removeprefix(before).rstrip(_BROKEN), len(self._unspelt))
            if cut.stop_text is not None:
                return cut
            self._held.insert(0, cut)
        last = _joined(self._held)
        return Piece(last.text, last.tokens + unspoken)

    def _release(self, text: str, count: int) -> Piece:
        """So many tokens have this text: gives what of it, and of what is held, is no stop string."""
        tokens, self._unspelt = self._unspelt[:count], self._unspelt[count:]
        self.said = tokens if text else (self.said + tokens)[-2 * _CONTEXT :]
        self._held.append(Piece(text, tuple(tokens)))
        whole = _joined(self._held)
        if found := _first(whole.text, self.stop):
            self._held = []
            return Piece(whole.text[: found[0]], whole.tokens, found[1])
        certain = len(whole.text) - _beginning(whole.text, self.stop)
        ready: list[Piece] = []
        while self._held and certain >= len(self._held[0].text):
            ready.append(self._held.pop(0))
            certain -= len(ready[-1].text)
        return _joined(ready)


def _joined(pieces: Sequence[Piece]) -> Piece:
    return Piece("".join(p.text for p in pieces), tuple(token for p in pieces for token in p.tokens))


def _first(text: str, stop: Sequence[str]) -> tuple[int, str] | None:
    """Where the first stop string begins, and which it is: the longest of those."""
    found = min(((text.find(each), -len(each), each) for each in stop if each in text), default=None)
    return (found[0], found[2]) if found else None


def _beginning(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = min(len(text), max(map(len, stop), default=0) - 1)
    return next((n for n in range(longest, 0, -1) if any(each.startswith(text[-n:]) for each in stop)), 0)
