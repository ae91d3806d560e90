"""Say what a diagnosis found: as rows for a terminal and a page, as a sentence, and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator

from redraft.counting import counted
from redraft.evaluate.decide import sentence
from redraft.evaluate.diagnose import Changes, Diagnosis, Level
from redraft.evaluate.lines import Line, percent, table


def as_text(found: Diagnosis) -> Iterator[str]:
    """Yield the lines of a diagnosis for a terminal."""
    yield title(found)
    yield from notes(found)
    for name, rows in sections(found).items():
        yield from ("", name, *table(rows))
    yield from ("", verdict(found))


def title(found: Diagnosis) -> str:
    """Return what was diagnosed."""
    runs = "" if len(found.chains) == found.items else f", {counted(len(found.chains), 'run')}"
    return (
        f"{' and '.join(found.tasks)}: {counted(found.items, 'item')}{runs}, {len(found.revised):,} revised"
    )


def notes(found: Diagnosis) -> Iterator[str]:
    """Yield what to know before reading the figures."""
    if found.same:
        yield "The checks that guided revising also say what is right: a gain is nearly automatic."


def sections(found: Diagnosis) -> dict[str, list[Line]]:
    """Return the rows of each part."""
    parts = {"right answers": [*map(_level, found.levels)]}
    for number, changes in enumerate(found.revisions, start=1):
        parts[f"revision {number}: {len(changes.pairs):,} answers"] = [*_changes(changes)]
    if found.revised:
        parts["first answer to best answer"] = [*_changes(found.of_revised)]
    return parts


def _level(level: Level) -> Line:
    guide = f"; the guiding checks pass {level.guide.value * 100:.1f} %" if level.guide else ""
    note = f"{level.hits:,} of {level.count:,}{guide}; {level.words:,.0f} words"
    return Line(level.name, *percent(level.right, 1), note)


def _changes(changes: Changes) -> Iterator[Line]:
    for before, after in ((False, True), (True, False), (True, True), (False, False)):
        name = f"{'right' if before else 'wrong'} → {'right' if after else 'wrong'}"
        yield Line(name, f"{changes.count(before, after):,}")
    yield Line("ECR", *percent(changes.ecr, 1), f"{changes.fixed:,} of {changes.wrong:,} wrong ones")
    yield Line("EIR", *percent(changes.eir, 1), f"{changes.broken:,} of {changes.right:,} right ones")
    if not math.isnan(changes.ratio):
        yield Line("ECR/EIR", _ratio(changes.ratio), "", _threshold(changes))


def _ratio(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _threshold(changes: Changes) -> str:
    paying = f"to pay, it has to exceed Acc/(1 - Acc) = {_ratio(changes.threshold)}"
    if math.isnan(changes.level):
        return paying
    return f"{paying}: fewer than {changes.level * 100:.0f} % right"


def verdict(found: Diagnosis) -> str:
    """Return the last sentence: revise, don't, or undecided."""
    if not found.revised:
        return "Nothing was revised, so this says nothing about revising."
    guided = " The checks that score also guided it." if found.same else ""
    return sentence(found.decision) + guided
