"""Keywords of ChainOptions. From scripts/keywords.py."""

from __future__ import annotations

from typing import Literal

from redraft.keywords import FlagsKeywords
from redraft.runs.keywords import ItemKeywords


class ChainKeywords(FlagsKeywords, ItemKeywords, total=False):
    """The options of `ChainOptions`. Each can be left out."""

    gold: bool
    first: bool
    verify: Literal["number", "code"] | None
    keep: list[str]
    drop_leaks: bool
    refusals: Literal["keep", "drop"]
    limit: int | None
    run_code: bool
    estimate: int | None
    recipe: str | None
