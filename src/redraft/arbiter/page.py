"""The page of the arbiter, as HTML and as Markdown, with the same figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from redraft.arbiter.table import ALL, REVISING, Comparison, Level, Table
from redraft.counting import counted
from redraft.evaluation.diagnosis.equal_tokens import named
from redraft.evaluation.diagnosis.figures import points_of
from redraft.evaluation.tables import p_value, percent, plain, tokens_text
from redraft.pages.charts import intervals
from redraft.pages.page import Card, Part, render

TITLE = "Who should revise, when, and how?"
_HOW = """\
Each way may spend as many new tokens as revising did: best of N and a vote draw as many answers as fit. \
≠ marks a way without a run of that many tokens; its nearest run is shown.
One answer, a vote and revising alone see no checks. The other ways see the checks that score. Revising \
alone is compared only with ways that see none.
Intervals are at 95 %, paired by prompt. Holm's procedure corrects p: once for all comparisons over all \
tasks, and once for all within tasks.""".splitlines()
_FINDINGS = {"for": "better", "against": "worse", "open": "open", "none": "not comparable"}
_BASIS = {"equal": "", "fewer": ", fewer tokens", "more": ", more tokens", "unknown": ", tokens not known"}


def parts_of(table: Table) -> list[Part]:
    """Return the sections of the page."""
    prompts = ", ".join(f"{task} {count}" for task, count in table.items.items())
    whole = [each for each in table.comparisons if each.task == ALL]
    within = [each for each in table.comparisons if each.task != ALL]
    parts = [
        Part(verdict=" ".join(sentences(table)), notes=_HOW),
        Part(
            "Right answers, with the tokens that revising took",
            note=f"prompts of each task: {prompts}; {counted(table.seeds, 'seed')}",
            table=[*_levels(table)],
        ),
    ]
    for title, rows in (("Over all tasks", whole), ("Within each task", within)):
        if rows:
            parts.append(Part(title, note="points by which the way is ahead of the other", table=_rows(rows)))
    if shown := whole or within:
        parts[0] = Part(verdict=parts[0].verdict, notes=_HOW, cards=[*_cards(shown)])
    if table.between:
        parts.append(Part("Models", note="compared on the prompts of both", table=_rows(table.between)))
    parts.append(Part("What each way took per prompt", table=[*_runs(table)]))
    if table.remarks:
        parts.append(Part("To keep in mind", notes=table.remarks))
    return parts


def html(table: Table, made: str) -> str:
    """Return the page. `made` says how it was made."""
    return render(TITLE, _below(table), parts_of(table), made)


def markdown(table: Table, made: str) -> str:
    """Return the page as Markdown, without its picture."""
    lines = [f"# {TITLE}", "", _below(table), ""]
    for part in parts_of(table):
        lines += [f"## {part.title}", ""] * bool(part.title)
        lines += [text for each in (part.verdict, part.note) if each for text in (each, "")]
        lines += [f"- {note}" for note in part.notes] + [""] * bool(part.notes)
        if part.table:
            head, *rows = part.table
            lines += [_cells(row) for row in (head, ["---"] * len(head), *rows)] + [""]
    return "\n".join([*lines, made, ""])


