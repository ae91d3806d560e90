"""Keywords of RunOptions, ItemOptions, AnswerOptions. From scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from redraft.keywords import FlagsKeywords

if TYPE_CHECKING:
    from redraft.runs.options import Shape


class RunKeywords(TypedDict, total=False):
    """The options of `RunOptions`. Each can be left out."""

    parallel: int | None
    quiet: bool
    journal: str | Path | None
    limit_usd: float | None
    limit_tokens: int | None
    limit_seconds: float | None
    batch: bool
    pause: float | None
    on_event: Callable[[Any], object] | None


class ItemKeywords(RunKeywords, total=False):
    """The options of `ItemOptions`. Each can be left out."""

    retry_failed: bool
    shard: str | None


class AnswerKeywords(FlagsKeywords, ItemKeywords, total=False):
    """The options of `AnswerOptions`. Each can be left out."""

    limit: int | None
    format: Shape
    model_id: str | None
    cache: str | Path | None
    recipe: str | None
