"""A conversation: turns that are chains. Each next prompt holds the final answers of the earlier turns alone.

Drafts and criticism of earlier turns stay in their chains: in the prompt they would fill the context, and a
model would take them for its answers. Nothing here asks a model or writes files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Chain, Prompt, is_blank
from redraft.errors import UsageError
from redraft.revision.state import CUT, complete_steps


@dataclass
class Conversation:
    """The turns so far, each a chain with an answer, and what `undo` takes back."""

    turns: tuple[Chain, ...] = ()
    _earlier: list[tuple[Chain, ...]] = field(default_factory=list, init=False)

    def prompt(self, text: str) -> Prompt:
        """Return the prompt of the next turn: what was asked and answered, and at last this text."""
        messages: list[dict[str, Any]] = []
        for chain in self.turns:
            messages.append({"role": "user", "content": chain.prompt.text})
            messages.append({"role": "assistant", "content": chain.answer})
        return Prompt(messages=(*messages, {"role": "user", "content": text}))

    def add(self, chain: Chain) -> bool:
        """Add a turn, or replace the last one if the chain goes on with it. Return False if it has none."""
        if is_blank(chain.answer):
            return False
        again = bool(self.turns) and chain.prompt == self.turns[-1].prompt
        self._earlier.append(self.turns)
        self.turns = (*(self.turns[:-1] if again else self.turns), chain)
        return True

    def undo(self) -> None:
        """Take back the last turn, or the last time it was revised again."""
        if not self._earlier:
            raise UsageError("there is nothing to undo.", hint="No question was answered yet.")
        self.turns = self._earlier.pop()

    def take_back(self) -> str:
        """Take back the whole last turn, and return its question. `undo` brings it back."""
        if not self.turns:
            raise UsageError("there is no question to edit.", hint="Ask something first.")
        self._earlier.append(self.turns)
        *before, last = self.turns
        self.turns = tuple(before)
        return last.prompt.text

    def again(self) -> dict[str, Any]:
        """Return the options with which `revise` goes on with the last chain.

        A chain that was cut is finished; another one gets one more revision.
        """
        if not self.turns:
            raise UsageError("there is no answer to revise.", hint="Ask something first.")
        last = self.turns[-1]
        chain = last if last.stop in CUT else last.model_copy(update={"stop": None})
        options: dict[str, Any] = {"resume": chain}
        if complete := len(complete_steps(chain)):
            options |= {"min_revisions": complete, "max_revisions": complete}
        return options
