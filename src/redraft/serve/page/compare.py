"""Two models, or two ways to revise, answer the same question, and a person says which answer is better.

The sides are drawn for each question. Both answers are shown when both are there, without names or steps, so
that neither speed nor revisions tell which is which. After the vote, both are named and the steps are shown.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from redraft.chain import Chain, Prompt
from redraft.counting import counted
from redraft.errors import RedraftError
from redraft.serve.errors import invalid, told
from redraft.serve.keys import Key
from redraft.serve.page.view import alert, final, safe, status, turn_of
from redraft.serve.page.work import Service, Wanted

Winner = Literal["1", "2", "tie"]


Store = Callable[..., None]
"""Stores a vote, as `redraft.evaluation.voting.compared.PageVotes.add` does, or raises a RedraftError."""


@dataclass
class Duel:
    """What a visitor compares now.

    Attributes:
        question: What was asked.
        names: Of the two models, in the order in which they are shown.
        chains: Their answers, once both are there.
        voted: The vote was stored.
        wrong: What went wrong at last, as HTML.
    """

    question: str = ""
    names: tuple[str, str] = ("", "")
    chains: tuple[Chain, Chain] | None = None
    swapped: bool = False
    voted: bool = False
    wrong: str = ""

    @property
    def open(self) -> bool:
        """Whether there are two answers to vote on."""
        return self.chains is not None and not self.voted

    async def answer(
        self, service: Service, tab: str, key: Key, text: str, both: tuple[Wanted, Wanted]
    ) -> AsyncIterator[str]:
        """Let both answer, and yield a line on how far they are. What goes wrong is in `wrong`."""
        self.chains, self.voted, self.wrong = None, False, ""
        try:
            if both[0] == both[1]:
                raise invalid("both sides are the same. Choose two models, or other numbers of revisions.")
            self.swapped = bool(secrets.randbelow(2))
            shown = both[::-1] if self.swapped else both
            self.question, self.names = text, (shown[0].label, shown[1].label)
            prompt = Prompt(messages=({"role": "user", "content": text},))
            works = [service.work(key, wanted, prompt) for wanted in shown]

            def draw() -> str:
                done = sum(work.making.chain is not None for work in works)
                return status(f"Both are answering; {counted(done, 'answer')} ready")

            async for line in service.watch(tab, works, draw):
                yield line
            first, second = (work.making.chain for work in works)
            if first is None or second is None or "cancelled" in (first.stop, second.stop):
                raise invalid("it was stopped before both answers were there. Ask again to compare.")
            self.chains = first, second
        except RedraftError as error:
            self.wrong = alert(told(error))

    def html(self) -> tuple[str, str]:
        """Return both sides as they may be shown."""
        if self.chains is None:
            return "", ""
        first, second = (self._side(index, chain) for index, chain in enumerate(self.chains))
        return first, second

    def _side(self, index: int, chain: Chain) -> str:
        title = f"Answer {index + 1}" + f" · {self.names[index]}" * self.voted
        shown = turn_of(chain, f"side-{index}", question=False) if self.voted else final(chain)
        # In one element, so that Gradio also replaces what the script adds.
        return f'<div><h3 class="side">{safe(title)}</h3>{shown}</div>'

    def vote(self, winner: Winner, voter: str, store: Store) -> None:
        """Store the vote. What goes wrong is in `wrong`; then the vote can be tried again."""
        if not self.open or self.chains is None:
            return
        try:
            store(
                id=secrets.token_hex(8),
                question=self.question,
                chains=self.chains,
                names=self.names,
                winner=winner,
                voter=" ".join(voter.split()) or "anonymous",
                swapped=self.swapped,
            )
            self.voted, self.wrong = True, ""
        except RedraftError as error:
            self.wrong = alert(told(error))
