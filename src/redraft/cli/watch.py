"""Show a chain on the terminal while it is made: new text moves, complete answers stay."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Self

from rich.console import Console
from rich.text import Text as RichText

from redraft.chain import Chain, Step
from redraft.cli import render
from redraft.cli.lines import interrupts, without_echo
from redraft.cli.moving import Moving
from redraft.cli.whole import summary
from redraft.counting import printable
from redraft.engines.base import Engine
from redraft.engines.load import fetches
from redraft.revision.api import Load, Role, finished
from redraft.revision.cancel import CancelToken
from redraft.revision.ops import DraftDone, Event, Finished, Interrupted, Progress, StepDone, Text
from redraft.revision.state import complete_steps
from redraft.revision.words import name_of

FINISHED_LINES = 12  # an answer of more lines is not printed again at the end


class Watch:
    """A context manager that shows events of `redraft.stream` on standard output.

    `earlier` are steps of the chain that were shown before.
    """

    def __init__(self, console: Console | None = None, *, earlier: Sequence[Step] = ()) -> None:
        self.console = console or Console(highlight=False)
        self._moving = Moving(self.console)
        self._place: tuple[str, int] | None = None
        self._before: Step | None = earlier[-1] if earlier else None
        self._answers_shown = len(earlier)
        self._drafts: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._settle()

    def wait(self, title: str = "Waiting for the model") -> None:
        """Show what is waited for, and for how long, until there is something else to show."""
        self._settle()
        self._moving.begin(title)

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Text):
            self._write(event)
        elif isinstance(event, DraftDone):
            self._draft(event)
        elif isinstance(event, StepDone):
            self._step(event.index, event.step)
        elif isinstance(event, Progress):
            self.wait()
        elif isinstance(event, Interrupted):
            self._place = None  # the moving text is written again
            self._settle()
            self.console.print(RichText(f"Written again: {printable(event.error.message)}", "yellow"))
        elif isinstance(event, Finished):
            self._finish(event)

    def _write(self, event: Text) -> None:
        if (event.kind, event.index) != self._place:
            self._settle()
            self._place = (event.kind, event.index)
            if event.kind == "feedback":
                self._moving.begin(f"Feedback {event.index + 1}", indent=2)
            else:
                self._moving.begin(name_of(event.index))
        self._moving.add(event.text)

    def _settle(self) -> None:
        text = self._moving.end()
        place, self._place = self._place, None
        if place is not None and place[0] == "answer":
            self._answer(place[1], Step(answer=text.strip()))

    def _answer(self, index: int, step: Step) -> None:
        if index < self._answers_shown:
            return
        if index == 0 and step.answer in self._drafts:  # it stands there already
            self.console.print(render.best_draft(self._drafts.index(step.answer)))
        else:
            same = self._before is not None and self._before.answer == step.answer
            self.console.print(render.heading(index, same=same))
            if not same:
                self.console.print(render.answer(step, self._before, self.console))
        self._before, self._answers_shown = step, index + 1

    def _draft(self, event: DraftDone) -> None:
        self._place = None  # the moving text is printed here, under its own heading
        self._settle()
        self._drafts.append(event.step.answer)
        for part in render.draft(event.step, f"Draft {event.index + 1}"):
            self.console.print(part)

    def _step(self, index: int, step: Step) -> None:
        self._settle()
        self._answer(index, step)
        for note in render.notes(step):
            self.console.print(note)
        if step.feedback is not None:
            self.console.print(render.feedback(step.feedback, index))

    def _finish(self, event: Finished) -> None:
        self._settle()
        chain = event.chain
        if not (chain.steps and chain.steps[-1].feedback):  # below feedback there is an empty line
            self.console.print(RichText())
        best = RichText(printable(chain.answer))
        is_last = chain.best in (None, len(chain.steps) - 1)
        if not is_last and len(best.wrap(self.console, self.console.width)) <= FINISHED_LINES:
            self.console.print(render.heading(chain.best or 0, best=True))
            self.console.print(best)
            self.console.print(RichText())
        self.console.print(summary(chain))


async def watched(events: AsyncGenerator[Event, None], cancel: CancelToken, made: Chain | None) -> Chain:
    """Show the events of a chain after the steps that it has. Ctrl-C ends it, however often it comes."""
    earlier = complete_steps(made) if made else ()
    async with aclosing(events):
        with interrupts(lambda *_: cancel.cancel()), without_echo(), Watch(earlier=earlier) as watch:
            watch.wait()
            return await finished(events, watch.show)


def loading(load: Load, watch: Watch) -> Load:
    """Return a `load` that is shown. A model that is not here shows how it is fetched."""

    async def shown(role: Role, reference: str) -> Engine:
        if not fetches(reference):
            watch.wait(f"Loading the {role}")
        engine = await load(role, reference)
        watch.wait()
        return engine

    return shown
