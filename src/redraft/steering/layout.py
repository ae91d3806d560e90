"""The layout of an answer: what of it a form can say."""

from __future__ import annotations

from dataclasses import dataclass

SLOT_WORDS = 3  # the most words between two marks


@dataclass(frozen=True)
class Layout:
    """How a text is laid out. An empty layout is any.

    Attributes:
        title: It begins with a title, `<<…>>`.
        parts: How many parts it has; 0 for any.
        mark: What each part begins with; `{}` is its number.
        between: What stands between two parts.
        first: The number of a part, from 1, and the word that it begins with.
        slots: What comes in it, each as often as it is named: `[…]` and `*…*` stand for some words between
            these marks, `…q…` for a word with this letter, and `ABC` for one in capitals.
    """

    title: bool = False
    parts: int = 0
    mark: str = ""
    between: str = ""
    first: tuple[int, str] = (0, "")
    slots: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What it adds to an answer, in one text."""
        marks = [self.mark.format(number) for number in range(1, self.parts + 1)]
        slots = [slot.replace("…", "") for slot in self.slots if slot != "ABC"]
        return " ".join(["<<>>" * self.title, *marks, self.between * (self.parts > 1), self.first[1], *slots])


PLAIN = Layout()
