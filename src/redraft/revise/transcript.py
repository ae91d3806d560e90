"""A native chain as the engine sees it: characters and tokens, cut and forced at token boundaries.

What the text means is not known here (`native` reads it).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redraft.engines.base import Delta, PromptText
from redraft.revise.ops import Loop, encode


@dataclass
class Written:
    """Everything after the prompt. Going on from here, the engine has all but the newest tokens in its cache.

    Attributes:
        prompt: The prompt's text, or its tokens where the engine takes those.
        text: What was generated or forced after it.
        tokens: Its token ids; unused where the engine takes text.
        aligned: Whether the tokens of a delta are those of its text (`EngineInfo.aligned`).
        marks: Places (tokens, characters) at which both are known to stand for each other, in order.
    """

    prompt: PromptText
    aligned: bool = True
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])

    def add(self, delta: Delta) -> None:
        """Adds what was generated. Tokens may run ahead of their text, see `Delta.tokens`."""
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        if self.aligned and delta.text and delta.tokens and delta.finish is None:
            self.marks.append((len(self.tokens), len(self.text)))
        if self.aligned and delta.stop_text is not None and len(self.marks) > 1:
            # A stop string may begin inside a token. The text before it then stands for part of that token.
            self.marks.pop()

    def force(self, text: str, *, heading: bool = False) -> Loop[None]:
        """Adds a text that was not generated, in place of tokens that have no text, such as a stop string's.

        Args:
            text: What to add.
            heading: Whether it begins with a heading's line breaks, in place of white space at the end.
        """
        kept = self.text.rstrip() if heading else self.text
        while self.marks[-1][1] > len(kept):
            self.marks.pop()
        tokens, characters = self.marks[-1]
        del self.tokens[tokens:]
        if not isinstance(self.prompt, str):
            self.tokens.extend((yield from encode(kept[characters:] + text)))
        self.text = kept + text
        self.marks.append((len(self.tokens), len(self.text)))

    def as_prompt(self) -> PromptText:
        """What the engine is to continue."""
        if isinstance(self.prompt, str):
            return self.prompt + self.text
        return (*self.prompt, *self.tokens)
