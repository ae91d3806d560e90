"""The keyword arguments of `JudgeFileOptions`. Made by scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict

from redraft.options import Device, Dtype, EngineName


class JudgeFileKeywords(TypedDict, total=False):
    """All of them. Each can be left out."""

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
    model: list[str]
    way: Literal["scores", "verdicts", "grades"] | None
    orders: Literal["both", "given"]
    gold: bool
    controls: bool
    temperature: float | None
    max_tokens: int | None
    seed: int | None
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
    questions: str | Path | None
    prompt_file: str | Path | None
    reviewer_file: str | Path | None
