"""Run a conversation with open models, as `redraft chat` does, but without a terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from redraft.chain import Chain, Prompt, is_blank, write_jsonl
from redraft.errors import UsageError
from redraft.revision.api import make, to_patch
from redraft.revision.ops import Event
from redraft.revision.options import RevisionOptions
from redraft.revision.settings import Settings
from redraft.revision.state import CUT, complete_steps


@dataclass
class Conversation:
    """The turns so far, each a chain with an answer, and the earlier states for `undo`."""

    turns: tuple[Chain, ...] = ()
    _earlier: list[tuple[Chain, ...]] = field(default_factory=list, init=False)

    def prompt(self, text: str) -> Prompt:
        """Return the prompt of the next turn: earlier questions and answers, then `text`."""
        messages: list[dict[str, Any]] = []
        for chain in self.turns:
            messages.append({"role": "user", "content": chain.prompt.text})
            messages.append({"role": "assistant", "content": chain.answer})
        return Prompt(messages=(*messages, {"role": "user", "content": text}))

    def add(self, chain: Chain) -> bool:
        """Add a turn, or replace the last turn with a chain for the same prompt.

        Return False, and add nothing, if the chain has no answer.
        """
        if is_blank(chain.answer):
            return False
        again = bool(self.turns) and chain.prompt == self.turns[-1].prompt
        self._earlier.append(self.turns)
        self.turns = (*(self.turns[:-1] if again else self.turns), chain)
        return True

    def undo(self) -> None:
        """Undo the last `add`, which added a turn or revised the last turn."""
        if not self._earlier:
            raise UsageError("there is nothing to undo.", hint="Ask something first.")
        self.turns = self._earlier.pop()

    def again(self) -> dict[str, Any]:
        """Return options for `revise`: complete the last chain if it was cut, otherwise revise once more."""
        if not self.turns:
            raise UsageError("there is no answer to revise.", hint="Ask something first.")
        last = self.turns[-1]
        chain = last if last.stop in CUT else last.model_copy(update={"stop": None})
        options: dict[str, Any] = {"resume": chain}
        if complete := len(complete_steps(chain)):
            options |= {"min_revisions": complete, "max_revisions": complete, "prefer_last": True}
        return options

    def edited(self, wish: str) -> dict[str, Any]:
        """Return the options with which `revise` patches the last answer as a wish demands.

        The wish may begin with a passage: `12 dollars -> in euros`.
        """
        passage, arrow, said = (part.strip() for part in wish.rpartition("->"))
        if arrow and not (passage and said):
            raise UsageError("/edit lacks the passage or the wish.", hint="/edit 12 dollars -> in euros")
        return dict(to_patch(self.again()["resume"], places=[(passage, said) if arrow else said]))


@dataclass
class Session:
    """A conversation with its open models."""

    settings: Settings
    options: RevisionOptions
    stack: AsyncExitStack
    talk: Conversation = field(default_factory=Conversation)
    # Files that `save` wrote and may replace.
    saved: set[Path] = field(default_factory=set)

    def answer(self, prompt: Prompt, **more: Any) -> AsyncGenerator[Event, None]:
        """Make the chain of a turn, and yield its events. The caller must add the chain to `talk`."""
        options = self.options.model_copy(update={"id": f"turn-{len(self.talk.turns) + 1}", **more})
        return make(prompt, options, partial(self.settings.load, self.stack))

    def save(self, file: str) -> Path:
        """Save the conversation as one chain for each turn, and return the path."""
        path = Path(os.path.expanduser(file))  # noqa: PTH111  (Path's own raises for an unknown ~user)
        if not self.talk.turns:
            raise UsageError("there is nothing to save.", hint="Ask something first.")
        try:
            if path.exists() and path.resolve() not in self.saved:
                raise UsageError(f"{path} exists already.", hint="Name another file.")
            write_jsonl(path, self.talk.turns)
        except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
            raise UsageError(f"cannot write {file!r:.80}: {error}.", hint="Name another file.") from None
        self.saved.add(path.resolve())
        return path
