"""Render chains for a terminal: answers, feedback, and revisions as word diffs.

A model's text is not trusted: control characters are replaced, and markup is not interpreted. Without
colours, a diff is written with `[-gone-]` and `{+new+}`. Faults that checks found are underlined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from redraft.chain import Chain, CheckResult, Feedback, Step, calls_of, content_of, loop, other_parts
from redraft.chain.texts import gold_text
from redraft.checks.base import MOST_PLACES
from redraft.checks.json_reading import characters_of
from redraft.jobs.counting import counted, printable
from redraft.revision.state import ANSWERED
from redraft.revision.words import STOPS, VERDICTS, changes, name_of, usage_line, verdict_of, why_cut, written

Spans = Sequence[tuple[int, int]]
LONGEST = 100_000  # the most characters to show of one text. Laying out 200 MB took minutes.
_MARKS = {"same": ("{}", ""), "gone": ("[-{}-]", "red strike"), "new": ("{{+{}+}}", "bold green")}
_MARKS["all"] = ("{}", "green")
"""Maps each kind of text in a diff to a format without colours and a style with colours."""
_STYLES = {"accept": "green", "revise": "yellow", "unknown": "dim"}


def word_diff(before: str | None, after: str, *, colour: bool = True, faults: Spans = ()) -> Text:
    """Return `after`, with the changes since `before` marked. The spans in `faults` are underlined."""
    parts: Sequence[tuple[str, str]] = [("same" if before is None else "all", shown(after))]
    if before is not None and max(len(before), len(after)) <= LONGEST:
        parts = changes(printable(before), printable(after)) or parts
    text, at = Text(), 0
    for kind, part in parts:
        form, style = _MARKS[kind]
        text.append(part if colour else form.format(part), style)
        if kind != "gone":
            start = len(text) - len(part) - 2 * (kind == "new" and not colour)
            for begin, end in faults:
                last = min(max(end - at, 0), len(part))
                text.stylize("underline red", start + max(begin - at, 0), start + last)
            at += len(part)
    return text


def faults_in(step: Step) -> list[tuple[int, int]]:
    """Return (begin, end) of each fault that checks found in an answer, in the displayed text."""
    answer, failed = step.answer, [result for result in step.checks if not result.passed]
    places = [place for result in failed for place in result.places if len(answer) <= LONGEST][:MOST_PLACES]
    spans = filter(None, (characters_of(answer, place) for place in places))
    return [(len(printable(answer[:begin])), len(printable(answer[:end]))) for begin, end in spans]


def shown(text: str) -> str:
    """Make a text printable, and cut it after `LONGEST` characters."""
    if len(text) <= LONGEST:
        return printable(text)
    left = f"{len(text) - LONGEST:,}"
    return f"{printable(text[:LONGEST])}\n… and {left} more characters. To see them: redraft show --json"


def heading(index: int, *, best: bool = False, chosen: bool = False, same: bool = False) -> RenderableType:
    """Return the line above an answer.

    `chosen` marks the best of several drafts. `same` marks an answer equal to the previous answer.
    """
    marks = " · the same text again" * same + " · best draft" * chosen + " · best" * best
    return rule(name_of(index) + marks)


def rule(title: str) -> Rule:
    """Return a horizontal line with a title."""
    return Rule(Text(title, "bold"), align="left", style="dim")


def draft(step: Step, name: str) -> Iterator[RenderableType]:
    """Render a draft and the results of checks."""
    yield rule(name)
    yield answer(step)
    yield from notes(step)
    yield Padding(Group(*verdict(step.checks)), (1, 0, 1, 2), expand=False)


def answer(step: Step, before: Step | None = None, console: Console | None = None) -> Text:
    """Render an answer; on a terminal, as a diff against the answer in `before`."""
    compared = before is not None and console is not None and console.is_terminal
    colour = console is not None and console.color_system is not None and not console.no_color
    old = written(before.answer, before.tool_calls) if before is not None and compared else None
    return word_diff(old, written(step.answer, step.tool_calls), colour=colour, faults=faults_in(step))


def outline(step: Step, name: str) -> list[Text]:
    """Return a line for each note and verdict on an answer. Each line begins with `name`."""
    given = step.feedback
    words = [Text(VERDICTS[given.verdict], _STYLES[given.verdict])] if given and given.by != "checks" else []
    lines = [*notes(step), *(verdict(step.checks) or words)]
    return [Text.assemble((f"{name}: ", "bold"), line) for line in lines]


def notes(step: Step) -> list[Text]:
    """Return notes on an answer: what was patched or cut, or that the answer is an echo or repetitive."""
    places, tokens = counted(len(step.patch), "place"), counted(step.usage.completion_tokens, "new token")
    texts = [(f"Patched: {places}, {tokens}. The rest is unchanged.", "dim")] * bool(step.patch)
    if step.echo:
        echo = "No answer: the text repeats or only acknowledges prompt or feedback, or replaces a tool call."
        texts.append((echo, "yellow"))
    texts += [("The answer repeats itself.", "yellow")] * (loop(step.answer) is not None)
    if step.finish != "stop":  # a cancelled chain's end says why
        cut = "The feedback was cut" if step.complete else "Cut"
        texts.append((cut + f": {why_cut(step)}" * (step.finish != "cancelled") + ".", "yellow"))
    return [Text(*each) for each in texts]


def feedback(given: Feedback, index: int, *, every: bool = False) -> RenderableType:
    """Render the feedback and the verdict on an answer. With `every`, also list the checks that pass."""
    parts: list[RenderableType] = []
    if given.by != "checks" or not given.checks:  # otherwise `verdict` renders the checks
        words, style = VERDICTS[given.verdict], _STYLES[given.verdict]
        by = " · by a person" * (given.by == "person")
        parts.append(Text.assemble((f"Feedback {index + 1}", "bold"), by, " · ", (words, style)))
        parts += [Text(shown(given.text), "italic")] * bool(given.text)
    results = () if given.by == "person" else given.checks  # the text contains a person's wishes
    return Padding(Group(*parts, *verdict(results, every=every)), (1, 0, 1, 2), expand=False)


def verdict(results: Sequence[CheckResult], *, every: bool = False) -> list[Text]:
    """Render the verdict of checks, then each failed check or, with `every`, each check."""
    if not results:
        return []
    failed = [result for result in results if not result.passed]
    mark, style = ("✗", "bold red") if failed else ("✓", "bold green")
    lines = [Text(f"{mark} {shown(verdict_of(results))}", style)]
    for each in results if every and len(results) > 1 else failed if len(failed) > 1 else []:
        passed = ("✓ ", "green") if each.passed else ("✗ ", "red")
        lines.append(Text.assemble(passed, (shown(each.name), "bold"), "  ", shown(each.message)))
    return lines


def score(chain: Chain, index: int) -> Iterator[RenderableType]:
    """Render whether an answer is right by the scoring checks of `redraft eval` or `diagnose`, if any."""
    with suppress(LookupError, TypeError, ValueError):
        step, found = chain.steps[index], chain.meta["eval"]["steps"][index]
        from redraft.evaluation.tasks.tasks import all_pass, is_answer  # takes 0.1 s

        results = tuple(CheckResult.model_validate({"score": 0, "message": "", **each}) for each in found)
        right = is_answer(step) and all_pass(results)
        title = Text.assemble(("Score", "bold"), " · ", ("right", "green") if right else ("wrong", "red"))
        found = [] if results == step.checks else verdict(results)
        yield Padding(Group(title, *found), (not step.feedback, 0, bool(step.feedback), 2), expand=False)


def ending(chain: Chain) -> list[RenderableType]:
    """Render the summary of a chain, after an empty line if the last step has no feedback."""
    return [*([] if chain.steps and chain.steps[-1].feedback else [Text()]), summary(chain)]


def summary(chain: Chain) -> RenderableType:
    """Render which answer of a chain is best, why the chain stopped, and what the chain cost."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    if chain.best is not None and len(chain.steps) + len(chain.drafts) > 1:
        first = "the best draft" if chain.drafts else "the first answer"
        table.add_row("best", first if chain.best == 0 else f"revision {chain.best}")
    if by := chain.meta.get(ANSWERED):
        table.add_row("answered by", by)
    for each in chain.unchanged:
        table.add_row("not changed", Text(shown(f"{each['passage']!r:.60}: {each['why']}")))
    if chain.stop is not None and (chain.stop != "max_revisions" or len(chain.steps) > 1):
        failure = chain.meta.get("failure")
        if chain.stop == "error" and isinstance(failure, dict):
            table.add_row("failed", Text(shown(str(failure.get("message"))), "red"))
        else:
            table.add_row("stopped", STOPS[chain.stop])
    source = chain.meta.get("source")
    if isinstance(source, dict) and isinstance(reward := source.get("reward"), float):
        rewards = source.get("rewards")  # from `redraft train ppo` with several rewards
        forms = rewards.items() if isinstance(rewards, dict) else ()
        parts = ", ".join(f"{form} {part:.3f}" for form, part in forms if isinstance(part, float))
        table.add_row("reward", Text(shown(f"{reward:.3f}{parts and f' ({parts})'}")))
    table.add_row("used", usage_line(chain))
    return table


