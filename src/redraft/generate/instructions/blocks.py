"""Read the labelled blocks of a teacher's reply, such as `Instruction: … Input: … Output: …`.

A label counts only where the form allows it: in its order, at the start of a line. After `Output:`, a line
`Input:` is text of the output, because only a new block can come next. Teachers add numbers, Markdown and
rules around labels; these are not part of a text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

NO_INPUT = "<noinput>"
"""Stands for an empty input in requests and replies, as in Alpaca."""

_NO_INPUT = re.compile(
    r"[\W_]*(?:no\W?input(?: (?:is )?(?:needed|required))?|none|n/a|empty)?[\W_]*", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[#*=_\s-]*(?:(?:task|example)\s*\d+\s*[.:)]?)?[#*=_\s-]*", re.IGNORECASE)

Block = dict[str, str]
"""The texts of a block by label. Labels that did not come are missing."""


def read_blocks(text: str, labels: Sequence[str]) -> list[Block]:
    """Return the blocks of a reply. Text before the first label is left out.

    Args:
        text: The reply.
        labels: The labels of a block in lower case, in their order. The first one begins a block.
    """
    label = re.compile(
        rf"[\s#*>_-]*(?:(?:task|example)?\s*\d+\s*[.:)]*\s*)?[*_]*({'|'.join(labels)})[*_]*\s*:[*_]*\s?(.*)",
        re.IGNORECASE,
    )
    blocks: list[dict[str, list[str]]] = []
    place = -1
    for line in text.splitlines():
        found = label.fullmatch(line)
        due = labels.index(found[1].lower()) if found else -1
        if found and (due == 0 or (blocks and due > place)):
            if due == 0:
                blocks.append({})
            blocks[-1][labels[due]] = [found[2]]
            place = due
        elif blocks:
            blocks[-1][labels[place]].append(line)
    return [{name: _text(lines) for name, lines in block.items()} for block in blocks]


def _text(lines: list[str]) -> str:
    """Return the lines of a text, without the heading of the next block at its end."""
    end = len(lines)
    while end and _SEPARATOR.fullmatch(lines[end - 1]):
        end -= 1
    return "\n".join(lines[:end]).strip()


def input_of(text: str) -> str:
    """Return an input; empty if it says that there is none."""
    return "" if len(text) < 40 and _NO_INPUT.fullmatch(text) else text


def shown_input(text: str) -> str:
    """Return an input as requests show it."""
    return text or NO_INPUT
