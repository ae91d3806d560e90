"""Where the gain of revising comes from: the kind of each repair, and the groups of a task.

A repair is told by what can be seen without a model: a draft that was cut, the same words in another form, or
an answer that was there and was read otherwise. Everything else counts as a change of content.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from redraft.evaluation.diagnosis.truth import Known
from redraft.evaluation.tasks.tasks import is_answer
from redraft.plugins import plugins
from redraft.verify.segment import words

CUT, FORM, CONTENT = "empty or cut draft completed", "form alone changed", "content changed"
KINDS = (CUT, FORM, CONTENT)
"""The kinds of repairs."""

MOST_CHECKS = 40
"""Different checks that get a row each: more are checks of single records."""


def kind_of(each: Known) -> str:
    """Return the kind of a repair, of a chain whose best answer is right and whose first one is not.

    The form alone changed if IFEval's loose score held already, if both answers have the same words, or if
    the first answer ended in the task's right result too, and was read as another one.
    """
    first = each.chain.steps[0]
    if not first.answer.strip() or not first.complete:
        return CUT
    same = _words(first.answer) == _words(each.chain.answer)
    return FORM if same or each.loose[:1] == (True,) or _stood(each) else CONTENT


def _stood(each: Known) -> bool:
    result = (
        _words(str(each.chain.meta.get("reference") or "")) if each.task in plugins("redraft.tasks") else []
    )
    lines = each.chain.steps[0].answer.strip().splitlines()
    return bool(result) and _words(lines[-1])[-len(result) :] == result


def _words(text: str) -> list[str]:
    return [word.casefold() for word in words(text)]


@dataclass(frozen=True)
class Trial:
    """A first and a best answer in one respect: all of it, or one of its checks."""

    group: str
    before: bool
    after: bool
    item: Hashable


def trials(chains: Sequence[Known]) -> Iterator[Trial]:
    """Yield the trials of each group, from first to best answers.

    Groups are those of the records, and the task where several are mixed. Where no record has any, they are
    the names of the checks, if there are several; IFEval's are types of constraints.
    """
    mixed = len({each.task for each in chains}) > 1
    grouped = any(each.groups for each in chains)
    for each in chains:
        for group in (*each.groups, *([each.task] if mixed else [])):
            yield Trial(group, each.first, each.best, each.item)
    several = any(len(found) > 1 for each in chains for found in each.results)
    names = {type_of(name) for each in chains for name in each.scored}
    if several and not grouped and not mixed and len(names) <= MOST_CHECKS:
        for each in chains:
            yield from _by_check(each)


def _by_check(each: Known) -> Iterator[Trial]:
    best, answered = each.chain.best, [is_answer(step) for step in each.chain.steps]
    for place, (name, before) in enumerate(each.results[0]):
        after = best is not None and each.results[best][place][1] and answered[best]
        yield Trial(type_of(name), before and answered[0], after, each.item)


def type_of(check: str) -> str:
    """Return the type of one of IFEval's constraints, or the name of another check."""
    return check.removeprefix("ifeval:").split(" {")[0] if check.startswith("ifeval:") else check
