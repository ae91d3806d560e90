"""Keywords of PlainOptions, MachineOptions, WaitOptions, ServerOptions, Flags. From scripts/keywords.py."""

from __future__ import annotations

from typing import Literal, TypedDict

from redraft.options import Device, Dtype, EngineName, Prompts


class PlainKeywords(TypedDict, total=False):
    """The options of `PlainOptions`. Each can be left out."""

    mode: Literal["auto", "native", "prompted", "verified", "best-of", "repair"]
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
    system: str | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None


class MachineKeywords(TypedDict, total=False):
    """The options of `MachineOptions`. Each can be left out."""

    engine: EngineName | None
    ctx: int | None
    threads: int | None
    gpu_layers: int | None
    dtype: Dtype | None
    device: Device | None
    load_8bit: bool | None
    speculate: bool | None
    chat_template: Literal["vicuna", "stablevicuna", "selfee"] | None


class WaitKeywords(TypedDict, total=False):
    """The options of `WaitOptions`. Each can be left out."""

    timeout: float | None
    retries: int
    patience: float | None


class ServerKeywords(WaitKeywords, total=False):
    """The options of `ServerOptions`. Each can be left out."""

    price: str | None
    rpm: int | None
    tpm: int | None
    session_header: str | None


class FlagsKeywords(PlainKeywords, MachineKeywords, ServerKeywords, total=False):
    """The options of `Flags`. Each can be left out."""

    model: str | None
    critic: str | None
    judge: str | None
    check: list[str]
    budget_tokens: int | None
    budget_seconds: float | None
    budget_usd: float | None
