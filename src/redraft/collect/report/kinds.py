"""Kinds of chains of which a page shows an example each: what a teacher's run gives, from good to bad."""

from __future__ import annotations

from collections.abc import Callable

from redraft.chain import Chain
from redraft.collect.report.summary import leaks_in


def _at_once(chain: Chain) -> bool:
    return len(chain.steps) == 1 and chain.steps[0].verdict == "accept"


def _corrected(chain: Chain) -> bool:
    return len(chain.steps) > 1 and chain.steps[0].verdict == "revise" and chain.steps[-1].verdict == "accept"


def _without_verdict(chain: Chain) -> bool:
    return any(step.feedback and step.verdict == "unknown" for step in chain.steps)


KINDS: dict[str, Callable[[Chain], bool]] = {
    "accepted at once": _at_once,
    "corrected": _corrected,
    "leaking": leaks_in,
    "without a verdict": _without_verdict,
}
"""The kinds, in the order of the page. A chain may be of several."""
