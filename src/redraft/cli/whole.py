"""Render whole chains for a terminal, and the end of one that was watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from redraft.chain import Chain, Step, content_of, other_parts
from redraft.cli.render import MANY, answer, draft, feedback, heading, left_out, notes, shown, verdict
from redraft.revision.words import STOPS, usage_line


def summary(chain: Chain) -> RenderableType:
    """Render the end of a chain: the best answer with its verdict, why it stopped, and the cost."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    if chain.best is not None:
        first = "the best draft" if chain.drafts else "the first answer"
        name = first if chain.best == 0 else f"revision {chain.best}"
        table.add_row("best", Group(Text(name), *verdict(chain.steps[chain.best].checks)))
    if chain.stop is not None:
        table.add_row("stopped", STOPS[chain.stop])
    table.add_row("used", usage_line(chain))
    return table


def render_prompt(chain: Chain) -> RenderableType:
    """Render the prompt."""
    if not chain.prompt.messages:
        return Text(shown(chain.prompt.text), "cyan")
    lines = [
        Text.assemble((shown(f"{m.get('role')}: "), "dim"), (shown(_content(m)), "cyan"))
        for m in chain.prompt.messages[:MANY]
    ]
    return Group(*lines, *left_out(len(chain.prompt.messages), "messages"))


def _content(message: Mapping[str, Any]) -> str:
    others = [f"[{kind}]" for kind in other_parts(message)]
    return " ".join(filter(None, [content_of(message), *others]))


def render_chain(chain: Chain, console: Console) -> RenderableType:
    """Render a whole chain: prompt, steps, and end."""
    top = Rule(Text(shown(chain.id) or "chain", "bold cyan"), align="left", style="cyan")
    parts: list[RenderableType] = [top, render_prompt(chain), Text()]
    for index, step in enumerate(chain.drafts[:MANY]):
        parts += draft(step, f"Draft not chosen, {index + 1} of {len(chain.drafts)}")
    parts += left_out(len(chain.drafts), "drafts")
    before: Step | None = None
    for index, step in enumerate(chain.steps[:MANY]):
        chosen = not index and bool(chain.drafts)
        same = before is not None and before.answer == step.answer
        parts.append(heading(index, best=index == chain.best, same=same, chosen=chosen))
        parts += [*([] if same else [answer(step, before, console)]), *notes(step)]
        if step.feedback is not None:
            parts.append(feedback(step.feedback, index, every=True))
        before = step
    parts += [*left_out(len(chain.steps), "answers"), Text(), summary(chain)]
    return Group(*parts)
