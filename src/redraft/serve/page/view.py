"""Turns of a conversation as HTML: the question, each step folded in its place, and the final answer.

Everything is on one line, and every text of a person or model is escaped or rendered by `markdown`. Gradio
keeps the attributes class, id, role, href and start alone, so hints for screen readers are hidden texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from redraft.chain import ESTIMATED, PARTLY, Chain, Feedback, Step, Stop, is_blank
from redraft.counting import counted, printable
from redraft.revision.ops import DraftDone, Event, Finished, Interrupted, StepDone, Text
from redraft.revision.state import complete_drafts, complete_steps
from redraft.revision.words import STOPS, VERDICTS, changes, is_unreported, why_cut
from redraft.serve.page.markdown import MOST_RENDERED, as_is, html_of, one_line

MANY = 50  # most checks of an answer that are listed
LONG = 1500  # most characters of a question that is shown as a whole

_CUT = ("budget", "max_tokens", "context", "malformed")  # ends that are told of a single answer too
_SIGNS = {"accept": "good", "revise": "bad", "unknown": "plain"}


def safe(text: str) -> str:
    """Escape a text, on one line."""
    return one_line(escape(printable(text)))


def name_of(index: int) -> str:
    """Return the name of an answer on the page."""
    return "Draft" if index == 0 else f"Revision {index}"


@dataclass
class LiveTurn:
    """A turn while it is made: what is complete, and what is being written."""

    steps: list[Step] = field(default_factory=list)
    drafts: list[Step] = field(default_factory=list)
    chain: Chain | None = None
    _answer: str = ""
    _feedback: str = ""
    _index: int = 0
    _again: str = ""

    def take(self, event: Event) -> None:
        """Take an event of the chain."""
        match event:
            case Text(kind="answer"):
                if event.index != self._index or self._feedback:
                    self._answer = self._feedback = ""
                self._index, self._answer = event.index, self._answer + event.text
            case Text():
                self._index, self._feedback = event.index, self._feedback + event.text
            case DraftDone():
                self.drafts.append(event.step)
                self._answer = self._again = ""
            case StepDone():
                self.steps = [*self.steps[: event.index], event.step]
                self._answer = self._feedback = self._again = ""
            case Interrupted():
                self.steps = list(complete_steps(event.chain))
                self.drafts = list(complete_drafts(event.chain))
                self._answer = self._feedback = ""
                self._again = " again: a reply broke off"
            case Finished():
                self.chain = event.chain

    @property
    def doing(self) -> str:
        """What is going on, in words."""
        if self.chain is not None:
            return "Finishing"
        if self._feedback:
            return f"Criticising {name_of(self._index).lower()}{self._again}"
        index = self._index if self._answer else len(self.steps)
        number = f" {len(self.drafts) + 1}" if self.drafts and not index else ""
        name = name_of(index).lower() if index else "a draft"
        return f"Writing {name}{number}{self._again}"

    def html(self, turn: str, question: str, held_up: str = "") -> str:
        """Return the turn as it is now. `turn` is its id in the page, `held_up` says what it waits for."""
        parts = [_question(question, turn), *_steps(self.steps, turn)]
        if self._answer:
            parts.append(f'<div class="writing">{html_of(self._answer)}</div>')
        if self._feedback:
            label = '<p class="label">Feedback</p>'
            parts.append(f'<div class="feedback">{label}{html_of(self._feedback)}</div>')
        parts.append(status(held_up or self.doing))
        return f'<div class="turn" id="{turn}">{"".join(parts)}</div>'


def status(text: str) -> str:
    """Return a line that says what is going on."""
    return f'<p class="status"><span class="dots"></span>{safe(text)} …</p>'


def alert(text: str) -> str:
    """Return an error message."""
    return f'<div class="alert" role="alert"><span class="sr">Error: </span>{safe(text)}</div>'


def turn_of(chain: Chain, turn: str, *, question: bool = True) -> str:
    """Return a finished turn. `turn` is its id in the page."""
    parts = [_question(chain.prompt.text, turn)] if question else []
    if len(chain.steps) > 1 or any(step.feedback for step in chain.steps):
        parts += _steps(chain.steps, turn, chain)
    parts += [final(chain), f'<p class="meta">{safe(_end(chain))}</p>']
    return f'<div class="turn" id="{turn}">{"".join(parts)}</div>'


def final(chain: Chain) -> str:
    """Return the final answer of a chain, and its Markdown unseen, for Copy."""
    if is_blank(chain.answer):
        return alert("There is no answer.")
    source = as_is(chain.answer, "source")
    return f'<div class="final">{source}<p class="sr">Answer</p>{html_of(chain.answer)}</div>'


def _question(text: str, turn: str) -> str:
    """Return the question; of a long one, the style sheet shows the first lines until `more` is opened."""
    long = len(text) > LONG or text.count("\n") > LONG // 100
    more = f'<details class="more" id="{turn}-asked"><summary>Show all</summary></details>' * long
    return f'<div class="you"><p class="sr">You asked</p>{more}{as_is(text)}</div>'


def _steps(steps: Sequence[Step], turn: str, chain: Chain | None = None) -> Iterator[str]:
    """Yield the steps, folded. With the chain, the one that became the answer is marked."""
    for index, step in enumerate(steps):
        before = steps[index - 1] if index else None
        best = chain is not None and index == chain.best
        last = chain.stop if chain is not None and index == len(steps) - 1 else None
        pills = "".join(_pills(step, before, best=best and len(steps) > 1, stop=last))
        body = ""
        if before is not None:
            body = _diff(before.answer, step.answer)
        elif not best:
            body = f'<div class="text">{html_of(step.answer)}</div>'
        if step.feedback is not None:
            body += "".join(_feedback(step.feedback))
        yield (
            f'<details class="step" id="{turn}-{index}"><summary>'
            f'<span class="name">{name_of(index)}</span>{pills}</summary>'
            f'<div class="body">{body}</div></details>'
        )


def _pills(step: Step, before: Step | None, *, best: bool, stop: Stop | None) -> Iterator[str]:
    if step.echo:
        yield _pill("bad", "talks about the answer")
    if step.by == "fix":
        yield _pill("plain", "mended without the model")
    if step.finish != "stop":
        yield _pill("bad", f"cut: {why_cut(step, stop)}")
    if step.checks:
        missed = sum(not check.passed for check in step.checks)
        every = counted(len(step.checks), "check")
        yield _pill("bad", f"failed {missed} of {every}") if missed else _pill("good", f"passed {every}")
    elif step.feedback:
        yield _pill(_SIGNS[step.verdict], VERDICTS[step.verdict])
    if before is not None and before.answer == step.answer:
        yield _pill("plain", "unchanged")
    if best:
        yield _pill("best", "the answer")


def _pill(kind: str, text: str) -> str:
    return f' <span class="pill {kind}">{safe(text)}</span>'


def _diff(before: str, after: str) -> str:
    short = max(len(before), len(after)) <= MOST_RENDERED
    if before == after:
        return '<p class="label">Nothing was changed.</p>'
    if (parts := changes(printable(before), printable(after)) if short else None) is None:
        return f'<p class="label">Rewritten as a whole.</p><div class="text">{html_of(after)}</div>'
    tags = {"same": "{}", "gone": "<del>{}</del>", "new": "<ins>{}</ins>"}
    diff = "".join(tags[kind].format(safe(part)) for kind, part in parts)
    key = '<p class="label">Changes: <ins>added</ins> <del>removed</del></p>'
    return f'{key}<p class="diff asis">{diff}</p>'


def _feedback(given: Feedback) -> Iterator[str]:
    if given.text and (given.by != "checks" or not given.checks):  # else the lines of the checks say it
        yield f'<div class="feedback"><p class="label">Feedback</p>{html_of(given.text)}</div>'
    lines = []
    for check in given.checks[:MANY]:
        kind, said = ("pass", "passed") if check.passed else ("fail", "failed")
        named = f"<code>{safe(check.name)}</code> {safe(check.message)}"
        lines.append(f'<li class="{kind}"><span class="sr">{said}: </span>{named}</li>')
    if lines:
        yield f'<ul class="checks">{"".join(lines)}</ul>'
    if len(given.checks) > MANY:
        yield f'<p class="label">… and {counted(len(given.checks) - MANY, "more check")}.</p>'


def _end(chain: Chain) -> str:
    used, parts = chain.usage, []
    if chain.stop == "cancelled":
        parts.append("stopped")
    elif chain.stop and (len(chain.steps) > 1 or chain.stop in _CUT):
        parts.append(STOPS[chain.stop])
    if len(chain.steps) > 1:
        parts.append(counted(chain.revisions, "revision"))
    parts.append(f"{used.seconds:.1f} s")
    if used.completion_tokens:
        tokens = counted(used.completion_tokens, "token")
        parts.append(
            f"{tokens} ({ESTIMATED if is_unreported(chain) else PARTLY})" if used.estimated else tokens
        )
    if used.cost_usd:
        parts.append(f"{used.cost_usd:.4f} USD")
    return " · ".join(parts)
