"""Keywords of RevisionOptions. From scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redraft.chain import Chain
from redraft.engines.base import Engine
from redraft.engines.price import Price
from redraft.keywords import PlainKeywords, WaitKeywords
from redraft.revision.budget import Budget
from redraft.revision.cancel import CancelToken
from redraft.revision.ops import Event
from redraft.verify.base import Check


class KeywordsButOutput(PlainKeywords, WaitKeywords, total=False):
    """All but output. Each can be left out."""

    model: str | Engine
    checks: Sequence[str | Check | Callable[..., Any]]
    critic: str | Engine | None
    judge: str | Engine | None
    budget: Budget | Mapping[str, float | None] | None
    price: Price | Mapping[str, float | None] | str | None
    gold: str
    given: str
    id: str
    cancel: CancelToken | None
    stop: Sequence[str]
    tools: Sequence[Mapping[str, Any]]
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    cache: str | Path | None
    on_event: Callable[[Event], object] | None
    trace: Any
    resume: Chain | None
    output_context: Any


class RevisionKeywords(KeywordsButOutput, total=False):
    """All of them. Each can be left out."""

    output: Any
