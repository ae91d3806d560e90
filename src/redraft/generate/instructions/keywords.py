"""Keywords of InstructionOptions. From scripts/keywords.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.keywords import MachineKeywords, ServerKeywords
from redraft.runs.keywords import RunKeywords

if TYPE_CHECKING:
    from redraft.generate.options import Way


class KeywordsButModel(MachineKeywords, ServerKeywords, RunKeywords, total=False):
    """All but model. Each can be left out."""

    way: Way
    count: int
    seeds: str | None
    language: str
    topic: str | None
    least_words: int
    most_words: int
    similar: float
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int
    estimate: int | None
    recipe: str | None
