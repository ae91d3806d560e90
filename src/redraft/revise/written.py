"""The text of a native chain as the engine sees it: characters and tokens, cut and forced at token boundaries.

What the text means is not known here (`native` reads it).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redraft.engines.base import Delta, PromptText, Tokens
from redraft.revise.ops import Loop, encode


@dataclass
class Written:
    """Everything after the prompt. Going on from here, the engine has all but the newest tokens in its cache.

    Attributes:
        prompt: The prompt's text, or its tokens where the engine takes those.
        text: What was generated or forced after it.
        tokens: Its token ids; unused where the engine takes text.
        agreed: How many tokens and characters are known to stand for each other, at the latest such place.
    """

    prompt: PromptText
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    agreed: tuple[int, int] = (0, 0)

    def add(self, delta: Delta) -> None:
        """Adds what was generated. Tokens may run ahead of their text, see `Delta.tokens`."""
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        if delta.text:
            self.agreed = (len(self.tokens), len(self.text))

    def force(self, text: str) -> Loop[None]:
        """Drops tokens that have no text, such as those of a stop string, and adds a text not generated."""
        del self.tokens[self.agreed[0] :]
        self.text += text
        if not isinstance(self.prompt, str):
            self.tokens.extend((yield from encode(text)))
        self.agreed = (len(self.tokens), len(self.text))

    def as_prompt(self) -> PromptText:
        """What the engine is to continue."""
        if isinstance(self.prompt, str):
            return self.prompt + self.text
        tokens: Tokens = (*self.prompt, *self.tokens)
        return tokens
