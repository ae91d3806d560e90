"""Show a chain on the terminal as the model writes: unfinished text is redrawn, complete answers stay."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from importlib.util import find_spec
from time import monotonic
from typing import Self

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text as RichText

from redraft.chain import Chain, Step
from redraft.cli import render
from redraft.engines.base import Engine
from redraft.engines.load import fetches, references_of
from redraft.jobs.counting import printable
from redraft.jobs.signals import handled
from redraft.revision.api import Load, Role, finished
from redraft.revision.cancel import CancelToken
from redraft.revision.ops import DraftDone, Event, Finished, Interrupted, Progress, StepDone, Text
from redraft.revision.state import complete_steps
from redraft.revision.words import name_of


class Moving:
    """The display of unfinished text, which disappears once the text is complete."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self.title, self._indent, self._begun = "", 0, 0.0
        self.pieces: list[str] = []

    def begin(self, title: str, indent: int = 0) -> None:
        """Begin to draw a title, with a clock. `indent` is in columns."""
        self.title, self._indent, self._begun = title, indent, monotonic()
        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            transient=True,
            refresh_per_second=12,
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def end(self) -> str:
        """Remove the drawing, and return the text."""
        if self._live is not None:
            self._live.stop()
        text, self._live, self.pieces = "".join(self.pieces), None, []
        return text

    def _drawn(self) -> RenderableType:
        lines = printable("".join(self.pieces)).splitlines()
        room = max(self._console.height - 4, 3)
        tail = RichText("\n".join(lines[-room:]))
        tail.truncate(self._console.width * room)
        text = RichText.assemble((f"{self.title} … {monotonic() - self._begun:.0f} s", "dim"))
        return Padding(text.append("\n").append_text(tail) if lines else text, (0, 0, 0, self._indent))


class Watch:
    """A context manager that shows events of `redraft.stream` on standard output.

    `earlier` contains the steps shown before. `steps`: True shows all texts, False shows a line about each
    text, and both end with the best answer, unless it is the only text. None shows only unfinished text.
    """

    def __init__(
        self, console: Console | None = None, *, earlier: Sequence[Step] = (), steps: bool | None = True
    ) -> None:
        utf8 = typer.get_text_stream("stdout")  # also where standard output is ASCII
        self.console, self._steps = console or Console(file=utf8, highlight=False, quiet=steps is None), steps
        self._moving = Moving(Console(stderr=True) if sys.stderr.isatty() else self.console)
        self._place: tuple[str, int] | None = None
        self._before: Step | None = earlier[-1] if earlier else None
        self._answers_shown = len(earlier)
        self._drafts: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._settle()

    def wait(self, title: str = "Waiting for the model") -> None:
        """Show a title with a clock, until the next text or event is shown."""
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
        elif isinstance(event, Progress) and self._place and self._place[0] == "answer":
            self._moving.title = f"Checking {name_of(self._place[1]).lower()}"
        elif isinstance(event, Progress):
            self.wait()
        elif isinstance(event, Interrupted):
            self._place = None  # the moving text will be written again
            self._settle()
            self.console.print(RichText(f"Starting over: {printable(event.error.message)}", "yellow"))
        elif isinstance(event, Finished):
            self._finish(event)

    def _write(self, event: Text) -> None:
        if event.kind == "patch" and not event.text:
            self.wait(name_of(event.index))
        elif event.kind != "patch" and (event.kind, event.index) != self._place:
            self._settle()
            self._place = (event.kind, event.index)
            if event.kind == "feedback":
                self._moving.begin(f"Feedback {event.index + 1}", indent=2)
            else:
                self._moving.begin(name_of(event.index))
        self._moving.pieces.append(event.text)

    def _settle(self) -> None:
        text = self._moving.end()
        place, self._place = self._place, None
        if place is not None and place[0] == "answer":
            self._answer(place[1], Step(answer=text.strip()))

    def _answer(self, index: int, step: Step) -> None:
        if index < self._answers_shown or not self._steps:
            return
        if index == 0 and step.answer in self._drafts:  # the draft was printed already
            self.console.print(render.rule(f"Draft {self._drafts.index(step.answer) + 1} · best draft"))
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
        name = f"Draft {event.index + 1}"
        for part in render.draft(event.step, name) if self._steps else render.outline(event.step, name):
            self.console.print(part)

    def _step(self, index: int, step: Step) -> None:
        if self._place == ("answer", index):
            self._place = None  # the moving text is printed here, with its faults
        self._settle()
        self._answer(index, step)
        notes = render.notes(step) if self._steps else render.outline(step, name_of(index))
        for note in notes or [RichText(f"{name_of(index)}: written")] * (index > 0 and not self._steps):
            self.console.print(note)
        if step.feedback is not None and self._steps:
            self.console.print(render.feedback(step.feedback, index))

    def _finish(self, event: Finished) -> None:
        self._settle()
        chain = event.chain
        for part in render.ending(chain) if self._steps else [render.summary(chain)]:
            self.console.print(part)
        only = self._before if self._answers_shown == 1 and not self._drafts else None
        if not (self._steps and only and only.answer == chain.answer):
            answer = RichText(f"\n{printable(chain.answer)}")
            self.console.print(answer, soft_wrap=not self.console.is_terminal)


async def watched(events: AsyncGenerator[Event, None], cancel: CancelToken, made: Chain | None) -> Chain:
    """Show the events of a chain, and return the chain. `made` is the chain that is resumed, if any."""
    earlier = complete_steps(made) if made else ()
    async with aclosing(events):
        with (
            handled(lambda *_: cancel.cancel(), signal.SIGINT),
            without_echo(),
            Watch(earlier=earlier, steps=made is not None) as watch,
        ):
            watch.wait()
            return await finished(events, watch.show)


def loading(load: Load, watch: Watch) -> Load:
    """Wrap `load`: `watch` shows which model is loading, unless a download shows its own progress."""

    async def shown(role: Role, reference: str) -> Engine:
        if not fetches(reference):
            remote = "://" in references_of(reference)[0]
            watch.wait(f"Connecting to the {role}" if remote else f"Loading the {role} {reference}")
        engine = await load(role, reference)
        watch.wait()
        return engine

    return shown


@contextmanager
def without_echo() -> Iterator[None]:
    """Hide typed keys in a `with` block. The keys appear at the next prompt, even after Ctrl-C."""
    if not (sys.stdin.isatty() and find_spec("termios")):  # Windows has no termios
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    mode = before[3] & ~termios.ECHO | termios.NOFLSH
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, [*before[:3], mode, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
