"""Find feedback and revisions that quote a gold answer which their author was not to give away.

A critic that is shown the gold answer may copy it into its feedback, and the writer may copy it from there: a
model that learns from such a chain learns to be told. Only whole, literal quotes are found, not paraphrases.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from redraft.chain import Chain
from redraft.files import replace_file
from redraft.jobs.lines import LineFile, parse_line, read_lines

LEAST = 8
"""Fewest characters of a gold answer that are looked for: `42` stands in many texts by chance."""


class Leak(NamedTuple):
    """A quote of the gold answer.

    Attributes:
        step: The index of the step.
        part: The feedback quotes it, and the answer that it judges does not; or the next answer does, after
            such feedback.
    """

    step: int
    part: Literal["feedback", "answer"]


def leaks(chain: Chain, gold: str) -> Iterator[Leak]:
    """Yield each quote of a gold answer: in feedback on an answer without it, and in answers after that."""
    gold = gold.strip()
    if len(gold) < LEAST:
        return
    told = found = False
    for index, step in enumerate(chain.steps):
        known = gold in step.answer
        found = found or (known and not told)
        if known and not found:
            yield Leak(index, "answer")
        if not known and step.feedback is not None and gold in step.feedback.text:
            told = True
            yield Leak(index, "feedback")


class LeakFile:
    """A file of the chains that were dropped, a line each.

    A run that was killed may have added a chain, or a part of it, that is made again: it gets one line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ids: set[str] | None = None

    def add(self, chain: Chain) -> None:
        """Add a chain.

        Raises:
            OutputError: It cannot be written.
        """
        LineFile(self.path, made_up=True).close()  # refuses a link
        if self._ids is None or chain.id in self._ids:
            self._ids = self._forget(chain.id)
        file = LineFile(self.path, made_up=True)
        file.append(chain.to_json())
        file.close()
        self._ids.add(chain.id)

    def _forget(self, chain_id: str) -> set[str]:
        """Remove a chain and what is torn. Return the ids of the others."""
        found = [(line, (parse_line(line) or {}).get("id", chain_id)) for line in read_lines(self.path)]
        kept = [(line, known) for line, known in found if known != chain_id]
        if len(kept) < len(found):
            replace_file(self.path, b"".join(line for line, _ in kept))
        return {known for _, known in kept}
