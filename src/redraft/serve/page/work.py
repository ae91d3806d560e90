"""Chains that people on the page ask for: in a conversation, or by two models that are compared.

They pass the same gate as requests to the API, and are counted. A chain runs in a task of its own, so that it
ends, and frees its place, at once when it is stopped: by the person, by the end of the server, or because the
tab was closed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakValueDictionary

from redraft.chain import Chain, Prompt, Usage
from redraft.counting import counted
from redraft.engines.threads import in_daemon_thread
from redraft.errors import RedraftError
from redraft.options import MAX_SEED
from redraft.revision.api import make, prompt_of
from redraft.revision.cancel import CancelToken
from redraft.revision.options import RevisionOptions
from redraft.revision.session import Conversation
from redraft.revision.state import complete_steps
from redraft.serve.bodies import Limits
from redraft.serve.errors import Refusal, invalid, refusal_of, told
from redraft.serve.gate import Gate
from redraft.serve.keys import Key
from redraft.serve.log import REQUEST, Entry, id_of
from redraft.serve.metrics import Metrics
from redraft.serve.models import Model, Models
from redraft.serve.page.view import LiveTurn, alert, final, safe, status, turn_of
from redraft.serve.request_log import RequestLog
from redraft.serve.requests import Revision, chain_options

_log = logging.getLogger("redraft.serve")

PAUSE = 0.1  # least seconds between two drawings of an answer that is being written
SHARE = 4  # the pause after a drawing that took one second, in seconds: long answers are drawn less often
QUESTION = 1_000_000  # most characters of a question


@dataclass(frozen=True)
class Wanted:
    """What a person chose: a model, and how often it revises."""

    model: str
    least: int
    most: int

    @property
    def label(self) -> str:
        """The choice in words, for votes."""
        revisions = f"{self.least}" if self.least >= self.most else f"{self.least} to {self.most}"
        return f"{self.model}, {revisions} revision{'s' * (revisions != '1')}"


def own(model: Model) -> Wanted:
    """Return how often a model revises by itself."""
    return Wanted(model.name, model.options.min_revisions, model.options.most_revisions)


@dataclass
class Work:
    """A chain that is made."""

    key: Key
    model: Model
    prompt: Prompt
    options: RevisionOptions
    making: LiveTurn
    waiting: bool = True
    refusal: Refusal | None = None
    # Of the request, in the logs. The chain's own is that of a turn, as in other conversations.
    id: str = field(default_factory=lambda: id_of(None))
    _cancel: CancelToken = field(default_factory=CancelToken)
    _task: asyncio.Task[None] | None = None

    @property
    def held_up(self) -> str:
        """What it waits for, in words; empty if nothing holds it up."""
        if self.waiting:
            return "Waiting for a free place"
        return "The model failed. Trying again" if self.model.stalled else ""

    def begin(self, service: Service, after: Sequence[asyncio.Task[None]] = ()) -> asyncio.Task[None]:
        """Begin when the tasks `after` have ended, and return the task."""
        self._task = asyncio.ensure_future(self._run(service, after))
        return self._task

    def stop(self) -> None:
        """End now. The steps so far are kept. Any thread may call it: Gradio's handlers have their own."""
        self._cancel.cancel()
        if (task := self._task) is not None:
            task.get_loop().call_soon_threadsafe(lambda: self.waiting and task.cancel())

    async def _run(self, service: Service, after: Sequence[asyncio.Task[None]]) -> None:
        began = time.monotonic()
        REQUEST.set(self.id)  # of this task alone
        try:
            if after:
                await asyncio.wait(after)
            with self.key.entered():
                async with service.gate.entered(self.model.options.model):
                    self.waiting = False
                    options = self.options.model_copy(update={"cancel": self._cancel})
                    async with aclosing(make(self.prompt, options)) as events:
                        async for event in events:
                            self.making.take(event)
        except Exception as error:  # noqa: BLE001  (whatever it is, the visitor is told)
            self.making.chain = getattr(error, "chain", None)
            self.refusal = refusal_of(error)
        finally:
            service.note(self, time.monotonic() - began)


