"""Measure how revising changed the answers in chains (`redraft.diagnose`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from redraft.chain import Chain
from redraft.checks.base import Check
from redraft.checks.parse import parse_checks
from redraft.errors import path_of
from redraft.evaluation.diagnosis.figures import LEVEL, Changes, Figures, cut_off, sentence
from redraft.evaluation.diagnosis.truth import chains_in, known, with_checks
from redraft.evaluation.records import listed
from redraft.evaluation.stats import without_nan
from redraft.evaluation.tables import Line, Part, as_text, p_text, percent, tokens_text
from redraft.jobs.counting import counted, printable

_FEW = 5  # ids to name
_WORDS = ("wrong", "right")
_CELLS = ((False, True), (True, False), (True, True), (False, False))  # right before, right after


class Diagnosis(Figures):
    """The effect of revising. `str` gives the table that `redraft diagnose` prints."""

    def __str__(self) -> str:
        runs = f" in {counted(len(self.chains), 'run')}" * (len(self.chains) > self.items)
        note = f"{counted(self.items, 'item')}{runs}, {len(self.revised):,} revised"
        head = Part(printable(" and ".join(self.tasks)), note, notes=[*notes(self)])
        return "\n".join(as_text([head, *sections(self), Part(verdict=verdict(self))]))

    def record(self) -> dict[str, Any]:
        """Return all figures, notes and the conclusion as JSON values."""
        return without_nan(self) | {"notes": [*notes(self)], "sentence": verdict(self)}


def diagnose(
    chains: str | Path | Iterable[Chain | str | Path],
    *,
    score: Iterable[str | Check | Callable[..., Any]] = (),
) -> Diagnosis:
    """Measure how revising changed the answers in chains, such as the share of right answers.

    Args:
        chains: Chains, a file of chains, or several files, such as one for each seed.
        score: Checks that decide which answers are right. By default, the results of `redraft eval` in the
            chains decide. Without such results, the checks that guided revising decide.

    Raises:
        RecordError: Nothing decides which answers are right, or a file cannot be read.
        CheckError: A check crashed.
    """
    given: list[Any] = [chains] if isinstance(chains, str) or not isinstance(chains, Iterable) else [*chains]
    found = [each for each in given if isinstance(each, Chain)]
    if files := [path_of(each) for each in given if not isinstance(each, Chain)]:
        found += chains_in(files)
    checks = parse_checks(score)
    return Diagnosis(*known(with_checks(found, checks) if checks else found))


def notes(found: Figures) -> Iterator[str]:
    """Yield notes that readers need before the figures."""
    if len(found.tasks) > 1:
        yield "Several tasks are mixed. For separate figures, diagnose each task alone."
    for why, ids in found.left_out.items():
        yield f"Not counted ({why}): {_named(ids)}."
    if len(found.revisions) > 1:
        yield "Intervals and p-values are for single rows, not corrected for multiple comparisons."
    if found.revised and len(found.chains) > found.items:
        yield "The p-values are from sign-flip tests on each item's mean over its runs."
    if none := [each.chain.id for each in found.chains if each.chain.best is None]:
        yield f"Chains without a best answer, which count as wrong: {_named(none)}."
    if empty := [each.chain.id for each in found.chains if each.empty]:
        yield f"Empty answers, which count as wrong: {_named(empty)}."
    stopped = (each for each in found.chains if each.chain.stop in ("error", "cancelled"))
    if cut := [each.chain.id for each in stopped if not each.empty]:
        yield f"Chains that ended early: {_named(cut)}."
    yield from cut_off(level.cut / level.count for level in found.levels)
    if echoes := sum(each.chain.echoes for each in found.chains):
        passing = sum(
            passes and step.echo
            for each in found.chains
            for passes, step in zip(each.passes, each.chain.steps, strict=True)
        )
        are = "only echoes a message, and counts" if echoes == 1 else "only echo a message, and count"
        yield f"{counted(echoes, 'revision')} {are} as wrong; {passing:,} would pass the checks."


def _named(ids: Sequence[str]) -> str:
    return f"{len(ids):,} ({printable(listed(ids, _FEW))})"


def sections(found: Figures) -> Iterator[Part]:
    """Yield the tables: right answers, the effect of revising, and verdicts."""
    rows = (
        (each, percent(each.right, 1), f"; {each.cut:,} cut off" * (each.cut > 0)) for each in found.levels
    )
    lines = [Line(each.name, *right, f"{each.hits:,} of {each.count:,}{cut}") for each, right, cut in rows]
    yield Part("right answers", lines=lines)
    if found.revised:
        yield Part("effect of revising", lines=[*_transitions(found)])
    if sum(each.right + each.wrong for each in found.verdicts.judged) > found.verdicts.unknown:
        yield Part("verdicts: finding answers that need revision", lines=[*_verdicts(found)])


def _transitions(found: Figures) -> Iterator[Line]:
    rows = {f"revision {number}": changes for number, changes in enumerate(found.revisions, start=1)}
    if found.of_revised != found.revisions[0]:
        rows["first to best"] = found.of_revised
    for name, changes in rows.items():
        counts = (f"{changes.count(was, now):,} {_WORDS[was]} → {_WORDS[now]}" for was, now in _CELLS)
        yield Line(name, f"{len(changes.pairs):,}", "answers", ", ".join(counts))
        yield Line("  ECR", *percent(changes.ecr, 1), "of wrong answers became right")
        yield Line("  EIR", *percent(changes.eir, 1), "of right answers became wrong")
        yield Line("  ECR/EIR", _ratio(changes.ratio), "", _paying(changes))
    if found.broken:
        names = printable(listed(found.broken, _FEW))
        yield Line("right → wrong", f"{len(found.broken):,}", "", f"first to best: {names}")


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.2f}"


def _paying(changes: Changes) -> str:
    if not changes.right:
        return "only wrong answers were revised, so none could get worse"
    if not changes.wrong:
        return "only right answers were revised, so none could get better"
    if not changes.fixed and not changes.broken:
        return "nothing changed"
    side, result = "equal to", "no difference"
    if changes.fixed != changes.broken:
        side, result = ("above", "a gain") if changes.fixed > changes.broken else ("below", "a loss")
        result = result if changes.decision.p < LEVEL else "undecided"
    return f"{side} Acc/(1 - Acc) = {_ratio(changes.threshold)}: {result}, {p_text(changes.decision.p)}"


def _verdicts(found: Figures) -> Iterator[Line]:
    verdicts, total = found.verdicts, found.verdicts.total
    note = f"{total.rejected:,} of {total.rejected + total.alarms:,} rejected answers are wrong"
    yield Line("precision", *percent(verdicts.precision, 1), note)
    note = f"{total.rejected:,} of {total.wrong:,} wrong answers are rejected"
    yield Line("recall", *percent(verdicts.recall, 1), note)
    unknown = f"; unknown verdicts: {verdicts.unknown:,}" * bool(verdicts.unknown)
    note = f"mean of recall and the share of right answers accepted, {total.accepted:,} of {total.right:,}"
    note += f"{unknown}; accepting all would give 50 %"
    yield Line("balanced accuracy", *percent(verdicts.balanced, 1), note)


def verdict(found: Figures) -> str:
    """Return the conclusion: the gain from revising, and the cost in tokens."""
    if not found.revised:
        return "No answer was revised, so the effect of revising is unknown."
    said = sentence(found.decision)
    if found.same and found.decision.gain.value > 0:
        said = f"The checks that score also guided revising, which makes a gain nearly automatic. {said}"
    whole = fmean(each.tokens for each in found.chains)
    firsts = [each.chain.steps[0] for each in found.chains]
    first = fmean(step.usage.completion_tokens for step in firsts)
    took = f"a chain takes {tokens_text(whole)} new tokens"
    both = " with its criticism" * any(each.feedback and each.feedback.by == "model" for each in firsts)
    took += f", and its first answer{both} {tokens_text(first)}" * bool(first)
    if math.isnan(whole):
        took = "some chains do not record their tokens"
    return f"{said} Not at equal tokens: {took}. redraft diagnose --tasks compares at equal tokens."
