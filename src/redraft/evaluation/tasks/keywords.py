"""Keywords of EvalFileOptions. From scripts/keywords.py."""

from __future__ import annotations

from pathlib import Path

from redraft.keywords import FlagsKeywords
from redraft.runs.keywords import ItemKeywords


class EvalFileKeywords(FlagsKeywords, ItemKeywords, total=False):
    """The options of `EvalFileOptions`. Each can be left out."""

    guided: bool
    samples: int
    few_shot: int
    examples: str | None
    limit: int | None
    cache: str | Path | None
    run_code: bool