def render_prompt(chain: Chain) -> RenderableType:
    """Render the prompt, or each message of a conversation with its role."""
    if not chain.prompt.messages:
        return Text(shown(chain.prompt.text), "cyan")
    lines = []
    for message in chain.prompt.messages:
        others = [f"[{kind}]" for kind in other_parts(message)]
        content = " ".join(filter(None, [written(content_of(message), calls_of(message)), *others]))
        lines.append(Text.assemble((shown(f"{message.get('role')}: "), "dim"), (shown(content), "cyan")))
    return Group(*lines)


def render_chain(chain: Chain, console: Console) -> RenderableType:
    """Render a whole chain: prompt, steps, and end."""
    top = Rule(Text(shown(chain.id) or "chain", "bold cyan"), align="left", style="cyan")
    parts: list[RenderableType] = [top, render_prompt(chain), Text()]
    for index, step in enumerate(chain.drafts):
        parts += draft(step, f"Draft not chosen, {index + 1} of {len(chain.drafts)}")
    if not chain.steps and (gold := gold_text(chain)):
        parts += [rule("Gold answer"), Text(shown(gold))]
    before: Step | None = None
    for index, step in enumerate(chain.steps):
        chosen = not index and bool(chain.drafts)
        same = before is not None and (before.answer, before.tool_calls) == (step.answer, step.tool_calls)
        parts.append(heading(index, best=index == chain.best, same=same, chosen=chosen))
        parts += [*([] if same else [answer(step, before, console)]), *notes(step)]
        if step.feedback is not None:
            parts.append(feedback(step.feedback, index, every=True))
        parts += score(chain, index)
        before = step
    return Group(*parts, *ending(chain))
