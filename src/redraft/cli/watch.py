"""Show a chain on the terminal while it is made: new text moves, complete answers stay."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.text import Text as RichText

from redraft.chain import Chain, Step
from redraft.cli import render
from redraft.cli.lines import interrupts, without_echo
from redraft.cli.whole import summary
from redraft.counting import printable
from redraft.revision.api import finished
from redraft.revision.cancel import CancelToken
from redraft.revision.ops import DraftDone, Event, Finished, Interrupted, StepDone, Text
from redraft.revision.state import complete_steps
from redraft.revision.words import name_of


class Watch:
    """A context manager that shows events of `redraft.stream` on standard output.

    `earlier` are steps of the chain that were shown before.
    """

    def __init__(self, console: Console | None = None, *, earlier: Sequence[Step] = ()) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._place: tuple[str, int] | None = None
        self._pieces: list[str] = []
        self._before: Step | None = earlier[-1] if earlier else None
        self._answers_shown = len(earlier)
        self._drafts: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._settle()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Text):
            self._write(event)
        elif isinstance(event, DraftDone):
            self._draft(event)
        elif isinstance(event, StepDone):
            self._step(event.index, event.step)
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
            self._live = Live(console=self.console, transient=True, refresh_per_second=12)
            self._live.start()
        self._pieces.append(event.text)
        if self._live is not None:  # the end of the text moves, as much as the screen holds
            lines = printable("".join(self._pieces)).splitlines()
            room = max(self.console.height - 4, 3)
            tail = RichText("\n".join(lines[-room:]))
            tail.truncate(self.console.width * room)
            criticism = event.kind == "feedback"
            name = f"Feedback {event.index + 1}" if criticism else name_of(event.index)
            text = RichText.assemble((f"{name} …\n", "dim"), tail)
            self._live.update(Padding(text, (0, 0, 0, 2 if criticism else 0)))

    def _settle(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live, place, self._place = None, self._place, None
        text, self._pieces = "".join(self._pieces), []
        if place is not None and place[0] == "answer":
            self._answer(place[1], Step(answer=text.strip()))

    def _answer(self, index: int, step: Step) -> None:
        if index < self._answers_shown:
            return
        if index == 0 and step.answer in self._drafts:  # it stands there already
            self.console.print(render.best_draft(self._drafts.index(step.answer)))
        else:
            self.console.print(render.heading(index, mended=step.by == "fix"))
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
        self.console.print(RichText())
        if chain.best is not None and chain.best < len(chain.steps) - 1:  # not the last one: print it again
            self.console.print(render.heading(chain.best, best=True))
            self.console.print(RichText(printable(chain.answer)))
            self.console.print(RichText())
        self.console.print(summary(chain))


async def watched(events: AsyncGenerator[Event, None], cancel: CancelToken, made: Chain | None) -> Chain:
    """Show the events of a chain after the steps that it has. Ctrl-C ends it, however often it comes."""
    earlier = complete_steps(made) if made else ()
    async with aclosing(events):
        with interrupts(lambda *_: cancel.cancel()), without_echo(), Watch(earlier=earlier) as watch:
            return await finished(events, watch.show)
