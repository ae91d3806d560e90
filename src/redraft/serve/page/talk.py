"""A conversation on the page: what a visitor did, and the turns as HTML. The turns are `Conversation`'s."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from redraft.chain import Prompt
from redraft.errors import RedraftError
from redraft.options import MAX_SEED
from redraft.revision.conversation import Conversation
from redraft.revision.state import complete_steps
from redraft.serve.errors import told
from redraft.serve.keys import Key
from redraft.serve.page.view import alert, turn_of
from redraft.serve.page.work import Service, Wanted, Work


@dataclass
class Talk:
    """A visitor's conversation.

    Attributes:
        turns: The conversation.
        token: Its name in the address under which it is saved.
        wrong: What went wrong at last, as HTML.
    """

    turns: Conversation = field(default_factory=Conversation)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    wrong: str = ""

    def html(self, *, without_last: bool = False) -> str:
        """Return the turns."""
        turns = self.turns.turns[:-1] if without_last else self.turns.turns
        return "".join(turn_of(chain, f"turn-{number}") for number, chain in enumerate(turns, 1))

    def saved(self) -> bytes:
        """Return the turns as lines of JSON, as `/save` of `redraft chat` writes them."""
        return "".join(f"{chain.to_json()}\n" for chain in self.turns.turns).encode()

    def work(self, service: Service, key: Key, wanted: Wanted, do: str, text: str) -> Work:
        """Return the chain that a visitor wants: `ask` a text, `retry` the last question, or `revise` again.

        Raises:
            UsageError: There is no turn to go on with.
            Refusal: What was chosen is not allowed.
        """
        if do == "ask":
            return service.work(key, wanted, self.turns.prompt(text), id=self._id(1))
        again: Any = self.turns.again()
        prompt: Prompt = self.turns.turns[-1].prompt
        if do == "retry":
            return service.work(key, wanted, prompt, id=self._id(0), seed=secrets.randbelow(MAX_SEED))
        work = service.work(key, wanted, prompt, **again, id=self._id(0))
        work.making.steps = list(complete_steps(again["resume"]))
        return work

    def _id(self, more: int) -> str:
        return f"turn-{len(self.turns.turns) + more}"

    async def answer(self, service: Service, tab: str, work: Work) -> AsyncIterator[str]:
        """Make a chain, and yield the turn as HTML while it is made.

        At the end it is a turn, if it has an answer. What goes wrong is in `wrong`.
        """
        self.wrong, turns = "", self.turns  # the visitor may begin another conversation meanwhile
        question = work.prompt.text

        def draw() -> str:
            return work.making.html(work.options["id"], question, work.held_up)

        try:
            async for html in service.watch(tab, [work], draw):
                yield html
        except RedraftError as error:
            self.wrong = alert(told(error))
        finally:
            if work.making.chain is not None:
                turns.add(work.making.chain)