def _cells(row: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _below(table: Table) -> str:
    kinds = {run.way for run in table.runs}
    return (
        f"{counted(len(table.models), 'model')}, {counted(len(table.tasks), 'task')}, "
        f"{counted(len(kinds), 'way')}, {counted(table.seeds, 'seed')}"
    )


def sentences(table: Table) -> Iterator[str]:
    """Yield what the comparisons show, for each model and each way to revise."""
    over = {each.model: each.task for each in reversed(table.comparisons)}  # its first task: ALL if several
    for model, task in reversed(over.items()):
        for ours in REVISING:
            rows = [each for each in table.comparisons if (each.model, each.ours) == (model, ours)]
            if rows:
                yield _sentence(model, ours, [each for each in rows if each.task == task])
                yield from _when([each for each in rows if each.task not in (task, ALL)])
        yield from _best([each for each in table.levels if (each.model, each.task) == (model, task)])


def _sentence(model: str, ours: str, rows: Sequence[Comparison]) -> str:
    by = {name: [each for each in rows if each.finding == name] for name in ("against", "open", "for")}
    way = {"revise": "revising", "alone": "revising alone"}.get(ours, named(ours))
    if lost := by["against"]:
        worst = min(lost, key=lambda each: each.decision.gain.value)
        which = f" ({named(worst.other)})" * (len(lost) > 1)
        return f"{model}: {way} does worse than {_names(lost)}, by {_points(worst)}{which}."
    if by["open"]:
        also = f", and does better than {_names(by['for'])}" if by["for"] else ""
        return f"{model}: {way} is not shown to do better than {_names(by['open'])}{also}."
    if won := by["for"]:
        least = min(won, key=lambda each: each.decision.gain.value)
        closest = f" ({named(least.other)}, the closest)" * (len(won) > 1)
        return f"{model}: {way} does better than {_names(won)}, by {_points(least)}{closest}."
    more = [
        f"it takes more tokens than {named(each.other)}, and is {_points(each)} ahead"
        for each in rows
        if each.basis == "fewer" and each.decision.gain.value > 0
    ]
    return f"{model}: {way} cannot be compared at equal tokens{': ' if more else ''}{'; '.join(more)}."


def _when(rows: Sequence[Comparison]) -> Iterator[str]:
    """Yield in which tasks a way is shown to do better or worse than another."""
    for finding, word in (("for", "better"), ("against", "worse")):
        found = [each for each in rows if each.finding == finding]
        if found:
            where = "; ".join(f"{each.task} (than {named(each.other)})" for each in found)
            yield f"Within tasks, it does {word} in {where}."


def _best(rows: Sequence[Level]) -> Iterator[str]:
    """Yield which way has the most right answers; nothing if tokens were not counted."""
    if within := [each for each in rows if each.equal or each.fewer]:
        best = max(within, key=lambda each: each.right.value)
        if best.right.value:
            ways = " and ".join(named(each.way) for each in within if each.right.value == best.right.value)
            fewer = " or fewer" * (not best.equal)
            yield f"The most right answers with these tokens{fewer}: {ways}, {percent(best.right, 1)[0]}."
        else:
            yield "No way has a right answer with these tokens."


def _names(rows: Sequence[Comparison]) -> str:
    *most, last = (named(each.other) for each in rows)
    return f"{', '.join(most)} and {last}" if most else last


def _points(each: Comparison) -> str:
    return points_of(each.decision.gain)


def _levels(table: Table) -> Iterator[list[str]]:
    kinds = list(dict.fromkeys(each.way for each in table.levels))
    yield ["model", "task", *map(named, kinds)]
    for model, task in dict.fromkeys((each.model, each.task) for each in table.levels):
        found = {each.way: each for each in table.levels if (each.model, each.task) == (model, task)}
        yield [model, task, *(_level(found.get(kind)) for kind in kinds)]


def _level(level: Level | None) -> str:
    if level is None:
        return "–"
    value, interval = percent(level.right, 1)
    return f"{value} ({interval})" + " ≠" * (not level.equal)


def _rows(rows: Sequence[Comparison]) -> list[list[str]]:
    head = ["model", "task", "way", "other", "points", "interval", "new tokens", "p", "corrected", "finding"]
    return [head, *(_row(each) for each in rows)]


def _row(each: Comparison) -> list[str]:
    value, interval = plain(each.decision.gain.times(100), 1, sign=True)
    names = [each.model, each.task, named(each.ours), named(each.other)]
    at, p, holm = tokens_text(each.at) + _BASIS[each.basis], p_value(each.decision.p), p_value(each.holm)
    return [*names, value, interval, at, p, holm, _FINDINGS[each.finding]]


def _cards(rows: Sequence[Comparison]) -> Iterator[Card]:
    """Draw how far each way to revise is ahead of the other ways, a card for each model."""
    note = "points, with 95 % intervals; right of the line, {} is ahead"
    for model, ours in dict.fromkeys((each.model, each.ours) for each in rows):
        drawn = []
        for each in rows:
            if (each.model, each.ours) == (model, ours):
                gain = each.decision.gain.times(100)
                name = named(each.other) if each.task == ALL else f"{each.task}: {named(each.other)}"
                drawn.append((name, gain.value, gain.low, gain.high, f"{gain.value:+.1f}"))
        yield Card(f"{model}, {named(ours)}", note.format(named(ours)), intervals(drawn, 0.0))


def _runs(table: Table) -> Iterator[list[str]]:
    yield ["model", "task", "way", "texts", "right", "new tokens", "prompt tokens", "money", "seconds"]
    for run in table.runs:
        value, interval = percent(run.right, 1)
        costs = [tokens_text(run.tokens), f"{run.prompts:,.0f}", tokens_text(run.money), f"{run.seconds:.2f}"]
        yield [run.model, run.task, named(run.way), f"{run.texts}", f"{value} ({interval})", *costs]
