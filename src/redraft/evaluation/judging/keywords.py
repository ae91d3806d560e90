"""Keywords of JudgeFileOptions. From scripts/keywords.py."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from redraft.keywords import MachineKeywords, ServerKeywords
from redraft.runs.keywords import ItemKeywords


class JudgeFileKeywords(MachineKeywords, ServerKeywords, ItemKeywords, total=False):
    """The options of `JudgeFileOptions`. Each can be left out."""

    model: list[str]
    way: Literal["scores", "verdicts", "grades"] | None
    orders: Literal["both", "given"]
    gold: bool
    controls: bool
    temperature: float | None
    max_tokens: int | None
    seed: int | None
    questions: str | Path | None
    prompt_file: str | Path | None
    reviewer_file: str | Path | None
