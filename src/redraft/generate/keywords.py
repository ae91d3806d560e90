"""The keyword arguments of `ChainOptions`. Made by scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict

from redraft.options import Device, Dtype, EngineName, Prompts


class ChainKeywords(TypedDict, total=False):
    """All of them. Each can be left out."""

    mode: Literal["auto", "native", "prompted", "verified", "best-of", "repair", "adaptive"]
    drafts: int | None
    prompts: Prompts
    min_revisions: int
    max_revisions: int
    feedback_tokens: int | None
    chain_tokens: int | None
    accept_score: float | None
    context: Literal["last", "chain"]
    tell_checks: bool
    steer: bool
    fix: bool
    system: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    model: str | None
    critic: str | None
    judge: str | None
    engine: EngineName | None
    ctx: int | None
    threads: int | None
    gpu_layers: int | None
    dtype: Dtype | None
    device: Device | None
    load_8bit: bool | None
    speculate: bool | None
    chat_template: Literal["vicuna", "stablevicuna", "selfee"] | None
    price: str | None
    timeout: float | None
    retries: int
    patience: float | None
    rpm: int | None
    tpm: int | None
    session_header: str | None
    check: list[str]
    budget_tokens: int | None
    budget_seconds: float | None
    budget_usd: float | None
    gold: bool
    first: bool
    verify: Literal["number", "code"] | None
    keep: list[str]
    drop_leaks: bool
    refusals: Literal["keep", "drop"]
    parallel: int | None
    quiet: bool
    journal: str | Path | None
    limit_usd: float | None
    limit_tokens: int | None
    limit_seconds: float | None
    batch: bool
    pause: float | None
    on_event: Callable[[Any], object] | None
    retry_failed: bool
    shard: str | None
    limit: int | None
    run_code: bool
    estimate: int | None
    recipe: str | None