@dataclass(frozen=True)
class Service:
    """What all visitors of the page share."""

    models: Models
    gate: Gate
    limits: Limits
    metrics: Metrics
    request_log: RequestLog | None = None
    at_work: dict[str, Sequence[Work]] = field(default_factory=dict)
    # Conversations by their names, as long as a tab holds them.
    conversations: WeakValueDictionary[str, Talk] = field(default_factory=WeakValueDictionary)

    def choices(self, key: Key) -> list[Model]:
        """Return the models that a visitor may use."""
        return self.models.within(key.allows).all()

    def work(self, key: Key, wanted: Wanted, prompt: Prompt, **more: Any) -> Work:
        """Return a chain to make. `more` are options besides those that were chosen."""
        if len(prompt.text) > QUESTION:
            raise invalid(f"the question has {len(prompt.text):,} characters; {QUESTION:,} are allowed.")
        model = self.models.within(key.allows).named(wanted.model)
        revision = None
        if wanted != own(model):
            revision = Revision.of({"min": wanted.least, "max": max(wanted.least, wanted.most)})
        options = chain_options(model, self.limits, {}, revision).model_copy(update=more)
        return Work(key, model, prompt_of(prompt), options, LiveTurn())

    async def watch(self, tab: str, works: Sequence[Work], draw: Callable[[], str]) -> AsyncIterator[str]:
        """Make chains, and yield pictures of them while they are made."""
        if tab in self.at_work:
            raise invalid("another answer is being written. Stop it first.")
        self.at_work[tab] = works
        tasks: list[asyncio.Task[None]] = []
        pause = PAUSE
        try:
            for work in works:
                tasks.append(work.begin(self, after=tasks[:] if work.key.parallel == 1 else ()))
            while pending := [task for task in tasks if not task.done()]:
                await asyncio.wait(pending, timeout=pause)
                if self.gate.cancel.cancelled:
                    self.leave(tab)
                began = time.monotonic()
                yield await in_daemon_thread(draw)
                pause = max(PAUSE, SHARE * (time.monotonic() - began))
            for work in works:
                if work.refusal:
                    raise work.refusal
        finally:
            if self.at_work.get(tab) is works:  # and not those of the next question, after a stop
                del self.at_work[tab]
            for work in works:
                work.stop()

    def leave(self, tab: str) -> None:
        """Stop the chains of a tab, if there are any: first those that wait, or they get a place now free."""
        for work in sorted(self.at_work.pop(tab, ()), key=lambda work: not work.waiting):
            work.stop()

    def note(self, work: Work, seconds: float) -> None:
        """Count a chain, and note it in the logs."""
        chains = [chain.model_copy(update={"id": work.id})] if (chain := work.making.chain) else []
        usage = sum((chain.usage for chain in chains), Usage())
        paid = usage.prompt_tokens + usage.completion_tokens, usage.cost_usd or 0.0
        work.key.pay(*paid)
        self.metrics.asked(work.model.name, chains, usage, seconds)
        seen = {"id": work.id, "key": work.key, "model": work.model.name, "chains": chains}
        seen |= {"usage": usage, "paid": paid}
        if work.refusal:
            seen |= {"status": work.refusal.status.value, "error": work.refusal.code}
        elif chains:
            seen["status"] = 200
        entry = Entry.of({"method": "PAGE", "path": "/", "state": seen}, seconds)
        _log.info(entry)
        if self.request_log is not None:
            self.request_log.note(entry, chains)


@dataclass
class Talk:
    """A visitor's conversation."""

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
        """Return the chain that a visitor wants: `ask`, `retry` the last question, or `revise` again."""
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
            return work.making.html(work.options.id, question, work.held_up)

        try:
            async for html in service.watch(tab, [work], draw):
                yield html
        except RedraftError as error:
            self.wrong = alert(told(error))
        finally:
            if work.making.chain is not None:
                turns.add(work.making.chain)


Winner = Literal["1", "2", "tie"]

Store = Callable[..., None]
"""Stores a vote, as `redraft.evaluation.voting.ballots.PageVotes.add` does, or raises a RedraftError."""


@dataclass
class Duel:
    """Two models, or two ways to revise, that answer the same question. A person says which answer is better.

    The sides are drawn for each question. Both answers are shown when both are there, without names or steps,
    so that neither speed nor revisions tell which is which. The vote shows names and steps.
    """

    question: str = ""
    names: tuple[str, str] = ("", "")  # of the two models, in the order in which they are shown
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

        def side(index: int, chain: Chain) -> str:
            title = f"Answer {index + 1}" + f" · {self.names[index]}" * self.voted
            shown = turn_of(chain, f"side-{index}", question=False) if self.voted else final(chain)
            # In one element, so that Gradio also replaces what the script adds.
            return f'<div><h3 class="side">{safe(title)}</h3>{shown}</div>'

        return side(0, self.chains[0]), side(1, self.chains[1])

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
