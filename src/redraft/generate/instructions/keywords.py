"""The keyword arguments of `InstructionOptions`. Made by scripts/keywords.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from redraft.options import Device, Dtype, EngineName

if TYPE_CHECKING:
    from redraft.generate.options import Way


class KeywordsButModel(TypedDict, total=False):
    """All but model. Each can be left out."""

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
    parallel: int | None
    quiet: bool
    journal: str | Path | None
    limit_usd: float | None
    limit_tokens: int | None
    limit_seconds: float | None
    batch: bool
    pause: float | None
    on_event: Callable[[Any], object] | None
    estimate: int | None
    recipe: str | None
