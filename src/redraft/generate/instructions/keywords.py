"""The keyword arguments of `TaskOptions`. Made by scripts/keywords.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from redraft.options import Device, Dtype

if TYPE_CHECKING:
    from redraft.generate.instructions.options import Way


class TaskKeywords(TypedDict, total=False):
    """All of them. Each can be left out."""

    ctx: int | None
    threads: int | None
    gpu_layers: int | None
    dtype: Dtype | None
    device: Device | None
    load_8bit: bool | None
    chat_template: Literal["vicuna", "stablevicuna", "selfee"] | None
    price: str | None
    timeout: float | None
    retries: int
    patience: float | None
    rpm: int | None
    tpm: int | None
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
