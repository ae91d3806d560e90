"""Chains in words for people: names of answers, verdicts, why a chain ended, and what a revision changed.

The terminal and the page show the same. How it looks is theirs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal

from redraft.chain import Chain, Step, Stop, Verdict
from redraft.counting import counted
from redraft.errors import EngineError

_WORDS = re.compile(r"\s*(?:\w+|[^\w\s])|\s+$")
READABLE = 0.4  # smallest share of common words for a diff. Below it, the new text reads better whole.
COMPARABLE = 100_000
"""Most pairs of equal words, one of each text, for a diff. Its time grows with their number, to half
a second. Two answers of 2,000 English words have some 80,000."""
ISLAND = 2  # fewest words in a row that count as common
VERDICTS: dict[Verdict, str] = {
    "accept": "accepted",
    "revise": "to be revised",
    "unknown": "no verdict",
}
STOPS = {
    "accepted": "the feedback accepted it",
    "passed": "every check passed",
    "ended": "the model ended without a verdict",
    "tool_calls": "the model calls a tool",
    "max_revisions": "all allowed revisions made",
    "budget": "the budget is used up",
    "unchanged": "a revision changed nothing",
    "max_tokens": "the limit of new tokens was reached",
    "context": "the context is full",
    "malformed": "the model left the format",
    "cancelled": "cancelled",
    "error": "an error",
}
"""The stop reasons of a chain, in words."""


Change = tuple[Literal["same", "gone", "new"], str]
"""A part of a diff: what both texts have, or the first alone, or the second alone."""


def changes(before: str, after: str) -> list[Change] | None:
    """Return the word diff of two texts; None if it would not help the reader.

    That is if they have little in common, or are too long and repetitive to compare.
    """
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    if _equal_pairs(old, new) > COMPARABLE or matcher.ratio() < READABLE:
        return None
    parts: list[Change] = []
    i = k = 0
    for j, m, size in _common_runs(matcher, len(old), len(new)):
        if (gone := "".join(old[i:j])).strip():
            parts.append(("gone", gone))
        parts += [("new", "".join(new[k:m])), ("same", "".join(new[m : m + size]))]
        i, k = j + size, m + size
    return [part for part in parts if part[1]]


def _equal_pairs(old: Sequence[str], new: Sequence[str]) -> int:
    seen = Counter(old)
    return sum(count * seen[word] for word, count in Counter(new).items())


def _common_runs(matcher: SequenceMatcher[str], old: int, new: int) -> Iterator[tuple[int, int, int]]:
    """Yield runs of common words: their places in both texts, and their length.

    Single words between two changes are left out, because they read badly.
    """
    for i, k, size in matcher.get_matching_blocks():
        at_an_end = i == 0 or k == 0 or i + size == old or k + size == new
        if size >= ISLAND or at_an_end:
            yield i, k, size


def name_of(index: int) -> str:
    """Return the name of an answer."""
    return "Answer" if index == 0 else f"Revision {index}"


def why_cut(step: Step, stop: Stop | None = None) -> str:
    """Return why a step was cut, in words. `stop` is the chain's, if the step is its last."""
    if stop in ("budget", "malformed"):
        return STOPS[stop]
    return "the server filtered it" if step.finish == "filtered" else STOPS.get(step.finish, step.finish)


def faults_of(chain: Chain, *, with_checks: bool) -> Iterator[tuple[str, str | None]]:
    """Yield what is wrong with the best answer of a chain that was not cancelled: messages with hints."""
    if chain.best is None and chain.steps:
        yield f"there is no answer: {why_cut(chain.steps[-1], chain.stop)}.", None
        return
    if chain.best is None:
        message = "there is no answer: the budget of seconds was over before the model was ready."
        yield message, "Is its server up? Give it longer: --budget-seconds"
        return
    if missing := chain.missing_revisions:
        wanted, why = counted(chain.revisions + missing, "revision"), STOPS.get(chain.stop or "", "")
        message = f"minimum not reached: {chain.revisions} of at least {wanted}; {why}."
        yield message, "Give it more room: --max-tokens, or the budget."
    best = chain.steps[chain.best]
    if best.finish != "stop":
        yield f"the answer was cut: {why_cut(best, chain.stop)}.", None
    if with_checks and best.passed is None:
        yield "the checks were not done when the chain ended.", None
    if best.passed is False and best.feedback is not None:
        failed = [result for result in best.checks if not result.passed]
        several = f"the best of {len(chain.steps)} answers" if chain.revisions else "the answer"
        found = "\n".join(f"{result.name}: {result.message}" for result in failed)
        yield f"{several} fails {len(failed)} of {len(best.checks)} checks.", found


def exit_status_of(chain: Chain, *, with_checks: bool) -> int:
    """Return the exit status of a command that made a chain."""
    if chain.stop == "cancelled":
        return 130
    if not chain.answer.strip():
        return EngineError.exit_status
    return 1 if chain.missing_revisions or (with_checks and not chain.passed) else 0
