"""A native chain as the engine sees it: characters and tokens, cut and forced at token boundaries.

`native` reads what the text means.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redraft.engines.base import Delta, PromptText
from redraft.revision.ops import Loop, encode


@dataclass
class Transcript:
    """The text and tokens after the prompt. Kept so that the engine finds all but the newest in its cache.

    Attributes:
        prompt: The prompt's text, or its tokens if the engine takes them.
        text: The text that was generated or forced after it.
        tokens: The token ids of `text`; unused if the engine takes text.
        aligned: Whether the tokens of a delta are those of its text (`EngineInfo.aligned`).
        marks: Known token boundaries, in order, as (number of tokens, number of characters).
    """

    prompt: PromptText
    aligned: bool = True
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])

    def add(self, delta: Delta) -> None:
        """Append a generated delta. Tokens may run ahead of their text, see `Delta.tokens`."""
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        if self.aligned and delta.text and delta.tokens and delta.finish is None:
            self.marks.append((len(self.tokens), len(self.text)))
        if self.aligned and delta.stop_text is not None and len(self.marks) > 1:
            # A stop string may begin inside a token, so the text before it may end inside that token.
            self.marks.pop()

    def force(self, text: str, *, heading: bool = False) -> Loop[None]:
        """Append a text that was not generated. It replaces tokens without text, such as a stop string's.

        Args:
            text: The text to append.
            heading: Whether it starts with a heading's line breaks, which replace white space at the end.
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
        """Return the prompt for the engine to continue."""
        if isinstance(self.prompt, str):
            return self.prompt + self.text
        return (*self.prompt, *self.tokens)
